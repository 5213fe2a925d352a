"""Long work: one row per job, a lease while somebody works on it, and a token against zombies.

A job is added in the transaction of the reaction that wants it. Whoever claims it gets the next
`attempt`; only the holder of the newest attempt can complete it, so a worker that was frozen and
wakes up changes nothing.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from shared import clock, faults, telemetry
from shared.errors import Unavailable
from shared.events import Event
from shared.ids import derived
from shared.patience import Patience
from shared.postgres import Cause, Database, Row

LONGEST_PAUSE_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.25
"""How often jobs of other replicas, due ones and expired leases are looked for."""

Work = Callable[["Job"], Awaitable[None]]
GaveUp = Callable[["Job", str], Sequence[Event]]

_ADD: Final = """
    insert into job as j (id, kind, natural_key, subject, payload, cause, correlation, traceparent,
        run_after)
    values ($1, $2, $3, $4, $5, $6, $7, $8, coalesce($9, now()))
    on conflict (id) do update set state = 'waiting', payload = excluded.payload,
        run_after = excluded.run_after, cause = excluded.cause,
        correlation = excluded.correlation, traceparent = excluded.traceparent,
        created_at = now(), finished_at = null, detail = null
        where j.state = 'superseded'
    returning id
"""
_CLAIM: Final = """
    update job set state = 'running', attempt = attempt + 1, worker = $2,
        lease_until = now() + $3::interval
    where id = (
        select id from job j
        where kind = $1 and (
            (state = 'waiting' and run_after <= now())
            or (state = 'running' and lease_until < now())
        ) and not exists (
            select 1 from job other where other.kind = j.kind and other.subject = j.subject
                and other.id <> j.id and other.state = 'running' and other.lease_until >= now()
        )
        order by run_after, created_at limit 1 for update skip locked
    )
    returning *
"""
_TURN: Final = "select pg_advisory_xact_lock(hashtextextended($1, 7436))"
_OTHER: Final = """
    select exists (
        select 1 from job where kind = $1 and subject = $2 and id <> $3 and state = 'running'
            and lease_until >= now()
    )
"""
_MINE: Final = "where id = $1 and attempt = $2 and state = 'running'"
_HEARTBEAT: Final = f"update job set lease_until = now() + $3::interval {_MINE}"  # noqa: S608
_RELEASE: Final = f"update job set state = 'waiting', lease_until = null, run_after = $3 {_MINE}"  # noqa: S608
_GIVE_BACK: Final = (
    "update job set state = 'waiting', lease_until = null, run_after = $3, detail = $4, "  # noqa: S608
    f"given_back = given_back + 1 {_MINE}"
)
_FINISH: Final = (
    "update job set state = $3, detail = $4, lease_until = null, finished_at = now() "  # noqa: S608
    + _MINE
)
_WITHDRAW: Final = """
    update job set state = 'superseded', detail = $3, lease_until = null, finished_at = now()
    where id = $1 and attempt = $2 and state in ('waiting', 'running')
"""
_WAITING: Final = """
    select * from job where kind = $1 and subject = $2 and state = 'waiting'
    order by created_at for update
"""
_SUPERSEDE: Final = """
    update job set state = 'superseded', detail = $3, finished_at = now()
    where kind = $1 and subject = $2 and state = 'waiting' and ($4::uuid is null or id <> $4)
    returning *
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A claim to one job; `attempt` is the fencing token.

    Attributes:
        given_back: how many of the attempts ended for no fault of the job.
        why_given_back: why the last one of them did.
    """

    id: UUID
    natural_key: str
    subject: str
    payload: Mapping[str, Any]
    attempt: int
    cause: Cause
    created_at: datetime
    given_back: int = 0
    why_given_back: str = ""

    @property
    def counted(self) -> int:
        """The attempts that count, this one with them."""
        return self.attempt - self.given_back


class _Taken(Exception):
    """Another job of the same subject was claimed at the same moment."""


class Jobs:
    """The jobs of one kind in a service's database."""

    def __init__(
        self, database: Database, kind: str, *, lease: timedelta = timedelta(seconds=15)
    ) -> None:
        self.database = database
        self.kind = kind
        self.lease = lease
        self.wake = asyncio.Event()
        """Set when a job was added and committed here, so that a worker need not wait its turn."""

    def id_of(self, natural_key: str) -> UUID:
        """The id that a job of this key has, whether it exists or not."""
        return derived(None, "job", self.kind, natural_key)

    async def add(
        self,
        natural_key: str,
        subject: str,
        payload: Mapping[str, Any],
        cause: Cause,
        *,
        run_after: datetime | None = None,
    ) -> tuple[UUID, bool]:
        """Queue a job within the caller's transaction; its id, and whether it is new.

        The same key again is the same job, whatever became of it; only a superseded one is
        queued anew.
        """
        job_id = self.id_of(natural_key)
        async with self.database.transaction() as transaction:
            added = await self.database.fetchval(
                _ADD,
                job_id,
                self.kind,
                natural_key,
                subject,
                dict(payload),
                cause.id,
                cause.correlation,
                cause.traceparent,
                run_after,
            )
            if added is not None:
                transaction.after_commit.append(self.wake.set)
        return job_id, added is not None

    async def supersede(self, subject: str, detail: str, *, keep: UUID | None = None) -> list[Job]:
        """Take all waiting jobs of a subject out of the queue, but for one; those it were."""
        rows = await self.database.fetch(_SUPERSEDE, self.kind, subject, detail, keep)
        return [_job(row) for row in rows]

    async def waiting_of(self, subject: str) -> list[Job]:
        """Jobs of a subject that wait, locked: nobody claims them before this transaction ends."""
        rows = await self.database.fetch(_WAITING, self.kind, subject)
        return [_job(row) for row in rows]

    async def withdraw(self, job: Job, detail: str) -> bool:
        """Take a job out of the queue that waits or is claimed; False if it is gone.

        What an attempt has said already is the caller's to end, and whoever works on it stops.

        Args:
            detail: why, and what takes its place.
        """
        async with self.database.transaction() as transaction:
            if not await self._changed(_WITHDRAW, job, detail[:2000]):
                return False
            transaction.after_commit.append(self.wake.set)
        return True

    async def claim(self, worker: str) -> Job | None:
        """The next job that is due or whose worker has gone silent; None when there is none.

        While a job of a subject runs, others of the same subject wait.
        """
        try:
            async with self.database.transaction():
                row = await self.database.fetchrow(_CLAIM, self.kind, worker, self.lease)
                if row is None:
                    return None
                await self._take_turn(row)
        except _Taken:
            return None
        return _job(row)

    async def _take_turn(self, row: Row) -> None:
        """See that nobody claims another job of the subject at the same moment.

        Raises:
            _Taken: somebody was faster.
        """
        await self.database.execute(_TURN, f"{self.kind} {row['subject']}")
        if await self.database.fetchval(_OTHER, self.kind, row["subject"], row["id"]):
            raise _Taken

    async def heartbeat(self, job: Job) -> bool:
        """Extend the lease; False when the job belongs to somebody else by now."""
        return await self._changed(_HEARTBEAT, job, self.lease)

    async def release(self, job: Job, run_after: datetime | None = None) -> bool:
        """Give up this attempt, which counts; the job is claimed again at that moment."""
        due = run_after or clock.now()
        released = await self.database.execute(_RELEASE, job.id, job.attempt, due) > 0
        self.wake.set()
        return released

    async def give_back(self, job: Job, why: str) -> bool:
        """End this attempt for no fault of the job: it does not count.

        The job is claimed again after a pause that grows with the times this has happened.
        """
        seconds = 0.05 * (2.0 ** min(job.given_back, 20) - 1)
        due = clock.now() + timedelta(seconds=min(LONGEST_PAUSE_SECONDS, seconds))
        given_back = await self.database.execute(_GIVE_BACK, job.id, job.attempt, due, why[:500])
        self.wake.set()
        return given_back > 0

    async def complete(
        self,
        job: Job,
        events: Sequence[Event],
        *,
        effect: Callable[[], Awaitable[Any]] | None = None,
    ) -> bool:
        """Effect, events and the end of the job in one transaction; False when it was not ours.

        Args:
            job: the claim.
            events: what became true; their ids are functions of the job.
            effect: runs inside the transaction, only if the claim still holds.
        """
        faults.reach("before_complete", self.kind)
        completed = await self._finish(job, "done", "", events, effect)
        faults.reach("after_complete", self.kind)
        return completed

    async def fail(self, job: Job, detail: str, events: Sequence[Event]) -> bool:
        """End the job for good without a result; False when it was not ours."""
        return await self._finish(job, "failed", detail, events, None)

    async def waiting(self) -> int:
        """How many jobs wait for a worker."""
        found = await self.database.fetchval(
            "select count(*) from job where kind = $1 and state = 'waiting'", self.kind
        )
        return int(found)

    async def _finish(
        self,
        job: Job,
        state: str,
        detail: str,
        events: Sequence[Event],
        effect: Callable[[], Awaitable[Any]] | None,
    ) -> bool:
        async with self.database.transaction(job.cause) as transaction:
            if not await self._changed(_FINISH, job, state, detail[:2000]):
                return False
            if effect is not None:
                await effect()
            await transaction.say(events, cause=job.cause, step=state, base=job.id)
            # The next job of this subject may have waited for this one.
            transaction.after_commit.append(self.wake.set)
        return True

    async def _changed(self, sql: str, job: Job, *arguments: Any) -> bool:
        if await self.database.execute(sql, job.id, job.attempt, *arguments):
            return True
        telemetry.count("tidewheel_leases_lost_total", kind=self.kind)
        telemetry.log("lease_lost", level="warning", job=str(job.id), attempt=job.attempt)
        return False


def _job(row: Row) -> Job:
    return Job(
        id=row["id"],
        natural_key=row["natural_key"],
        subject=row["subject"],
        payload=row["payload"],
        attempt=row["attempt"],
        cause=Cause(
            id=row["cause"], correlation=row["correlation"], traceparent=row["traceparent"]
        ),
        created_at=row["created_at"],
        given_back=row["given_back"],
        why_given_back=row["detail"] or "",
    )


def _nothing(_job: Job, _detail: str) -> Sequence[Event]:
    return ()


async def run_worker(
    jobs: Jobs,
    work: Work,
    *,
    concurrency: int = 1,
    worker: str = "",
    attempts: int = 8,
    given_back: int = 100,
    gave_up: GaveUp = _nothing,
) -> None:
    """Claim and work until cancelled; a job in work is then given back.

    Args:
        jobs: the kind of jobs.
        work: does one job and completes or fails it. It is cancelled when the lease is lost.
            What it raises gives the job back, to be tried again later.
        concurrency: so many jobs at a time.
        worker: a name for people; host and process by default.
        attempts: after so many the job has failed: its worker died or raised each time.
        given_back: so often a job may be given back for no fault of its own; what is begun for
            ever and never ended has failed, too.
        gave_up: what is said of such a job, from the job and the reason.
    """
    name = worker or f"{socket.gethostname()}:{os.getpid()}"
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            worker_of_it = _Worker(jobs, work, name, attempts, given_back, gave_up)
            group.create_task(worker_of_it.run())


@dataclass(frozen=True, slots=True)
class _Worker:
    jobs: Jobs
    work: Work
    name: str
    attempts: int
    given_back: int
    gave_up: GaveUp

    async def run(self) -> None:
        patience = Patience()
        while True:
            self.jobs.wake.clear()
            try:
                job = await self.jobs.claim(self.name)
                if job is not None:
                    await self._do(job)
                patience.reset()
            except Unavailable as error:
                telemetry.log("worker_waits", level="warning", reason=str(error))
                await asyncio.sleep(patience.next_seconds())
                continue
            if job is None:
                await self._idle()

    async def _idle(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self.jobs.wake.wait()

    async def _do(self, job: Job) -> None:
        if hopeless := self._hopeless(job):
            await self.jobs.fail(job, hopeless, self.gave_up(job, hopeless))
            return
        try:
            with telemetry.bound(job=str(job.id), cascade=str(job.cause.correlation)):
                await self._leased(job)
        except asyncio.CancelledError:
            with contextlib.suppress(Unavailable):
                await self.jobs.give_back(job, "its worker was stopped")
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, another attempt may do better
            telemetry.log(
                "job_interrupted",
                level="error",
                job=str(job.id),
                attempt=job.attempt,
                exc_info=error,
            )
            pause = timedelta(seconds=min(LONGEST_PAUSE_SECONDS, 0.5 * 2.0 ** min(job.counted, 20)))
            await self.jobs.release(job, clock.now() + pause)

    def _hopeless(self, job: Job) -> str:
        """Why it is worth no further attempt; empty while it is."""
        if job.counted > self.attempts:
            return f"given up after {self.attempts} attempts"
        if job.given_back > self.given_back:
            why = f"; the last time because {job.why_given_back}" if job.why_given_back else ""
            return f"given up after it was begun {job.given_back} times for nothing{why}"
        return ""

    async def _leased(self, job: Job) -> None:
        """Work while the lease holds; without it the work is worth nothing any more."""
        working = asyncio.ensure_future(self.work(job))
        beating = asyncio.create_task(self._beat(job))
        try:
            await asyncio.wait({working, beating}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
        finally:
            for task in (working, beating):
                task.cancel()
            await asyncio.wait({working, beating})

    async def _beat(self, job: Job) -> None:
        """Extend the lease until it is lost, or may be lost because nobody answers."""
        lease = self.jobs.lease.total_seconds()
        held_until = asyncio.get_running_loop().time() + lease
        while asyncio.get_running_loop().time() < held_until:
            await asyncio.sleep(lease / 3)
            with contextlib.suppress(Unavailable):
                if not await self.jobs.heartbeat(job):
                    return
                held_until = asyncio.get_running_loop().time() + lease
