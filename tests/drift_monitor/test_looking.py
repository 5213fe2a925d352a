"""Courses that are looked at when their moment has come, whatever else is heard meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from services.drift_monitor.course import Course, Fallback, Phase
from services.drift_monitor.following import fall_back_over, follow
from services.drift_monitor.store import Kept
from services.drift_monitor.windows import Watched
from shared.errors import StoreUnavailable
from shared.events import (
    Digest,
    ModelName,
    RetrainingRequested,
    RetrainingWithheld,
    RunId,
    TrainingStarted,
)
from shared.ids import derived
from shared.postgres import Cause
from shared.telemetry import REGISTRY
from tests.drift_monitor.building import NOON, NOWHERE, PUMP, kinds, published
from tests.drift_monitor.conftest import Site
from tests.drift_monitor.test_course import FALLBACK, WORSE
from tests.drift_monitor.test_deciding import NOW_LIMITS, braked, confirm, fleet
from tests.drift_monitor.test_domain import a_subject

pytestmark = pytest.mark.real
MINUTE = timedelta(minutes=1)
DAY = timedelta(hours=24)
UNSEEN = Fallback(version=1, window=4, since=NOON)


def started(model: ModelName, trigger: str = "dataset") -> TrainingStarted:
    return TrainingStarted(
        model=model,
        run=RunId(derived(None, "run", model)),
        attempt=1,
        dataset=published(1, 1).dataset,
        dataset_version=2,
        trigger=trigger,
    )


async def keep(site: Site, version: Watched, course: Course, due_in: timedelta) -> None:
    """As if the course had come this far."""
    async with site.database.transaction():
        about = await site.judging.deciding.about(version, site.now)
        await site.store.save_course(about, course, site.now + due_in, site.now)


async def kept(site: Site, version: Watched) -> Kept:
    return await site.store.course(version.model)


async def test_a_training_that_begins_does_not_keep_an_unseen_champion_from_being_compared(
    site: Site,
) -> None:
    (version,) = await fleet(site, 1)
    asked = Course(phase=Phase.RETRAINING, version=1, asked_at=NOON, cools_until=NOON + DAY)
    await keep(site, version, replace(asked, fallback=UNSEEN), MINUTE)

    await site.hear(started(version.model, "drift"))

    assert (await kept(site, version)).due_at == site.now + MINUTE


async def test_the_brake_of_a_source_is_told_while_it_is_set_and_not_a_moment_longer(
    site: Site,
) -> None:
    """A person released it, or another monitor lifted it: nobody here was asked."""
    await fleet(site, 4)
    scopes = ("dataset/pumps", "dataset/others")
    brakes = replace(site.brakes, limits=replace(NOW_LIMITS, least_confirmed=2))
    await site.database.execute(
        "insert into course (model, dataset, version, phase, confirmed_at, seen_at, body) "
        "select 'm-' || n, 'pumps', 1, case when n < 3 then 'held' else 'cooling' end, $1, $1, '{}'"
        " from generate_series(0, 3) n",
        site.now,
    )
    for scope in scopes:
        await site.database.execute(
            "insert into brake (scope, set_at, until, detail, confirmed, watched) "
            "values ($1, $2, $3, '', 4, 4)",
            scope,
            site.now,
            site.now + 7 * DAY,
        )

    before = await brakes.look()
    while_set = [told_of(scope) for scope in ("fleet", *scopes)] + [held()]
    await site.database.execute("update brake set lifted_at = now() where lifted_at is null")
    after = await brakes.look()

    assert (before, after) == (1, 0)
    assert while_set == [0, 4, 0, 3]
    assert [told_of(scope) for scope in ("fleet", *scopes)] + [held()] == [0, None, None, 0]


def told_of(scope: str) -> float | None:
    return REGISTRY.get_sample_value("tidewheel_brake_models", {"scope": scope})


def held() -> float | None:
    return REGISTRY.get_sample_value("tidewheel_models_held", {})


async def test_what_another_clock_lifted_is_found_no_sooner_than_it_is_due(site: Site) -> None:
    (version,) = await fleet(site, 1)
    await keep(site, version, Course(phase=Phase.HELD, version=1), MINUTE)
    await site.database.execute("update course set due_at = null")
    for number, lifted_in in enumerate((-DAY, MINUTE)):
        await site.database.execute(
            "insert into brake (scope, set_at, until, detail, confirmed, watched, lifted_at) "
            "values ('fleet', $1, $1, '', 1, 1, $2)",
            site.now - (3 - number) * DAY,
            site.now + lifted_in,
        )

    found = [await site.store.due_course(site.now + after) for after in (0 * MINUTE, MINUTE)]

    assert found == [None, version.model]
    assert (await kept(site, version)).due_at == site.now + MINUTE


def test_answers_from_before_a_champion_came_back_are_no_reason_to_fall_back_once_more() -> None:
    back = fall_back_over(Course(version=3, fallback=UNSEEN, fell_at=4), PUMP, "as good", 15).course

    stale = follow(back, replace(WORSE, below=(14, 15)), a_subject(16, policy=FALLBACK))
    newly = follow(back, replace(WORSE, below=(16, 17)), a_subject(17, policy=FALLBACK))

    assert stale.events == ()
    assert kinds(newly.events) == ["FallbackAdvised"]


async def test_a_champion_that_comes_back_knows_its_newest_window(site: Site) -> None:
    (version,) = await fleet(site, 1)
    await site.database.execute("update version set newest = 15 where model = $1", version.model)
    long_ago = replace(UNSEEN, since=NOON - timedelta(days=30))
    await keep(site, version, Course(version=1, fallback=long_ago, fell_at=4), timedelta(0))

    await site.brakes.look_at_one()

    back = (await kept(site, version)).course
    assert (back.fallback, back.fell_at) == (None, 15)


async def test_a_model_whose_brake_was_lifted_is_looked_at_though_a_training_begins(
    site: Site,
) -> None:
    brakes = await braked(site)
    site.now += timedelta(days=7)
    await brakes.look()

    await site.hear(started(ModelName("m-0")))
    while await brakes.look_at_one():
        pass

    refused = [one for one in await site.said(RetrainingWithheld) if one.subject == "m-0"]
    assert [getattr(one, "reason", "") for one in refused] == ["brake", "duplicate"]
    asked = {one.subject for one in await site.said(RetrainingRequested)}
    assert asked == {"m-1", "m-2", "m-3"}


async def test_a_model_that_cannot_be_looked_at_keeps_no_other_waiting(site: Site) -> None:
    broken, sound = await fleet(site, 2)
    wanting = Course(phase=Phase.CONFIRMED, version=1, confirmed_at=NOON)
    await keep(site, broken, wanting, timedelta(0))
    await keep(site, sound, wanting, timedelta(0))
    await site.database.execute(
        "update version set manifest = $1 where model = $2", NOWHERE, broken.model
    )

    while await site.brakes.look_at_one():
        pass

    assert [one.subject for one in await site.said(RetrainingRequested)] == [sound.model]
    assert (await kept(site, broken)).due_at == site.now + MINUTE


async def test_a_course_that_nobody_can_read_keeps_no_other_waiting(site: Site) -> None:
    broken, sound = await fleet(site, 2)
    wanting = Course(phase=Phase.CONFIRMED, version=1, confirmed_at=NOON)
    for version in (broken, sound):
        await keep(site, version, wanting, timedelta(0))
    await site.database.execute(
        "update course set body = '\"nonsense\"' where model = $1", broken.model
    )

    looked = [await site.brakes.look_at_one() for _ in range(3)]

    assert looked == [True, True, False]
    assert [one.subject for one in await site.said(RetrainingRequested)] == [sound.model]
    due = await site.database.fetchval("select due_at from course where model = $1", broken.model)
    assert due == site.now + MINUTE


async def test_a_course_whose_manifest_is_not_given_out_keeps_no_other_waiting(
    site: Site,
) -> None:
    withheld, sound = await fleet(site, 2)
    for version in (withheld, sound):
        wanting = Course(phase=Phase.CONFIRMED, version=1, confirmed_at=NOON)
        await keep(site, version, wanting, timedelta(0))
    fetch = site.judging.deciding.fetch

    async def away(digest: Digest) -> bytes:
        if digest == NOWHERE:
            raise StoreUnavailable("access denied")
        return await fetch(digest)

    await site.database.execute(
        "update version set manifest = $1 where model = $2", NOWHERE, withheld.model
    )
    brakes = replace(site.brakes, deciding=replace(site.judging.deciding, fetch=away))

    looked = [await brakes.look_at_one() for _ in range(3)]

    assert looked == [True, True, False]
    assert [one.subject for one in await site.said(RetrainingRequested)] == [sound.model]


async def test_a_retraining_that_nobody_hears_of_again_was_in_vain_and_is_asked_for_anew(
    site: Site,
) -> None:
    (version,) = await fleet(site, 1)
    await confirm(site, version, NOW_LIMITS)
    asked = await kept(site, version)

    site.now += DAY
    await site.brakes.look_at_one()
    again = await kept(site, version)

    assert (asked.course.phase, asked.due_at) == (Phase.RETRAINING, NOON + DAY)
    assert (again.course.vain, again.course.asked_at) == (1, NOON + DAY)
    assert len(await site.said(RetrainingRequested)) == 2


async def test_what_a_look_says_has_the_same_ids_however_often_it_is_begun(site: Site) -> None:
    (version,) = await fleet(site, 1)
    await keep(site, version, Course(version=1, confirmed_at=NOON), timedelta(0))
    ids: list[UUID] = []

    async def lost() -> None:
        async with site.database.transaction(Cause.outside()) as transaction:
            await site.brakes.look_at_one()
            ids.extend(heard.id for heard in transaction.said)
            raise StoreUnavailable("the connection broke")

    with pytest.raises(StoreUnavailable):
        await lost()
    await site.brakes.look_at_one()

    rows = await site.database.fetch("select event_id from said where subject = $1", version.model)
    assert [row["event_id"] for row in rows] == ids
    assert len(ids) == 1
