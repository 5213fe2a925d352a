"""A made-up fleet, hour by hour: some models change for good, and a heatwave passes over many.

The world and the policies know nothing of each other: a policy sees verdicts about windows, may
ask for trainings, and is told an hour later what came of each. Ours is the drift monitor's own
decisions (`drift`, `answers`, `course` and `brake` of `services.drift_monitor`); nothing of them is
repeated here.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.answers import after_measure
from services.drift_monitor.asking import objection
from services.drift_monitor.brake import (
    FLEET,
    USUAL,
    Brake,
    Crowd,
    Fleet,
    Limits,
    object_to,
    permit,
    release,
    scope_of,
)
from services.drift_monitor.course import About, Course, Phase
from services.drift_monitor.detection import Comparison
from services.drift_monitor.domain import Decided, Policy, Subject, Watch
from services.drift_monitor.drift import after_window
from services.drift_monitor.following import follow
from services.drift_monitor.quality import Measured
from services.drift_monitor.trainings import came_to_nothing, cooled, promoted, training_began
from shared.events import BrakeSet, DatasetName, FeatureDrift, ModelName, RetrainingRequested

BEGIN: Final = datetime(2026, 5, 1, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
TRAINING_HOURS: Final = 1
LOSS_ALPHA: Final = 5e-4
LABELS_LATE: Final = 24
"""Hours until the outcomes of a window are known."""
OWNERS: Final = 10
SOURCES: Final = 20
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large the world is.

    Attributes:
        changes: models that change for good, each once, at any time.
        heat: share of the models that the heatwave hits.
        power: probability that a window of a changed model is called critical.
    """

    models: int = 1000
    days: int = 90
    changes: int = 300
    heat: float = 0.4
    heat_from_day: float = 40.0
    heat_days: float = 5.0
    power: float = 0.9

    @property
    def hours(self) -> int:
        """Windows of each model."""
        return 24 * self.days


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What really happens, and what detectors make of it.

    Attributes:
        changed_at: hour of the lasting change per model, shape (models,); never: `hours`.
        hot: which models the heatwave hits.
        drift, losses: uniform draws, shape (hours, models); below the rate is an alarm.
    """

    scale: Scale
    changed_at: NDArray[np.int64]
    hot: Booleans
    drift: NDArray[np.float32]
    losses: NDArray[np.float32]

    @classmethod
    def drawn(cls, scale: Scale, seed: int) -> World:
        rng = np.random.default_rng(seed)
        changed_at = np.full(scale.models, scale.hours, dtype=np.int64)
        chosen = rng.permutation(scale.models)[: scale.changes]
        changed_at[chosen] = rng.integers(24, scale.hours - 72, size=len(chosen))
        hot = np.zeros(scale.models, dtype=bool)
        hot[rng.permutation(scale.models)[: round(scale.heat * scale.models)]] = True
        shape = (scale.hours, scale.models)
        return cls(
            scale=scale,
            changed_at=changed_at,
            hot=hot,
            drift=rng.random(shape, dtype=np.float32),
            losses=rng.random(shape, dtype=np.float32),
        )

    def regimes(self, hour: int) -> NDArray[np.int64]:
        """The regime of every model at an hour: bit 0 for good, bit 1 while it is hot."""
        since = hour / 24 - self.scale.heat_from_day
        is_hot = self.hot & (0 <= since < self.scale.heat_days)
        return (hour >= self.changed_at).astype(np.int64) + 2 * is_hot


class Retrainer(Protocol):
    """A policy: told of every window that is unusual, and of what became of trainings."""

    def hour(self, hour: int, critical: Booleans, worse: Booleans) -> list[int]:
        """Verdicts of one hour; the models that are to be retrained.

        Args:
            critical: windows of this hour with critical drift.
            worse: windows of `LABELS_LATE` hours ago whose losses are worse.
        """
        ...

    def ended(self, model: int, hour: int, *, is_better: bool) -> None:
        """A training is over; a candidate that is no better is rejected."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a policy.

    Attributes:
        useful: trainings that learned a lasting change that was not learned yet.
        wrong_hours: model-hours answered by a model of another regime than the world's.
    """

    retrains: int
    useful: int
    learned: int
    changes: int
    peak_per_hour: int
    wrong_hours: int
    pages: int

    @property
    def useless(self) -> int:
        """Trainings that were not for a lasting change."""
        return self.retrains - self.useful

    @property
    def per_change(self) -> float:
        """Trainings for each lasting change."""
        return self.retrains / max(self.changes, 1)


def play(
    world: World, retrainer: Retrainer, alpha: float, progress: Callable[[range], Any] = iter
) -> Outcome:
    """The world from its first hour to its last.

    Args:
        alpha: probability that the detector of drift calls an unchanged window critical. Losses
            are judged by a test of their own, `LOSS_ALPHA`.
    """
    scale = world.scale
    learned = np.zeros(scale.models, dtype=np.int64)
    running: dict[int, tuple[int, int]] = {}
    asked: Counter[int] = Counter()
    useful = wrong_hours = 0
    wrong_before: dict[int, Booleans] = {}
    for hour in progress(range(scale.hours)):
        regimes = world.regimes(hour)
        for model, (over_at, regime) in sorted(running.items()):
            if over_at <= hour:
                del running[model]
                is_better = regime != learned[model]
                useful += bool(regime & 1) and not learned[model] & 1
                learned[model] = regime
                retrainer.ended(model, hour, is_better=is_better)
        wrong = learned != regimes
        wrong_hours += int(wrong.sum())
        wrong_before[hour] = wrong
        critical = world.drift[hour] < np.where(wrong, scale.power, alpha)
        late = wrong_before.pop(hour - LABELS_LATE, np.zeros(scale.models, dtype=bool))
        worse = world.losses[hour] < np.where(late, scale.power, LOSS_ALPHA)
        for model in retrainer.hour(hour, critical, worse):
            if model not in running:
                asked[hour] += 1
                running[model] = (hour + TRAINING_HOURS, int(regimes[model]))
    return Outcome(
        retrains=sum(asked.values()),
        useful=useful,
        learned=int((learned & 1).sum()),
        changes=int((world.changed_at < scale.hours).sum()),
        peak_per_hour=max(asked.values(), default=0),
        wrong_hours=wrong_hours,
        pages=getattr(retrainer, "pages", 0),
    )


# --- policies beside ours -----------------------------------------------------------------------


@dataclass(slots=True)
class EveryAlarm:
    """Retrain on every critical window, `pause` hours after the last time at the earliest."""

    pause: int = 0
    last: dict[int, int] = field(default_factory=dict)

    def hour(self, hour: int, critical: Booleans, worse: Booleans) -> list[int]:
        del worse
        found = [
            int(model)
            for model in np.flatnonzero(critical)
            if hour - self.last.get(int(model), -self.pause) >= self.pause
        ]
        self.last.update(dict.fromkeys(found, hour))
        return found

    def ended(self, model: int, hour: int, *, is_better: bool) -> None:
        """Nothing is learned from it."""


# --- ours ---------------------------------------------------------------------------------------

WITHOUT_BRAKE: Final = replace(USUAL, least_confirmed=10**9)


@dataclass(slots=True)
class _Model:
    about: About
    watch: Watch = field(default_factory=Watch)
    course: Course = field(default_factory=lambda: Course(version=1))
    since: int = 0
    """The first hour of its champion; windows before it were another version's."""


class Ours:
    """The monitor's decisions, with its tables in memory.

    Loads, decides and keeps as `handlers.deciding` does. Windows of models that are healthy and
    clean are passed over: they change nothing.
    """

    def __init__(
        self,
        scale: Scale,
        limits: Limits = USUAL,
        *,
        by_drift: bool = True,
        transient: Any = "ignore",
    ) -> None:
        self.limits = limits
        self.pages = 0
        self.brakes: dict[str, Brake] = {}
        self.taken: list[tuple[str, datetime]] = []
        self.now = BEGIN
        self.models = [
            _Model(about=_about(number, by_drift=by_drift, transient=transient))
            for number in range(scale.models)
        ]
        self._restless: set[int] = set()
        self._confirmed: set[int] = set()
        self._due: list[tuple[datetime, int]] = []

    def hour(self, hour: int, critical: Booleans, worse: Booleans) -> list[int]:
        granted: list[int] = []
        self.now = BEGIN + hour * HOUR
        for model in sorted(self._restless | set(np.flatnonzero(critical | worse).tolist())):
            subject = self._subject(model, hour)
            found = _compared(is_critical=bool(critical[model]))
            granted += self._follow(
                model, after_window(self._watch(model), subject, found), subject
            )
            if hour - LABELS_LATE >= self.models[model].since:
                labelled = self._subject(model, hour - LABELS_LATE)
                measured = _measured(is_worse=bool(worse[model]))
                decided = after_measure(self._watch(model), labelled, "mae", measured)
                granted += self._follow(model, decided, labelled)
        granted += self._look(self.now + HOUR - timedelta(seconds=1))
        return granted

    def ended(self, model: int, hour: int, *, is_better: bool) -> None:
        self.now = BEGIN + hour * HOUR
        one = self.models[model]
        if is_better:
            one.course = promoted(one.course, one.course.version + 1, one.about.policy)
            one.watch, one.since = Watch(), hour
        else:
            one.course = came_to_nothing(one.course, one.about.policy)
        self._keep(model, one.course, self.now if one.course.wants else one.course.cools_until)

    def _watch(self, model: int) -> Watch:
        return self.models[model].watch

    def _subject(self, model: int, hour: int) -> Subject:
        one = self.models[model]
        at = BEGIN + hour * HOUR
        return Subject(
            model=one.about.model,
            version=one.course.version,
            window=hour + 1,
            policy=one.about.policy,
            is_champion=True,
            asked_at=one.course.asked_at,
            now=self.now,
            started_at=at - HOUR,
            ended_at=at,
        )

    def _follow(self, model: int, decided: Decided, subject: Subject) -> list[int]:
        one = self.models[model]
        one.watch = decided.watch
        one.course = follow(one.course, decided.signs, subject).course
        return self._go_on(model, one.course)

    def _go_on(self, model: int, course: Course) -> list[int]:
        """As the monitor does: objections of the model itself first, then the fleet's word."""
        self._keep(model, course, None)
        if not course.wants:
            waits = course.phase in (Phase.COOLING, Phase.BACKOFF)
            self._keep(model, course, course.cools_until if waits else None)
            return []
        about = replace(self.models[model].about, version=course.version, now=self.now)
        against = objection(course, about)
        if against is not None and course.checked:
            refusal = object_to(course, about, against)
            self._keep(model, refusal.course, refusal.look_again_at)
            return []
        answer = permit(course, about, self._fleet(about), self.limits)
        for said in answer.events:
            if isinstance(said, BrakeSet) and answer.brake is not None:
                self.pages += 1
                self.brakes[said.scope] = answer.brake
        for absorbed in answer.absorbed:
            del self.brakes[absorbed.scope]
        if not answer.is_granted:
            self._keep(model, answer.course, answer.look_again_at)
            return []
        self.taken = [one for one in self.taken if one[1] > self.now - HOUR]
        self.taken.append((about.owner, self.now))
        asked = any(isinstance(event, RetrainingRequested) for event in answer.events)
        self._keep(model, training_began(answer.course, self.now), None)
        return [model] if asked else []

    def _keep(self, model: int, course: Course, due_at: datetime | None) -> None:
        one = self.models[model]
        one.course = course
        is_confirmed = course.confirmed_at is not None
        (self._confirmed.add if is_confirmed else self._confirmed.discard)(model)
        at_rest = course.phase is Phase.HEALTHY and _is_clean(one.watch)
        (self._restless.discard if at_rest else self._restless.add)(model)
        if due_at is not None:
            heapq.heappush(self._due, (due_at, model))

    def _look(self, until: datetime) -> list[int]:
        """What the clock brings before the next windows close."""
        granted: list[int] = []
        began = self.now
        self._release()
        while self._due and self._due[0][0] <= until:
            due_at, model = heapq.heappop(self._due)
            self.now = max(began, due_at)
            granted += self._go_on(model, cooled(self.models[model].course, self.now))
        self.now = began
        return granted

    def _release(self) -> None:
        for scope, brake in list(self.brakes.items()):
            members = self._of(scope)
            crowd = Crowd(scope=scope, watched=len(members), confirmed=self._changed(members))
            if release(brake, crowd, self.limits, self.now) is not None:
                del self.brakes[scope]
                for model in sorted(members):
                    if self.models[model].course.phase is Phase.HELD:
                        heapq.heappush(self._due, (self.now, model))

    def _changed(self, members: set[int]) -> int:
        return len(members & self._confirmed)

    def _of(self, scope: str) -> set[int]:
        return {
            number
            for number, one in enumerate(self.models)
            if scope == FLEET or scope_of(one.about.dataset) == scope
        }

    def _fleet(self, about: About) -> Fleet:
        recent = self._recent()
        source = [name for name, dataset in recent if dataset == about.dataset]
        waiting = Counter(
            self.models[model].about.owner
            for model in self._confirmed
            if self.models[model].course.refused == "budget"
        )
        return Fleet(
            all_models=Crowd(
                scope=FLEET,
                watched=len(self.models),
                confirmed=len(self._confirmed),
                recent=tuple(name for name, _ in recent),
            ),
            source=Crowd(
                scope=scope_of(about.dataset),
                watched=len(self.models) // SOURCES,
                confirmed=len(source),
                recent=tuple(source),
            ),
            brakes=tuple(self.brakes.values()),
            taken=self.taken,
            waiting=waiting,
        )

    def _recent(self) -> list[tuple[ModelName, DatasetName]]:
        since = self.now - self.limits.span
        return [
            (self.models[model].about.model, self.models[model].about.dataset)
            for model in sorted(self._confirmed)
            if (self.models[model].course.confirmed_at or BEGIN) > since
        ]


def _about(number: int, *, by_drift: bool, transient: Any) -> About:
    policy = Policy(
        window=1000,
        tolerance=0.1,
        confirm=2,
        cool_down=timedelta(hours=24),
        by_drift=by_drift,
        by_quality=True,
        transient=transient,
        dataset=f"source-{number % SOURCES}",
    )
    return About(
        model=ModelName(f"m-{number:04d}"),
        version=1,
        owner=f"team-{number // SOURCES % OWNERS}",
        policy=policy,
        now=BEGIN,
        labels=10_000,
        rows_trained=20_000,
    )


def _compared(*, is_critical: bool) -> Comparison:
    return _CRITICAL if is_critical else _CLEAN


def _measured(*, is_worse: bool) -> Measured:
    return _WORSE if is_worse else _FINE


def _is_clean(watch: Watch) -> bool:
    """Whether another clean window would change nothing that matters."""
    return watch == _AT_REST


_AT_REST: Final = Watch()
_SHIFT: Final = FeatureDrift(feature="a", test="location", statistic=6.0, p_value=1e-9, effect=1.0)
_CRITICAL: Final = Comparison(
    severity="critical", alpha=5e-4, mode="block", features=(_SHIFT,), detail="a lies elsewhere"
)
_CLEAN: Final = Comparison(
    severity=None, alpha=5e-4, mode="block", features=(), detail="like the reference"
)
_FINE: Final = Measured(
    value=1.0, reference=1.0, labels=1000, bound=1.2, is_worse=False, is_fine=True, detail="mae 1"
)
_WORSE: Final = replace(_FINE, value=2.0, is_worse=True, is_fine=False, detail="mae 2")
