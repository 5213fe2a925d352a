"""What a window means: when drift is said and taken back, and when a fresh model is asked for.

healthy → drifting or degraded → (confirmed) → retraining asked for → cooling. One state per
version; only the champion's windows ask for anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, assert_never

from services.drift_monitor.detection import Comparison, Severity
from services.drift_monitor.quality import Measured
from shared.events import (
    DriftCleared,
    DriftDetected,
    Event,
    ModelName,
    QualityDegraded,
    QualityRecovered,
    RetrainingRequested,
    RetrainingWithheld,
)
from shared.spec import read_spec

MOST_NAMED: Final = 20
"""Features named in `drift.detected`, the worst ones."""

Why = Literal["drift", "quality"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the specification says about watching, at the time the version was registered.

    Attributes:
        window: rows per window.
        tolerance: relative worsening of the loss that is not worth a word.
        confirm: windows in a row that must agree.
        cool_down: least time between two requests to retrain.
        by_drift, by_quality: whether this may start a training.
    """

    window: int
    tolerance: float
    confirm: int
    cool_down: timedelta
    by_drift: bool
    by_quality: bool

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> "Policy":
        """The parts of a canonical specification that matter here."""
        found = read_spec(dict(spec))
        return cls(
            window=found.monitor.window,
            tolerance=found.monitor.tolerance,
            confirm=found.monitor.confirm,
            cool_down=found.monitor.cooldown,
            by_drift=found.triggers.drift,
            by_quality=found.triggers.quality,
        )

    def may_retrain(self, why: Why) -> bool:
        """Whether the specification lets this reason start a training."""
        match why:
            case "drift":
                return self.by_drift
            case "quality":
                return self.by_quality
            case _:
                assert_never(why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How one version stands.

    Attributes:
        drift: what was last said about drift; None while windows look like the reference.
        critical: windows in a row with critical drift since the last request or refusal.
        clean: windows in a row without any drift.
        is_degraded: whether the answers were said to be worse and not yet to be good again.
        worse, fine: numbers of the windows in a row that were judged so; each counts once,
            however often its labels make it look different.
    """

    drift: Severity | None = None
    critical: int = 0
    clean: int = 0
    is_degraded: bool = False
    worse: tuple[int, ...] = ()
    fine: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose window it is, and what a decision about it needs to know."""

    model: ModelName
    version: int
    window: int
    policy: Policy
    is_champion: bool
    asked_at: datetime | None
    """When a retraining of the model was last asked for."""
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The state from now on, and what is said."""

    watch: Watch
    events: tuple[Event, ...]

    @property
    def asks(self) -> bool:
        """Whether a retraining is asked for; the cool-down starts then."""
        return any(isinstance(event, RetrainingRequested) for event in self.events)


def after_window(watch: Watch, subject: Subject, found: Comparison) -> Decided:
    """What a closed window changes."""
    if found.severity is None:
        return _after_clean_window(watch, subject)
    events: list[Event] = []
    if watch.drift is None or (found.severity == "critical" and watch.drift == "warning"):
        events.append(_detected(subject, found.severity, found))
    watch = replace(
        watch,
        drift=found.severity if watch.drift != "critical" else "critical",
        critical=watch.critical + 1 if found.severity == "critical" else 0,
        clean=0,
    )
    if found.severity == "critical" and subject.is_champion:
        wanted = _wanted(subject, "drift", watch.critical, found.detail)
        events.append(wanted)
        watch = replace(watch, critical=_left(wanted, watch.critical))
    return Decided(watch=watch, events=tuple(events))


def _after_clean_window(watch: Watch, subject: Subject) -> Decided:
    clean = watch.clean + 1
    if watch.drift is None or clean < subject.policy.confirm:
        return Decided(watch=replace(watch, clean=clean, critical=0), events=())
    cleared = DriftCleared(model=subject.model, version=subject.version, window=subject.window)
    return Decided(watch=replace(watch, drift=None, clean=clean, critical=0), events=(cleared,))


def _detected(subject: Subject, severity: Severity, found: Comparison) -> DriftDetected:
    drifted = tuple(f for f in found.features if f.p_value <= found.alpha)
    return DriftDetected(
        model=subject.model,
        version=subject.version,
        window=subject.window,
        severity=severity,
        features=drifted[:MOST_NAMED],
    )


def after_measure(watch: Watch, subject: Subject, metric: str, found: Measured) -> Decided:
    """What the quality of a window, as known now, changes."""
    if found.bound is None:
        return Decided(watch=watch, events=())
    if found.is_worse:
        return _after_worse(watch, subject, metric, found)
    worse = tuple(n for n in watch.worse if n != subject.window)
    if not found.is_fine:
        return Decided(watch=replace(watch, worse=worse, fine=()), events=())
    fine = _with(watch.fine, subject.window, subject.policy.confirm)
    recovered = watch.is_degraded and len(fine) >= subject.policy.confirm
    events: tuple[Event, ...] = ()
    if recovered:
        said = QualityRecovered(
            model=subject.model,
            version=subject.version,
            window=subject.window,
            metric=metric,
            value=found.value,
        )
        events = (said,)
    is_degraded = watch.is_degraded and not recovered
    # One fine window among worse ones does not end a run of them unless it is the newer one.
    worse = tuple(n for n in worse if n > subject.window)
    return Decided(
        watch=replace(watch, worse=worse, fine=fine, is_degraded=is_degraded), events=events
    )


def _after_worse(watch: Watch, subject: Subject, metric: str, found: Measured) -> Decided:
    events: list[Event] = []
    if not watch.is_degraded:
        degraded = QualityDegraded(
            model=subject.model,
            version=subject.version,
            window=subject.window,
            metric=metric,
            value=found.value,
            reference=found.reference,
            bound=found.bound or 0.0,
            labels=found.labels,
        )
        events.append(degraded)
    is_new = subject.window not in watch.worse
    worse = _with(watch.worse, subject.window, subject.policy.confirm)
    if is_new and subject.is_champion:
        wanted = _wanted(subject, "quality", len(worse), found.detail)
        events.append(wanted)
        worse = worse[: _left(wanted, len(worse))]
    return Decided(
        watch=replace(watch, worse=worse, fine=(), is_degraded=True), events=tuple(events)
    )


def _with(windows: tuple[int, ...], window: int, most: int) -> tuple[int, ...]:
    return tuple(sorted({*windows, window})[-most:])


def _wanted(
    subject: Subject, why: Why, windows: int, detail: str
) -> RetrainingRequested | RetrainingWithheld:
    """Ask for a fresh model, or say why not."""
    policy = subject.policy
    if windows < policy.confirm:
        said = f"{windows} of {policy.confirm} windows agree; {detail}"
        return _withheld(subject, "not_confirmed", said)
    if not policy.may_retrain(why):
        return _withheld(subject, "trigger_off", f"triggers.{why} is off; {detail}")
    if subject.asked_at is not None and subject.now < subject.asked_at + policy.cool_down:
        ends = subject.asked_at + policy.cool_down
        said = f"asked at {subject.asked_at:%Y-%m-%d %H:%M:%S}; not again before {ends:%H:%M:%S}"
        return _withheld(subject, "cool_down", f"{said}; {detail}")
    return RetrainingRequested(
        model=subject.model,
        version=subject.version,
        reason=why,
        window=subject.window,
        detail=detail,
    )


def _withheld(
    subject: Subject, reason: Literal["cool_down", "not_confirmed", "trigger_off"], detail: str
) -> RetrainingWithheld:
    return RetrainingWithheld(
        model=subject.model,
        version=subject.version,
        reason=reason,
        window=subject.window,
        detail=detail,
    )


def _left(wanted: RetrainingRequested | RetrainingWithheld, windows: int) -> int:
    """After an answer the counting begins anew, so that one long drift does not ask each window."""
    waits = isinstance(wanted, RetrainingWithheld) and wanted.reason == "not_confirmed"
    return windows if waits else 0
