"""Labels joined many at a time come to what they come to one by one; rows packed are rows kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.drift_monitor.quality import Answers, Judge, Label, Observed, Outcome, join
from services.drift_monitor.quality.firsts import Firsts, join_many
from services.drift_monitor.quality.joining import Given
from services.drift_monitor.store.outcomes import Lost, Weighed
from shared.usable import can_come_true
from tests.drift_monitor.building import NOON
from tests.drift_monitor.conftest import Site

CLASSES: dict[tuple[str, int], tuple[float | str | bool, ...]] = {
    ("pump", 1): (),
    ("pump", 2): (),
    ("fan", 1): ("no", "yes"),
    ("fan", 2): (0.0, 1.0, 2.0),
    ("fan", 3): (False, True),
}
MOMENTS = st.integers(0, 3).map(lambda hours: NOON + timedelta(hours=hours))
EVENTS = st.integers(1, 10**6).map(lambda n: UUID(int=n))
VALUES = st.one_of(st.sampled_from([0.5, 1.0, 2, "yes", "no", "unseen", True, math.nan]))
LABELS = st.builds(Label, st.just(1.0), st.integers(1, 2), MOMENTS, EVENTS)
GIVEN = st.builds(
    Given,
    id=st.sampled_from([f"p-{n}" for n in range(8)]),
    place=st.integers(1, 10**6),
    model=st.sampled_from(["pump", "fan"]),
    version=st.sampled_from([1, 2, 3, None]),
    window=st.sampled_from([1, 2, None]),
    answer=st.just(0.25),
    score=st.none(),
    at=MOMENTS,
    is_compared=st.booleans(),
    label=st.none() | LABELS,
    known_at=st.just(NOON),
)
OBSERVED = st.builds(
    Observed,
    prediction=st.sampled_from([f"p-{n}" for n in range(10)]),
    model=st.sampled_from(["pump", "fan"]),
    value=VALUES,
    revision=st.integers(1, 2),
    observed_at=MOMENTS,
    event=EVENTS,
    known_at=MOMENTS,
)


def columns_of(rows: Sequence[Given]) -> Answers:
    return Answers._make(zip(*rows, strict=True)) if rows else Answers()


def outcomes_of(firsts: Firsts, rows: dict[str, Given]) -> dict[str, Outcome]:
    labels = zip(firsts.value, firsts.revision, firsts.observed_at, firsts.event, strict=True)
    return {
        prediction: Outcome(rows[prediction], Label(*label), known_at)
        for prediction, label, known_at in zip(firsts.id, labels, firsts.known_at, strict=True)
    }


@given(
    st.lists(GIVEN, max_size=8, unique_by=lambda row: row.id),
    st.lists(OBSERVED, max_size=12, unique_by=lambda one: one.event),
)
def test_many_at_a_time_come_to_what_they_come_to_one_by_one(
    rows: list[Given], observed: list[Observed]
) -> None:
    known = {row.id: row for row in rows}
    named = [row for row in rows if row.id in {one.prediction for one in observed}]

    careful = join(known, observed, CLASSES)
    firsts, rest = join_many(columns_of(named), observed, CLASSES)

    assert outcomes_of(firsts, known) | rest.now == careful.now
    assert (rest.past, rest.parked) == (careful.past, careful.parked)
    assert +(rest.became + Counter(joined=firsts.labels)) == +careful.became
    assert set(firsts.compared) == {one for one in firsts.id if known[one].is_compared}
    for version, span in firsts.spans.items():
        assert set(zip(firsts.model[span], firsts.version[span], strict=True)) <= {version}
    spans = [*firsts.spans.values()]
    assert all(one.stop == other.start for one, other in pairwise(spans))
    assert sum(span.stop - span.start for span in spans) == firsts.labels


@pytest.mark.parametrize("version", [1, 2, 3])
@given(values=st.lists(VALUES, min_size=1, max_size=8))
def test_labels_of_another_kind_than_the_classes_are_invalid_either_way(
    version: int, values: list[Any]
) -> None:
    rows = [a_row(place, model="fan", version=version) for place in range(len(values))]
    observed = [a_label_of(row, value) for row, value in zip(rows, values, strict=True)]
    usable = [can_come_true(value, CLASSES["fan", version]) for value in values]

    careful = join({row.id: row for row in rows}, observed, CLASSES)
    firsts, rest = join_many(columns_of(rows), observed, CLASSES)

    assert [row.id in careful.now for row in rows] == usable
    assert [row.id in firsts.id for row in rows] == usable
    assert careful.became["invalid"] == rest.became["invalid"] == usable.count(False)


def test_a_plain_batch_is_joined_without_a_look_at_any_single_label() -> None:
    rows = [a_row(place) for place in range(50)]
    observed = [a_label_of(row) for row in rows]

    firsts, rest = join_many(columns_of(rows), observed, CLASSES)

    assert firsts.labels == 50
    assert (rest.now, rest.past, rest.parked) == ({}, [], [])


@pytest.mark.parametrize("metric", ["mae", "mse", "rmse", "mape", "pinball@0.9", "accuracy"])
@given(pairs=st.lists(st.tuples(st.floats(-1e308, 1e308), st.floats(-1e308, 1e308)), max_size=20))
def test_losses_of_many_answers_are_those_of_each(
    metric: str, pairs: list[tuple[float, float]]
) -> None:
    judge = Judge(metric=metric, classes=(), rule={"rule": "constant", "value": 1.5})
    answers, values = [answer for answer, _ in pairs], [value for _, value in pairs]

    losses = judge.losses(answers, [None] * len(pairs), values)

    assert losses == [judge.loss(answer, None, value) for answer, value in pairs]
    assert judge.baseline_losses(values) == [judge.baseline_loss({}, value) for value in values]


def a_row(place: int, **changes: Any) -> Given:
    row = Given(f"p-{place}", place, "pump", 1, 1, 0.25, None, NOON + timedelta(seconds=place))
    return row._replace(**changes)


def a_label_of(row: Given, value: Any = 0.75) -> Observed:
    later = row.at + timedelta(days=1, microseconds=row.place)
    return Observed(row.id, row.model, value, 1, row.at, UUID(int=row.place + 1), later)


@pytest.mark.real
@pytest.mark.parametrize(
    ("changes", "values", "lost"),
    [
        ({}, (0.5, 2, -1e300), Lost([0.25, 1.75, 1e140], [1.0, 1.0, 1.0], [0, 5, 63])),
        ({"window": None}, ("ja, nein", "ö", True), Lost([0.0, 1.0, 1.0], [1.0] * 3, [None] * 3)),
        ({}, (0.5, 0.0, 1.5), Lost([0.1, None, 0.2], [None] * 3, [1, None, 3])),
    ],
    ids=["whole columns", "empty columns and texts", "columns with gaps"],
)
async def test_rows_that_are_packed_are_the_rows_that_the_driver_writes(
    site: Site, changes: dict[str, Any], values: tuple[Any, ...], lost: Lost
) -> None:
    rows = [a_row(place, **changes) for place in range(1, 4)]
    observed = [a_label_of(row, value) for row, value in zip(rows, values, strict=True)]
    classes = () if isinstance(values[0], float) else ("ja, nein", "ö", True)
    firsts, _ = join_many(columns_of(rows), observed, {("pump", 1): classes})
    outcomes = [*outcomes_of(firsts, {row.id: row for row in rows}).values()]

    await site.store.keep_firsts(firsts, lost)
    packed = await site.database.fetch(KEPT)
    await site.database.execute("truncate outcome")
    await site.store.keep(list(map(Weighed, outcomes, *lost)))

    assert len(packed) == 3
    assert packed == await site.database.fetch(KEPT)


KEPT = """
    select place, model, version, "window", at, known_at, value, revision, observed_at, event, loss,
        baseline_loss, cell, counts
    from outcome order by place
"""
