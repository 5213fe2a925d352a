"""What holds for every rollout, and what the specification says about those of its model."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from shared.events import Gate, Json
from shared.spec import read_spec
from shared.spec_rollout import Rollout as Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What holds for every model.

    Attributes:
        alpha: chance that a harmless challenger is aborted over its life, and that a harmful one
            is promoted.
        delta: a challenger may have this much more events than the champion, relatively.
        event_limit: a challenger whose rate of events is below this for sure may advance although
            its events are too rare to be compared.
        error_limit: a young champion whose rate of errors is above this for sure is rolled back,
            whatever the one before did.
    """

    alpha: float = 0.05
    delta: float = 0.5
    event_limit: float = 0.02
    error_limit: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the specification says about rollouts of its model.

    Attributes:
        objective: slower answers count as slow.
        loss_cap: the loss that counts as 1, in the unit of the metric.
    """

    rules: Rules = field(default_factory=Rules)
    objective: timedelta = timedelta(milliseconds=100)
    metric: str = "mae"
    loss_cap: float = 1.0

    def digest(self) -> str:
        """SHA-256 of its canonical JSON."""
        plain = {
            "rules": self.rules.model_dump(mode="json"),
            "objective_seconds": self.objective.total_seconds(),
            "metric": self.metric,
            "loss_cap": self.loss_cap,
        }
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


_BOUNDED: Final = frozenset({"brier", "accuracy"})
"""Losses that are parts of 1 by themselves."""
_CAPS_AT: Final = 4.0
"""By default the cap is so many times the loss on the held-out rows."""


def policy_of(spec: Json, gates: Sequence[Gate] = ()) -> Policy:
    """The policy in a specification, with the cap that a verdict's figures give.

    Args:
        gates: the verdict's comparisons; the champion's own loss is in one of them.
    """
    read = read_spec(spec)
    return Policy(
        rules=read.rollout,
        objective=read.serving.objective,
        metric=read.metric,
        loss_cap=read.rollout.loss.cap or _usual_cap(read.metric, gates),
    )


def _usual_cap(metric: str, gates: Sequence[Gate]) -> float:
    if metric in _BOUNDED:
        return 1.0
    named = [gate for gate in gates if gate.metric == metric and gate.slice is None]
    of_champion = [gate.other_value for gate in named if gate.versus == "champion"]
    values = [*of_champion, *(gate.candidate_value for gate in named)]
    value = next((value for value in values if value is not None and value > 0), None)
    if value is None:
        return 1.0
    # The loss of a row is the square where the metric is a root of means.
    return _CAPS_AT * (value * value if metric == "rmse" else value)
