"""What is shown of the champion's quality beside its events, as gauges."""

from services.drift_monitor.domain import Subject
from services.drift_monitor.quality import Estimated, Measured
from shared import telemetry
from shared.events import QualityMeasured


def estimated(subject: Subject, found: Estimated) -> None:
    """The newest window by its scores."""
    if not subject.is_champion:
        return
    model, metric = str(subject.model), found.metric
    _value(model, metric, "estimated", found.value)
    limit = found.reference * (1 + subject.policy.tolerance)
    _gap(model, metric, "estimated", found.low - limit)
    for other in found.others:
        if other.metric != metric:
            _value(model, other.metric, "estimated", other.value)


def measured(subject: Subject, said: QualityMeasured, found: Measured) -> None:
    """The newest measured window by its labels, beside its baseline rule."""
    if not subject.is_champion:
        return
    model, metric = str(subject.model), said.metric
    telemetry.gauge("tidewheel_label_coverage_ratio", found.completeness, model=model)
    if found.expected is not None:
        telemetry.gauge("tidewheel_label_coverage_expected_ratio", found.expected, model=model)
    if said.value is None:
        return
    _value(model, metric, "realised", said.value)
    if found.margin is not None:
        _gap(model, metric, "realised", found.margin)
    if found.baseline is not None:
        _value(model, metric, "baseline", found.baseline)
    if found.rule_bound is not None:
        _gap(model, metric, "baseline", found.value - found.rule_bound)


def _value(model: str, metric: str, kind: str, value: float) -> None:
    telemetry.gauge("tidewheel_quality_value", value, model=model, metric=metric, kind=kind)


def _gap(model: str, metric: str, kind: str, low: float) -> None:
    telemetry.gauge("tidewheel_quality_gap_lower_bound", low, model=model, metric=metric, kind=kind)
