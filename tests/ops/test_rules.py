"""The rules fire when they should and only then, say it in plain words, and lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.paths import ALERTMANAGER, PROMETHEUS, RULE_TESTS, RULES
from ops.routes import external_labels
from ops.rules import Alert, Group, read_alerts, read_groups
from tests.ops.tools import needs_tools, run

UNIT_TESTS = sorted(RULE_TESTS.iterdir())
ALERTS = read_alerts()
OF_A_DESIGN = {
    "ServingErrorBudgetFastBurn",
    "ServingErrorBudgetSlowBurn",
    "ServingErrorBudgetTrickle",
    "ServingLatencyFastBurn",
    "ServingLatencySlowBurn",
    "DriftWarning",
    "DriftCritical",
    "DriftWidespread",
    "QualityDegraded",
    "LabelStarvation",
    "MonitorSilent",
    "CascadeStuck",
    "ConsumerLag",
    "DeadLetters",
    "CanaryFailing",
    "RetrainStorm",
    "TargetMissing",
}


@needs_tools
def test_every_rule_file_passes_every_lint() -> None:
    done = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *sorted(RULES.iterdir()))

    assert done.returncode == 0, done.stdout + done.stderr


@needs_tools
@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.name)
def test_the_unit_tests_of_the_rules_pass(path: Path) -> None:
    done = run("promtool", "test", "rules", path)

    assert done.returncode == 0, done.stdout + done.stderr


@needs_tools
@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.name)
def test_two_instances_of_a_service_are_one_alert(path: Path, tmp_path: Path) -> None:
    """The unit tests again: every series is told by two instances, and nothing else may change."""
    told_twice = tmp_path / path.name
    told_twice.write_text(yaml.safe_dump(by_two_instances(path)))

    done = run("promtool", "test", "rules", told_twice)

    assert done.returncode == 0, done.stdout + done.stderr


def by_two_instances(path: Path) -> dict[str, Any]:
    """A file of unit tests in which another instance tells the same gauges, and counts nothing.

    A series that has its instance is left alone: it is about that one.
    """
    text = path.read_text(encoding="utf-8")
    content = dict(yaml.safe_load(text))
    content["rule_files"] = [str(path.parent / name) for name in content["rule_files"]]
    # As they are written: 0x5 is six zeros there, and a five in YAML.
    written = yaml.load(text, Loader=yaml.BaseLoader)
    for test, plain in zip(content["tests"], written["tests"], strict=True):
        test["input_series"] = [two for one in plain["input_series"] for two in twice(one)]
    return content


def twice(series: dict[str, str]) -> Iterator[dict[str, str]]:
    name, values = series["series"], series["values"]
    if "instance=" in name:
        yield series
        return
    is_counted = re.match(r"\w+_(total|bucket|count|sum)\b", name)
    other = re.sub(r"[^\s_x]+(x\d+)?", r"0\1", values) if is_counted else values
    begun = name.rstrip("}") + ("," if "{" in name else "{")
    yield {"series": f'{begun}instance="a"}}', "values": values}
    yield {"series": f'{begun}instance="b"}}', "values": other}


@needs_tools
def test_the_configurations_are_accepted() -> None:
    for tool, *arguments in (
        ("promtool", "check", "config", str(PROMETHEUS)),
        ("amtool", "check-config", str(ALERTMANAGER)),
    ):
        done = run(tool, *arguments)

        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_that_was_asked_for_is_there_and_names_are_used_once() -> None:
    names = [alert.alert for alert in ALERTS]

    assert set(names) >= OF_A_DESIGN
    assert len(names) == len(set(names))


def test_every_alert_fires_in_a_unit_test() -> None:
    tested = "".join(path.read_text(encoding="utf-8") for path in UNIT_TESTS)
    fired = set(re.findall(r"- labels: '\{alertname=\"(\w+)\"", tested))

    assert {alert.alert for alert in ALERTS} - fired == set()


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.alert)
def test_an_alert_says_how_bad_it_is_and_what_to_read(alert: Alert) -> None:
    texts = alert.annotations

    assert alert.labels["severity"] in ("page", "ticket", "dashboard")
    assert alert.labels["area"] in ("serving", "drift", "cascade", "bus")
    assert len(texts["summary"]) <= 200
    assert texts["description"].endswith(".")
    assert texts["runbook_url"].endswith(f"/runbooks/{alert.alert}.md")
    assert "from=" in texts["dashboard_url"]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.alert)
def test_an_alert_about_a_model_leads_to_that_model(alert: Alert) -> None:
    if "$labels.model" not in alert.annotations["summary"]:
        return

    board = alert.annotations["dashboard_url"]
    assert "var-model={{ $labels.model }}" in board


def test_addresses_in_texts_are_configured() -> None:
    used = {
        name
        for alert in ALERTS
        for text in alert.annotations.values()
        for name in re.findall(r"\$externalLabels\.(\w+)", text)
    }

    assert used <= set(external_labels())


@needs_tools
def test_the_texts_of_every_alert_can_be_written(tmp_path: Path) -> None:
    """A wrong template is written into the alert instead of failing, so texts are looked at."""
    for group in read_groups():
        told = texts_of(group, tmp_path)

        for alert in group.alerts:
            assert alert.alert in told, told
        assert "error expanding" not in told
        assert "<no value>" not in told
        assert "$labels" not in told


def texts_of(group: Group, folder: Path) -> str:
    """What promtool prints of alerts that were not expected: every one of them, with its texts."""
    rules = folder / f"{group.name}.yml"
    always = [
        {
            "alert": alert.alert,
            "expr": 'label_replace(vector(1), "model", "pump", "", "")',
            "labels": alert.labels,
            "annotations": alert.annotations,
        }
        for alert in group.alerts
    ]
    rules.write_text(yaml.safe_dump({"groups": [{"name": group.name, "rules": always}]}))
    info = {"series": 'tidewheel_model_info{model="pump",owner="rotating"}', "values": "1x9"}
    test = {
        "interval": "1m",
        "input_series": [info],
        "external_labels": external_labels(),
        "alert_rule_test": [
            {"eval_time": "5m", "alertname": alert.alert, "exp_alerts": []}
            for alert in group.alerts
        ],
    }
    content = {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [test]}
    path = folder / f"{group.name}.test.yml"
    path.write_text(yaml.safe_dump(content))
    done = run("promtool", "test", "rules", path)
    return done.stdout + done.stderr
