"""What must hold of a candidate besides its losses."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest

from services.evaluator.checks import checked
from services.evaluator.predictors import candidate_on
from services.evaluator.scoring import score
from shared.events import Check
from shared.holdout import read_holdout
from shared.manifest import Column
from shared.spec_gate import Checks
from tests.evaluator.building import Version, World, a_spec, a_version, an_argument

SEEN = (Column(name="x", kind="number", minimum=-2.0, maximum=2.0),)


def a_candidate(task: Any = "regression", *, slope: float = 3.0, **fields: Any) -> Version:
    return a_version(World.drawn(task), slope=slope, manifest_changes={"columns": SEEN, **fields})


def looked_at(files: Version, seconds: Any = None, **checks: Any) -> Check:
    held = read_holdout(files.holdout)
    ticks = count()
    return checked(
        Checks.model_validate(checks),
        candidate_on(held, files.files()),
        held,
        seconds or (lambda: next(ticks) * 0.001),
    )[0]


def test_answers_within_their_bounds_pass() -> None:
    found = looked_at(a_candidate(), bounds=[-20, 20])

    assert found.passed
    assert "all answers lie between" in found.detail


def test_an_answer_outside_is_named_with_its_row() -> None:
    found = looked_at(a_candidate(), bounds=[-20, 1])

    assert not found.passed
    assert found.limit == 1
    assert found.value is not None
    assert found.value > 1
    assert "the first is" in found.detail


def test_probabilities_are_bounded_too() -> None:
    sure = looked_at(a_candidate("classification"), bounds=[0.2, 0.8])

    assert not sure.passed


@pytest.mark.parametrize(
    ("slope", "direction", "passed"),
    [
        (3.0, "increasing", True),
        (-3.0, "increasing", False),
        (-3.0, "decreasing", True),
        (0.0, "increasing", True),
        (0.0, "decreasing", True),
    ],
)
def test_answers_follow_a_column_or_do_not(slope: float, direction: str, passed: bool) -> None:
    found = looked_at(a_candidate(slope=slope), monotone={"x": direction})

    assert found.passed is passed
    assert found.name == "monotone x"


def test_the_first_row_that_turns_is_named_with_both_answers() -> None:
    found = looked_at(a_candidate(slope=-3.0), monotone={"x": "increasing"})

    assert "100 of 100 rows are not increasing" in found.detail
    assert "row 0 (" in found.detail
    assert "goes from 6 to 4.5 while x rises from -2 to -1.5" in found.detail


def test_probes_are_swept_like_held_out_rows() -> None:
    probes = ({"name": "idle", "row": {"x": 0.0}, "min": -100.0},)

    alone = looked_at(a_candidate(slope=-3.0), monotone={"x": "increasing"})
    both = looked_at(a_candidate(slope=-3.0), monotone={"x": "increasing"}, probes=probes)

    assert "100 of 100 rows" in alone.detail
    assert "101 of 101 rows" in both.detail


def test_the_probability_of_the_second_class_is_what_rises() -> None:
    found = looked_at(a_candidate("classification"), monotone={"x": "increasing"})

    assert found.passed


@pytest.mark.parametrize(
    ("changes", "column", "told"),
    [
        ({}, "gone", "no column 'gone'"),
        ({"columns": (Column(name="x", kind="number"),)}, "x", "had no range"),
    ],
)
def test_what_cannot_be_swept_has_not_been_passed(
    changes: dict[str, Any], column: str, told: str
) -> None:
    found = looked_at(a_candidate(**changes), monotone={column: "increasing"})

    assert not found.passed
    assert told in found.detail


def test_a_column_that_the_candidate_does_not_read_cannot_turn_it() -> None:
    assert looked_at(a_candidate(), monotone={"last": "increasing"}).passed


@pytest.mark.parametrize(
    ("asked", "passed"),
    [
        ({"min": 2.9, "max": 3.1}, True),
        ({"min": 3.1}, False),
        ({"max": 2.9}, False),
    ],
)
def test_a_probe_has_to_lie_where_it_is_said_to(asked: dict[str, float], passed: bool) -> None:
    found = looked_at(a_candidate(), probes=[{"name": "one", "row": {"x": 1.0}, **asked}])

    assert (found.name, found.passed) == ("probe one", passed)
    assert found.value == pytest.approx(3.0)


def test_a_probe_may_ask_for_a_class() -> None:
    files = a_candidate("classification")

    right = looked_at(files, probes=[{"name": "rain", "row": {"x": 2.0}, "answer": "wet"}])
    wrong = looked_at(files, probes=[{"name": "rain", "row": {"x": 2.0}, "answer": "dry"}])

    assert right.passed
    assert not wrong.passed
    assert "'wet', not 'dry'" in wrong.detail


def test_a_probe_whose_values_do_not_fit_has_not_been_passed() -> None:
    found = looked_at(a_candidate(), probes=[{"name": "odd", "row": {"x": "much"}, "min": 0}])

    assert not found.passed
    assert "cannot be checked" in found.detail


def test_slow_answers_fail_and_the_figure_is_kept() -> None:
    fast = looked_at(a_candidate(), latency="2ms")
    slow = looked_at(a_candidate(), latency="0.5ms")

    assert (fast.passed, slow.passed) == (True, False)
    assert slow.value == pytest.approx(0.001)
    assert slow.limit == 0.0005


def test_large_files_fail() -> None:
    files = a_candidate()
    size = len(files.model) / 1e6

    assert looked_at(files, size_mb=size * 1.01).passed
    assert not looked_at(files, size_mb=size * 0.99).passed


def test_a_failed_check_rejects_a_candidate_that_passed_every_gate() -> None:
    spec = a_spec(checks={"monotone": {"x": "decreasing"}, "bounds": [-50, 50]})

    found = score(an_argument(a_candidate(), spec=spec))["verdict"]

    assert found["reason"] == "check_failed"
    assert [check["passed"] for check in found["checks"]] == [True, False]
    assert all(gate["passed"] for gate in found["gates"])


def test_answers_that_are_no_numbers_turn_nowhere() -> None:
    world = World.drawn()
    files = a_version(world, manifest_changes={"columns": SEEN})
    held = read_holdout(files.holdout)
    candidate = candidate_on(held, files.files())
    candidate.estimator.coef_[:] = np.nan

    found = checked(Checks(monotone={"x": "increasing"}), candidate, held, lambda: 0.0)[0]

    assert not found.passed
