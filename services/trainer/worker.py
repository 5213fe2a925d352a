"""Claims jobs and sees them through; looks at the clock for schedules."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, assert_never
from uuid import UUID

from services.trainer.domain import Order, leaves_out
from services.trainer.handlers import Trainer
from services.trainer.store import PostgresStore
from shared import telemetry
from shared.artifacts import ArtifactStore
from shared.clock import Clock
from shared.confined import Confined, Crashed, Done, Failed, Outcome, OutOfMemory, TimedOut
from shared.errors import ArtifactCorrupt, NotFound, Unavailable
from shared.events import (
    CandidateScore,
    Digest,
    Event,
    RunId,
    TrainingCompleted,
    TrainingFailed,
    TrainingStarted,
)
from shared.jobs import Job, Jobs, run_worker
from shared.patience import Patience
from shared.postgres import Database
from shared.spec import read_spec

T = TypeVar("T")
FIT: Final = "services.trainer.fitting.run:fit"
PRELOAD: Final = ("services.trainer.fitting.run", "services.trainer.fitting.run:warm_up")
WITHOUT: Final = ("pandas", "pyarrow", "matplotlib")
"""scikit-learn would load them where other services have brought them along."""

MOST_CRASHES: Final = 3
MOST_OUT_OF_MEMORY: Final = 2
_BLOBS: Final = ("model", "compiled", "holdout", "reference", "background", "left_out", "manifest")
Reason = Literal["error", "timeout", "resource_exceeded", "crashed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Fits what is queued, in killable children.

    Attributes:
        allowed: modules that estimators may come from.
        memory_ceiling: megabytes that no run may exceed, whatever its specification says.
        inline_bytes: larger datasets are handed to the child as a file.
    """

    store: PostgresStore
    jobs: Jobs
    artifacts: ArtifactStore
    confined: Confined
    now: Clock
    allowed: Sequence[str] = ("sklearn",)
    memory_ceiling: int = 16_384
    inline_bytes: int = 32_000_000
    concurrency: int = 1

    async def run(self) -> None:
        """Until cancelled; a run that is interrupted is given back."""
        await run_worker(self.jobs, self.work, concurrency=self.concurrency, gave_up=self._gave_up)

    async def work(self, job: Job) -> None:
        """One run, from the claim to its last event.

        What is left out is of the moment of the claim: a run in vain that is claimed again after
        that has changed gives way to another run.
        """
        if await patiently(lambda: self.trainer.renew(job)):
            return
        order = Order.of(job.payload)
        claimed_at = self.now()
        # Said while the child is already at work: the broker need not be waited for.
        beginning = asyncio.create_task(self._begin(job, order, claimed_at))
        try:
            outcome = await self._fitted(order)
        except BaseException:
            beginning.cancel()
            raise
        if not await beginning:
            return
        match outcome:
            case Done():
                telemetry.observe("tidewheel_child_seconds", outcome.seconds, what="fit")
                await self._complete(job, order, outcome.result, claimed_at)
            case Failed():
                telemetry.log("fit_failed", level="warning", trace=outcome.trace)
                await self._fail(job, order, "error", outcome.detail)
            case TimedOut():
                detail = f"killed after {outcome.seconds:g} s, its budget (train.budget)"
                await self._fail(job, order, "timeout", detail)
            case OutOfMemory():
                await self._ran_out(job, order, outcome.megabytes)
            case Crashed():
                await self._crashed(job, order, outcome.detail)
            case _:
                assert_never(outcome)

    # --- steps ----------------------------------------------------------------------------------

    @property
    def trainer(self) -> Trainer:
        """Who decides what is trained."""
        return Trainer(store=self.store, jobs=self.jobs, now=self.now)

    async def _begin(self, job: Job, order: Order, now: datetime) -> bool:
        """Say that an attempt has begun; False when the job is somebody else's by now."""

        async def begun() -> bool:
            async with self.jobs.database.transaction(job.cause) as transaction:
                if not await self.jobs.heartbeat(job):
                    return False
                await self.store.begin_run(job.id, order, now)
                started = TrainingStarted(
                    model=order.model,
                    run=RunId(job.id),
                    attempt=job.attempt,
                    dataset=order.dataset,
                    dataset_version=order.dataset_version,
                    trigger=order.trigger,
                )
                await transaction.say([started], step=f"started:{job.attempt}", base=job.id)
            return True

        return await patiently(begun)

    async def _fitted(self, order: Order) -> Outcome:
        spec = read_spec(order.spec)
        train = spec.train
        argument = {
            **order.plain(),
            "columns": dict(order.columns),
            "allowed": list(self.allowed),
            "leave_out": sorted(leaves_out(spec)),
        }
        try:
            async with self._data(order) as data:
                return await self.confined.run(
                    FIT,
                    {**argument, **data},
                    seconds=train.budget.total_seconds(),
                    megabytes=min(train.memory, self.memory_ceiling),
                )
        except (NotFound, ArtifactCorrupt) as error:
            return Failed(kind=type(error).__name__, detail=str(error), trace="")

    @contextlib.asynccontextmanager
    async def _data(self, order: Order) -> AsyncIterator[Mapping[str, Any]]:
        """The dataset as bytes or as a file; the child cannot reach the object store."""
        if order.size_bytes <= self.inline_bytes:
            yield {"data": await patiently(lambda: self.artifacts.aget(order.dataset_digest))}
            return
        with tempfile.TemporaryDirectory(prefix="tidewheel-fit-") as folder:
            path = Path(folder) / "dataset"
            await patiently(lambda: self.artifacts.afetch(order.dataset_digest, path))
            yield {"path": str(path)}

    async def _complete(
        self, job: Job, order: Order, result: Mapping[str, Any], claimed_at: datetime
    ) -> None:
        """Blobs first, then the event that names them."""
        digests = await self._kept(result)
        event = completed(job, order, result, digests["manifest"], claimed_at)
        shown = {
            "manifest": event.manifest,
            "metrics": dict(event.metrics),
            "use": event.use,
            "hyperparameters": event.hyperparameters,
            "rows_trained": event.rows_trained,
            "rows_held_out": event.rows_held_out,
            "rows_embargoed": result["rows_embargoed"],
            "rows_left_out": event.rows_left_out,
            "periods": [str(one) for one in event.periods],
            "candidates": result["candidates"],
            "seconds": dict(event.seconds),
        }

        async def note() -> None:
            await self.store.end_run(job.id, "completed", "", shown, self.now())

        if await patiently(lambda: self.jobs.complete(job, [event], effect=note)):
            telemetry.count("tidewheel_training_runs_total", outcome="completed")
            telemetry.log("training_completed", model=order.model, metrics=shown["metrics"])

    async def _kept(self, result: Mapping[str, Any]) -> dict[str, Digest]:
        async def keep(name: str) -> Digest:
            return await patiently(lambda: self.artifacts.aput(result[name]))

        made = [name for name in _BLOBS if name in result]
        kept = await asyncio.gather(*(keep(name) for name in made))
        return dict(zip(made, kept, strict=True))

    async def _ran_out(self, job: Job, order: Order, megabytes: int) -> None:
        """Once more at most: another run may have had the memory."""
        times = await patiently(lambda: self.store.count_out_of_memory(job.id))
        if times < MOST_OUT_OF_MEMORY:
            await patiently(lambda: self.jobs.release(job))
            return
        detail = f"it wanted more than {megabytes} MB {times} times (train.memory)"
        await self._fail(job, order, "resource_exceeded", detail)

    async def _crashed(self, job: Job, order: Order, detail: str) -> None:
        times = await patiently(lambda: self.store.count_crash(job.id))
        telemetry.log("fit_crashed", level="warning", times=times, detail=detail)
        if times < MOST_CRASHES:
            pause = self.now() + timedelta(seconds=0.2 * times)
            await patiently(lambda: self.jobs.release(job, pause))
            return
        await self._fail(job, order, "crashed", f"it crashed {times} times; {detail}")

    async def _fail(self, job: Job, order: Order, reason: Reason, detail: str) -> None:
        event = failed(job, order, reason, detail)

        async def ended() -> bool:
            async with self.jobs.database.transaction(job.cause):
                if not await self.jobs.fail(job, detail, [event]):
                    return False
                await self.store.end_run(job.id, "failed", reason, None, self.now())
            return True

        if await patiently(ended):
            telemetry.count("tidewheel_training_runs_total", outcome=reason)
            telemetry.log("training_failed", level="warning", model=order.model, detail=detail)

    def _gave_up(self, job: Job, detail: str) -> Sequence[Event]:
        return [failed(job, Order.of(job.payload), "crashed", detail)]


def completed(
    job: Job, order: Order, result: Mapping[str, Any], manifest: Digest, claimed_at: datetime
) -> TrainingCompleted:
    """What is true once the blobs are kept."""
    waited = (claimed_at - max(job.created_at, order.due_at)).total_seconds()
    return TrainingCompleted(
        model=order.model,
        run=RunId(job.id),
        attempt=job.attempt,
        trigger=order.trigger,
        dataset=order.dataset,
        dataset_version=order.dataset_version,
        dataset_digest=order.dataset_digest,
        spec_digest=order.spec_digest,
        code_digest=order.code_digest,
        exclusions_digest=order.exclusions_digest,
        manifest=manifest,
        split=Digest(result["split"]),
        rows_trained=result["rows_trained"],
        rows_held_out=result["rows_held_out"],
        metrics=result["metrics"],
        use=result["use"],
        hyperparameters=result["hyperparameters"],
        candidates=tuple(CandidateScore(**candidate) for candidate in result["candidates"]),
        seed=result["seed"],
        seconds={"queue": max(0.0, waited), **result["seconds"]},
        requested_by=order.requested_by,
        rows_left_out=result["rows_left_out"],
        periods=tuple(UUID(one) for one in result["periods"]),
    )


def failed(job: Job, order: Order, reason: Reason, detail: str) -> TrainingFailed:
    """What is true when nothing came of a run."""
    return TrainingFailed(
        model=order.model,
        run=RunId(job.id),
        dataset=order.dataset,
        dataset_version=order.dataset_version,
        attempts=job.attempt,
        reason=reason,
        detail=detail[:2000],
    )


async def patiently(step: Callable[[], Awaitable[T]]) -> T:
    """The result of a step, tried again while something it needs is unavailable."""
    patience = Patience()
    while True:
        try:
            return await step()
        except Unavailable as error:
            telemetry.log("worker_waits", level="warning", reason=str(error))
            await asyncio.sleep(patience.next_seconds())


# --- schedules ------------------------------------------------------------------------------

_LOOK_SECONDS: Final = 1.0
"""Schedules that were defined meanwhile are seen after at most so long."""


@dataclass(frozen=True, slots=True)
class Schedules:
    """The clock's door; several processes may look at it side by side."""

    database: Database
    store: PostgresStore
    trainer: Trainer
    now: Clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            while await patiently(self.take_one):
                pass
            telemetry.gauge(
                "tidewheel_jobs_waiting",
                await patiently(self.trainer.jobs.waiting),
                kind=self.trainer.jobs.kind,
            )
            await asyncio.sleep(await patiently(self._rest))

    async def take_one(self) -> bool:
        """Consider one model whose moment has come; whether there was one."""
        async with self.database.transaction():
            schedule = await self.store.claim_due(self.now())
            if schedule is not None:
                await self.trainer.consider_schedule(schedule)
        return schedule is not None

    async def _rest(self) -> float:
        due_at = await self.store.next_due_at()
        if due_at is None:
            return _LOOK_SECONDS
        return min(max((due_at - self.now()).total_seconds(), 0.01), _LOOK_SECONDS)
