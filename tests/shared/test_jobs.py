"""Jobs: queued once, done by one, completed once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from shared import clock
from shared.errors import StoreUnavailable
from shared.events import DatasetName, ModelName, RunId, TrainingFailed
from shared.ids import uuid7
from shared.jobs import Job, Jobs, run_worker
from shared.postgres import Cause, Database
from tests.conftest import OpenDatabase
from tests.support.waiting import eventually

pytestmark = pytest.mark.real
CAUSE = Cause(id=uuid7(), correlation=uuid7(), traceparent="00-1")
SHORT = timedelta(milliseconds=300)


@pytest.fixture
async def trainer(open_database: OpenDatabase) -> Database:
    return await open_database("trainer")


@pytest.fixture
def jobs(trainer: Database) -> Jobs:
    return Jobs(trainer, "train", lease=SHORT)


async def add(jobs: Jobs, key: str, subject: str = "m") -> bool:
    _, new = await jobs.add(key, subject, {"key": key}, CAUSE)
    return new


async def claim(jobs: Jobs, worker: str = "w") -> Job:
    job = await jobs.claim(worker)
    assert job is not None
    return job


async def until_claimable(jobs: Jobs) -> Job:
    """The lease of a silent worker runs out."""
    found: list[Job] = []

    async def is_claimed() -> bool:
        job = await jobs.claim("other")
        found.extend([job] if job else [])
        return job is not None

    await eventually(is_claimed, what="the end of a lease")
    return found[0]


def a_failure(subject: str = "m") -> TrainingFailed:
    return TrainingFailed(
        model=ModelName(subject),
        run=RunId(uuid7()),
        dataset=DatasetName("d"),
        dataset_version=1,
        attempts=1,
        reason="error",
        detail="",
    )


async def test_a_job_added_twice_is_queued_once(jobs: Jobs) -> None:
    assert await add(jobs, "k")
    assert not await add(jobs, "k")

    job = await claim(jobs)

    assert (job.natural_key, job.attempt, job.cause, job.payload["key"]) == ("k", 1, CAUSE, "k")
    assert await jobs.claim("w") is None


async def test_a_finished_job_is_not_done_again(jobs: Jobs) -> None:
    await add(jobs, "k")
    await jobs.complete(await claim(jobs), [])

    assert not await add(jobs, "k")
    assert await jobs.claim("w") is None


async def test_a_job_of_a_transaction_that_failed_is_not_queued(
    jobs: Jobs, trainer: Database
) -> None:
    async def fail() -> None:
        async with trainer.transaction():
            await add(jobs, "k")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await fail()

    assert await jobs.claim("w") is None
    assert not jobs.wake.is_set()


async def test_jobs_of_one_subject_run_one_after_the_other(jobs: Jobs) -> None:
    await add(jobs, "1", "m")
    await add(jobs, "2", "m")
    await add(jobs, "3", "n")

    first, second = await claim(jobs), await claim(jobs)
    nothing = await jobs.claim("w")
    await jobs.complete(first, [])
    third = await claim(jobs)

    assert [first.natural_key, second.natural_key, third.natural_key] == ["1", "3", "2"]
    assert nothing is None


async def test_two_workers_at_the_same_moment_take_one_job_of_a_subject(jobs: Jobs) -> None:
    for number in range(12):
        await add(jobs, f"k{number}")

    claimed = await asyncio.gather(*(jobs.claim(f"w{number}") for number in range(8)))

    assert len([job for job in claimed if job is not None]) == 1


async def test_a_job_whose_worker_is_silent_goes_to_another_and_the_first_is_fenced(
    jobs: Jobs,
) -> None:
    await add(jobs, "k")
    zombie = await claim(jobs)

    successor = await until_claimable(jobs)

    assert successor.attempt == 2
    assert not await jobs.heartbeat(zombie)
    assert not await jobs.complete(zombie, [a_failure()])
    assert not await jobs.fail(zombie, "late", [])
    assert await jobs.complete(successor, [a_failure()])
    assert not await jobs.complete(successor, [a_failure()])


async def test_effect_and_events_come_with_the_completion_or_not_at_all(
    jobs: Jobs, trainer: Database
) -> None:
    await trainer.execute("create table effect (n integer)")
    await add(jobs, "k")
    zombie = await claim(jobs)
    successor = await until_claimable(jobs)

    async def effect() -> None:
        await trainer.execute("insert into effect values (1)")

    async def broken() -> None:
        await effect()
        raise StoreUnavailable("down")

    refused = await jobs.complete(zombie, [a_failure()], effect=effect)
    with pytest.raises(StoreUnavailable):
        await jobs.complete(successor, [a_failure()], effect=broken)
    done = await jobs.complete(successor, [a_failure()], effect=effect)

    assert (refused, done) == (False, True)
    assert await trainer.fetchval("select count(*) from effect") == 1
    assert await trainer.fetchval("select count(*) from outbox") == 1


async def test_the_ids_of_what_is_said_are_functions_of_the_job(
    jobs: Jobs, trainer: Database
) -> None:
    await add(jobs, "k")
    job = await claim(jobs)
    ids = []

    async def note_and_fail() -> None:
        async with trainer.transaction() as transaction:
            await jobs.complete(job, [a_failure(), a_failure()])
            ids.append([one.id for one in transaction.said])
            assert [one.causation for one in transaction.said] == [CAUSE.id] * 2
            raise RuntimeError("no")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="no"):
            await note_and_fail()

    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


async def test_a_newer_trigger_takes_the_place_of_a_queued_job(jobs: Jobs) -> None:
    await add(jobs, "old")
    newest, _ = await jobs.add("new", "m", {}, CAUSE)

    superseded = await jobs.supersede("m", "a newer version", keep=newest)
    claimed = await claim(jobs)

    assert [job.natural_key for job in superseded] == ["old"]
    assert claimed.natural_key == "new"
    assert await add(jobs, "old"), "a superseded job can be wanted again"


async def test_a_job_is_withdrawn_while_it_waits_or_by_its_last_holder_only(jobs: Jobs) -> None:
    await add(jobs, "k1")
    silent = await claim(jobs)
    holder = await until_claimable(jobs)
    withdrawn = [
        await jobs.withdraw(silent, "late"),
        await jobs.withdraw(holder, "another is made"),
    ]
    await add(jobs, "k2")
    (waiting,) = await jobs.waiting_of("m")

    withdrawn.append(await jobs.withdraw(waiting, "another is made"))

    assert withdrawn == [False, True, True]
    assert await jobs.claim("w") is None
    assert await jobs.complete(holder, []) is False
    assert await add(jobs, "k2"), "it may be queued anew"


async def test_a_job_that_is_not_due_waits(jobs: Jobs) -> None:
    await jobs.add("k", "m", {}, CAUSE, run_after=clock.now() + timedelta(hours=1))

    assert await jobs.claim("w") is None
    assert await jobs.waiting() == 1


async def test_a_worker_does_what_is_added_and_is_woken_by_it(jobs: Jobs) -> None:
    done: list[str] = []

    async def work(job: Job) -> None:
        await jobs.complete(job, [])
        done.append(job.natural_key)

    running = asyncio.create_task(run_worker(jobs, work, concurrency=2))
    for key in ("a", "b", "c"):
        await add(jobs, key, key)

    async def all_done() -> bool:
        return sorted(done) == ["a", "b", "c"]

    await eventually(all_done, what="three jobs")
    running.cancel()
    await asyncio.wait({running})


async def test_a_worker_keeps_its_lease_while_it_works(jobs: Jobs) -> None:
    gate = asyncio.Event()
    attempts: list[int] = []

    async def work(job: Job) -> None:
        attempts.append(job.attempt)
        await gate.wait()
        assert await jobs.complete(job, [])

    running = [asyncio.create_task(run_worker(jobs, work, worker=name)) for name in "ab"]
    await add(jobs, "k")
    leases_later = clock.now() + SHORT * 3

    async def time_has_passed() -> bool:
        return clock.now() > leases_later

    await eventually(time_has_passed, what="three leases")
    gate.set()

    async def is_done() -> bool:
        return str(await jobs.database.fetchval("select state from job")) == "done"

    await eventually(is_done, what="the completion")
    for task in running:
        task.cancel()
    await asyncio.wait(running)

    assert attempts == [1]


async def test_work_is_cancelled_when_its_lease_is_lost(jobs: Jobs, trainer: Database) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def work(_: Job) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    running = asyncio.create_task(run_worker(jobs, work))
    await add(jobs, "k")
    await started.wait()
    await trainer.execute("update job set attempt = 7, state = 'done'")

    await asyncio.wait_for(cancelled.wait(), 10)
    running.cancel()
    await asyncio.wait({running})


async def test_a_stopped_worker_gives_its_job_back_at_once(jobs: Jobs) -> None:
    started = asyncio.Event()

    async def work(_: Job) -> None:
        started.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(run_worker(jobs, work))
    await add(jobs, "k")
    await started.wait()
    running.cancel()
    await asyncio.wait({running})

    successor = await claim(jobs)
    assert (successor.attempt, successor.counted) == (2, 1)


async def test_attempts_without_a_fault_do_not_count(jobs: Jobs) -> None:
    await add(jobs, "k")

    for _ in range(3):
        job = await until_claimable(jobs)
        assert await jobs.give_back(job, "somebody else was faster")
    job = await until_claimable(jobs)

    assert (job.attempt, job.counted, job.given_back) == (4, 1, 3)
    assert job.why_given_back == "somebody else was faster"


async def test_an_attempt_is_given_back_by_its_holder_only(jobs: Jobs) -> None:
    await add(jobs, "k")
    first = await claim(jobs)
    second = await until_claimable(jobs)

    assert not await jobs.give_back(first, "too late")
    assert (await jobs.heartbeat(second), second.given_back) == (True, 0)


async def test_a_job_that_is_begun_for_nothing_again_and_again_is_given_up(
    jobs: Jobs, trainer: Database
) -> None:
    async def work(job: Job) -> None:
        await jobs.give_back(job, "the champion had changed")

    running = asyncio.create_task(
        run_worker(
            jobs, work, attempts=1, given_back=2, gave_up=lambda job, _: [a_failure(job.subject)]
        )
    )
    await add(jobs, "k")

    async def has_failed() -> bool:
        return str(await trainer.fetchval("select state from job")) == "failed"

    await eventually(has_failed, what="the giving up")
    running.cancel()
    await asyncio.wait({running})

    assert await trainer.fetchval("select subject from said") == "m"
    assert await trainer.fetchval("select detail from job") == (
        "given up after it was begun 3 times for nothing; "
        "the last time because the champion had changed"
    )


async def test_a_job_that_fails_every_time_is_given_up_and_said_so(
    jobs: Jobs, trainer: Database
) -> None:
    async def work(_: Job) -> None:
        raise ValueError("a bug")

    running = asyncio.create_task(
        run_worker(jobs, work, attempts=1, gave_up=lambda job, _: [a_failure(job.subject)])
    )
    await add(jobs, "k")

    async def has_failed() -> bool:
        return str(await trainer.fetchval("select state from job")) == "failed"

    await eventually(has_failed, what="the giving up")
    running.cancel()
    await asyncio.wait({running})

    assert await trainer.fetchval("select subject from said") == "m"
