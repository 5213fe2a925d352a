"""How good answers were once outcomes are known, and how good they are likely to be before."""

from services.drift_monitor.quality.delays import Delays
from services.drift_monitor.quality.detector import (
    Alarm,
    Detector,
    Limit,
    Quiet,
    feed,
    has_gone_back,
)
from services.drift_monitor.quality.estimating import Estimated, Gap, estimate
from services.drift_monitor.quality.joining import (
    Answers,
    Given,
    Joined,
    Label,
    Observed,
    Outcome,
    Value,
    becomes,
    join,
)
from services.drift_monitor.quality.losses import Judge
from services.drift_monitor.quality.measuring import (
    ALPHA,
    LOOKS,
    STEPS,
    Labelled,
    Measured,
    Scope,
    is_settled,
    measure,
    step_of,
)

__all__ = [
    "ALPHA",
    "LOOKS",
    "STEPS",
    "Alarm",
    "Answers",
    "Delays",
    "Detector",
    "Estimated",
    "Gap",
    "Given",
    "Joined",
    "Judge",
    "Label",
    "Labelled",
    "Limit",
    "Measured",
    "Observed",
    "Outcome",
    "Quiet",
    "Scope",
    "Value",
    "becomes",
    "estimate",
    "feed",
    "has_gone_back",
    "is_settled",
    "join",
    "measure",
    "step_of",
]
