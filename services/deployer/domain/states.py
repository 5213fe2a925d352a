"""What the deployer knows of one endpoint: its champions, rollouts and probation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from services.deployer.domain.policy import Policy
from services.deployer.domain.seen import Counts, Evidence
from services.deployer.permission import Approvals
from services.deployer.shadow import Losses
from shared.events import Arm, Digest, Json, ModelName, RolloutId, Rung
from shared.ids import derived
from shared.spec_rollout import Rollout as Rules

REMEMBERED: Final = 50
"""Former champions and finished versions that an endpoint's row keeps; older ones are history."""
TRIED_REMEMBERED: Final = 3
"""Ended trials whose evidence is kept, should the same comparison be made again."""


class Stage(StrEnum):
    """Where a rollout is; the last four are final."""

    AWAITING_VERDICT = "awaiting_verdict"
    AWAITING_APPROVAL = "awaiting_approval"
    AWAITING_WINDOW = "awaiting_window"
    SHADOW = "shadow"
    CANARY = "canary"
    EXPERIMENT = "experiment"
    PROMOTED = "promoted"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"


ANSWERING: Final = frozenset({Stage.SHADOW, Stage.CANARY, Stage.EXPERIMENT})
"""A replica computes its answers, seen or unseen."""
OVER: Final = frozenset({Stage.PROMOTED, Stage.ABORTED, Stage.SUPERSEDED, Stage.REJECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """A version that answers, or did.

    Attributes:
        before: the champion that it took over from.
        record: what it did in its probation, for the one after it to be held against.
    """

    version: int
    manifest: Digest
    rule: Json
    before: int | None = None
    record: Counts = field(default_factory=Counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One candidate on its way.

    A version has one of its own, and one more whenever it is the answer to a question for the best.

    Attributes:
        champion: the version that the verdict compared it with.
        best: somebody asked for it, so the order of versions does not count.
        authors: who made what it consists of, by what they made.
        approvals: of this artifact after this verdict; a new verdict begins with none.
        at: when the stage or the step began.
        begun_at: when it first answered, seen or unseen.
        first_generation: measures of earlier generations do not concern it.
        step_generation: the generation with which this step began.
        step_requests: answers of the challenger in this step.
        held_until: nothing but the window is awaited; with `held_why` alone, an event is.
        opened_by: who opened a closed window for it.
        widened: it has had its second chance at the largest share.
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
    best: bool = False
    requested_by: str = ""
    authors: Mapping[str, str] = field(default_factory=dict)
    approvals: Approvals | None = None
    step: int = 0
    begun_at: datetime | None = None
    first_generation: int = 0
    step_generation: int = 0
    step_requests: int = 0
    held_until: datetime | None = None
    held_why: str = ""
    opened_by: str = ""
    widened: bool = False
    evidence: Evidence = field(default_factory=Evidence)
    detail: str = ""

    @property
    def rules(self) -> Rules:
        """What the specification says."""
        return self.policy.rules

    @property
    def weight(self) -> float:
        """The share of requests whose answers are its own."""
        if self.stage is Stage.CANARY:
            return self.rules.steps[self.step]
        return self.rules.experiment.share if self.stage is Stage.EXPERIMENT else 0.0

    @property
    def shadow_share(self) -> float:
        """The share of requests that it answers unseen."""
        if self.stage is not Stage.SHADOW:
            return 0.0
        return 1.0 if self.widened else self.rules.shadow.share

    @property
    def is_held(self) -> bool:
        """Whether it has done its part and waits for a moment or an event."""
        return self.held_until is not None or bool(self.held_why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What a trial had shown when it ended; the same comparison goes on from there."""

    version: int
    champion: int
    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Probation:
    """A young champion under watch.

    Attributes:
        former: what the champion before it did at its side, or in its own probation.
        young: what it has done itself since its promotion.
        losses: of itself as champion and the one before it as unseen challenger.
        has_shadow: the one before it answers unseen, for as long as this lasts.
    """

    until: datetime
    rollout: RolloutId
    version: int
    first_generation: int
    policy: Policy
    former: Counts = field(default_factory=Counts)
    young: Counts = field(default_factory=Counts)
    losses: Losses = field(default_factory=Losses)
    measures: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    has_shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """While a disturbance passes, the rule answers for a champion that does worse."""

    version: int
    since: datetime
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Everything that decisions about one model need.

    Attributes:
        owner: the team that the model belongs to.
        seq: raised by every transition; a timer that was made for another one is void.
        fence: the newest version that was ever proposed; an older one comes too late.
        rule: the baseline rule that answers while there is no champion.
        experiments: challengers that stay on a share, oldest first.
        awaiting: accepted against another champion; the evaluator judges it again.
        taken_up: versions that have or had a rollout of their own, newest last.
        asked_for: verdicts that answered a question for the best version, newest last.
        tried: evidence of trials that ended without promotion, newest last.
        evaluation, correlation: the verdict behind the last rollout and its cascade.
        fallback: the champion is not asked for its answers, or only unseen.
    """

    model: ModelName
    owner: str = ""
    generation: int = 0
    seq: int = 0
    fence: int = 0
    champion: Champion | None = None
    past: tuple[Champion, ...] = ()
    rule: Json | None = None
    rollout: Rollout | None = None
    experiments: tuple[Rollout, ...] = ()
    awaiting: Rollout | None = None
    taken_up: tuple[int, ...] = ()
    asked_for: tuple[UUID, ...] = ()
    tried: tuple[Tried, ...] = ()
    salt: str = ""
    evaluation: UUID | None = None
    correlation: UUID | None = None
    probation: Probation | None = None
    fallback: Fallback | None = None

    @property
    def champion_version(self) -> int | None:
        """The version of the champion."""
        return self.champion.version if self.champion else None

    @property
    def previous(self) -> Champion | None:
        """Who answers again after a rollback."""
        before = self.champion.before if self.champion else None
        return next((c for c in self.past if c.version == before), None)

    @property
    def probation_until(self) -> datetime | None:
        """When the champion is young no more."""
        return self.probation.until if self.probation else None

    @property
    def active(self) -> tuple[Rollout, ...]:
        """Every rollout that is proposed and not over."""
        return (*((self.rollout,) if self.rollout else ()), *self.experiments)

    def find(self, rollout: RolloutId) -> Rollout | None:
        """The active rollout with this id."""
        return next((one for one in self.active if one.id == rollout), None)


def rollout_id(model: ModelName, version: int, asked: UUID | None = None) -> RolloutId:
    """A version has one rollout, however often its verdict is repeated.

    Args:
        asked: the verdict that answered a question for the best version, which begins another.
    """
    return RolloutId(derived(asked, "rollout", model, version))


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How requests are answered: what `deployment.desired` says besides its number."""

    arms: tuple[Arm, ...]
    ladder: tuple[Rung, ...]
    probation: bool
    owner: str
