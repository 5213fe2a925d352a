"""What the deployer knows of one endpoint, and what can happen to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal
from uuid import UUID

from shared.events import Arm, Digest, Event, Json, ModelName, RolloutId, Rung
from shared.ids import derived
from shared.spec import read_spec

REMEMBERED: Final = 50
"""Former champions and finished versions that an endpoint's row keeps; older ones are history."""


class Stage(StrEnum):
    """Where a rollout is; the last four are final."""

    AWAITING_VERDICT = "awaiting_verdict"
    AWAITING_APPROVAL = "awaiting_approval"
    AWAITING_WINDOW = "awaiting_window"
    CANARY = "canary"
    PROMOTED = "promoted"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"


ACTIVE: Final = frozenset({Stage.AWAITING_APPROVAL, Stage.AWAITING_WINDOW, Stage.CANARY})
OVER: Final = frozenset({Stage.PROMOTED, Stage.ABORTED, Stage.SUPERSEDED, Stage.REJECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What holds for every model.

    Attributes:
        alpha: chance that a harmless canary is aborted over its life, and that a harmful one is
            promoted.
        delta: a canary may have this much more events than the champion, relatively.
        event_limit: a canary whose rate of events is below this for sure may advance although its
            events are too rare to be compared.
        approval_expires: a rollout that nobody decides on ends after this.
    """

    alpha: float = 0.05
    delta: float = 0.5
    event_limit: float = 0.02
    approval_expires: timedelta = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the specification says about rollouts of its model."""

    strategy: Literal["canary", "direct"]
    steps: tuple[float, ...]
    step_for: timedelta
    minimum_requests: int
    give_up_after: timedelta
    window: str | None
    approval: Literal["auto", "manual"]
    probation: timedelta
    objective: timedelta


def policy_of(spec: Json) -> Policy:
    """The policy in a specification."""
    read = read_spec(spec)
    rollout = read.rollout
    return Policy(
        strategy="direct" if rollout.strategy == "direct" else "canary",
        steps=rollout.steps,
        step_for=rollout.step_for,
        minimum_requests=rollout.minimum_requests,
        give_up_after=rollout.give_up_after,
        window=rollout.window[0] if rollout.window else None,
        approval="manual" if rollout.approval.needed else "auto",
        probation=rollout.probation,
        objective=read.serving.objective,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Two tests on one kind of event, each a log likelihood ratio per point of its grid.

    Attributes:
        abort: evidence that the canary is worse.
        promote: evidence that it is not worse than the tolerance.
        requests, events: of canary and champion.
    """

    abort: tuple[float, ...] = ()
    promote: tuple[float, ...] = ()
    requests: tuple[int, int] = (0, 0)
    events: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a canary has shown in all its steps; nothing of it is ever reset.

    Attributes:
        measures: first and last sequence used, per replica.
    """

    errors: Guard = Guard()
    slow: Guard = Guard()
    measures: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """A version that answers, or did; `before` is the champion that it took over from."""

    version: int
    manifest: Digest
    rule: Json
    before: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One candidate on its way; there is one per version, ever.

    Attributes:
        champion: the version that the verdict compared it with.
        at: when the stage or the step began.
        canary_at: when the canary first answered.
        first_generation: measures of earlier generations do not concern it.
        step_generation: the generation with which this step began.
        step_requests: answers of the canary in this step.
        held_until: the step is done and only the window is awaited.
    """

    id: RolloutId
    version: int
    manifest: Digest
    dataset_version: int
    rule: Json
    evaluation: UUID
    correlation: UUID
    champion: int | None
    policy: Policy
    stage: Stage
    at: datetime
    proposed_at: datetime
    step: int = 0
    canary_at: datetime | None = None
    first_generation: int = 0
    step_generation: int = 0
    step_requests: int = 0
    held_until: datetime | None = None
    evidence: Evidence = Evidence()
    detail: str = ""

    @property
    def weight(self) -> float:
        """The share of requests that it answers now."""
        return self.policy.steps[self.step] if self.stage is Stage.CANARY else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Everything that decisions about one model need.

    Attributes:
        seq: raised by every transition; a timer that was made for another one is void.
        fence: the newest version that was ever proposed; an older one comes too late.
        rule: the baseline rule that answers while there is no champion.
        awaiting: accepted against another champion; the evaluator judges it again.
        taken_up: versions that have or had a rollout, newest last.
        evaluation, correlation: the verdict behind the last rollout and its cascade.
    """

    model: ModelName
    generation: int = 0
    seq: int = 0
    fence: int = 0
    champion: Champion | None = None
    past: tuple[Champion, ...] = ()
    rule: Json | None = None
    rollout: Rollout | None = None
    awaiting: Rollout | None = None
    taken_up: tuple[int, ...] = ()
    salt: str = ""
    evaluation: UUID | None = None
    correlation: UUID | None = None
    probation_until: datetime | None = None

    @property
    def champion_version(self) -> int | None:
        """The version of the champion."""
        return self.champion.version if self.champion else None

    @property
    def previous(self) -> Champion | None:
        """Who answers again after a rollback."""
        before = self.champion.before if self.champion else None
        return next((c for c in self.past if c.version == before), None)


def rollout_id(model: ModelName, version: int) -> RolloutId:
    """A version has one rollout, however often its verdict is repeated."""
    return RolloutId(derived(None, "rollout", model, version))


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How requests are answered: what `deployment.desired` says besides its number."""

    arms: tuple[Arm, ...]
    ladder: tuple[Rung, ...]
    probation: bool


# --- what can happen --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The evaluator has a verdict."""

    evaluation: UUID
    correlation: UUID
    version: int
    manifest: Digest
    dataset_version: int
    accepted: bool
    champion: int | None
    policy: Policy
    rule: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A person granted or denied the approval."""

    rollout: RolloutId
    granted: bool
    by: str
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The moment has come that was armed at this `seq`."""

    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one arm did: requests, and among them errors and slow answers."""

    requests: int = 0
    errors: int = 0
    slow: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A replica counted what canary and champion did under one generation."""

    replica: str
    sequence: int
    generation: int
    version: int
    canary: Counts
    champion: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """A replica will not use the files of a version."""

    version: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Degraded:
    """The answers of a version have become worse than its held-out rows promised."""

    version: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackAsked:
    """Somebody wants the previous champion back, or the named one."""

    by: str
    reason: str
    to: int | None = None


Happening = Judged | Decided | Due | Measured | Unusable | Degraded | RollbackAsked


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What follows: the endpoint as it is now, what is said, and rollouts that ended."""

    endpoint: Endpoint
    events: tuple[Event, ...] = ()
    ended: tuple[Rollout, ...] = ()
