"""What the deployer knows of one endpoint, and what can happen to it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal
from uuid import UUID

from services.deployer.permission import Approvals, Decision
from services.deployer.shadow import Losses
from shared.events import (
    Arm,
    ArmLoss,
    ArmMeasure,
    Digest,
    Event,
    Gate,
    Json,
    ModelName,
    PairedLoss,
    RolloutId,
    Rung,
)
from shared.ids import derived
from shared.latency import slower_than
from shared.spec import read_spec
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


# --- what was seen ------------------------------------------------------------------------------


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


# --- versions and their rollouts ----------------------------------------------------------------


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
    record: Counts = Counts()


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
    evidence: Evidence = Evidence()
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
    former: Counts = Counts()
    young: Counts = Counts()
    losses: Losses = field(default_factory=Losses)
    measures: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    has_shadow: bool = False


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


# --- what can happen ----------------------------------------------------------------------------


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
    | RollbackAsked
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What follows: the endpoint as it is now, what is said, and rollouts that ended."""

    endpoint: Endpoint
    events: tuple[Event, ...] = ()
    ended: tuple[Rollout, ...] = ()
