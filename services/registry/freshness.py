"""How long published data waits until a model answers from it, and what stands still on the way.

A dataset version counts as served when a version of the model that learned from it, or from newer
data of the same dataset, was promoted and a replica had applied that promotion. A model is stale by
the age of the oldest publication that is newer than what its champion learned from: with a new file
every hour the clock of an unserved one goes on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from shared.outcomes import FIRST_END
from shared.spec_parts import parse_duration

Stage = Literal["train", "evaluate", "deploy", "canary"]
STAGES: Final[tuple[Stage, ...]] = ("train", "evaluate", "deploy", "canary")
_ATTEMPTS: Final = 3
"""A training that dies is tried again so often; each try has the whole budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One dataset version on its way to one model; `served_at` is None while it is on it."""

    version: int
    published_at: datetime
    served_at: datetime | None

    @property
    def seconds(self) -> float | None:
        """From publication until a replica answered from it; never negative."""
        if self.served_at is None:
            return None
        return max(0.0, (self.served_at - self.published_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a model answers from, and what was published since.

    Attributes:
        served: the dataset version that the champion learned from; None without one.
        waiting_since: when the oldest newer one was published; None when there is none.
        objective: `monitor.freshness` of the specification.
    """

    model: str
    owner: str
    dataset: str
    newest: int | None
    served: int | None
    waiting_since: datetime | None
    objective: timedelta | None

    def staleness(self, now: datetime) -> float:
        """Seconds that the oldest unserved data has waited; 0 when the newest is served."""
        if self.waiting_since is None:
            return 0.0
        return max(0.0, (now - self.waiting_since).total_seconds())

    def is_stale(self, now: datetime) -> bool:
        """Whether it has waited longer than the specification allows."""
        return self.objective is not None and self.staleness(now) > self.objective.total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The newest claim about a dataset version whose story for a model has not ended."""

    model: str
    state: str
    weight: int
    at: datetime
    spec: Mapping[str, Any]


def read_objective(text: str | None) -> timedelta | None:
    """How long published data may be unserved, as a specification says it; None without."""
    return _duration({"freshness": text}, "freshness")


def longest_waits(pending: Iterable[Pending], now: datetime) -> dict[Stage, float]:
    """Per stage, how much longer than its specification allows the slowest story stands still."""
    waits: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
    for one in pending:
        stage = stage_of(one)
        if stage is None:
            continue
        late = (now - one.at - allowance(stage, one.spec)).total_seconds()
        waits[stage] = max(waits[stage], late)
    return waits


def stage_of(pending: Pending) -> Stage | None:
    """Where a story stands; None when it waits for people or a window, or has ended.

    The weights are those of `shared.outcomes`: they rise along the cascade.
    """
    if pending.state != "in_progress" or pending.weight >= FIRST_END:
        return None
    if pending.weight <= 20:
        return "train"
    if pending.weight <= 30:
        return "evaluate"
    return "deploy" if pending.weight <= 50 else "canary"


def allowance(stage: Stage, spec: Mapping[str, Any]) -> timedelta:
    """What the specification itself lets a stage take without anything being wrong."""
    nothing = timedelta(0)
    if stage == "train":
        budget = _duration(spec, "train", "budget") or nothing
        return (_duration(spec, "triggers", "cooldown") or nothing) + _ATTEMPTS * budget
    if stage == "canary":
        return max(_rollout_times(spec.get("rollout") or {}))
    return nothing


def _rollout_times(rollout: Mapping[str, Any]) -> list[timedelta]:
    give_up = _duration(rollout, "give_up_after") or timedelta(0)
    widened = 2 if rollout.get("low_traffic") == "widen" else 1
    return [
        widened * give_up,
        _duration(rollout, "shadow", "run_for") or timedelta(0),
        _duration(rollout, "experiment", "run_for") or timedelta(0)
        if rollout.get("strategy") == "experiment"
        else timedelta(0),
    ]


def _duration(plain: Mapping[str, Any], *keys: str) -> timedelta | None:
    found: Any = plain
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    if found is None:
        return None
    read = parse_duration(found)
    return read if isinstance(read, timedelta) else None
