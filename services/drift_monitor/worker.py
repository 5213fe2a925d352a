"""Draws reports outside the loop, and drops what is too old to matter."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from services.drift_monitor import reports
from services.drift_monitor.handlers import Brakes, Profiles
from services.drift_monitor.store import PostgresStore, Reading, Reporting
from services.drift_monitor.windows import Watched
from shared import telemetry
from shared.artifacts import ArtifactStore
from shared.clock import Clock
from shared.confined import Confined, Done, Failed, Outcome
from shared.errors import Unavailable
from shared.events import Json
from shared.jobs import Job, Jobs, run_worker
from shared.reference import ANSWER, SCORE, Reference
from shared.sketch import NumberCells

FORGET_EVERY_SECONDS: Final = 600.0
LOOK_EVERY_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Claims reports and has a child draw them."""

    jobs: Jobs
    store: PostgresStore
    reading: Reading
    reporting: Reporting
    profiles: Profiles
    artifacts: ArtifactStore
    confined: Confined
    seconds: float
    megabytes: int

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await run_worker(self.jobs, self.draw)
        finally:
            await self.confined.close()

    async def draw(self, job: Job) -> None:
        """One report: the verdict over the whole window, drawn over a sample of its rows."""
        report = UUID(job.payload["report"])
        ordered = await self._order(job.payload)
        outcome: Outcome = await self.confined.run(
            reports.ENTRY, ordered, seconds=self.seconds, megabytes=self.megabytes
        )
        if not isinstance(outcome, Done):
            await self._fail(job, report, outcome)
            return
        telemetry.observe("tidewheel_child_seconds", outcome.seconds, what="report")
        html = bytes(outcome.result["html"])
        digest = await self.artifacts.aput(html)

        async def finish() -> None:
            await self.reporting.finish(report, digest, len(html), outcome.result["summary"])

        await self.jobs.complete(job, [], effect=finish)

    async def _fail(self, job: Job, report: UUID, outcome: Outcome) -> None:
        telemetry.log("report_failed", level="warning", report=str(report), outcome=str(outcome))
        detail = f"{type(outcome).__name__}: the report could not be drawn"
        if isinstance(outcome, Failed):
            detail = f"{outcome.kind}: {outcome.detail}"
        async with self.store.database.transaction(job.cause):
            if await self.jobs.fail(job, detail, []):
                await self.reporting.fail(report, detail)

    async def _order(self, wanted: Any) -> Json:
        key = (str(wanted["model"]), int(wanted["version"]))
        number = int(wanted["window"])
        version = (await self.store.versions([key]))[key]
        window = await self.reading.window(*key, number)
        rows = await self.store.rows_of_window(key, number, reports.ROWS)
        reference = await self.profiles.of(version.reference)
        known = (window or {}).get("features") or []
        by_name = [row.row() for row in rows]
        return reports.order(
            version.columns,
            _kinds(version, reference),
            reference.sample,
            [[row.get(name) for name in version.columns] for row in by_name],
            {f["feature"]: f["p_value"] for f in known if f["feature"] not in (ANSWER, SCORE)},
            (window or {}).get("alpha") or 0.0,
        )


def _kinds(version: Watched, reference: Reference) -> list[str]:
    features = reference.layout.features[: len(version.columns)]
    return ["number" if isinstance(cell, NumberCells) else "category" for cell in features]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetter:
    """Drops predictions and labels beyond the horizon, and counts the labels nobody asked for."""

    store: PostgresStore
    now: Clock
    horizon: timedelta

    async def run(self) -> None:
        """Until cancelled; a database that is away is waited for."""
        while True:
            try:
                await self.forget()
            except Unavailable as error:
                telemetry.log("forgetting_waits", level="warning", reason=str(error))
            await asyncio.sleep(FORGET_EVERY_SECONDS)

    async def forget(self) -> None:
        """One round."""
        orphaned = await self.store.forget(self.now() - self.horizon)
        if orphaned:
            telemetry.count("tidewheel_labels_total", orphaned, outcome="orphaned")
        telemetry.gauge("tidewheel_labels_waiting", await self.store.count_waiting())


@dataclass(frozen=True, slots=True, kw_only=True)
class Looker:
    """Looks at what no window brings: brakes that are over, and courses whose moment has come.

    Several monitors may look side by side; the locks of fleet and models put them in order.
    """

    brakes: Brakes

    async def run(self) -> None:
        """Until cancelled; a database that is away is waited for."""
        while True:
            try:
                await self.brakes.look()
                while await self.brakes.look_at_one():
                    pass
            except Unavailable as error:
                telemetry.log("looking_waits", level="warning", reason=str(error))
            await asyncio.sleep(LOOK_EVERY_SECONDS)
