"""Grafana's files without a Grafana: what is generated is checked in, whole, and leads somewhere.

No live start is among these checks: a server cannot be had from package indexes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from ops import provisioning
from ops.alerting import (
    EXPRESSION_UID,
    FOLDER,
    MUTED,
    PROMETHEUS_UID,
    told_by_grafana,
    uid_of,
    unescaped,
)
from ops.dashboards import BOARDS
from ops.generate import files
from ops.paths import GRAFANA, REFERENCE, RUNBOOKS
from ops.reference import pages
from ops.routes import read_routing
from ops.rules import read_alerts

PROVISIONED = GRAFANA / "provisioning"
ALERTS = {alert.alert: alert for alert in read_alerts()}


def read(path: str) -> Any:
    return yaml.safe_load((PROVISIONED / path).read_text(encoding="utf-8"))


GROUPS = provisioning.RuleGroups.model_validate(read("alerting/rules.yaml"))
POLICIES = provisioning.Policies.model_validate(read("alerting/policies.yaml"))
POINTS = provisioning.ContactPoints.model_validate(read("alerting/contact-points.yaml"))
TIMES = provisioning.MuteTimes.model_validate(read("alerting/mute-times.yaml"))
SOURCES = provisioning.DataSources.model_validate(read("datasources/tidewheel.yaml"))
PROVIDERS = provisioning.Providers.model_validate(read("dashboards/tidewheel.yaml"))
RULES = {rule.title: rule for group in GROUPS.groups for rule in group.rules}
PLAIN = [json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").iterdir())]


def test_what_is_checked_in_is_what_the_generator_writes() -> None:
    there = {
        str(path.relative_to(GRAFANA)): path.read_text(encoding="utf-8")
        for path in GRAFANA.rglob("*")
        if path.is_file()
    }

    assert there == files(), "run: make grafana"


@pytest.mark.parametrize("name", sorted(pages()))
def test_pages_of_the_reference_are_what_the_generator_writes(name: str) -> None:
    assert (REFERENCE / name).read_text(encoding="utf-8") == pages()[name], "run: make grafana"


def test_grafana_reads_yaml_only_where_it_reads_yaml() -> None:
    suffixes = {path.suffix for path in PROVISIONED.rglob("*") if path.is_file()}

    assert suffixes == {".yaml"}


def test_every_alert_has_a_copy_that_says_the_same() -> None:
    assert set(RULES) == set(ALERTS)
    for name, alert in ALERTS.items():
        copy = RULES[name]

        assert unescaped(copy.data[0].model["expr"]) == alert.expr.strip()
        assert (copy.for_, copy.keepFiringFor or "0s") == (alert.for_, alert.keep_firing_for)
        asked_for = ("owner", "dataset")
        own = {key: value for key, value in alert.labels.items() if key not in asked_for}
        assert copy.labels == own
        assert unescaped(copy.annotations["summary"]) == told_by_grafana(
            alert.annotations["summary"]
        )


def test_no_text_speaks_of_what_grafana_does_not_know() -> None:
    for rule in RULES.values():
        for text in rule.annotations.values():
            for unknown in ("externalLabels", "query ", "$value ", "| humanize"):
                assert unknown not in text, f"{rule.title}: {text}"


def test_only_alertmanager_notifies() -> None:
    """Grafana's first route takes everything, goes no further, and is muted at all times."""
    root = POLICIES.policies[0]
    first = (root.routes or ())[0]
    (always,) = TIMES.muteTimes

    assert first.object_matchers == (("alertname", "=~", ".+"),)
    assert first.mute_time_intervals == (MUTED,) == (always.name,)
    assert [time.model_dump() for one in always.time_intervals for time in one.times] == [
        {"start_time": "00:00", "end_time": "24:00"}
    ]
    assert all(rule.title for rule in RULES.values())  # a rule without a name would pass it by
    assert any(receiver.webhook_configs for receiver in read_routing().receivers)


def test_every_receiver_of_a_policy_exists_and_so_does_every_mute_timing() -> None:
    points = {point.name for point in POINTS.contactPoints}
    times = {time.name for time in TIMES.muteTimes}

    for policy in all_policies(POLICIES.policies[0]):
        assert policy.receiver in points
        assert set(policy.mute_time_intervals or ()) <= times


def test_every_data_source_that_is_asked_exists() -> None:
    known = {source.uid for source in SOURCES.datasources}
    asked = {query.datasourceUid for rule in RULES.values() for query in rule.data}
    shown = {uid for board in PLAIN for uid in sources_of(board)}

    assert asked == {PROMETHEUS_UID, EXPRESSION_UID}
    assert shown == {PROMETHEUS_UID} <= known


def test_every_alert_leads_to_a_panel_of_a_dashboard_that_exists_and_to_a_runbook() -> None:
    panels = {board["uid"]: {panel["id"] for panel in board["panels"]} for board in PLAIN}

    for rule in RULES.values():
        texts = rule.annotations
        uid, panel = texts["__dashboardUid__"], int(texts["__panelId__"])
        assert panel in panels[uid]
        assert f"/d/{uid}?" in texts["dashboard_url"]
        assert (RUNBOOKS / texts["runbook_url"].rpartition("/")[2]).exists()


def test_the_five_dashboards_are_there_and_names_are_used_once() -> None:
    uids = [board["uid"] for board in PLAIN]

    assert set(uids) == {board.uid for board in BOARDS}
    assert len(BOARDS) == 5
    assert len({uid_of(name) for name in ALERTS}) == len(ALERTS)
    assert {group.folder for group in GROUPS.groups} == {PROVIDERS.providers[0].folder} == {FOLDER}


@pytest.mark.parametrize("board", PLAIN, ids=lambda board: str(board["uid"]))
def test_panels_lie_beside_each_other_and_say_what_they_show(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        assert panel["description"].endswith(".")
        assert panel["targets"]
        taken |= own
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_variables_that_queries_use_are_declared(board: Any) -> None:
    used = any("$model" in query for panel in board.panels for query, _ in panel.queries)

    assert used == (board.variable is not None)


@pytest.mark.parametrize(
    "change",
    [
        {"matchers": ["severity = page"]},
        {"object_matchers": [["severity", "=", "page"]]},
        {"mute_time_intervals": [MUTED]},
    ],
    ids=["unknown key", "a root with matchers", "a muted root"],
)
def test_what_grafana_would_refuse_at_start_cannot_be_written(change: dict[str, Any]) -> None:
    plain = read("alerting/policies.yaml")
    plain["policies"][0] |= change

    with pytest.raises(ValidationError):
        provisioning.Policies.model_validate(plain)


def test_a_receiver_without_settings_cannot_be_written() -> None:
    plain = read("alerting/contact-points.yaml")
    plain["contactPoints"][0]["receivers"][0]["settings"] = {}

    with pytest.raises(ValidationError):
        provisioning.ContactPoints.model_validate(plain)


def all_policies(policy: provisioning.Policy) -> Iterator[provisioning.Policy]:
    yield policy
    for route in policy.routes or ():
        yield from all_policies(route)


def sources_of(plain: Any) -> Iterator[str]:
    """Every data source named anywhere inside."""
    if isinstance(plain, dict):
        source = plain.get("datasource")
        if isinstance(source, dict) and "uid" in source:
            yield source["uid"]
        for value in plain.values():
            yield from sources_of(value)
    elif isinstance(plain, list):
        for value in plain:
            yield from sources_of(value)
