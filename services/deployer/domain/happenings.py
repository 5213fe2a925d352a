"""What can happen to an endpoint, and what follows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from services.deployer.domain.policy import Policy
from services.deployer.domain.states import Endpoint, Rollout
from services.deployer.permission import Decision
from shared.events import ArmLoss, ArmMeasure, Digest, Event, Json, PairedLoss, RolloutId


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The evaluator has a verdict.

    Attributes:
        rule: None where a rejected version has no files to take it from.
        best: it answers a question for the best version, asked by `requested_by`.
    """

    evaluation: UUID
    correlation: UUID
    version: int
    manifest: Digest
    dataset_version: int
    accepted: bool
    champion: int | None
    policy: Policy
    rule: Json | None
    owner: str = ""
    authors: Mapping[str, str] = field(default_factory=dict)
    best: bool = False
    requested_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A person granted or denied the approval, or took a grant back.

    Attributes:
        manifest, evaluation: what the person looked at, where that was said.
        request: the signed request on the bus, where it came that way.
    """

    rollout: RolloutId
    decision: Decision
    by: str
    comment: str = ""
    manifest: Digest | None = None
    evaluation: UUID | None = None
    request: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overridden:
    """A person opens closed windows and freezes for one rollout; approvals still count."""

    rollout: RolloutId
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The moment has come that was armed at this `seq`."""

    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stirred:
    """Something that a window may have waited for has happened: a freeze, a dataset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A replica counted what the arms did under one generation."""

    replica: str
    sequence: int
    generation: int
    arms: tuple[ArmMeasure, ...]

    def arm(
        self, role: Literal["champion", "challenger", "shadow"], version: int
    ) -> ArmMeasure | None:
        """What one arm did."""
        found = (arm for arm in self.arms if (arm.role, arm.version) == (role, version))
        return next(found, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Labels came for a champion and a challenger, seen or unseen."""

    champion: int
    challenger: int
    metric: str
    pairs: tuple[PairedLoss, ...] = ()
    singles: tuple[ArmLoss, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """A replica will not use a version."""

    version: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Degraded:
    """The answers of a version have become worse than its held-out rows promised."""

    version: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FallenBehind:
    """A disturbance makes the champion worse than the rule, and will pass."""

    version: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp:
    """The champion does no worse than the rule again."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackAsked:
    """Somebody wants the previous champion back, or the named one."""

    by: str
    reason: str
    to: int | None = None


Happening = (
    Judged
    | Decided
    | Overridden
    | Due
    | Stirred
    | Measured
    | Labelled
    | Unusable
    | Degraded
    | FallenBehind
    | CaughtUp
    | RollbackAsked
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What follows: the endpoint as it is now, what is said, and rollouts that ended."""

    endpoint: Endpoint
    events: tuple[Event, ...] = ()
    ended: tuple[Rollout, ...] = ()
