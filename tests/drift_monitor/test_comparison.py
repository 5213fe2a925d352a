"""Losses of versions that are compared: pairs with shadows, singles of arms, each told once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.drift_monitor.comparison import MOST_TOGETHER, Unseen, tell
from services.drift_monitor.domain import Watch
from services.drift_monitor.quality import Label
from services.drift_monitor.store.horizon import Span
from services.drift_monitor.store.qualities import BEGINNING
from services.drift_monitor.windows import Kept, Watched
from shared import codec
from shared.errors import StoreUnavailable
from shared.events import Event, LossesObserved, PredictionsLogged
from shared.ids import derived
from tests.drift_monitor.building import (
    NOON,
    NOWHERE,
    PUMP,
    Floats,
    a_label,
    a_policy,
    a_profile,
    a_spec,
    autoregressive,
    kinds,
    registered,
    shadowed,
)
from tests.drift_monitor.conftest import Site, heard_of

PROFILE = a_profile(autoregressive(0.3, 1000, 3, seed=1), window=50)
QUIET: Floats = autoregressive(0.3, 400, 3, seed=2)


# --- pure ---------------------------------------------------------------------------------------


def a_version(number: int, metric: str = "mae", classes: tuple[str, ...] = ()) -> Watched:
    return Watched(
        model=PUMP,
        version=number,
        manifest=NOWHERE,
        reference=NOWHERE,
        columns=("a",),
        classes=classes,
        baseline={"rule": "constant", "value": 0.0},
        metric=metric,
        policy=a_policy(),
        watch=Watch(),
        registered_at=NOON,
    )


def a_row(name: str = "p", answer: Any = 5.0, value: Any = 4.0, **changes: Any) -> Kept:
    given: dict[str, Any] = {
        "id": name,
        "model": PUMP,
        "version": 1,
        "names": (),
        "features": (),
        "answer": answer,
        "score": None,
        "arm": "champion",
        "rung": "champion",
        "at": NOON,
        "label": Label(value=value, revision=1, observed_at=NOON, event=derived(None, name)),
    }
    return Kept(**given | changes)


def a_shadow(seen: str = "p", version: int = 2, answer: Any = 4.5, **changes: Any) -> Unseen:
    given: dict[str, Any] = {
        "id": f"s-{seen}-{version}",
        "seen": seen,
        "model": PUMP,
        "version": version,
        "answer": answer,
        "score": None,
        "weight": 1.0,
        "at": NOON,
    }
    return Unseen(**given | changes)


def known(*versions: Watched) -> dict[tuple[str, int], Watched]:
    return {(str(PUMP), version.version): version for version in versions}


BOTH = known(a_version(1), a_version(2))


def test_a_pair_has_the_loss_of_both_by_the_metric_of_the_newer_one() -> None:
    versions = known(a_version(1, "mae"), a_version(2, "mse"))

    told = tell([a_row()], {"p": [a_shadow()]}, versions)

    (said,) = told.events
    assert (said.champion, said.challenger, said.metric, said.singles) == (1, 2, "mse", ())
    assert [(p.prediction, p.champion, p.challenger) for p in said.pairs] == [("p", 1.0, 0.25)]
    assert told.unseen == {"s-p-2": 0.25}


def test_in_probation_the_former_champion_is_the_challenger() -> None:
    told = tell([a_row(version=2)], {"p": [a_shadow(version=1)]}, BOTH)

    assert [(e.champion, e.challenger) for e in told.events] == [(2, 1)]


def test_what_was_told_is_judged_again_and_told_no_more() -> None:
    told = tell([a_row(value=6.0)], {"p": [a_shadow(told=True)]}, BOTH)

    assert (told.events, told.unseen) == ((), {"s-p-2": 1.5})


def test_singles_carry_the_challengers_share_and_name_every_pair() -> None:
    versions = known(a_version(1), a_version(2), a_version(3))
    rows = [
        a_row("a", weight=0.7, arms=(1, 2, 3), entity="north"),
        a_row("b", weight=0.2, arms=(1, 2, 3), version=3, arm="challenger", rung="challenger"),
    ]

    told = tell(rows, {}, versions)

    found = [
        (e.challenger, s.prediction, s.role, round(s.weight, 6), s.loss, s.entity)
        for e in told.events
        for s in e.singles
    ]
    assert found == [
        (2, "a", "champion", 0.3, 1.0, "north"),
        (3, "a", "champion", 0.3, 1.0, "north"),
        (3, "b", "challenger", 0.2, 1.0, None),
    ]
    assert told.predictions == ("a", "b")


@pytest.mark.parametrize(
    "row",
    [
        a_row(arms=()),
        a_row(arms=(1, 2), label=None),
        a_row(arms=(1, 2), told=True),
        a_row(arms=(1, 2), arm="challenger", rung="champion"),
        a_row(arms=(1, 2), rung="previous", version=2),
        a_row(arms=(1, 9)),
        a_row(arms=(1, 2), rung="baseline", version=None),
    ],
)
def test_nothing_is_told_of_what_no_arm_answered_itself_or_nobody_can_judge_yet(row: Kept) -> None:
    told = tell([row], {}, BOTH)

    assert (told.events, told.predictions) == ((), ())


@pytest.mark.parametrize(
    "row",
    [
        a_row(arm="none", rung="baseline", version=None),
        a_row(rung="previous"),
        a_row(arm="challenger", rung="challenger", version=2),
        a_row(version=7),
    ],
)
def test_a_shadow_is_compared_with_the_champions_own_answers_only(row: Kept) -> None:
    told = tell([row], {"p": [a_shadow()]}, BOTH)

    assert (told.events, dict(told.unseen)) == ((), {})


def test_a_loss_that_cannot_be_had_is_told_by_nobody_and_not_tried_again() -> None:
    versions = known(a_version(1, "mae"), a_version(2, "brier", classes=("dry", "wet")))

    told = tell([a_row(answer="dry", value="wet")], {"p": [a_shadow(answer="wet")]}, versions)

    assert (told.events, told.unseen) == ((), {"s-p-2": None})


def test_long_names_of_entities_are_told_as_their_hash() -> None:
    rows = [a_row(f"p{i}", weight=0.5, arms=(1, 2), entity="x" * 1000) for i in range(500)]

    (said,) = tell(rows, {}, BOTH).events

    assert {(s.entity or "")[:7] for s in said.singles} == {"sha256:"}
    assert len(codec.encode(heard_of(said))) < 200_000


def test_an_event_holds_at_most_five_hundred_losses() -> None:
    rows = [a_row(f"p{i}", weight=0.5, arms=(1, 2)) for i in range(700)]
    unseen = {row.id: [a_shadow(row.id)] for row in rows}

    told = tell(rows, unseen, BOTH)

    sizes = [len(e.pairs) + len(e.singles) for e in told.events]
    assert sizes == [MOST_TOGETHER, MOST_TOGETHER, 400]
    assert len({p.prediction for e in told.events for p in e.pairs}) == 700
    assert len({s.prediction for e in told.events for s in e.singles}) == 700


# --- on a database --------------------------------------------------------------------------------


def parted(batch: PredictionsLogged) -> tuple[PredictionsLogged, PredictionsLogged]:
    """A batch with shadows as two: what was seen, and what was not."""
    seen = tuple(row for row in batch.rows if row.shadow_of is None)
    unseen = tuple(row for row in batch.rows if row.shadow_of is not None)
    return replace(batch, rows=seen), replace(batch, batch=batch.batch + 1000, rows=unseen)


def losses(said: Sequence[Event]) -> list[LossesObserved]:
    return [event for event in said if isinstance(event, LossesObserved)]


def pairs(said: Sequence[Event]) -> list[tuple[str, float, float]]:
    return [
        (p.prediction, round(p.champion, 6), round(p.challenger, 6))
        for event in losses(said)
        for p in event.pairs
    ]


@pytest.fixture
async def two(site: Site) -> Site:
    """Two versions are known."""
    await site.hear(registered(site.artifacts, PROFILE), registered(site.artifacts, PROFILE, 2))
    return site


@pytest.mark.real
async def test_what_nobody_saw_fills_no_window_and_is_no_prediction(two: Site) -> None:
    said = await two.hear(shadowed(two.serving.batch(QUIET[:50])))

    assert kinds(said) == ["WindowEvaluated"]
    assert await two.counted() == 50
    assert await two.database.fetchval("select count(*) from prediction") == 50
    assert await two.database.fetchval("select count(*) from unseen") == 50


@pytest.mark.real
async def test_a_label_judges_the_seen_answer_and_its_shadow(two: Site) -> None:
    await two.hear(shadowed(two.serving.batch(QUIET[:3])))
    labels = [a_label(p, y + 0.1) for p, y in two.serving.asked]

    said = await two.hear_together(labels)
    again = await two.hear_together(labels)

    assert pairs(said) == [(p, 0.1, 0.4) for p, _ in two.serving.asked]
    assert [(e.champion, e.challenger, e.metric) for e in losses(said)] == [(1, 2, "mae")]
    assert losses(again) == []


@pytest.mark.real
async def test_a_revision_corrects_what_is_kept_and_tells_nothing_again(two: Site) -> None:
    await two.hear(shadowed(two.serving.batch(QUIET[:1])))
    ((prediction, answer),) = two.serving.asked
    await two.hear(a_label(prediction, answer + 0.1))

    said = await two.hear(a_label(prediction, answer + 2.0, revision=2))

    assert losses(said) == []
    assert await two.database.fetchval("select loss from unseen") == pytest.approx(1.5)


@pytest.mark.real
@pytest.mark.parametrize("order", ["label first", "shadow last", "shadow first", "version last"])
async def test_whatever_comes_last_completes_the_pair(site: Site, order: str) -> None:
    seen, unseen = parted(shadowed(site.serving.batch(QUIET[:1])))
    ((prediction, answer),) = site.serving.asked
    label = a_label(prediction, answer + 0.1)
    one, other = registered(site.artifacts, PROFILE), registered(site.artifacts, PROFILE, 2)
    coming: dict[str, list[Event]] = {
        "label first": [one, other, label, seen, unseen],
        "shadow last": [one, other, seen, label, unseen],
        "shadow first": [one, other, unseen, seen, label],
        "version last": [one, seen, unseen, label, other],
    }

    said = [await site.hear(event) for event in coming[order]]

    assert [len(pairs(some)) for some in said] == [0, 0, 0, 0, 1]


@pytest.mark.real
async def test_the_seen_version_may_be_known_last(site: Site) -> None:
    await site.hear(registered(site.artifacts, PROFILE, 2))
    await site.hear(shadowed(site.serving.batch(QUIET[:1])))
    ((prediction, answer),) = site.serving.asked
    before = await site.hear(a_label(prediction, answer + 0.1))

    said = await site.hear(registered(site.artifacts, PROFILE, 1))

    assert (pairs(before), pairs(said)) == ([], [(prediction, 0.1, 0.4)])


@pytest.mark.real
async def test_in_any_order_each_pair_and_each_single_is_told_exactly_once(site: Site) -> None:
    one, other = registered(site.artifacts, PROFILE), registered(site.artifacts, PROFILE, 2)
    await site.hear(replace(one, spec=a_spec(window=1000)))
    coming: list[Event] = [replace(other, spec=a_spec(window=1000))]
    for batch in site.serving.batches_of(QUIET[:40], size=10):
        rows = tuple(replace(row, weight=0.8, arms=(1, 2)) for row in batch.rows)
        coming += parted(shadowed(replace(batch, rows=rows)))
    labels = [a_label(p, y + 0.1) for p, y in site.serving.asked]
    coming += [*labels, *labels[::2], *[replace(label, revision=2) for label in labels[::3]]]
    random.Random(7).shuffle(coming)

    said = await site.hear(*coming, *coming[:30])

    assert sorted(pairs(said)) == sorted((p, 0.1, 0.4) for p, _ in site.serving.asked)
    singles = [s for event in losses(said) for s in event.singles]
    assert sorted(s.prediction for s in singles) == sorted(p for p, _ in site.serving.asked)
    assert {(s.role, round(s.weight, 6)) for s in singles} == {("champion", 0.2)}


@pytest.mark.real
async def test_what_is_rolled_back_is_told_when_it_comes_again(two: Site) -> None:
    await two.hear(shadowed(two.serving.batch(QUIET[:5])))
    labels = [heard_of(a_label(p, y + 0.1)) for p, y in two.serving.asked]

    async def lost() -> None:
        async with two.database.transaction():
            await two.labels.take(labels, {})
            raise StoreUnavailable("the connection broke")

    with pytest.raises(StoreUnavailable):
        await lost()
    said = await two.hear_together([heard.event for heard in labels])

    assert len(pairs(said)) == 5


@pytest.mark.real
async def test_a_challengers_own_windows_are_measured_as_ever(two: Site) -> None:
    batch = two.serving.batch(QUIET[:50], version=2)
    arms = {"arm": "challenger", "rung": "challenger", "weight": 0.5, "arms": (1, 2)}
    rows = tuple(replace(row, **arms) for row in batch.rows)  # type: ignore[arg-type] # by name
    await two.hear(replace(batch, rows=rows))

    said = await two.hear_together([a_label(p, y + 0.1) for p, y in two.serving.asked])

    assert kinds(said) == ["QualityMeasured", "LossesObserved"]
    assert len(losses(said)[0].singles) == 50


@pytest.mark.real
async def test_labels_of_unseen_answers_join_nothing(two: Site) -> None:
    batch = shadowed(two.serving.batch(QUIET[:1]))
    await two.hear(batch)

    said = await two.hear(a_label(batch.rows[1].id, 1.0))

    assert said == []
    assert await two.database.fetchval("select loss from unseen") is None


@pytest.mark.real
async def test_unseen_answers_are_forgotten_with_the_others(two: Site) -> None:
    await two.hear(shadowed(two.serving.batch(QUIET[:5])))

    await two.store.forget_telemetry([Span(BEGINNING, NOON.replace(year=2100))])

    assert await two.database.fetchval("select count(*) from unseen") == 0
