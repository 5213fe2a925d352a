"""Draws reports outside the loop, and drops what is too old to matter."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from services.drift_monitor import reports
from services.drift_monitor.detection import reason_of
from services.drift_monitor.handlers import Ageing, Brakes, Profiles, Settling, Versions
from services.drift_monitor.handlers.labels import count_orphaned
from services.drift_monitor.handlers.retiring import Retiring
from services.drift_monitor.handlers.rounds import Steps, repeat, take
from services.drift_monitor.handlers.verdicts import Verdicts
from services.drift_monitor.handlers.vitals import Vitals
from services.drift_monitor.store import Asked, PostgresStore, Reading, Reporting
from services.drift_monitor.store.horizon import spans_of
from services.drift_monitor.windows import Watched
from shared import telemetry
from shared.artifacts import ArtifactStore
from shared.confined import Confined, Done, Failed, Outcome
from shared.errors import Unavailable
from shared.events import Digest, Json
from shared.jobs import Job, Jobs, run_worker
from shared.postgres import Cause
from shared.reference import ANSWER, SCORE, Reference
from shared.sketch import NumberCells

FORGET_EVERY_SECONDS: Final = 600.0
TELL_EVERY_SECONDS: Final = 10.0
LABELS_EVERY_TURNS: Final = 6
LOOK_EVERY_SECONDS: Final = 5.0
SETTLE_EVERY_SECONDS: Final = 15.0
"""All models with labels are gone through: less often than what is cheap to look at."""
MOST_ALARMS: Final = 5
"""Reports queued at one look: a storm of alarms must not keep people's own reports waiting."""
OURSELVES: Final = "tidewheel"
NO_ROWS: Final = Failed(kind="NoRows", detail="no row of the window is kept any more", trace="")


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
        if not ordered["current"]:
            await self._fail(job, report, NO_ROWS)
            return
        if why := reports.why_nothing(ordered):
            await self._fail(job, report, Failed(kind="NoValues", detail=why, trace=""))
            return
        outcome: Outcome = await self.confined.run(
            reports.DRAW, ordered, seconds=self.seconds, megabytes=self.megabytes
        )
        if not isinstance(outcome, Done):
            await self._fail(job, report, outcome)
            return
        telemetry.observe("tidewheel_child_seconds", outcome.seconds, what="report")
        telemetry.observe("tidewheel_report_render_seconds", outcome.seconds)
        snapshot = bytes(outcome.result["snapshot"])
        digest = await self.artifacts.aput(snapshot)

        async def finish() -> None:
            await self.reporting.finish(report, digest, len(snapshot), outcome.result["summary"])

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
        reference = await self.profiles.whole(version.reference)
        window = window or {}
        known = window.get("features") or []
        by_name = [row.row() for row in rows]
        return reports.order(
            version.columns,
            _kinds(version, reference),
            reference.sample,
            [[row.get(name) for name in version.columns] for row in by_name],
            {f["feature"]: f["p_value"] for f in known if f["feature"] not in (ANSWER, SCORE)},
            window.get("alpha") or 0.0,
            rows=(reference.rows, window.get("rows") or len(rows)),
            kind=wanted.get("kind", "full"),
            not_tested=reason_of(window.get("detail"))
            if window.get("mode") == "insufficient"
            else "",
            season=window.get("season") or "",
        )

    async def page(self, artifact: Digest) -> bytes:
        """A finished report as HTML.

        Raises:
            Unavailable: it could not be drawn in time.
        """
        kept = await self.artifacts.aget(artifact)
        if not reports.is_snapshot(kept):
            return kept
        outcome: Outcome = await self.confined.run(
            reports.OPEN, {"snapshot": kept}, seconds=self.seconds, megabytes=self.megabytes
        )
        if not isinstance(outcome, Done):
            raise Unavailable(f"the report could not be opened: {type(outcome).__name__}")
        return bytes(outcome.result["html"])

    async def look(self) -> None:
        """Until cancelled: every critical drift gets a report, one per version and day."""
        await repeat(LOOK_EVERY_SECONDS, {"reports": self.order_alarms})

    async def order_alarms(self) -> None:
        """Queue what no report was drawn of; killed in between, it is queued the next time."""
        async with self.store.database.transaction():
            for place in await self.reporting.take_alarms(MOST_ALARMS):
                model, version, window = place
                report = self.jobs.id_of(f"alarm/{model}/{version}/{window}")
                asked = Asked(id=report, model=model, version=version, window=window, by=OURSELVES)
                await self.reporting.add(asked)
                payload = {"report": str(report), "model": model, "version": version,
                           "window": window, "kind": "alarm"}  # fmt: skip
                await self.jobs.add(f"report/{report}", str(report), payload, Cause.outside())


def _kinds(version: Watched, reference: Reference) -> list[str]:
    features = reference.layout.features[: len(version.columns)]
    return ["number" if isinstance(cell, NumberCells) else "category" for cell in features]


@dataclass(slots=True, kw_only=True)
class Forgetter:
    """Drops what is older than its horizon, and counts the labels nobody asked for.

    Attributes:
        now: the clock of the database: no replica whose own has jumped drops what others need.
        horizon: of predictions and labels, but for models whose labels are slower.
        windows: of windows with what was found in them, of reports, proposals and lifted brakes.
    """

    store: PostgresStore
    now: Callable[[], Awaitable[datetime]]
    horizon: timedelta
    windows: timedelta
    _longer: Mapping[str, timedelta] = field(default_factory=dict)
    _last: datetime | None = None

    async def run(self) -> None:
        """Until cancelled."""
        await repeat(FORGET_EVERY_SECONDS, self._steps())

    async def forget(self) -> None:
        """One round."""
        for step in self._steps().values():
            await step()

    def _steps(self) -> Steps:
        return {
            "telemetry": self._forget_telemetry,
            "windows": self._forget_windows,
            "told": self._forget_told,
            "waiting": self._tell_waiting,
        }

    async def _tell_waiting(self) -> None:
        telemetry.gauge("tidewheel_labels_waiting", await self.store.count_waiting())

    async def _forget_windows(self) -> None:
        await self.store.forget_windows(await self.now() - self.windows)

    async def _forget_told(self) -> None:
        await self.store.forget_told(await self.now() - self.windows)

    async def _forget_telemetry(self) -> None:
        now = await self.now()
        longer = await self.store.kept_longer(self.horizon)
        if longer != self._longer:
            self._longer, self._last = longer, None
        spans = spans_of(now, self._last, self.horizon, longer)
        await self.store.forget_telemetry(spans)
        await self.store.forget_batches(now - self.horizon)
        count_orphaned(await self.store.drop_waiting(spans))
        self._last = now


@dataclass(frozen=True, slots=True, kw_only=True)
class Looker:
    """Looks at what no window brings: brakes that are over, and courses whose moment has come.

    Several monitors may look side by side; the locks of fleet and models put them in order.

    Attributes:
        every: seconds between two rounds.
    """

    brakes: Brakes
    every: float = LOOK_EVERY_SECONDS

    async def run(self) -> None:
        """Until cancelled."""
        await repeat(self.every, {"brakes": self.brakes.look, "courses": self._look_at_courses})

    async def _look_at_courses(self) -> None:
        while await self.brakes.look_at_one():
            pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settler:
    """Measures for the last time what no more labels are to come for, and feeds what is due."""

    settling: Settling

    async def run(self) -> None:
        """Until cancelled."""
        await repeat(SETTLE_EVERY_SECONDS, {"labels": self.settling.settle})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ager:
    """Looks at what only time brings: old windows, and stale champions."""

    ageing: Ageing
    versions: Versions

    async def run(self) -> None:
        """Until cancelled."""
        await self._recall()
        steps: Steps = {
            "ages": self.ageing.check_age,
            "windows": self.ageing.close_old,
            "unjudged": self.ageing.predictions.verdicts.tell,
            "rows": self.versions.count_waiting,
        }
        await repeat(LOOK_EVERY_SECONDS, steps)

    async def _recall(self) -> None:
        """Have the open windows at hand; without, the first rows of each fetch it."""
        try:
            windows = await self.ageing.predictions.placing.recall()
        except Unavailable as error:
            telemetry.log("windows_not_recalled", level="warning", reason=str(error))
        else:
            telemetry.log("windows_recalled", windows=windows)


@dataclass(frozen=True, slots=True)
class Arrears:
    """Judges windows that could not be judged when they closed; many may take a long while."""

    verdicts: Verdicts

    async def run(self) -> None:
        """Until cancelled."""
        await repeat(LOOK_EVERY_SECONDS, {"verdicts": self.verdicts.judge_due})


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells how champions stand every few seconds, and how many labels came every minute."""

    vitals: Vitals

    async def run(self) -> None:
        """Until cancelled."""
        for turn in itertools.count():
            await take({"vitals": self.vitals.tell})
            if turn % LABELS_EVERY_TURNS == 0:
                await take({"coverage": self.vitals.tell_labels})
            await asyncio.sleep(TELL_EVERY_SECONDS)


@dataclass(frozen=True, slots=True)
class Retirer:
    """Ends the windows of versions that do not answer any more."""

    retiring: Retiring

    async def run(self) -> None:
        """Until cancelled."""
        await repeat(FORGET_EVERY_SECONDS, {"idle": self.retiring.retire})
