"""Predictions and labels on a real database: counted once, joined whatever comes first."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from shared import clock
from shared.errors import StoreUnavailable
from shared.events import (
    DeploymentRolledBack,
    DriftDetected,
    ModelPromoted,
    QualityDegraded,
    QualityMeasured,
    RetrainingRequested,
    RolloutId,
    WindowEvaluated,
)
from shared.ids import derived
from tests.drift_monitor.building import (
    NOWHERE,
    PUMP,
    Floats,
    a_label,
    a_profile,
    a_spec,
    autoregressive,
    kinds,
    published,
    registered,
)
from tests.drift_monitor.conftest import Site, heard_of

pytestmark = pytest.mark.real

SERIES: Floats = autoregressive(0.3, 1000, 3, seed=1)
PROFILE = a_profile(SERIES, window=50)
QUIET: Floats = autoregressive(0.3, 400, 3, seed=2)


def promoted(version: int = 1) -> ModelPromoted:
    return ModelPromoted(
        model=PUMP,
        rollout=RolloutId(derived(None, "rollout", version)),
        version=version,
        manifest=NOWHERE,
        previous=None,
        dataset_version=1,
        generation=version,
        evaluation=derived(None, "evaluation"),
        evidence={},
    )


@pytest.fixture
async def watched(site: Site) -> Site:
    """A champion whose windows have 50 rows."""
    await site.hear(registered(site.artifacts, PROFILE), promoted())
    return site


async def test_a_full_window_is_compared_and_said(watched: Site) -> None:
    said = await watched.hear(*watched.serving.batches_of(QUIET[:120]))

    windows = [event for event in said if isinstance(event, WindowEvaluated)]
    assert [(w.window, w.rows, w.drifted) for w in windows] == [(1, 50, False), (2, 50, False)]
    assert "blocks of 50 rows" in windows[0].detail
    assert await watched.counted() == 120


async def test_a_batch_delivered_again_counts_once(watched: Site) -> None:
    batches = watched.serving.batches_of(QUIET[:75])

    await watched.hear(*batches, *batches)
    await watched.hear_together([batches[0], batches[0], batches[2]])

    assert await watched.counted() == 75
    assert await watched.database.fetchval("select count(*) from prediction") == 75


async def test_a_row_in_two_batches_counts_once(watched: Site) -> None:
    batch = watched.serving.batch(QUIET[:10])

    await watched.hear(batch, replace(batch, batch=77))

    assert await watched.counted() == 10


async def test_what_is_rolled_back_is_counted_when_it_comes_again(watched: Site) -> None:
    batches = watched.serving.batches_of(QUIET[:100])

    async def lost() -> None:
        async with watched.database.transaction():
            await watched.predictions.take([heard_of(batch) for batch in batches], {})
            raise StoreUnavailable("the connection broke")

    with pytest.raises(StoreUnavailable):
        await lost()
    said = await watched.hear_together(batches)

    assert await watched.counted() == 100
    assert kinds(said) == ["WindowEvaluated", "WindowEvaluated"]


async def test_drift_is_said_and_a_fresh_model_asked_for(watched: Site) -> None:
    await watched.hear(published(1, 100), published(2, 200))

    said = await watched.hear(*watched.serving.batches_of(QUIET[:100] + np.array([3.0, 0, 0])))

    assert kinds(said) == [
        "WindowEvaluated",
        "DriftDetected",
        "RetrainingRequested",
        "DataQualityAlarmed",
        "WindowEvaluated",
    ]
    detected = next(event for event in said if isinstance(event, DriftDetected))
    assert detected.severity == "critical"
    assert "a" in {feature.feature for feature in detected.features}
    assert (await watched.store.standing(PUMP)).asked_at == watched.now


async def test_only_the_champion_asks_for_a_fresh_model(watched: Site) -> None:
    back = DeploymentRolledBack(
        model=PUMP,
        from_version=1,
        to_version=None,
        to_manifest=None,
        generation=2,
        by="ada",
        reason="worse",
    )
    await watched.hear(back)

    said = await watched.hear(*watched.serving.batches_of(QUIET[:50] + np.array([3.0, 0, 0])))

    assert kinds(said) == ["WindowEvaluated", "DriftDetected", "DataQualityAlarmed"]


async def test_predictions_of_a_version_not_known_yet_are_counted_once_it_is(site: Site) -> None:
    first = await site.hear(*site.serving.batches_of(QUIET[:120]))
    late = site.serving.asked[3]
    await site.hear(a_label(late[0], late[1]))

    said = await site.hear(registered(site.artifacts, PROFILE))

    assert first == []
    assert kinds(said) == ["WindowEvaluated", "WindowEvaluated"]
    assert await site.counted() == 120
    labelled = await site.database.fetchrow("select labels from window_quality where number = 1")
    assert labelled is not None
    assert labelled["labels"] == 1


async def test_answers_of_the_baseline_rule_join_no_window(watched: Site) -> None:
    batch = watched.serving.batch(QUIET[:5])
    rows = tuple(replace(row, version=None, rung="baseline") for row in batch.rows)

    await watched.hear(replace(batch, rows=rows))

    assert await watched.counted() == 0
    assert await watched.database.fetchval("select count(*) from prediction") == 5


async def test_quality_is_measured_as_labels_come(watched: Site) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:50]))
    labels = [a_label(p, answer + 0.05) for p, answer in watched.serving.asked]

    said = await watched.hear(*labels)

    measured = [event for event in said if isinstance(event, QualityMeasured)]
    assert [m.completeness for m in measured] == [0.5, 0.8, 1.0]
    assert measured[-1].value == pytest.approx(0.05)
    assert measured[-1].reference is not None
    assert measured[-1].baseline == pytest.approx(
        np.mean([abs(answer + 0.05) for _, answer in watched.serving.asked])
    )


async def test_worse_answers_are_said_and_ask_for_a_fresh_model(watched: Site) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:50]))

    said = await watched.hear_together([a_label(p, y + 1) for p, y in watched.serving.asked])

    assert kinds(said) == ["QualityMeasured", "QualityDegraded", "RetrainingRequested"]
    degraded = next(event for event in said if isinstance(event, QualityDegraded))
    assert degraded.value > degraded.bound > degraded.reference
    asked = next(event for event in said if isinstance(event, RetrainingRequested))
    assert asked.reason == "quality"
    assert "worse than" in asked.detail


async def test_labels_before_their_predictions_wait_and_join(watched: Site) -> None:
    batches = watched.serving.batches_of(QUIET[:50])
    early = [a_label(p, y + 0.05) for p, y in watched.serving.asked]
    await watched.hear(*early, early[0], replace(early[1], value=99.0, revision=2))
    waiting = await watched.store.count_waiting()

    said = await watched.hear(*batches)

    assert waiting == 52
    assert await watched.store.count_waiting() == 0
    assert kinds(said)[:2] == ["WindowEvaluated", "QualityMeasured"]
    measured = next(event for event in said if isinstance(event, QualityMeasured))
    assert (measured.labels, measured.completeness) == (50, 1.0)
    assert measured.value is not None
    assert measured.value > 1.0


async def test_a_revision_corrects_the_quality_of_its_window(watched: Site) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:50]))
    await watched.hear_together([a_label(p, y + 0.1) for p, y in watched.serving.asked])
    first, answer = watched.serving.asked[0]

    said = await watched.hear(a_label(first, answer + 5.1, revision=2))
    again = await watched.hear(a_label(first, answer + 9.0, revision=1))

    measured = next(event for event in said if isinstance(event, QualityMeasured))
    assert measured.value == pytest.approx(0.1 + 5.0 / 50)
    assert measured.labels == 50
    assert again == []


async def test_the_order_of_labels_and_predictions_makes_no_difference(site: Site) -> None:
    await site.hear(registered(site.artifacts, PROFILE, spec=a_spec(window=20)))
    batches = site.serving.batches_of(QUIET[:60], size=10)
    labels = [a_label(p, y + 0.1) for p, y in site.serving.asked]
    labels += [replace(label, value=float(label.value) + 1, revision=2) for label in labels[::3]]
    # Batches keep their order, as in their partition; labels come whenever they come.
    order = [None] * len(batches) + list(labels)
    random.shuffle(order)
    coming = iter(batches)

    await site.hear(*(label or next(coming) for label in order))

    rows = await site.database.fetch(
        "select number, (quality->>'value')::float8 as value, (quality->>'labels')::int as labels "
        "from window_quality order by number"
    )
    asked = [y + 0.1 + (i % 3 == 0) - y for i, (_, y) in enumerate(site.serving.asked)]
    expected = [float(np.mean(asked[i : i + 20])) for i in (0, 20, 40)]
    assert [row["value"] for row in rows] == pytest.approx(expected)
    assert [row["labels"] for row in rows] == [20, 20, 20]


@pytest.mark.parametrize(
    "changes",
    [
        {"value": "five"},
        {"value": float("nan")},
        {"value": True},
        {"value": "\0"},
        {"model": "other"},
        {"prediction": "a\0b"},
        {"prediction": "a" * 5000},
        {"revision": 2**40},
        {"revision": -1},
        {"observed_at": datetime(2026, 3, 4)},  # noqa: DTZ001 - without a zone on purpose
    ],
)
async def test_a_label_that_cannot_be_used_changes_nothing(
    watched: Site, changes: dict[str, object]
) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:50]))
    prediction, answer = watched.serving.asked[0]

    said = await watched.hear(replace(a_label(prediction, answer), **changes))  # type: ignore[arg-type] # by name

    assert said == []
    assert await watched.database.fetchval("select count(*) from outcome") == 0


async def test_a_label_for_another_model_does_not_hide_the_right_one(watched: Site) -> None:
    batch = watched.serving.batch(QUIET[:1])
    prediction, answer = watched.serving.asked[0]
    await watched.hear(
        replace(a_label(prediction, 9.0, revision=9), model=PUMP.__class__("other")),
        a_label(prediction, answer + 1),
    )

    await watched.hear(batch)

    row = await watched.database.fetchrow("select value, loss from outcome where counts")
    assert row is not None
    assert (float(row["value"]), row["loss"]) == (answer + 1, pytest.approx(1.0))


async def test_what_is_older_than_the_horizon_is_dropped(watched: Site) -> None:
    await watched.hear(watched.serving.batch(QUIET[:5]), a_label("never-asked", 1.0))

    watched.now = clock.now() + timedelta(days=31)
    await watched.forgetter.forget()

    assert await watched.store.count_waiting() == 0
    assert await watched.database.fetchval("select count(*) from prediction") == 0
