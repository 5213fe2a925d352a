"""What measures and labels have shown of a challenger so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from services.deployer.shadow import Losses
from shared.events import ArmMeasure
from shared.latency import slower_than


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one arm did: requests, and among them errors and slow answers."""

    requests: int = 0
    errors: int = 0
    slow: int = 0

    def plus(self, other: "Counts") -> "Counts":
        """Both together."""
        return Counts(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            slow=self.slow + other.slow,
        )


def counts_of(arm: ArmMeasure | None, objective: timedelta) -> Counts:
    """What a measure says of an arm as evidence: visits, because rows of one entity are alike."""
    if arm is None or arm.visits is None:
        return rows_of(arm, objective)
    return Counts(
        requests=arm.visits,
        errors=min(arm.visits_failed, arm.visits),
        slow=min(arm.visits_slow, arm.visits),
    )


def rows_of(arm: ArmMeasure | None, objective: timedelta) -> Counts:
    """What a measure says of an arm row by row, with times held against an objective."""
    if arm is None:
        return Counts()
    return Counts(
        requests=arm.requests,
        errors=min(arm.errors, arm.requests),
        slow=min(slower_than(arm.latency_counts, objective.total_seconds()), arm.requests),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Two tests on one kind of event, each a log likelihood ratio per point of its grid.

    Attributes:
        abort: evidence that the challenger is worse.
        promote: evidence that it is not worse than the tolerance.
        requests, events: of challenger and champion.
    """

    abort: tuple[float, ...] = ()
    promote: tuple[float, ...] = ()
    requests: tuple[int, int] = (0, 0)
    events: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Entities met for the first time under one generation, per replica.

    Attributes:
        seen: of challenger and champion.
        sums: log likelihood ratios of other splits over the one that was asked for.
    """

    generation: int = 0
    seen: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    sums: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """What a shadow did: answered, had no time for, compared with the seen answer, disagreed."""

    requests: int = 0
    dropped: int = 0
    compared: int = 0
    disagreed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a challenger has shown in all its steps; nothing of it is ever reset.

    Attributes:
        measures: first and last sequence used, per replica.
        entities: met by the challenger, those that two replicas met counted twice.
        exposed: what the challenger did where people saw its answers.
        beside: what the champion did in the same measures.
    """

    errors: Guard = Guard()
    slow: Guard = Guard()
    losses: Losses = field(default_factory=Losses)
    balance: Balance = Balance()
    unseen: Unseen = Unseen()
    measures: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    entities: int = 0
    exposed: Counts = Counts()
    beside: Counts = Counts()
