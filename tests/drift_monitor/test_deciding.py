"""The decision to retrain on a real database: one budget, one brake, whoever decides."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

import httpx
import numpy as np
import pytest

from services.drift_monitor.brake import USUAL, Limits
from services.drift_monitor.course import Phase
from services.drift_monitor.domain import Decided, Signs, Subject, Watch
from services.drift_monitor.handlers import Brakes, Deciding
from services.drift_monitor.periods import verdict_of
from services.drift_monitor.windows import Watched
from shared import codec
from shared.events import (
    AnnotationProposed,
    BrakeLifted,
    BrakeSet,
    DeploymentRolledBack,
    Event,
    FallbackAdvised,
    FallbackEnded,
    ModelName,
    PredictionRow,
    RetrainingRequested,
    RetrainingWithheld,
    RunId,
    TrainingSkipped,
    TrainingStarted,
    WindowEvaluated,
)
from shared.ids import derived
from shared.postgres import Cause
from tests.drift_monitor.building import (
    NOON,
    PUMP,
    a_label,
    a_spec,
    kinds,
    published,
    registered,
    shadowed,
)
from tests.drift_monitor.conftest import Site
from tests.drift_monitor.test_service import PROFILE, QUIET, promoted

pytestmark = pytest.mark.real
HOUR = timedelta(hours=1)
CONFIRMED = Signs(confirmed="drift", doubtful="drift", suspect=True, windows=(1,), detail="a")
NOW_LIMITS = replace(USUAL, settle=timedelta(0))


def deciding(site: Site, limits: Limits) -> Deciding:
    return Deciding(
        store=site.store, fetch=site.artifacts.aget, now=lambda: site.now, limits=limits
    )


async def fleet(site: Site, count: int) -> list[Watched]:
    """Champions `m-0`, `m-1` and so on, with enough new rows to learn from."""
    await site.hear(registered(site.artifacts, PROFILE), published(1, 100), published(2, 900))
    (pump,) = (await site.store.versions([(PUMP, 1)])).values()
    found = [replace(pump, model=ModelName(f"m-{n}")) for n in range(count)]
    for version in found:
        async with site.database.transaction():
            await site.store.own(version.model, f"team-{version.model[2:]}")
            await site.store.add_version(version)
            await site.store.crown(version.model, 1, NOON)
    return found


async def confirm(
    site: Site, version: Watched, limits: Limits, signs: Signs = CONFIRMED
) -> list[Event]:
    """A window confirms a change, in a transaction of its own."""
    subject = Subject(
        model=version.model,
        version=1,
        window=1,
        policy=version.policy,
        is_champion=True,
        asked_at=None,
        now=site.now,
    )
    decided = Decided(watch=Watch(), events=(), signs=signs)
    async with site.database.transaction(Cause.outside()) as transaction:
        await site.store.lock([version.model])
        _, said = await deciding(site, limits).settle(version, subject, decided)
        await transaction.say(said)
    return said


def a_training(model: ModelName) -> TrainingStarted:
    return TrainingStarted(
        model=model,
        run=RunId(derived(None, "run")),
        attempt=1,
        dataset=published(1, 1).dataset,
        dataset_version=2,
        trigger="dataset",
    )


def reasons(said: Sequence[Event]) -> list[str]:
    return [event.reason for event in said if isinstance(event, RetrainingWithheld)]


async def test_without_new_rows_nothing_is_asked_until_they_have_come(site: Site) -> None:
    await site.hear(registered(site.artifacts, PROFILE), promoted(), published(1, 100))
    said = await site.hear(*site.serving.batches_of(QUIET[:100] + np.array([3.0, 0, 0])))
    assert reasons(said) == ["no_labels"]

    await site.hear(published(2, 900))
    site.now += HOUR
    looked = await site.brakes.look_at_one()

    assert looked
    assert len(await site.said(RetrainingRequested)) == 1
    assert (await site.store.course(PUMP)).course.phase is Phase.RETRAINING


async def test_labels_are_new_rows_too(site: Site) -> None:
    await site.hear(registered(site.artifacts, PROFILE), promoted())
    await site.hear(*site.serving.batches_of(QUIET[:50]))
    await site.hear_together([a_label(p, y) for p, y in site.serving.asked])

    assert await site.store.labels_since(PUMP, 1) == 50


async def test_a_training_that_is_on_its_way_is_not_asked_for_again(site: Site) -> None:
    version = (await fleet(site, 1))[0]
    await site.hear(a_training(version.model))

    assert reasons(await confirm(site, version, NOW_LIMITS)) == ["duplicate"]
    assert reasons(await confirm(site, version, NOW_LIMITS)) == []


async def test_a_vain_retraining_backs_off_and_a_promotion_begins_anew(site: Site) -> None:
    version = (await fleet(site, 1))[0]
    await confirm(site, version, NOW_LIMITS)
    skipped = TrainingSkipped(
        model=version.model,
        dataset=published(1, 1).dataset,
        dataset_version=2,
        trigger="drift",
        reason="nothing_new",
        detail="nothing new",
    )
    await site.hear(skipped)
    assert len(await site.said(RetrainingRequested)) == 1
    backed_off = (await site.store.course(version.model)).course

    await site.hear(replace(promoted(), model=version.model))
    anew = (await site.store.course(version.model)).course

    assert (backed_off.phase, backed_off.vain) == (Phase.BACKOFF, 1)
    assert (anew.vain, anew.confirmed_at) == (0, None)


async def retraining(site: Site, cooldown: str = "12h") -> None:
    """The champion's change was confirmed; a retraining of it is on its way."""
    spec = a_spec(cooldown=cooldown)
    await site.hear(registered(site.artifacts, PROFILE, spec=spec), promoted())
    await site.hear(published(1, 100), published(2, 900))
    (version,) = (await site.store.versions([(PUMP, 1)])).values()
    said = await confirm(site, version, NOW_LIMITS)
    assert "RetrainingRequested" in kinds(said)


@pytest.mark.parametrize("is_promoted_first", [True, False])
async def test_a_promotion_is_noted_whether_it_or_its_registration_is_heard_first(
    site: Site, is_promoted_first: bool
) -> None:
    await retraining(site)
    asked_at = (await site.store.course(PUMP)).course.asked_at
    assert asked_at is not None
    heard = [registered(site.artifacts, PROFILE, 2, spec=a_spec(cooldown="6h")), promoted(2)]

    await site.hear(*reversed(heard) if is_promoted_first else heard)

    kept = await site.store.course(PUMP)
    assert (kept.course.phase, kept.course.version) == (Phase.COOLING, 2)
    assert (kept.course.cools_until, kept.due_at) == (asked_at + 6 * HOUR,) * 2


async def test_between_a_promotion_and_its_registration_nothing_is_forgotten(site: Site) -> None:
    await retraining(site)

    await site.hear(promoted(2))
    between = (await site.store.course(PUMP)).course
    await site.hear(a_training(PUMP))
    site.now += 30 * HOUR
    while await site.brakes.look_at_one():
        pass
    await site.hear(registered(site.artifacts, PROFILE, 2))
    after = (await site.store.course(PUMP)).course

    assert (between.phase, between.version) == (Phase.COOLING, 2)
    assert (after.version, after.vain) == (2, 0)
    # It began before the version was registered: it was the one that made it.
    assert after.training_at is None


async def test_a_release_that_forgot_the_promotion_is_made_good_with_the_registration(
    site: Site,
) -> None:
    await retraining(site)
    async with site.database.transaction():
        await site.store.crown(PUMP, 2, NOON)

    await site.hear(registered(site.artifacts, PROFILE, 2))

    course = (await site.store.course(PUMP)).course
    assert (course.phase, course.version) == (Phase.COOLING, 2)


async def test_a_model_without_a_champion_waits_for_no_token(site: Site) -> None:
    limits = replace(NOW_LIMITS, budget=1, least_confirmed=100, least_watched=100)
    spender, waiting, last = await fleet(site, 3)
    await confirm(site, spender, limits)
    assert reasons(await confirm(site, waiting, limits)) == ["budget"]
    site.now += HOUR

    rolled_back = DeploymentRolledBack(
        model=waiting.model,
        from_version=1,
        to_version=None,
        to_manifest=None,
        generation=2,
        by="ada",
        reason="wrong",
    )
    await site.hear(rolled_back)

    course = (await site.store.course(waiting.model)).course
    assert (course.version, course.confirmed_at, course.refused) == (0, None, "")
    assert "RetrainingRequested" in kinds(await confirm(site, last, limits))


async def test_monitors_side_by_side_spend_one_budget(site: Site) -> None:
    versions = await fleet(site, 6)
    limits = replace(NOW_LIMITS, budget=2, least_confirmed=100, least_watched=100)

    said = await asyncio.gather(*(confirm(site, version, limits) for version in versions))

    asked = [event for some in said for event in some if isinstance(event, RetrainingRequested)]
    assert len(asked) == 2
    assert [reason for some in said for reason in reasons(some)] == ["budget"] * 4


async def test_who_waited_for_the_budget_is_asked_for_an_hour_later(site: Site) -> None:
    versions = await fleet(site, 2)
    limits = replace(NOW_LIMITS, budget=1, least_confirmed=100, least_watched=100)
    for version in versions:
        await confirm(site, version, limits)

    site.now += HOUR
    brakes = Brakes(
        store=site.store, deciding=deciding(site, limits), now=lambda: site.now, limits=limits
    )
    while await brakes.look_at_one():
        pass

    assert len(await site.said(RetrainingRequested)) == 2


A_CROWD = replace(NOW_LIMITS, least_confirmed=3, least_watched=4, settle=timedelta(minutes=10))


async def braked(site: Site) -> Brakes:
    """Four models of four change at once; ten minutes later each is looked at."""
    brakes = Brakes(
        store=site.store, deciding=deciding(site, A_CROWD), now=lambda: site.now, limits=A_CROWD
    )
    versions = await fleet(site, 4)
    for version in versions:
        await confirm(site, version, A_CROWD, Signs(calm=True))
    for version in versions:
        assert await confirm(site, version, A_CROWD) == []
    site.now += timedelta(minutes=10)
    while await brakes.look_at_one():
        pass
    return brakes


async def test_a_common_cause_pages_once_and_nothing_is_retrained(site: Site) -> None:
    await braked(site)

    (said,) = await site.said(BrakeSet)
    assert isinstance(said, BrakeSet)
    assert (said.scope, said.confirmed, said.watched) == ("fleet", 4, 4)
    assert await site.said(RetrainingRequested) == []
    assert len(await site.said(RetrainingWithheld)) == 4


async def test_a_person_releases_the_brake_and_what_it_held_is_asked_for(
    site: Site, client: httpx.AsyncClient
) -> None:
    brakes = await braked(site)
    listed = (await client.get("/v1/brakes")).json()["items"]

    body = {"scope": "fleet", "reason": "the sensors really are new"}
    released = await client.post("/v1/brakes/release", json=body)
    again = await client.post("/v1/brakes/release", json=body)
    while await brakes.look_at_one():
        pass

    assert [one["scope"] for one in listed] == ["fleet"]
    assert (released.status_code, again.status_code) == (200, 404), released.text
    (lifted,) = await site.said(BrakeLifted)
    assert isinstance(lifted, BrakeLifted)
    assert (lifted.by, lifted.reason) == ("the-operator", "released")
    assert len(await site.said(RetrainingRequested)) == 4


async def test_a_brake_is_released_by_operators_alone_and_needs_a_scope(
    site: Site, client: httpx.AsyncClient
) -> None:
    await braked(site)
    body = {"scope": "fleet", "reason": "so"}

    viewer = await client.post(
        "/v1/brakes/release", json=body, headers={"Authorization": "Bearer tw_viewer"}
    )
    odd = await client.post("/v1/brakes/release", json={**body, "scope": "all"})

    assert (viewer.status_code, odd.status_code) == (403, 422)
    assert odd.json()["errors"][0]["pointer"] == "/scope"


async def test_a_brake_ends_by_itself_when_the_models_are_well(site: Site) -> None:
    brakes = await braked(site)
    calm = Signs(calm=True)
    for key in [(f"m-{n}", 1) for n in range(4)]:
        (version,) = (await site.store.versions([key])).values()
        await confirm(site, version, A_CROWD, calm)

    assert await brakes.look() == 0

    (lifted,) = await site.said(BrakeLifted)
    assert isinstance(lifted, BrakeLifted)
    assert lifted.reason == "over"


async def test_what_outlasts_the_horizon_is_the_new_normal(site: Site) -> None:
    brakes = await braked(site)
    site.now += timedelta(days=7)

    await brakes.look()
    while await brakes.look_at_one():
        pass

    (lifted,) = await site.said(BrakeLifted)
    assert isinstance(lifted, BrakeLifted)
    assert lifted.reason == "new_regime"
    assert len(await site.said(RetrainingRequested)) == 4


@pytest.mark.parametrize("of_before", [False, True])
async def test_a_disturbance_that_has_passed_is_proposed_with_its_evidence(
    site: Site, of_before: bool
) -> None:
    spec = a_spec()
    timed = {**spec, "data": {**spec["data"], "time": "at"}}
    await site.hear(registered(site.artifacts, PROFILE, spec=timed), promoted())
    await site.hear(*site.serving.batches_of(QUIET[:50]))
    await site.hear(*site.serving.batches_of(QUIET[:100] + np.array([3.0, 0, 0])))
    if of_before:
        # An older release had ids of its own for them; the number of each stands in the event.
        await site.database.execute("delete from outbox")
        await site.database.execute("update said set event_id = gen_random_uuid()")
    for _ in range(12):
        await site.hear(*site.serving.batches_of(QUIET[:100]))

    (proposed,) = await site.said(AnnotationProposed)
    assert isinstance(proposed, AnnotationProposed)
    assert (proposed.dataset, proposed.tag) == ("flow", "transient")
    assert proposed.windows[:2] == (2, 3)
    assert proposed.evidence == tuple(verdict_of(PUMP, 1, one) for one in proposed.windows)
    assert proposed.starts_at < proposed.ends_at


async def test_evidence_is_the_same_when_one_transaction_holds_the_whole_disturbance(
    site: Site,
) -> None:
    """As when a monitor catches up: many windows close in it, the last of a spell among them."""
    spec = a_spec()
    timed = {**spec, "data": {**spec["data"], "time": "at"}}
    await site.hear(registered(site.artifacts, PROFILE, spec=timed), promoted())
    rows = [QUIET[:50], QUIET[:100] + np.array([3.0, 0, 0]), *[QUIET[:100]] * 12]

    said = await site.hear_together([one for some in rows for one in site.serving.batches_of(some)])

    (proposed,) = [one for one in said if isinstance(one, AnnotationProposed)]
    assert len(proposed.windows) >= 2
    assert proposed.evidence == tuple(verdict_of(PUMP, 1, one) for one in proposed.windows)
    verdicts = await site.database.fetch(
        "select event_id, payload from said where event_id = any($1)", list(proposed.evidence)
    )
    told = [codec.decode(row["payload"]).event for row in verdicts]
    assert {(one.TYPE, one.window) for one in told if isinstance(one, WindowEvaluated)} == {
        (WindowEvaluated.TYPE, window) for window in proposed.windows
    }


async def test_the_rule_answers_until_the_unseen_champion_does_as_well(site: Site) -> None:
    spec = a_spec(transient="fallback")
    await site.hear(registered(site.artifacts, PROFILE, spec=spec), promoted())
    await site.hear(*site.serving.batches_of(QUIET[:50]))
    # The outcome is nought, which the rule says; the champion is far off.
    said = await site.hear_together([a_label(p, 0.0) for p, _ in site.serving.asked])
    assert "FallbackAdvised" in kinds(said)

    site.now += timedelta(minutes=5)
    site.serving.at = site.now
    before = len(site.serving.asked)
    for batch in site.serving.batches_of(QUIET[:50] * 2):
        seen = replace(
            batch,
            rows=tuple(
                replace(row, version=None, rung="baseline", arm="champion", answer=0.0)
                for row in batch.rows
            ),
        )
        unseen = shadowed(batch, version=1, off=0.0)
        await site.hear(replace(unseen, rows=tuple(_joined(seen.rows, unseen.rows))))
    for prediction, answer in site.serving.asked[before:]:
        await site.hear(a_label(prediction, answer))
    await site.brakes.look_at_one()

    (ended,) = await site.said(FallbackEnded)
    assert isinstance(ended, FallbackEnded)
    assert "50 labelled rows" in ended.detail
    assert len(await site.said(FallbackAdvised)) == 1


def _joined(
    seen: Sequence[PredictionRow], both: Sequence[PredictionRow]
) -> Iterator[PredictionRow]:
    """The seen rows in the place of those that were shadowed."""
    by_id = {row.id: row for row in seen}
    return (by_id.get(row.id, row) for row in both)
