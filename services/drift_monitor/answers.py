"""What labels change of how a version stands: windows that are worse or fine, the running test."""

from dataclasses import replace

from services.drift_monitor.domain import (
    Decided,
    Series,
    Subject,
    Watch,
    decided,
    of_each,
    with_spell,
)
from services.drift_monitor.quality import Alarm, Measured
from shared.events import Event, QualityDegraded, QualityRecovered
from shared.figures import shown, value_is


def after_measure(watch: Watch, subject: Subject, metric: str, found: Measured) -> Decided:
    """What the quality of a window, as known now, changes."""
    if found.bound is None:
        return Decided(watch=watch, events=())
    if found.is_worse:
        return _after_worse(watch, subject, metric, found)
    change = _fine if found.is_fine else _unsure
    watch = of_each(watch, subject, lambda series: change(series, subject))
    is_over = len(watch.every.fine) >= subject.policy.confirm
    watch = replace(watch, detector=watch.detector and not is_over)
    watch, events = _recovered(watch, subject, metric, found.value)
    return decided(watch, subject, events, found.detail)


def _fine(series: Series, subject: Subject) -> Series:
    """One fine window among worse ones does not end a run of them unless it is the newer one."""
    window, confirm = subject.window, subject.policy.confirm
    fine = _with(series.fine, window, confirm)
    return replace(
        series,
        worse=tuple(n for n in series.worse if n > window),
        below=tuple(n for n in series.below if n > window),
        fine=fine,
        is_degraded=series.is_degraded and len(fine) < confirm,
    )


def _unsure(series: Series, subject: Subject) -> Series:
    """Neither fine nor worse: the window counts no more as what it was before."""
    return replace(
        series,
        worse=tuple(n for n in series.worse if n != subject.window),
        below=tuple(n for n in series.below if n != subject.window),
        fine=(),
    )


def _recovered(
    watch: Watch, subject: Subject, metric: str, value: float
) -> tuple[Watch, tuple[Event, ...]]:
    """Answers are good again once neither a series of windows nor the running test objects."""
    is_bad = watch.detector or any(series.is_degraded for series in watch.series.values())
    if is_bad or not watch.is_degraded:
        return watch, ()
    said = QualityRecovered(
        model=subject.model,
        version=subject.version,
        window=subject.window,
        metric=metric,
        value_is=value_is(metric),
        value=value,
    )
    return replace(watch, is_degraded=False), (said,)


def _after_worse(watch: Watch, subject: Subject, metric: str, found: Measured) -> Decided:
    degraded = QualityDegraded(
        model=subject.model,
        version=subject.version,
        window=subject.window,
        metric=metric,
        value_is=value_is(metric),
        value=found.value,
        reference=found.reference,
        bound=found.bound or 0.0,
        labels=found.labels,
    )
    events = () if watch.is_degraded else (degraded,)
    is_below = found.rule == "worse"
    watch = of_each(watch, subject, lambda series: _worse(series, subject, is_below=is_below))
    watch = with_spell(replace(watch, is_degraded=True), subject)
    return decided(watch, subject, events, found.detail, "quality")


def _worse(series: Series, subject: Subject, *, is_below: bool) -> Series:
    window, confirm = subject.window, subject.policy.confirm
    below = tuple(n for n in series.below if n != window)
    return replace(
        series,
        worse=_with(series.worse, window, confirm),
        below=_with(below, window, confirm) if is_below else below,
        fine=(),
        is_degraded=True,
    )


def _with(windows: tuple[int, ...], window: int, most: int) -> tuple[int, ...]:
    return tuple(sorted({*windows, window})[-most:])


# --- the running test ---------------------------------------------------------------------------


def after_alarm(watch: Watch, subject: Subject, metric: str, alarm: Alarm) -> Decided:
    """The running test on losses has raised an alarm."""
    detail = (
        f"{shown(metric)} {alarm.level:.4g} over {alarm.labels} labels, {alarm.reference:.4g} on "
        f"held-out rows; {alarm.evidence:.3g} times what is to be expected without a change"
    )
    degraded = QualityDegraded(
        model=subject.model,
        version=subject.version,
        window=subject.window,
        metric=metric,
        value_is=value_is(metric),
        value=alarm.level,
        reference=alarm.reference,
        bound=alarm.limit,
        labels=alarm.labels,
        by="detector",
        evidence=alarm.evidence,
    )
    events = () if watch.is_degraded else (degraded,)
    series = {name: replace(one, fine=()) for name, one in watch.series.items()}
    watch = replace(watch, detector=True, is_degraded=True, series=series)
    return decided(with_spell(watch, subject), subject, events, detail, "quality")


def after_quiet(watch: Watch, subject: Subject, metric: str, level: float) -> Decided:
    """The running test has found nothing for so long that its alarm is over."""
    watch, events = _recovered(replace(watch, detector=False), subject, metric, level)
    return decided(watch, subject, events, "")
