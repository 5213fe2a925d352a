"""What was decided about rollouts, as metrics."""

from datetime import datetime
from typing import Final, get_args

from shared import telemetry
from shared.events import (
    AbortReason,
    DeploymentRolledBack,
    Event,
    ModelPromoted,
    RolloutAborted,
    RolloutAdvanced,
    RolloutSuperseded,
)

_STAGES: Final = ("shadow", "canary", "experiment")
_STRATEGIES: Final = ("direct", "canary", "shadow", "shadow_canary", "experiment")


def begin() -> None:
    """Let every series exist at 0, so that its first increase can be seen."""
    known = [
        *(("advanced", stage) for stage in _STAGES),
        *(("promoted", strategy) for strategy in _STRATEGIES),
        *(("aborted", reason) for reason in get_args(AbortReason)),
        ("superseded", "newer_version"),
        ("rolled_back", "automatic"),
        ("rolled_back", "asked"),
    ]
    for decision, reason in known:
        _count(decision, reason, by=0)


def note(event: Event, now: datetime) -> None:
    """Count a decision, if it is one."""
    match event:
        case RolloutAdvanced():
            _count("advanced", event.stage)
        case ModelPromoted():
            _count("promoted", str(event.evidence.get("strategy", "direct")))
        case RolloutAborted():
            _count("aborted", event.reason)
            telemetry.gauge(
                "tidewheel_rollout_last_abort_timestamp_seconds",
                now.timestamp(),
                model=event.model,
                reason=event.reason,
            )
        case RolloutSuperseded():
            _count("superseded", "newer_version")
        case DeploymentRolledBack():
            _count("rolled_back", "automatic" if event.by == "tidewheel" else "asked")
        case _:
            pass


def _count(decision: str, reason: str, by: int = 1) -> None:
    telemetry.count("tidewheel_rollout_decisions_total", by, decision=decision, reason=reason)
