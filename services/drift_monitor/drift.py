"""What a closed window changes of how a version stands, as far as its inputs and scores tell."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from services.drift_monitor.detection import Comparison, Severity
from services.drift_monitor.detection.finding import OF_THE_DATA
from services.drift_monitor.domain import (
    Decided,
    Expected,
    Policy,
    Series,
    Subject,
    Watch,
    decided,
    of_each,
    with_spell,
)
from services.drift_monitor.quality import Estimated
from services.drift_monitor.quality.units import tolerated
from shared.events import DriftCleared, DriftDetected, Event, FeatureDrift
from shared.figures import shown

MOST_NAMED: Final = 20
"""Features named in `drift.detected`, the worst ones."""
CLEAN: Final = 3
"""Windows in a row without drift that end one: what is on the edge does not come and go."""
_RANKS: Final[dict[Severity | None, int]] = {None: 0, "warning": 1, "critical": 2}


def after_estimate(watch: Watch, subject: Subject, found: Estimated | None) -> Decided:
    """What an estimate without labels changes: a suspicion, or that drift does no harm."""
    told, detail = _expected(found, subject.policy), ""
    if found is not None:
        detail = (
            f"{shown(found.metric)} is estimated as {found.low:.4g} to {found.high:.4g}; "
            f"{found.reference:.4g} on held-out rows"
        )
    watch = of_each(watch, subject, lambda series: replace(series, estimate=told))
    return decided(watch, subject, (), detail)


def _expected(found: Estimated | None, policy: Policy) -> Expected:
    if found is None:
        return ""
    limit = tolerated(found.reference, policy.tolerance)
    if found.low > limit:
        return "worse"
    return "fine" if found.high <= limit else ""


def after_window(watch: Watch, subject: Subject, found: Comparison) -> Decided:
    """What a closed window changes. Whoever has an estimate of its loss takes that in first.

    A version is drifted while all of its windows together are, or those of any season.
    """
    is_calm = _is_calm(found, subject.policy)
    watch = of_each(watch, subject, lambda series: _closed(series, subject, found, is_calm=is_calm))
    is_drifted = any(series.drift for series in watch.series.values())
    events = _told(watch, subject, found, is_drifted=is_drifted)
    watch = replace(watch, drift=_worse(watch.drift, found.severity) if is_drifted else None)
    if found.severity == "critical" or (watch.spell is not None and not is_calm):
        watch = with_spell(watch, subject, is_of_the_data=_is_of_the_data(found))
    doubtful = found.severity == "critical"
    return decided(watch, subject, events, found.detail, "drift" if doubtful else None)


def _told(
    watch: Watch, subject: Subject, found: Comparison, *, is_drifted: bool
) -> Sequence[Event]:
    """Drift is said once and again when it becomes critical, and its end once."""
    if _RANKS[found.severity] > _RANKS[watch.drift]:
        return [_detected(subject, found)]
    if watch.drift is None or is_drifted:
        return []
    return [DriftCleared(model=subject.model, version=subject.version, window=subject.window)]


def _closed(series: Series, subject: Subject, found: Comparison, *, is_calm: bool) -> Series:
    """The series after its next window."""
    window, confirm = subject.window, subject.policy.confirm
    before = series.newest
    if series.criticals and not before:
        # Releases without seasons kept no list: windows followed each other by their numbers.
        before = tuple(range(window - confirm, window))
    newest = (*before, window)[-confirm - 1 :]
    criticals = series.criticals
    if found.severity == "critical":
        criticals = (*criticals, window)
    clean = series.clean + 1 if is_calm else 0
    drift = None if clean >= CLEAN else _worse(series.drift, found.severity)
    if drift is None:
        return replace(series, drift=None, newest=(), criticals=(), clean=0)
    return replace(
        series,
        drift=drift,
        newest=newest,
        criticals=tuple(one for one in criticals if one in newest),
        clean=clean,
    )


def _worse(one: Severity | None, other: Severity | None) -> Severity | None:
    return max(one, other, key=_RANKS.__getitem__)


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


def _detected(subject: Subject, found: Comparison) -> DriftDetected:
    drifted = tuple(f for f in found.features if f.p_value <= found.alpha)
    return DriftDetected(
        model=subject.model,
        version=subject.version,
        window=subject.window,
        severity=found.severity or "warning",
        features=drifted[:MOST_NAMED],
    )


def _is_of_the_data(found: Comparison) -> bool:
    drifted = [f for f in found.features if f.p_value <= found.alpha]
    return bool(drifted) and all(f.test in OF_THE_DATA for f in drifted)
