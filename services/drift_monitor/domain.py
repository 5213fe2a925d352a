"""How one version stands, and what that is a sign of.

What a closed window changes is told by `drift`, what labels change by `answers`. Whether the signs
lead to a fresh model is for `course`, model by model, and for `brake`, all models together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, assert_never

from services.drift_monitor.detection import Severity
from shared.events import Event, Json, ModelName
from shared.spec import read_spec

A_DAY: Final = timedelta(days=1)
EVERY: Final = ""
"""The series of all windows, whatever their season."""
SEASON_STAYS: Final = timedelta(days=90)
"""A season without a window for so long is not waited for: what it showed is let go."""
MOST_SPELL: Final = 200
"""Windows that a disturbance names; it may last longer."""

Why = Literal["drift", "quality"]
Expected = Literal["", "fine", "worse"]
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
class Series:
    """How windows that follow each other stand: all of a version, or those of one season.

    Attributes:
        drift: what was found and is not over yet.
        newest: while there is drift, the windows that were closed last, one more than confirm, in
            the order of closing; their numbers follow the order in which they opened.
        criticals: those of them with critical drift.
        clean: in a row without any drift, since there is some.
        is_degraded: answers were worse and are not shown to be good again.
        worse, fine: numbers of the windows in a row that were judged so; each counts once,
            however often its labels make it look different.
        below: windows in a row whose answers were worse than those of the rung below.
        estimate: how the newest window is estimated to do before its labels come.
        seen_at: when a window of it came last, by the day.
    """

    drift: Severity | None = None
    newest: tuple[int, ...] = ()
    criticals: tuple[int, ...] = ()
    clean: int = 0
    is_degraded: bool = False
    worse: tuple[int, ...] = ()
    fine: tuple[int, ...] = ()
    below: tuple[int, ...] = ()
    estimate: Expected = ""
    seen_at: datetime | None = None

    @property
    def is_usual(self) -> bool:
        """Whether nothing would be lost if it began anew."""
        is_well = not (self.is_degraded or self.worse or self.below)
        return is_well and self.drift is None and self.estimate != "worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How one version stands.

    Attributes:
        drift: what was last said about drift; None while windows look like the reference.
        is_degraded: whether the answers were said to be worse and not yet to be good again.
        detector: whether the running test on losses has raised an alarm that stands.
        series: of all windows under `EVERY`, and where these have seasons by season: what comes
            once a day is hidden among all others, and what has just begun to come every hour is
            seen in all of them together first. Without those that are as usual.
        spell: the disturbance that is going on.
    """

    drift: Severity | None = None
    is_degraded: bool = False
    detector: bool = False
    series: Mapping[str, Series] = field(default_factory=dict)
    spell: Spell | None = None

    @property
    def every(self) -> Series:
        """All windows in the order in which they were closed."""
        return self.series.get(EVERY, Series())


def of_before(kept: Json) -> Json:
    """A watch as it is kept now, from one that a release without seasons has kept."""
    if "series" in kept:
        return kept
    every = {name: kept[name] for name in Series.__slots__ if name in kept}
    # What the running test alone had found ends with its alarm.
    by_windows = bool(kept.get("worse")) or not kept.get("detector")
    every["is_degraded"] = bool(kept.get("is_degraded")) and by_windows
    return {**kept, "series": {EVERY: every}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose window it is, and what a decision about it needs to know.

    Attributes:
        asked_at: when a retraining of the model was last asked for.
        started_at, ended_at: moments of the first and the last row of the window.
        season: of the window; empty where windows have none.
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
    season: str = ""


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


# --- what drift and answers share ---------------------------------------------------------------


def of_each(watch: Watch, subject: Subject, change: Callable[[Series], Series]) -> Watch:
    """Change the series that a window belongs to; those that nothing comes of are let go."""
    kept = dict(watch.series)
    for name in {EVERY, subject.season}:
        changed = change(kept.get(name, Series()))
        if _age(changed, subject.now) >= A_DAY:
            changed = replace(changed, seen_at=subject.now)
        kept[name] = changed
    still = {n: one for n, one in kept.items() if _age(one, subject.now) <= SEASON_STAYS}
    return replace(watch, series=still)


def _age(series: Series, now: datetime) -> timedelta:
    """How long ago its last window was; a day where no release has noted that."""
    return now - series.seen_at if series.seen_at else A_DAY


def with_spell(watch: Watch, subject: Subject, *, is_of_the_data: bool = False) -> Watch:
    """The window belongs to the disturbance that is going on, or begins one."""
    began_at = subject.started_at or subject.now
    ended_at = subject.ended_at or subject.now
    known = watch.spell
    if known is None:
        spell = Spell(
            windows=(subject.window,),
            began_at=began_at,
            ended_at=ended_at,
            is_of_the_data=is_of_the_data,
        )
        return replace(watch, spell=spell)
    windows = sorted({*known.windows, subject.window})
    spell = Spell(
        windows=tuple(windows[:MOST_SPELL]),
        began_at=min(known.began_at, began_at),
        ended_at=max(known.ended_at, ended_at),
        is_of_the_data=known.is_of_the_data and is_of_the_data,
    )
    return replace(watch, spell=spell)


def decided(
    watch: Watch,
    subject: Subject,
    events: Sequence[Event],
    detail: str,
    doubtful: Why | None = None,
) -> Decided:
    """The signs of a state; a disturbance that is over is let go, and so is what is as usual."""
    why, windows = _confirmed(watch, subject)
    is_feared = any(one.estimate == "worse" for one in watch.series.values())
    is_worse = watch.is_degraded or any(one.worse for one in watch.series.values())
    # What was drift and is not confirmed any more is over only once the windows are clean again.
    calm = watch.drift is None and not is_worse and why is None
    over = watch.spell if calm and not is_feared else None
    signs = Signs(
        confirmed=why,
        doubtful=doubtful,
        suspect=not calm or is_feared,
        calm=calm,
        below=_longest([one.below for one in watch.series.values()]),
        windows=windows,
        detail=detail,
        over=over,
    )
    kept = replace(
        watch,
        spell=None if over is not None else watch.spell,
        series={n: one for n, one in watch.series.items() if _is_told(n, one, watch, subject)},
    )
    return Decided(watch=kept, events=tuple(events), signs=signs)


def _is_told(name: str, series: Series, watch: Watch, subject: Subject) -> bool:
    """Fine windows are counted while something is to recover; an estimate is for its drift."""
    is_waited_for = watch.is_degraded and bool(series.fine)
    is_present = name in (EVERY, subject.season) and bool(series.estimate)
    return not series.is_usual or is_waited_for or is_present


def _confirmed(watch: Watch, subject: Subject) -> tuple[Why | None, tuple[int, ...]]:
    """The reason for a fresh model, and the windows that agree on it."""
    confirm, series = subject.policy.confirm, watch.series.values()
    worse = [one.worse for one in series if len(one.worse) >= confirm]
    if worse or watch.detector:
        return "quality", _together(worse) or watch.every.worse or (subject.window,)
    drifted = [
        one.criticals
        for one in series
        if len(one.criticals) >= confirm and not _does_no_harm(watch, one)
    ]
    return ("drift", _together(drifted)) if drifted else (None, ())


def _longest(windows: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The most windows; of as many the newest."""
    return max(windows, key=lambda some: (len(some), some), default=())


def _together(windows: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sorted({window for some in windows for window in some}))


def _does_no_harm(watch: Watch, series: Series) -> bool:
    """Inputs have moved, and the losses of those same windows are fine all the same."""
    if watch.is_degraded or any(one.worse for one in watch.series.values()):
        return False
    return series.estimate == "fine" or any(one in series.fine for one in series.criticals)
