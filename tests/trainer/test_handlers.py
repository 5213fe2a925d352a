from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.trainer.domain import Order, order_for
from services.trainer.worker import Schedules
from shared.artifacts import digest_of
from shared.errors import Conflict, NotFound
from shared.events import (
    DatasetAnnotated,
    DatasetName,
    DeploymentRolledBack,
    Digest,
    ModelName,
    ModelPromoted,
    RetrainingRequested,
    RolloutId,
    TrainingFailed,
    TrainingSkipped,
)
from tests.support.house import a_spec, some_rows
from tests.trainer.builders import NOW, a_definition, a_version, defined
from tests.trainer.conftest import Room

pytestmark = pytest.mark.real
DEMAND = ModelName("demand")


def a_definition_of(**changes: Any) -> Any:
    return defined(a_spec("demand", "sales", **changes))


def a_promotion(version: int, dataset_version: int) -> ModelPromoted:
    return ModelPromoted(
        model=DEMAND,
        rollout=RolloutId(uuid4()),
        version=version,
        manifest=Digest("0" * 64),
        previous=None,
        dataset_version=dataset_version,
        generation=version,
        evaluation=uuid4(),
        evidence={},
    )


def a_rollback(to: int | None) -> DeploymentRolledBack:
    return DeploymentRolledBack(
        model=DEMAND,
        from_version=9,
        to_version=to,
        to_manifest=None,
        generation=10,
        by="tests",
        reason="a test",
    )


def a_request(reason: Any = "drift") -> RetrainingRequested:
    return RetrainingRequested(model=DEMAND, version=1, reason=reason, window=3, detail="")


async def end(room: Room, state: str = "done") -> None:
    await room.database.execute(
        "update job set state = $1, finished_at = now() where state in ('waiting', 'running')",
        state,
    )


async def test_a_version_and_a_definition_start_a_run_in_whatever_order_they_come(
    room: Room,
) -> None:
    await room.publish(1, 100)
    await room.publish(2, 200)
    arrived = await room.hear(a_definition_of())

    job = await room.jobs.claim("a test")

    assert job is not None
    assert job.payload["dataset_version"] == 2
    assert job.cause.correlation == arrived.correlation
    assert await room.said() == []


async def test_a_version_published_twice_is_trained_once(room: Room) -> None:
    await room.hear(a_definition_of())
    await room.publish(1, 100)
    await room.publish(1, 100)

    assert await room.states() == [(1, "waiting")]


async def test_every_model_that_uses_a_dataset_is_considered(room: Room) -> None:
    for model in ("demand", "supply", "weather"):
        await room.hear(defined(a_spec(model, "sales" if model != "weather" else "sky")))

    await room.publish(1, 100)

    rows = await room.database.fetch("select subject from job order by subject")
    assert [row["subject"] for row in rows] == ["demand", "supply"]


async def test_a_newer_version_replaces_a_queued_one_whose_story_ends(room: Room) -> None:
    await room.hear(a_definition_of())
    first = await room.publish(1, 100)

    await room.publish(2, 200)

    assert await room.states() == [(1, "superseded"), (2, "waiting")]
    (skipped,) = await room.said(TrainingSkipped)
    assert (skipped.event.dataset_version, skipped.event.reason) == (1, "superseded")
    assert skipped.correlation == first.correlation
    assert skipped.causation == first.id


async def test_a_changed_specification_replaces_a_queued_run_of_the_same_data_in_silence(
    room: Room,
) -> None:
    await room.hear(a_definition_of())
    await room.publish(1, 100)

    await room.hear(a_definition_of(train={"seed": 99}))

    assert await room.states() == [(1, "superseded"), (1, "waiting")]
    assert await room.said() == []


async def test_a_running_job_is_left_alone_and_the_newer_one_waits_behind_it(room: Room) -> None:
    await room.hear(a_definition_of())
    await room.publish(1, 100)
    assert await room.jobs.claim("a test")

    await room.publish(2, 200)

    assert await room.states() == [(1, "running"), (2, "waiting")]
    assert await room.jobs.claim("another") is None


async def test_the_same_definition_again_changes_nothing(room: Room) -> None:
    await room.publish(1, 100)
    await room.hear(a_definition_of())
    await end(room)

    await room.hear(a_definition_of())

    assert await room.states() == [(1, "done")]
    assert await room.said() == []


async def test_changed_code_retrains_on_the_newest_version(room: Room) -> None:
    await room.publish(1, 100)
    await room.hear(a_definition_of())
    await end(room)

    await room.hear(defined(a_spec("demand", "sales"), code=b"other code"))

    job = await room.jobs.claim("a test")
    assert job is not None
    assert job.payload["trigger"] == "code"


async def test_a_request_to_retrain_on_nothing_new_is_skipped_with_the_run_that_did_it(
    room: Room,
) -> None:
    await room.publish(1, 100)
    await room.hear(a_definition_of())
    run = await room.database.fetchval("select id from job")
    await end(room)

    arrived = await room.hear(a_request())

    (skipped,) = await room.said(TrainingSkipped)
    assert skipped.event.reason == "nothing_new"
    assert str(run) in skipped.event.detail
    assert skipped.event.trigger == "drift"
    assert skipped.causation == arrived.id


async def test_a_request_uses_data_that_were_not_worth_a_training_before(room: Room) -> None:
    await room.hear(a_definition_of(triggers={"dataset": "material_change"}))
    await room.publish(1, 1000)
    await end(room)
    await room.hear(a_promotion(1, 1))
    await room.publish(2, 1010)
    (skipped,) = await room.said(TrainingSkipped)
    assert skipped.event.reason == "no_material_change"
    assert "champion version 1" in skipped.event.detail

    await room.hear(a_request("quality"))

    assert await room.states() == [(1, "done"), (2, "waiting")]


async def test_after_a_rollback_the_earlier_champion_is_the_measure(room: Room) -> None:
    await room.hear(a_definition_of(triggers={"dataset": "material_change"}))
    for version, rows in ((1, 100), (2, 200)):
        await room.publish(version, rows)
        await end(room)
        await room.hear(a_promotion(version, version))
    await room.hear(a_rollback(to=1))

    await room.publish(3, 203)

    assert (await room.states())[-1] == (3, "waiting")


async def test_after_a_rollback_to_nothing_the_last_run_is_the_measure(room: Room) -> None:
    await room.hear(a_definition_of(triggers={"dataset": "material_change"}))
    await room.publish(1, 100)
    await room.hear(a_promotion(1, 1))
    await room.hear(a_rollback(to=None))
    await end(room)

    await room.publish(2, 101)

    assert await room.states() == [(1, "done"), (2, "waiting")]


async def test_the_newest_version_is_trained_at_the_end_of_the_cool_down(room: Room) -> None:
    await room.hear(a_definition_of(triggers={"dataset": "any", "cooldown": "10m"}))
    await room.publish(1, 100)
    job = await room.jobs.claim("a test")
    assert job is not None
    await room.database.execute(
        "insert into run (id, model, dataset, dataset_version, started_at) "
        "values ($1, 'demand', 'sales', 1, $2)",
        job.id,
        room.moving(),
    )
    await end(room)
    room.moving.forward(minutes=4)
    await room.publish(2, 200)
    room.moving.forward(minutes=1)

    await room.publish(3, 300)

    assert await room.states() == [(1, "done"), (2, "superseded"), (3, "waiting")]
    assert await room.jobs.claim("a test") is None
    due = await room.database.fetchval("select run_after from job where state = 'waiting'")
    assert due == room.moving() + timedelta(minutes=5)
    (skipped,) = await room.said(TrainingSkipped)
    assert skipped.event.dataset_version == 2


async def test_asking_by_hand_ends_the_wait(room: Room) -> None:
    await room.hear(a_definition_of(triggers={"dataset": "any", "cooldown": "10m"}))
    await room.publish(1, 100)
    await room.database.execute("update job set run_after = now() + interval '1 hour'")
    assert await room.jobs.claim("a test") is None

    async with room.database.transaction():
        outcome = await room.trainer.train(DEMAND, "ada")

    assert outcome.joined
    job = await room.jobs.claim("a test")
    assert job is not None
    assert Order.of(job.payload).requested_by == "ada"


async def test_whoever_asked_for_a_run_first_is_the_one_who_asked_for_it(room: Room) -> None:
    await room.hear(a_definition_of())
    await room.publish(1, 100)
    await end(room, "failed")

    for person in ("ada", "bob"):
        async with room.database.transaction():
            await room.trainer.train(DEMAND, person)
    job = await room.jobs.claim("a test")

    assert job is not None
    assert Order.of(job.payload).requested_by == "ada"


def test_an_order_of_before_people_were_noted_can_be_read() -> None:
    plain = order_for(a_definition(), a_version(), "manual", NOW, "ada").plain()
    del plain["requested_by"]

    assert Order.of(plain).requested_by == ""


async def test_by_hand_what_failed_is_tried_again_and_only_then_is_it_on_its_way(
    room: Room,
) -> None:
    await room.hear(a_definition_of())
    await room.publish(1, 100)
    await end(room, "failed")

    runs = []
    for _ in range(2):
        async with room.database.transaction():
            runs.append(await room.trainer.train(DEMAND, "ada"))
    await end(room)
    async with room.database.transaction():
        over = await room.trainer.train(DEMAND, "ada")

    assert not runs[0].joined
    assert runs[1].joined
    assert runs[1].run == runs[0].run
    assert over.skipped is not None
    assert await room.states() == [(1, "failed"), (1, "done")]


async def test_asking_for_what_does_not_exist_is_refused(room: Room) -> None:
    with pytest.raises(NotFound):
        async with room.database.transaction():
            await room.trainer.train(ModelName("nobody"), "ada")
    await room.hear(a_definition_of())
    with pytest.raises(Conflict, match="no version yet"):
        async with room.database.transaction():
            await room.trainer.train(DEMAND, "ada")


async def test_a_schedule_that_is_due_is_considered_once(room: Room) -> None:
    await room.hear(a_definition_of(triggers={"schedule": "0 3 * * *", "timezone": "UTC"}))
    await room.publish(1, 100)
    await end(room)
    schedules = Schedules(room.database, room.store, room.trainer, room.moving)
    assert await schedules.take_one() is False

    room.moving.forward(days=3)
    first, second = await schedules.take_one(), await schedules.take_one()

    assert (first, second) == (True, False)
    (skipped,) = await room.said(TrainingSkipped)
    assert (skipped.event.reason, skipped.event.trigger) == ("nothing_new", "time")
    assert skipped.causation is None
    due_at = await room.store.next_due_at()
    assert due_at is not None
    assert timedelta(0) < due_at - room.moving() <= timedelta(days=1)


async def test_a_schedule_follows_its_definition(room: Room) -> None:
    await room.hear(a_definition_of(triggers={"schedule": "0 3 * * *"}))
    first = await room.store.next_due_at()
    await room.hear(a_definition_of(triggers={"schedule": "0 4 * * *"}))
    second = await room.store.next_due_at()
    await room.hear(a_definition_of(triggers={"schedule": "every day"}))
    wrong = await room.store.next_due_at()

    assert first is not None
    assert second is not None
    assert second.hour == 4
    assert wrong is None


# --- periods that are not learned from --------------------------------------------------------

LEAK = UUID(int=7)


def an_annotation(
    state: Any = "active", tag: Any = "corrupt", *, share: float = 0.03, of: UUID = LEAK
) -> DatasetAnnotated:
    return DatasetAnnotated(
        dataset=DatasetName("sales"),
        annotation=of,
        state=state,
        tag=tag,
        column="at",
        starts_at=datetime(2026, 2, 1, tzinfo=UTC),
        ends_at=datetime(2026, 2, 2, tzinfo=UTC),
        models=(),
        share=share,
        author="ada",
        by="ada",
        reason="a leak",
    )


async def ordered(room: Room) -> tuple[UUID, list[str]]:
    """The one job that waits: its run, and which periods it looks at."""
    ((run, payload),) = await room.database.fetch(
        "select id, payload from job where state = 'waiting'"
    )
    return UUID(str(run)), [one.annotation for one in Order.of(payload).exclusions]


async def a_request_that_waits(room: Room, **triggers: Any) -> UUID:
    """Drift was seen an hour after a training, so the next one waits for its cool-down."""
    await room.hear(a_definition_of(triggers={"cooldown": "24h", **triggers}))
    await room.publish(1, 1000)
    async with room.database.transaction():
        run = (await room.trainer.train(DEMAND, "ada")).run
    assert run is not None
    await room.store.begin_run(
        run, Order.of(await payload_of(room, run)), room.moving() - timedelta(hours=1)
    )
    await end(room)
    await room.hear(a_promotion(1, 1))
    await room.publish(2, 1010)
    await room.hear(a_request())
    return (await ordered(room))[0]


async def payload_of(room: Room, run: UUID) -> Any:
    return await room.database.fetchval("select payload from job where id = $1", run)


@pytest.mark.parametrize("dataset", ["material_change", "off"])
async def test_what_waits_leaves_out_what_is_annotated_meanwhile_however_little(
    room: Room, dataset: str
) -> None:
    first = await a_request_that_waits(room, dataset=dataset)
    due_at = await room.database.fetchval("select run_after from job where id = $1", first)
    skipped = len(await room.said(TrainingSkipped))

    await room.hear(an_annotation())
    without = await ordered(room)
    await room.hear(an_annotation("lifted"))

    assert without[0] != first
    assert without[1] == [str(LEAK)]
    assert await ordered(room) == (first, [])
    again, other = await room.store.run(first), await room.store.run(without[0])
    assert again is not None
    assert other is not None
    assert (again["trigger"], again["not_before"]) == ("drift", due_at)
    assert (other["state"], other["cascade"]) == ("superseded", again["cascade"])
    assert str(first) in other["detail"]
    assert len(await room.said(TrainingSkipped)) == skipped


async def test_an_annotation_of_others_or_that_leaves_nothing_out_changes_no_order(
    room: Room,
) -> None:
    first = await a_request_that_waits(room)

    await room.hear(replace(an_annotation(), models=(ModelName("supply"),)))
    await room.hear(an_annotation(tag="new_regime", of=UUID(int=8)))
    await room.hear(an_annotation("proposed", of=UUID(int=9)))

    assert await ordered(room) == (first, [])


async def test_what_was_asked_for_by_hand_waits_no_longer_for_an_annotation(room: Room) -> None:
    await a_request_that_waits(room)
    async with room.database.transaction():
        await room.trainer.train(DEMAND, "ada")

    await room.hear(an_annotation())

    job = await room.jobs.claim("a test")
    assert job is not None
    assert Order.of(job.payload).requested_by == "ada"
    assert [one.annotation for one in Order.of(job.payload).exclusions] == [str(LEAK)]


async def test_a_claimed_run_that_has_not_begun_gives_way_once(room: Room) -> None:
    """Its worker was killed; the lease has ended, and rows were annotated meanwhile."""
    await room.hear(a_definition_of(triggers={"dataset": "material_change"}))
    await room.publish(1, 1000)
    killed = await room.jobs.claim("a test")
    assert killed is not None
    await room.hear(an_annotation())
    await room.database.execute("update job set lease_until = now() - interval '1 second'")

    job = await room.jobs.claim("another")
    assert job is not None
    gave_way = [await room.trainer.renew(job), await room.trainer.renew(killed)]
    run, exclusions = await ordered(room)

    assert job.id == killed.id
    assert gave_way == [True, True]
    assert run != job.id
    assert exclusions == [str(LEAK)]
    instead = await room.jobs.claim("another")
    assert instead is not None
    assert (instead.id, await room.trainer.renew(instead)) == (run, False)


@pytest.mark.parametrize("has_begun", [False, True])
async def test_what_was_trained_without_those_rows_before_is_not_trained_again(
    room: Room, has_begun: bool
) -> None:
    """Whoever heard that it began hears that it is over; what is on its way keeps others out."""
    await room.hear(a_definition_of(triggers={"dataset": "any"}))
    await room.hear(an_annotation())
    await room.publish(1, 1000)
    done, _ = await ordered(room)
    await end(room)
    lifted = await room.hear(an_annotation("lifted"))
    assert await room.states() == [(1, "done"), (1, "waiting")]
    run, _ = await ordered(room)
    if has_begun:  # and its worker was killed
        order = Order.of(await payload_of(room, run))
        await room.store.begin_run(run, order, room.moving())

    await room.hear(an_annotation())

    assert await room.states() == [(1, "done"), (1, "superseded")]
    failed, skipped = await room.said(TrainingFailed), await room.said(TrainingSkipped)
    told = failed[0] if has_begun else skipped[0]
    assert (len(failed), len(skipped)) == (int(has_begun), 2 - has_begun)
    assert str(done) in told.event.detail
    assert told.correlation == lifted.correlation
    if has_begun:
        assert (told.event.run, await room.store.break_off(run, room.moving())) == (run, False)
    else:
        assert told.event.reason == "nothing_new"


async def test_the_key_names_the_data_by_their_content(room: Room) -> None:
    await room.hear(a_definition_of())
    await room.publish(1, 100)

    key = await room.database.fetchval("select natural_key from job")

    digest = digest_of(some_rows(100).encode())
    assert key.split(":")[:3] == ["demand", digest, digest_of(b"[]")]
