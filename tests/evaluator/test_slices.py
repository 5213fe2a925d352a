"""Slices: their sizes, what required and watched ones ask for, and the worst that is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.comparison.intervals import Student
from services.evaluator.metrics import Insufficient
from services.evaluator.slices import Planned, SliceTerms, holm, judged, planned, worst_found
from tests.evaluator.evident import a_generator, a_slice, some_evidence

ROWS = 400


def plans(*terms: SliceTerms, rows: dict[str, int], task: str = "regression") -> list[Planned]:
    """Plans for slices that hold so many of the first rows each."""
    masks = {name: np.arange(ROWS) < count for name, count in rows.items()}
    evidence = some_evidence(
        "regression" if task == "regression" else "classification", ROWS, slices=masks
    )
    names = [term.name for term in terms]
    return planned(evidence, terms, dict.fromkeys(names, 0.1), dict.fromkeys(names, 0.05))


def an_interval(estimate: float, se: float = 0.1) -> Student:
    return Student(estimate=estimate, se=se, rows=100, units=100, test="t", df=99)


def test_a_required_slice_without_rows_is_a_no() -> None:
    parts = plans(a_slice("storm"), rows={"storm": 0})

    verdict, broken = judged(parts, [None])[0]

    assert broken == "insufficient"
    assert not verdict.passed
    assert verdict.detail == "no held-out row lies in this slice"


def test_a_required_slice_with_too_few_rows_is_a_no() -> None:
    parts = plans(a_slice("storm", min_rows=50), rows={"storm": 49})

    verdict, broken = judged(parts, [None])[0]

    assert broken == "insufficient"
    assert verdict.detail == "49 rows are fewer than 50"


def test_a_slice_needs_rows_of_the_rarer_class() -> None:
    parts = plans(a_slice("storm", min_positives=40), rows={"storm": 60}, task="classification")

    assert parts[0].lacking is not None
    assert "of the rarer class are fewer than 40" in parts[0].lacking


def test_watched_slices_with_too_few_rows_become_one() -> None:
    terms = [a_slice(name, role="watched") for name in ("hail", "fog")]
    parts = plans(*terms, a_slice("storm"), rows={"hail": 30, "fog": 10, "storm": 200})

    assert [part.name for part in parts] == ["storm", "rest"]
    rest = parts[1]
    assert rest.role == "watched"
    assert rest.where == "(hail > 0) or (fog > 0)"
    assert rest.mask.sum() == 30
    assert rest.lacking == "30 rows are fewer than 50"
    assert judged([rest], [None])[0][1] is None


def test_a_required_slice_must_be_shown_to_be_no_worse() -> None:
    parts = plans(a_slice("storm"), rows={"storm": 200})

    outcomes = [judged(parts, [an_interval(estimate)])[0][1] for estimate in (0.5, 0.0, -0.5)]

    assert outcomes == [None, "slice_harmed", "slice_harmed"]


def test_a_watched_slice_blocks_only_when_harm_is_shown() -> None:
    parts = plans(a_slice("storm", role="watched"), rows={"storm": 200})

    outcomes = [judged(parts, [an_interval(estimate)])[0] for estimate in (0.5, -0.2, -0.5)]

    assert [broken for _, broken in outcomes] == [None, None, "slice_harmed"]
    assert outcomes[2][0].p_value == pytest.approx(6.1e-5, rel=0.01)


def test_watched_slices_share_their_error() -> None:
    """A harm at p = 0.03 blocks alone, and not as one of three."""
    names = ("hail", "fog", "frost")
    terms = [a_slice(name, role="watched") for name in names]
    found = [an_interval(-0.29), an_interval(0.3), an_interval(0.3)]

    alone = judged(plans(terms[0], rows={"hail": 200}), found[:1])
    together = judged(plans(*terms, rows=dict.fromkeys(names, 200)), found)

    assert alone[0][0].p_value == pytest.approx(0.03, abs=0.002)
    assert alone[0][1] == "slice_harmed"
    assert [broken for _, broken in together] == [None, None, None]


def test_what_cannot_be_compared_is_a_no_only_where_it_is_required() -> None:
    names = {"storm": "required", "hail": "watched"}
    terms = [a_slice(name, role=role) for name, role in names.items()]
    parts = plans(*terms, rows=dict.fromkeys(names, 200))

    outcomes = judged(parts, [Insufficient("too alike"), Insufficient("too alike")])

    assert [broken for _, broken in outcomes] == ["insufficient", None]
    assert [verdict.detail for verdict, _ in outcomes] == ["too alike", "too alike"]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_the_smallest_first_and_more_than_bonferroni(values: list[float]) -> None:
    alphas = dict.fromkeys(range(len(values)), 0.05)

    rejected = holm(dict(enumerate(values)), alphas)

    kept = [value for place, value in enumerate(values) if place not in rejected]
    assert all(values[place] <= min(kept, default=1) for place in rejected)
    assert {n for n, value in enumerate(values) if value <= 0.05 / len(values)} <= rejected
    assert all(values[place] <= 0.05 for place in rejected)


def test_the_worst_part_is_where_differences_are_surest_to_be_bad(seed: int) -> None:
    d = a_generator(seed).normal(size=ROWS)
    bad = np.arange(ROWS) < 80
    d[bad] -= 1.0
    masks = {
        "load > 80": bad,
        "load > 20": np.arange(ROWS) < 300,
        "tiny": np.arange(ROWS) < 10,
        "all of them": np.ones(ROWS, dtype=np.bool_),
    }

    assert worst_found(some_evidence(rows=ROWS, found=masks), d) == "load > 80"
    assert worst_found(some_evidence(rows=ROWS), d) is None
