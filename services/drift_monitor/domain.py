"""What a window means for one version: what is said of drift and quality, and the signs it gives.

Whether the signs lead to a fresh model is for `course`, model by model, and for `brake`, all models
together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, assert_never

from services.drift_monitor.detection import Comparison, Severity
from services.drift_monitor.quality import Alarm, Estimated, Measured
from shared.events import (
    DriftCleared,
    DriftDetected,
    Event,
    FeatureDrift,
    ModelName,
    QualityDegraded,
    QualityRecovered,
)
from shared.spec import read_spec

MOST_NAMED: Final = 20
"""Features named in `drift.detected`, the worst ones."""
CLEAN: Final = 3
"""Windows in a row without drift that end one: what is on the edge does not come and go."""
MOST_SPELL: Final = 200
"""Windows that a disturbance names; it may last longer."""
_OF_THE_DATA: Final = frozenset({"missing", "range", "unseen", "new_level", "mostly_outside"})
"""Tests that a broken sensor or a leak fails, and that a changed world hardly fails alone."""

Why = Literal["drift", "quality"]
Transient = Literal["ignore", "adapt", "fallback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the specification says about watching, at the time the version was registered.

    Attributes:
        window: rows per window.
        tolerance: relative worsening of the loss that is not worth a word.
        confirm: windows that must agree; of drift, out of one more than these.
        cool_down: least time between two requests to retrain.
        by_drift, by_quality: whether this may start a training.
        label_delay: how long after a prediction its outcome is known, as declared.
        shift: reference standard deviations that no drift counts as critical below.
        least_labels: new rows with outcomes that make a retraining worth its while.
        transient: what is done while a disturbance may still pass.
        horizon: what lasts longer is no passing disturbance.
        dataset, time: what it learns from, and the column of a row's moment there.
    """

    window: int
    tolerance: float
    confirm: int
    cool_down: timedelta
    by_drift: bool
    by_quality: bool
    label_delay: timedelta = timedelta(0)
    shift: float = 0.05
    least_labels: int = 1000
    transient: Transient = "ignore"
    horizon: timedelta = timedelta(days=7)
    dataset: str = ""
    time: str | None = None

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> "Policy":
        """The parts of a canonical specification that matter here."""
        found = read_spec(dict(spec))
        monitor = found.monitor
        return cls(
            window=monitor.window,
            tolerance=monitor.tolerance,
            confirm=monitor.confirm,
            cool_down=monitor.cooldown,
            label_delay=found.data.label_delay,
            by_drift=found.triggers.drift,
            by_quality=found.triggers.quality,
            shift=monitor.shift,
            least_labels=monitor.least_labels,
            transient=monitor.transient,
            horizon=monitor.horizon,
            dataset=found.data.dataset,
            time=found.data.time,
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
class Spell:
    """A disturbance as it was seen: from the first window that showed it to the last.

    Attributes:
        is_of_the_data: nothing but missing, out-of-range and unseen values showed it.
    """

    windows: tuple[int, ...]
    began_at: datetime
    ended_at: datetime
    is_of_the_data: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How one version stands.

    Attributes:
        drift: what was last said about drift; None while windows look like the reference.
        criticals: of the newest windows those with critical drift.
        clean: windows in a row without any drift.
        is_degraded: whether the answers were said to be worse and not yet to be good again.
        worse, fine: numbers of the windows in a row that were judged so; each counts once,
            however often its labels make it look different.
        detector: whether the running test on losses has raised an alarm that stands.
        estimate: how the newest window is estimated to do before its labels come.
        below: windows in a row whose answers were worse than those of the rung below.
        spell: the disturbance that is going on.
    """

    drift: Severity | None = None
    criticals: tuple[int, ...] = ()
    clean: int = 0
    is_degraded: bool = False
    worse: tuple[int, ...] = ()
    fine: tuple[int, ...] = ()
    detector: bool = False
    estimate: Literal["", "fine", "worse"] = ""
    below: tuple[int, ...] = ()
    spell: Spell | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose window it is, and what a decision about it needs to know.

    Attributes:
        asked_at: when a retraining of the model was last asked for.
        started_at, ended_at: moments of the first and the last row of the window.
    """

    model: ModelName
    version: int
    window: int
    policy: Policy
    is_champion: bool
    asked_at: datetime | None
    now: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What the state of a version says about a fresh model.

    Attributes:
        confirmed: the reason for one, once enough windows agree.
        doubtful: this window alone would be a reason.
        suspect: anything at all is unusual.
        calm: a change that was confirmed is over.
        below: windows in which the rung below would have done better.
        over: the disturbance that has ended with this window.
    """

    confirmed: Why | None = None
    doubtful: Why | None = None
    suspect: bool = False
    calm: bool = False
    below: tuple[int, ...] = ()
    windows: tuple[int, ...] = ()
    detail: str = ""
    over: Spell | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The state from now on, what is said, and what it is a sign of."""

    watch: Watch
    events: tuple[Event, ...]
    signs: Signs = field(default_factory=Signs)


# --- drift --------------------------------------------------------------------------------------


def after_window(watch: Watch, subject: Subject, found: Comparison) -> Decided:
    """What a closed window changes. Whoever has an estimate of its loss takes that in first."""
    recent = tuple(n for n in watch.criticals if n >= subject.window - subject.policy.confirm)
    if not _is_calm(found, subject.policy):
        return _after_drift(replace(watch, criticals=recent, clean=0), subject, found)
    watch = replace(watch, criticals=recent, clean=watch.clean + 1)
    if watch.drift is None or watch.clean < CLEAN:
        return _decided(watch, subject, (), found.detail)
    cleared = DriftCleared(model=subject.model, version=subject.version, window=subject.window)
    return _decided(replace(watch, drift=None), subject, (cleared,), found.detail)


def _is_calm(found: Comparison, policy: Policy) -> bool:
    """No drift, and no effect that is shown to be more than half of what would be critical."""
    shown = max((_shown(drift) for drift in found.features), default=0.0)
    return found.severity is None and shown <= policy.shift / 2


def _shown(drift: FeatureDrift) -> float:
    """How large an effect is at least; 0 where it may have any sign."""
    low, high = drift.low, drift.high
    if low is None or high is None:
        return 0.0
    return max(low, -high, 0.0)


def _after_drift(watch: Watch, subject: Subject, found: Comparison) -> Decided:
    severity = found.severity
    events: list[Event] = []
    if severity is not None and (
        watch.drift is None or (severity == "critical" and watch.drift == "warning")
    ):
        events.append(_detected(subject, severity, found))
    watch = replace(watch, drift=watch.drift if watch.drift == "critical" else severity)
    if severity == "critical":
        watch = replace(watch, criticals=(*watch.criticals, subject.window))
    if severity == "critical" or watch.spell is not None:
        watch = replace(watch, spell=_spell(watch.spell, subject, _is_of_the_data(found)))
    doubtful: Why | None = "drift" if severity == "critical" else None
    return _decided(watch, subject, events, found.detail, doubtful)


def _detected(subject: Subject, severity: Severity, found: Comparison) -> DriftDetected:
    drifted = tuple(f for f in found.features if f.p_value <= found.alpha)
    return DriftDetected(
        model=subject.model,
        version=subject.version,
        window=subject.window,
        severity=severity,
        features=drifted[:MOST_NAMED],
    )


def _is_of_the_data(found: Comparison) -> bool:
    drifted = [f for f in found.features if f.p_value <= found.alpha]
    return bool(drifted) and all(f.test in _OF_THE_DATA for f in drifted)


def _spell(known: Spell | None, subject: Subject, is_of_the_data: bool) -> Spell:
    began_at = subject.started_at or subject.now
    ended_at = subject.ended_at or subject.now
    if known is None:
        return Spell(
            windows=(subject.window,),
            began_at=began_at,
            ended_at=ended_at,
            is_of_the_data=is_of_the_data,
        )
    windows = sorted({*known.windows, subject.window})
    return Spell(
        windows=tuple(windows[:MOST_SPELL]),
        began_at=min(known.began_at, began_at),
        ended_at=max(known.ended_at, ended_at),
        is_of_the_data=known.is_of_the_data and is_of_the_data,
    )


# --- quality ------------------------------------------------------------------------------------


def after_estimate(watch: Watch, subject: Subject, found: Estimated | None) -> Decided:
    """What an estimate without labels changes: a suspicion, or that drift does no harm."""
    if found is None:
        return _decided(replace(watch, estimate=""), subject, (), "")
    limit = found.reference * (1 + subject.policy.tolerance)
    told: Literal["", "fine", "worse"] = ""
    if found.low > limit:
        told = "worse"
    elif found.high <= limit:
        told = "fine"
    detail = (
        f"{found.metric} is estimated as {found.low:.4g} to {found.high:.4g}; "
        f"{found.reference:.4g} on held-out rows"
    )
    return _decided(replace(watch, estimate=told), subject, (), detail)


def after_detector(watch: Watch, subject: Subject, metric: str, alarm: Alarm | None) -> Decided:
    """What the running test on losses changes; None takes its alarm back."""
    if alarm is None:
        return _decided(replace(watch, detector=False), subject, (), "")
    detail = (
        f"{metric} {alarm.level:.4g} over {alarm.labels} labels, {alarm.reference:.4g} on held-out "
        f"rows; {alarm.evidence:.3g} times what is to be expected without a change"
    )
    degraded = QualityDegraded(
        model=subject.model,
        version=subject.version,
        window=subject.window,
        metric=metric,
        value=alarm.level,
        reference=alarm.reference,
        bound=alarm.limit,
        labels=alarm.labels,
        by="detector",
        evidence=alarm.evidence,
    )
    events = () if watch.is_degraded else (degraded,)
    spell = _spell(watch.spell, subject, is_of_the_data=False)
    watch = replace(watch, detector=True, is_degraded=True, fine=(), spell=spell)
    return _decided(watch, subject, events, detail, "quality")


def after_measure(watch: Watch, subject: Subject, metric: str, found: Measured) -> Decided:
    """What the quality of a window, as known now, changes."""
    if found.bound is None:
        return Decided(watch=watch, events=())
    if found.is_worse:
        return _after_worse(watch, subject, metric, found)
    worse = tuple(n for n in watch.worse if n != subject.window)
    below = tuple(n for n in watch.below if n != subject.window)
    if not found.is_fine:
        watch = replace(watch, worse=worse, below=below, fine=())
        return _decided(watch, subject, (), found.detail)
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
    # One fine window among worse ones does not end a run of them unless it is the newer one.
    watch = replace(
        watch,
        worse=tuple(n for n in worse if n > subject.window),
        below=tuple(n for n in below if n > subject.window),
        fine=fine,
        is_degraded=watch.is_degraded and not recovered,
        detector=watch.detector and not recovered,
    )
    return _decided(watch, subject, events, found.detail)


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
    confirm = subject.policy.confirm
    is_below = found.rule == "worse"
    below = tuple(n for n in watch.below if n != subject.window)
    watch = replace(
        watch,
        worse=_with(watch.worse, subject.window, confirm),
        below=_with(below, subject.window, confirm) if is_below else below,
        fine=(),
        is_degraded=True,
        spell=_spell(watch.spell, subject, is_of_the_data=False),
    )
    return _decided(watch, subject, events, found.detail, "quality")


def _with(windows: tuple[int, ...], window: int, most: int) -> tuple[int, ...]:
    return tuple(sorted({*windows, window})[-most:])


# --- signs --------------------------------------------------------------------------------------


def _decided(
    watch: Watch,
    subject: Subject,
    events: Sequence[Event],
    detail: str,
    doubtful: Why | None = None,
) -> Decided:
    """The signs of a state; a disturbance that is over is let go."""
    confirm = subject.policy.confirm
    why: Why | None = None
    windows: tuple[int, ...] = ()
    if watch.detector or len(watch.worse) >= confirm:
        why, windows = "quality", watch.worse or (subject.window,)
    elif len(watch.criticals) >= confirm and not _does_no_harm(watch):
        why, windows = "drift", watch.criticals
    # What was drift and is not confirmed any more is over only once the windows are clean again.
    calm = watch.drift is None and not watch.is_degraded and not watch.worse and why is None
    over = watch.spell if calm and watch.estimate != "worse" else None
    signs = Signs(
        confirmed=why,
        doubtful=doubtful,
        suspect=not calm or watch.estimate == "worse",
        calm=calm,
        below=watch.below,
        windows=windows,
        detail=detail,
        over=over,
    )
    watch = replace(watch, spell=None) if over is not None else watch
    return Decided(watch=watch, events=tuple(events), signs=signs)


def _does_no_harm(watch: Watch) -> bool:
    """Inputs have moved, and the losses of those same windows are fine all the same."""
    if watch.is_degraded or watch.worse:
        return False
    return watch.estimate == "fine" or any(window in watch.fine for window in watch.criticals)
