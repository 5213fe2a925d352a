"""A window that is full is compared; one whose labels have come is measured; both are said."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from services.drift_monitor.brake import USUAL, Limits
from services.drift_monitor.detection import Comparison, compare
from services.drift_monitor.domain import Subject, after_measure, after_window
from services.drift_monitor.handlers.deciding import Deciding
from services.drift_monitor.quality import STEPS, measure, step_of
from services.drift_monitor.store import Judged, PostgresStore
from services.drift_monitor.windows import Kept, Watched, Window
from shared import telemetry
from shared.clock import Clock
from shared.events import Digest, Event, QualityMeasured, WindowEvaluated
from shared.losses import metric_value
from shared.reference import Reference, read_reference

MOST_PROFILES: Final = 256
"""Profiles kept in memory; one has 50 to 500 kB as bytes and about as much unpacked."""

Fetch = Callable[[Digest], Awaitable[bytes]]


@dataclass(slots=True)
class Profiles:
    """Reference profiles by digest; the least recently used one is dropped first."""

    fetch: Fetch
    _known: dict[Digest, Reference] = field(default_factory=dict)

    async def of(self, digest: Digest) -> Reference:
        """The profile with this digest.

        Raises:
            StoreUnavailable, NotFound, Unprocessable: it cannot be had, or cannot be read.
        """
        found = self._known.pop(digest, None) or read_reference(await self.fetch(digest))
        self._known[digest] = found
        if len(self._known) > MOST_PROFILES:
            del self._known[next(iter(self._known))]
        return found


def judged(row: Kept, version: Watched | None) -> Judged:
    """What the label of a row makes of its answer and of the baseline's."""
    if version is None or row.label is None:
        return row, None, None
    judge = version.judge
    value = row.label.value
    return row, judge.loss(row.answer, row.score, value), judge.baseline_loss(row.row(), value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """Dependencies of every verdict about a window."""

    store: PostgresStore
    profiles: Profiles
    now: Clock
    alpha: float
    limits: Limits = USUAL

    @property
    def deciding(self) -> Deciding:
        """Where signs lead."""
        return Deciding(
            store=self.store, fetch=self.profiles.fetch, now=self.now, limits=self.limits
        )

    async def close(self, version: Watched, window: Window) -> tuple[Watched, list[Event]]:
        """Compare a full window with the reference; the version as it stands afterwards."""
        reference = await self.profiles.of(version.reference)
        found = compare(reference, window.counts, alpha=self.alpha)
        await self.store.save_comparison(window, found)
        outcome = found.severity or ("untested" if found.mode == "insufficient" else "like")
        telemetry.count("tidewheel_windows_total", model=version.model, outcome=outcome)
        subject = await self._subject(version, window)
        decided = after_window(version.watch, subject, found)
        version, said = await self.deciding.settle(version, subject, decided)
        return version, [_evaluated(window, found), *said]

    async def look(
        self, version: Watched, window: Window, *, revised: bool = False
    ) -> tuple[Watched, list[Event]]:
        """Measure a closed window when its labels have reached a further step, or one changed."""
        steps = step_of(window.labels, window.rows)
        if not window.is_closed or not steps or (steps <= window.steps and not revised):
            return version, []
        pairs = await self.store.losses_of(window)
        if not pairs:
            return version, []
        reference = await self.profiles.of(version.reference)
        losses = np.array([loss for loss, _ in pairs], dtype=np.float64)
        found = measure(
            reference.losses,
            losses,
            tolerance=version.policy.tolerance,
            alpha=self.alpha / len(STEPS),
        )
        baseline = _baseline(version.metric, pairs)
        await self.store.save_quality(window, steps, found, baseline)
        subject = replace(await self._subject(version, window), below=baseline)
        decided = after_measure(version.watch, subject, version.metric, found)
        version, follows = await self.deciding.settle(version, subject, decided)
        said = QualityMeasured(
            model=version.model,
            version=version.version,
            window=window.number,
            metric=version.metric,
            value=found.value,
            labels=found.labels,
            completeness=window.labels / window.rows,
            reference=found.reference,
            baseline=baseline,
        )
        return version, [said, *follows]

    async def _subject(self, version: Watched, window: Window) -> Subject:
        standing = await self.store.standing(version.model)
        return Subject(
            model=version.model,
            version=version.version,
            window=window.number,
            policy=version.policy,
            is_champion=standing.champion == version.version,
            asked_at=standing.asked_at,
            now=self.now(),
            started_at=window.started_at,
            ended_at=window.ended_at,
        )


def _baseline(metric: str, pairs: Sequence[tuple[float, float | None]]) -> float | None:
    known: list[Any] = [loss for _, loss in pairs if loss is not None]
    return metric_value(metric, np.array(known, dtype=np.float64)) if known else None


def _evaluated(window: Window, found: Comparison) -> WindowEvaluated:
    return WindowEvaluated(
        model=window.model,
        version=window.version,
        window=window.number,
        rows=window.rows,
        started_at=window.started_at,
        ended_at=window.ended_at,
        drifted=found.severity is not None,
        alpha=found.alpha,
        features=found.features,
        detail=found.detail,
    )
