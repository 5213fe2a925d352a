"""What rules and panels name is told by a service, with those labels, by code that exists."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from ops.dashboards import BOARDS
from ops.expressions import groupings, selectors, without_variables
from ops.paths import FOLDER
from ops.rules import read_groups
from shared.topics import SERVICES
from shared.vocabulary import EVERY, GAUGES, told_by
from tests.ops.tools import needs_tools, run

ROOT = FOLDER.parent
OF_PROMETHEUS = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate", "severity"}}
OF_EVERY_SERIES = {"job", "instance", "le", "quantile"}
EXPOSES = """
import sys
from shared import telemetry
telemetry.configure(sys.argv[1])
sys.stdout.buffer.write(telemetry.exposition())
"""


def expressions() -> Iterator[tuple[str, str]]:
    """Where it stands, and PromQL."""
    for group in read_groups():
        for rule in group.alerts:
            yield rule.alert, rule.expr
        for recording in group.recordings:
            yield recording.record, recording.expr
    for board in BOARDS:
        for panel in board.panels:
            for query, _ in panel.queries:
                yield f"{board.uid}: {panel.title}", without_variables(query)


EXPRESSIONS = list(expressions())
RECORDED = {recording.record for group in read_groups() for recording in group.recordings}


def test_every_metric_of_every_query_is_told_with_the_labels_it_is_asked_by() -> None:
    for place, expression in EXPRESSIONS:
        named = [one for one in selectors(expression) if one.metric not in RECORDED]
        own = {one: OF_PROMETHEUS.get(one.metric) or labels_of(one.family) for one in named}
        known = set().union(OF_EVERY_SERIES, *own.values())

        assert any(True for _ in selectors(expression)), f"{place} asks for nothing"
        for one in named:
            assert one.labels <= own[one] | OF_EVERY_SERIES, f"{place}: {one}"
        assert groupings(expression) <= known, place


def labels_of(metric: str) -> set[str]:
    assert metric in EVERY, f"nobody tells {metric}"
    return set(EVERY[metric].labels)


def test_what_every_replica_tells_of_the_whole_is_not_added_up() -> None:
    of_a_part = {"tidewheel_consumer_lag_messages"}  # each tells of its own partitions
    added = {
        name
        for _, expression in EXPRESSIONS
        for name in re.findall(r"\bsum(?: by \([^)]*\))? ?\(\s*(tidewheel_\w+)", expression)
    }

    assert added & set(GAUGES) <= of_a_part


@needs_tools
def test_every_query_is_accepted_as_a_recording_rule(tmp_path: Path) -> None:
    rules = [
        {"record": f"check:number{number}", "expr": expression, "labels": {"place": place}}
        for number, (place, expression) in enumerate(EXPRESSIONS)
    ]
    path = tmp_path / "throw-away.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "throw-away", "rules": rules}]}))

    done = run("promtool", "check", "rules", path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(EXPRESSIONS)} rules found" in done.stdout


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_metric_is_told_by_code_of_the_services_that_it_names(name: str) -> None:
    tellers = {service for service in SERVICES if name in told_in(f"services/{service}")}

    if name in told_in("shared"):
        return
    assert tellers >= set(EVERY[name].by) or tellers == set(EVERY[name].by), (
        f"{name} should be told by {EVERY[name].by}, and is by {sorted(tellers)}"
    )


@cache
def told_in(folder: str) -> frozenset[str]:
    """Metrics that calls of the telemetry name."""
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        if path.name != "vocabulary.py":
            found |= set(names_in(ast.parse(path.read_text(encoding="utf-8"))))
    return frozenset(found)


def names_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"^tidewheel_[a-z_]+$", node.value)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_tells_what_is_its_own_from_the_start(service: str) -> None:
    text = exposition(service)

    told = set(re.findall(r"^# HELP (\w+) ", text, re.MULTILINE))

    assert told == set(told_by(service))
    assert f'service="{service}"' in text


@needs_tools
@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_tells_passes_every_lint(service: str) -> None:
    done = run("promtool", "check", "metrics", given=exposition(service))

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


@cache
def exposition(service: str) -> str:
    """As that service begins, in a process of its own: metrics belong to their process."""
    return subprocess.run(
        [sys.executable, "-c", EXPOSES, service],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_label_values_that_rules_ask_for_exist() -> None:
    asked: dict[str, set[str]] = {}
    for _, expression in EXPRESSIONS:
        for label, value in re.findall(r'\b(outcome|kind|result)="(\w+)"', expression):
            asked.setdefault(label, set()).add(value)
    plain = json.dumps([dict(metric.known) for metric in EVERY.values()])

    missing = {v for values in asked.values() for v in values if f'"{v}"' not in plain}

    # Kinds of quality are told for models that have them; there is no list of them ahead.
    assert missing <= {"realised", "baseline", "estimated"}
