"""Claims batches and sees them through, in killable children."""

import asyncio
import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, assert_never
from uuid import UUID

from services.trainer.batch.store import BatchStore, Made
from services.trainer.worker import MOST_CRASHES, Reason, patiently
from shared import telemetry
from shared.artifacts import ArtifactStore, digest_of_file
from shared.clock import Clock
from shared.confined import Confined, Crashed, Done, Failed, Outcome, OutOfMemory, TimedOut
from shared.errors import ArtifactCorrupt, NotFound, Unavailable
from shared.events import BatchFailed, BatchPredicted, DatasetName, Digest, Event, ModelName
from shared.jobs import Job, Jobs, run_worker

ANSWER: Final = "services.trainer.batch.answering:answer"
LOOK_SECONDS: Final = 0.5
"""Between two looks at the progress of a child."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchWorker:
    """Answers what is queued.

    Attributes:
        seconds, megabytes: that one batch may take.
    """

    store: BatchStore
    jobs: Jobs
    artifacts: ArtifactStore
    confined: Confined
    now: Clock
    seconds: float
    megabytes: int

    async def run(self) -> None:
        """Until cancelled; a batch that is interrupted is given back."""
        await run_worker(self.jobs, self.work, gave_up=_gave_up)

    async def work(self, job: Job) -> None:
        """One batch, from the claim to its event."""
        began = self.now()
        await patiently(lambda: self.store.begin(job.id, began))
        with tempfile.TemporaryDirectory(prefix="tidewheel-batch-") as name:
            folder = Path(name)
            outcome = await self._answered(job, folder)
            match outcome:
                case Done():
                    telemetry.observe("tidewheel_child_seconds", outcome.seconds, what="batch")
                    await self._complete(job, folder, outcome.result)
                case Failed():
                    telemetry.log("batch_failed", level="warning", trace=outcome.trace)
                    await self._fail(job, "error", outcome.detail)
                case TimedOut():
                    await self._fail(job, "timeout", f"killed after {outcome.seconds:g} s")
                case OutOfMemory():
                    detail = f"it wanted more than {outcome.megabytes} MB"
                    await self._fail(job, "resource_exceeded", detail)
                case Crashed():
                    await self._crashed(job, outcome.detail)
                case _:
                    assert_never(outcome)

    async def _answered(self, job: Job, folder: Path) -> Outcome:
        wanted = job.payload
        data, model = folder / "data", folder / "model"
        try:
            manifest = await patiently(lambda: self.artifacts.aget(Digest(wanted["manifest"])))
            await patiently(lambda: self.artifacts.afetch(Digest(wanted["dataset_digest"]), data))
            await patiently(lambda: self.artifacts.afetch(Digest(wanted["file"]), model))
        except (NotFound, ArtifactCorrupt) as error:
            return Failed(kind=type(error).__name__, detail=str(error), trace="")
        argument = {
            "manifest": manifest,
            "data": str(data),
            "model": str(model),
            "output": str(folder / "output"),
            "progress": str(folder / "progress"),
            "format": wanted["format"],
            "columns": wanted["columns"],
        }
        looking = asyncio.create_task(self._look(job.id, folder / "progress"))
        try:
            return await self.confined.run(
                ANSWER, argument, seconds=self.seconds, megabytes=self.megabytes
            )
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking

    async def _look(self, batch: UUID, progress: Path) -> None:
        """What the child says about how far it is; nobody waits for these words."""
        told = ""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            text = await asyncio.to_thread(_read, progress)
            if text.isdigit() and text != told:
                told = text
                with contextlib.suppress(Unavailable):
                    await self.store.note_progress(batch, int(text))

    async def _complete(self, job: Job, folder: Path, result: Any) -> None:
        """The file first, then the event that names it."""
        output = folder / "output"
        digest = await asyncio.to_thread(digest_of_file, output)
        await patiently(lambda: self.artifacts.aput_file(output, digest))
        made = Made(output=digest, size_bytes=output.stat().st_size, refused=result["refused"])
        found = await patiently(lambda: self.store.find(job.id)) or {}
        finished = self.now()
        seconds = (finished - found["started_at"]).total_seconds()
        event = predicted(job, made, result["rows"], seconds)

        async def note() -> None:
            await self.store.complete(job.id, made, finished)

        if await patiently(lambda: self.jobs.complete(job, [event], effect=note)):
            telemetry.count("tidewheel_batches_total", outcome="completed")

    async def _crashed(self, job: Job, detail: str) -> None:
        times = await patiently(lambda: self.store.count_crash(job.id))
        if times < MOST_CRASHES:
            pause = self.now() + timedelta(seconds=0.2 * times)
            await patiently(lambda: self.jobs.release(job, pause))
            return
        await self._fail(job, "crashed", f"it crashed {times} times; {detail}")

    async def _fail(self, job: Job, reason: Reason, detail: str) -> None:
        async def ended() -> bool:
            async with self.jobs.database.transaction(job.cause):
                if not await self.jobs.fail(job, detail, [failed(job, reason, detail)]):
                    return False
                await self.store.fail(job.id, reason, self.now())
            return True

        if await patiently(ended):
            telemetry.count("tidewheel_batches_total", outcome=reason)


def _read(progress: Path) -> str:
    return progress.read_text() if progress.exists() else ""


def predicted(job: Job, made: Made, rows: int, seconds: float) -> BatchPredicted:
    """What is true once the answers are kept."""
    wanted = job.payload
    return BatchPredicted(
        model=ModelName(wanted["model"]),
        batch=job.id,
        version=wanted["version"],
        manifest=Digest(wanted["manifest"]),
        dataset=DatasetName(wanted["dataset"]),
        dataset_version=wanted["dataset_version"],
        dataset_digest=Digest(wanted["dataset_digest"]),
        output=made.output,
        format=wanted["format"],
        rows=rows,
        refused=made.refused,
        requested_by=wanted["requested_by"],
        seconds=seconds,
    )


def failed(job: Job, reason: Reason, detail: str) -> BatchFailed:
    """What is true when nothing came of a batch."""
    wanted: Mapping[str, Any] = job.payload
    return BatchFailed(
        model=ModelName(wanted["model"]),
        batch=job.id,
        version=wanted["version"],
        dataset=DatasetName(wanted["dataset"]),
        dataset_version=wanted["dataset_version"],
        reason=reason,
        detail=detail[:2000],
    )


def _gave_up(job: Job, detail: str) -> Sequence[Event]:
    return [failed(job, "crashed", detail)]
