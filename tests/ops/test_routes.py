"""Who is told: checked by the real `amtool`, for every alert that there is."""

from __future__ import annotations

import pytest

from ops.paths import ALERTMANAGER
from ops.routes import read_routing, split_matcher
from ops.rules import Alert, read_alerts
from tests.ops.tools import needs_tools, run

ROUTING = read_routing()


def receiver_of(**labels: str) -> str:
    pairs = [f"{name}={value}" for name, value in labels.items()]
    done = run("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", *pairs)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def expected_of(alert: Alert) -> str:
    severity, area = alert.labels["severity"], alert.labels["area"]
    if severity == "dashboard":
        return "nobody"
    if severity == "page":
        return "pager"
    return "owner" if area == "drift" else "tickets"


@needs_tools
@pytest.mark.parametrize("alert", read_alerts(), ids=lambda alert: alert.alert)
def test_every_alert_reaches_whom_it_should(alert: Alert) -> None:
    labels = {name: text for name, text in alert.labels.items() if "{{" not in text}

    assert receiver_of(alertname=alert.alert, **labels) == expected_of(alert)


@needs_tools
def test_what_nobody_foresaw_is_a_ticket() -> None:
    assert receiver_of(alertname="Surprise") == "tickets"


def test_a_warning_reaches_nobody_who_could_be_told() -> None:
    nobody = next(receiver for receiver in ROUTING.receivers if receiver.name == "nobody")

    assert nobody.webhook_configs == ()


def test_pages_are_repeated_hourly_and_drift_daily() -> None:
    repeats = {route.receiver: route.repeat_interval for route in ROUTING.route.routes}

    assert (repeats["pager"], repeats["owner"]) == ("1h", "24h")


def test_what_has_one_cause_is_one_notification_and_another_scope_does_not_wait_for_it() -> None:
    """It was one group for half a day, in which a second disturbance was told twelve hours late."""
    upstream = next(r for r in ROUTING.route.routes if "cause = upstream" in r.matchers)
    alerts = {a.alert for a in read_alerts() if a.labels.get("cause") == "upstream"}

    assert alerts == {"DriftWidespread", "BrakeSet"}
    assert upstream.group_by == ("cause", "scope")
    assert upstream.group_interval == ""


def test_whoever_silences_an_alert_that_silences_others_silences_these_too() -> None:
    for one in ROUTING.inhibit_rules:
        for other in ROUTING.inhibit_rules:
            if named(one.target_matchers) & named(other.source_matchers):
                silent = {
                    name
                    for rule in ROUTING.inhibit_rules
                    if named(one.source_matchers) <= named(rule.source_matchers)
                    for name in named(rule.target_matchers)
                }
                assert named(other.target_matchers) <= silent


def test_inhibitions_and_routes_name_what_exists() -> None:
    alerts = {alert.alert for alert in read_alerts()}
    receivers = {receiver.name for receiver in ROUTING.receivers}

    for one in ROUTING.inhibit_rules:
        assert named(one.source_matchers) | named(one.target_matchers) <= alerts
    assert {route.receiver for route in (ROUTING.route, *ROUTING.route.routes)} == receivers


def named(matchers: tuple[str, ...]) -> set[str]:
    return {
        name
        for label, _, value in map(split_matcher, matchers)
        if label == "alertname"
        for name in value.split("|")
    }
