"""Everything that is said on the bus, in the order of the cascade.

An event is a fact: past tense, frozen, small. Which, when and why it was said stands in its
envelope, which the bus fills in. Large parts travel as blobs; an event carries their digest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Generic, Literal, NewType, TypeVar
from uuid import UUID

DatasetName = NewType("DatasetName", str)
ModelName = NewType("ModelName", str)
Digest = NewType("Digest", str)
"""SHA-256 of the bytes, 64 lower-case hexadecimal digits."""
RunId = NewType("RunId", UUID)
RolloutId = NewType("RolloutId", UUID)
Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact. `TYPE` is its name on the wire; the field named by `KEY` is its subject."""

    TYPE: ClassVar[str]
    KEY: ClassVar[str]

    @property
    def subject(self) -> str:
        """What this is about; also the Kafka key, so that order is kept per subject."""
        return str(getattr(self, self.KEY))


E = TypeVar("E", bound=Event, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard(Generic[E]):
    """An event together with its envelope: which, when and why.

    Attributes:
        sequence: position among the events of this topic and subject, from 1; None where many
            writers share a topic.
        correlation: the cascade, the same for everything that one trigger brought about.
        causation: id of the event that caused this one.
        key: what an outsider's event is told apart by here, which is not on the wire: anybody may
            use any id, so the content is part of it. None where the id itself tells.
        came_at: when an outsider's event came, which is not on the wire: anybody may write any
            `time`. The broker's clock says it, so that it is the same whenever the event is heard
            again. None where the time itself tells.
    """

    event: E
    id: UUID
    source: str
    time: datetime
    correlation: UUID
    causation: UUID | None = None
    sequence: int | None = None
    traceparent: str | None = None
    signature: str | None = None
    key: UUID | None = None
    came_at: datetime | None = None

    @property
    def told_apart_by(self) -> UUID:
        """Its key, or its id where that tells."""
        return self.key or self.id


def as_kind(heard: Heard[Any], kind: type[E]) -> Heard[E] | None:
    """The same, known to be of a kind; None when it is of another."""
    return heard if isinstance(heard.event, kind) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason for a refusal: where, what, and how to mend it."""

    pointer: str
    detail: str
    hint: str = ""


# --- datasets -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetOffered(Event):
    """A producer says that a new version lies at this reference; nobody has looked at it yet."""

    TYPE = "tidewheel.dataset.offered.v1"
    KEY = "dataset"

    dataset: DatasetName
    uri: str
    """A configured root and a key, `lake:sales/day=1.parquet`."""
    format: Literal["csv", "parquet"] | None = None
    digest: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPublished(Event):
    """A version can be read by its digest; nothing has been trained on it yet."""

    TYPE = "tidewheel.dataset.published.v1"
    KEY = "dataset"

    dataset: DatasetName
    version: int
    digest: Digest
    format: Literal["csv", "parquet"]
    size_bytes: int
    rows: int
    columns: Mapping[str, str]
    """Column name to kind: integer, number, boolean, text or time, in the order of the file."""
    profile: Digest
    """Blob with the statistics of every column (JSON)."""
    published_by: str
    offer: UUID | None = None
    owner: str = ""
    """The team that the dataset belongs to; empty when nobody has claimed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRefused(Event):
    """What was offered is no version, for all these reasons; nothing has changed."""

    TYPE = "tidewheel.dataset.refused.v1"
    KEY = "dataset"

    dataset: DatasetName
    reasons: tuple[Reason, ...]
    offered_by: str
    digest: Digest | None = None
    offer: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetAnnotated(Event):
    """Somebody says what a period of a dataset is; training leaves out what an active one names."""

    TYPE = "tidewheel.dataset.annotated.v1"
    KEY = "dataset"

    dataset: DatasetName
    annotation: UUID
    state: Literal["proposed", "active", "declined", "lifted"]
    """Proposed: it covers so many rows that a second person must agree first."""
    tag: Literal["normal", "transient", "new_regime", "corrupt", "held_out"]
    column: str
    """The column of the row's moment."""
    starts_at: datetime
    ends_at: datetime
    """Rows from the first moment up to, not with, the second."""
    models: tuple[ModelName, ...]
    """Whom it concerns; empty for all that learn from the dataset."""
    share: float
    """Of the rows of the newest version, 0 to 1."""
    author: str
    by: str
    """Who brought it into this state."""
    reason: str
    evidence: tuple[UUID, ...] = ()
    """Ids of verdicts that it rests on."""


# --- models ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDefined(Event):
    """A model has this specification from now on; it may have no version yet."""

    TYPE = "tidewheel.model.defined.v1"
    KEY = "model"

    model: ModelName
    dataset: DatasetName
    spec: Json
    """The whole specification in canonical form (see `shared.spec.ModelSpec`)."""
    spec_digest: Digest
    code_digest: Digest
    """Digest of specification, code of the estimators and environment."""
    defined_by: str
    commit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStarted(Event):
    """An attempt to fit has begun; it may yet fail."""

    TYPE = "tidewheel.training.started.v1"
    KEY = "model"

    model: ModelName
    run: RunId
    attempt: int
    dataset: DatasetName
    dataset_version: int
    trigger: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateScore:
    """How one candidate of the specification did inside the training; it promotes nothing."""

    use: str
    hyperparameters: Json
    score: float
    """Mean loss on the validation rows, in the unit of the metric; lower is better."""
    fit_seconds: float
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCompleted(Event):
    """A candidate can be loaded; it has no version number yet and nothing has judged it."""

    TYPE = "tidewheel.training.completed.v1"
    KEY = "model"

    model: ModelName
    run: RunId
    attempt: int
    trigger: str
    dataset: DatasetName
    dataset_version: int
    dataset_digest: Digest
    spec_digest: Digest
    code_digest: Digest
    exclusions_digest: Digest
    manifest: Digest
    """The version's manifest (JSON blob, `shared.manifest.Manifest`): everything serving needs."""
    split: Digest
    """The split manifest (blob): which rows were held out."""
    rows_trained: int
    rows_held_out: int
    metrics: Mapping[str, float]
    """Metrics of the candidate on the held-out rows, for people; verdicts are the evaluator's."""
    use: str
    hyperparameters: Json
    candidates: tuple[CandidateScore, ...]
    seed: int
    seconds: Mapping[str, float]
    """Wall time by step: queue, read, fit, score, package."""
    requested_by: str = ""
    """Who asked for this training, where a person did."""
    rows_left_out: int = 0
    periods: tuple[UUID, ...] = ()
    """The annotations by which rows were left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFailed(Event):
    """No candidate came of this run and it will not be tried again."""

    TYPE = "tidewheel.training.failed.v1"
    KEY = "model"

    model: ModelName
    run: RunId
    dataset: DatasetName
    dataset_version: int
    attempts: int
    reason: Literal["error", "timeout", "resource_exceeded", "crashed"]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSkipped(Event):
    """A trigger came and no run was started; the dataset version's story ends here."""

    TYPE = "tidewheel.training.skipped.v1"
    KEY = "model"

    model: ModelName
    dataset: DatasetName
    dataset_version: int
    trigger: str
    reason: Literal[
        "no_material_change", "nothing_new", "superseded", "trigger_off", "cannot_train"
    ]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPredicted(Event):
    """A version has answered every row of a dataset version; the answers are a file."""

    TYPE = "tidewheel.batch.predicted.v1"
    KEY = "model"

    model: ModelName
    batch: UUID
    version: int
    manifest: Digest
    dataset: DatasetName
    dataset_version: int
    dataset_digest: Digest
    output: Digest
    """Blob: the answers, a row for every row, in the same order."""
    format: Literal["csv", "parquet"]
    rows: int
    refused: int
    """Rows that have no answer; the file says why."""
    requested_by: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFailed(Event):
    """A batch has no answers and will not be tried again."""

    TYPE = "tidewheel.batch.failed.v1"
    KEY = "model"

    model: ModelName
    batch: UUID
    version: int
    dataset: DatasetName
    dataset_version: int
    reason: Literal["error", "timeout", "resource_exceeded", "crashed"]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRegistered(Event):
    """The candidate has a version number, the fence for everything after; nothing judged it yet."""

    TYPE = "tidewheel.model.registered.v1"
    KEY = "model"

    model: ModelName
    version: int
    run: RunId
    manifest: Digest
    split: Digest
    dataset: DatasetName
    dataset_version: int
    dataset_digest: Digest
    spec_digest: Digest
    code_digest: Digest
    spec: Json
    metrics: Mapping[str, float]
    use: str
    hyperparameters: Json
    trigger: str
    seconds: Mapping[str, float]
    authors: Mapping[str, str] = field(default_factory=dict)
    """Who wrote the specification (`spec`), published the rows (`data`) and asked for the training
    (`training`); where four eyes are asked for, none of them may approve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSuperseded(Event):
    """The candidate gets no number: a version trained on newer data has one already."""

    TYPE = "tidewheel.candidate.superseded.v1"
    KEY = "model"

    model: ModelName
    run: RunId
    dataset: DatasetName
    dataset_version: int
    by_version: int
    by_dataset_version: int


# --- judgement ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One comparison and what came of it. Positive estimates favour the candidate."""

    metric: str
    versus: Literal["champion", "anchor", "baseline", "absolute"]
    passed: bool
    estimate: float | None
    """Mean of loss(other) - loss(candidate) over the same rows; None when it cannot be had."""
    lower: float | None
    upper: float | None
    confidence: float
    """One minus the alpha that was spent: the k-th use of the same rows has less of it."""
    margin: float
    rows: int
    test: str
    detail: str
    candidate_value: float | None = None
    other_value: float | None = None
    slice: str | None = None
    se: float | None = None
    units: int = 0
    """Rows, entities or blocks that are independent of each other."""
    smallest_effect: float | None = None
    """The smallest difference that so many units show with power 0.8."""
    e_value: float | None = None
    """Evidence against `no better than -margin`, for fleets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceVerdict:
    """One part of the held-out rows against the champion."""

    name: str
    where: str
    role: Literal["required", "watched", "found"]
    """`found` is the worst part that was looked for automatically; it decides nothing."""
    metric: str
    passed: bool
    rows: int
    estimate: float | None
    lower: float | None
    upper: float | None
    margin: float
    p_value: float | None
    """Of harm, for watched slices, before Holm's correction."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something that must hold of the candidate whatever its losses are."""

    name: str
    passed: bool
    detail: str
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetClaim:
    """One claim in a fleet's stream of promotions (e-LOND)."""

    stream: str
    claim: int
    """Position of this claim in the stream, from 1."""
    accepted_before: int
    e_value: float
    threshold: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BestAsked:
    """Somebody asked for the best registered version; these were compared on the same rows."""

    by: str
    metric: str
    reason: str
    ranking: tuple[tuple[int, float | None], ...]
    """Version and its loss, best first; None where it could not be scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutFigures:
    """Losses on rows that were left out because their period is annotated; they decide nothing."""

    metric: str
    rows: int
    candidate: float
    baseline: float | None
    champion: float | None
    """On the rows that it was not fitted on itself; None without any."""
    champion_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationCompleted(Event):
    """The candidate was judged on held-out rows; accepted ones may be proposed for rollout."""

    TYPE = "tidewheel.evaluation.completed.v1"
    KEY = "model"

    model: ModelName
    version: int
    accepted: bool
    reason: str
    """`accepted`, or the first rule that was broken: worse, not_shown_better,
    not_shown_noninferior, below_baseline, slice_harmed, check_failed, limit, insufficient,
    cannot_compare, invalid_input, holdout_exhausted, fleet_fdr."""
    mode: Literal["first", "refresh", "change"]
    gates: tuple[Gate, ...]
    manifest: Digest
    champion: int | None
    champion_manifest: Digest | None
    dataset: DatasetName
    dataset_version: int
    dataset_digest: Digest
    split: Digest
    evidence: Digest | None
    """Blob: row ids, outcomes, slices and every vector of answers that was compared."""
    spec: Json
    rows: int
    seed: int
    seconds: float
    """Wall time of the child that loads, scores and compares."""
    slices: tuple[SliceVerdict, ...] = ()
    checks: tuple[Check, ...] = ()
    anchor: int | None = None
    """The best champion so far, where it is not the champion."""
    anchor_manifest: Digest | None = None
    champion_below_baseline: bool = False
    """The champion was not shown to beat the baseline on these rows."""
    policy: Json = field(default_factory=dict)
    """Every rule that the verdict depends on; with the evidence it gives the verdict again."""
    policy_digest: str = ""
    holdout_use: int = 1
    """How many verdicts these held-out rows have given, with this one."""
    fleet: FleetClaim | None = None
    draws: int = 0
    engine: str = ""
    """Name of the rules of computation; another name may give other last digits."""
    authors: Mapping[str, str] = field(default_factory=dict)
    card: Digest | None = None
    """Blob: the model card in Markdown."""
    card_html: Digest | None = None
    best: BestAsked | None = None
    left_out: tuple[LeftOutFigures, ...] = ()
    """How the candidate does on what it was spared; the verdict is on the other rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorMoved(Event):
    """A champion was shown to be better than the best before it: now it is the anchor."""

    TYPE = "tidewheel.anchor.moved.v1"
    KEY = "model"

    model: ModelName
    version: int
    manifest: Digest
    previous: int | None
    reason: Literal["first_champion", "shown_better", "rolled_back"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorRetired(Event):
    """A person withdrew the anchor; the present champion is the next one."""

    TYPE = "tidewheel.anchor.retired.v1"
    KEY = "model"

    model: ModelName
    version: int
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BestRefused(Event):
    """The best version was asked for and none was looked for, or nothing came of the search."""

    TYPE = "tidewheel.best.refused.v1"
    KEY = "model"

    model: ModelName
    metric: str
    by: str
    code: str
    detail: str
    request: UUID | None = None
    """The signed request on the bus, where it came that way."""


# --- rollout --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutProposed(Event):
    """An accepted version is on its way; it answers nobody yet."""

    TYPE = "tidewheel.rollout.proposed.v1"
    KEY = "model"

    model: ModelName
    rollout: RolloutId
    version: int
    manifest: Digest
    champion: int | None
    dataset_version: int
    evaluation: UUID
    steps: tuple[float, ...]
    approval: str
    """auto, one, four_eyes or quorum."""
    strategy: str = "canary"
    authors: Mapping[str, str] = field(default_factory=dict)
    requested_by: str = ""
    """Who asked for the best version, where somebody did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequested(Event):
    """The rollout waits for a person; nothing new answers until somebody decides."""

    TYPE = "tidewheel.approval.requested.v1"
    KEY = "model"

    model: ModelName
    rollout: RolloutId
    version: int
    manifest: Digest
    needed: int = 1
    excluded: tuple[str, ...] = ()
    """Who may not approve, because it is their own work."""
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalGranted(Event):
    """A person allowed exactly this artifact; with enough of them the rollout goes on."""

    TYPE = "tidewheel.approval.granted.v1"
    KEY = "model"

    model: ModelName
    rollout: RolloutId
    version: int
    manifest: Digest
    by: str
    comment: str
    missing: int = 0
    """Approvals still needed after this one."""
    request: UUID | None = None
    """The signed request on the bus, where it came that way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalDenied(Event):
    """A person refused this artifact; the rollout ends."""

    TYPE = "tidewheel.approval.denied.v1"
    KEY = "model"

    model: ModelName
    rollout: RolloutId
    version: int
    manifest: Digest
    by: str
    comment: str
    request: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalWithdrawn(Event):
    """A person took an approval back before the version answered anybody; the rollout waits."""

    TYPE = "tidewheel.approval.withdrawn.v1"
    KEY = "model"

    model: ModelName
    rollout: RolloutId
    version: int
    manifest: Digest
    by: str
    comment: str
    missing: int
    """Approvals needed now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalExpired(Event):
    """Not enough people approved in time; the rollout ends."""

    TYPE = "tidewheel.approval.expired.v1"
    KEY = "model"

    model: ModelName
    rollout: RolloutId
    version: int
    manifest: Digest
    granted_by: tuple[str, ...]
    needed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused(Event):
    """What somebody asked for on the bus was not done, for this reason."""

    TYPE = "tidewheel.request.refused.v1"
    KEY = "model"

    model: ModelName
    request: UUID
    kind: str
    by: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeDeclared(Event):
    """No rollout begins, advances or promotes in this time; rollbacks stay possible."""

    TYPE = "tidewheel.freeze.declared.v1"
    KEY = "freeze"

    freeze: str
    models: tuple[str, ...]
    """Names of models; none means all."""
    starts_at: datetime
    ends_at: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeLifted(Event):
    """A declared freeze is over before its time."""

    TYPE = "tidewheel.freeze.lifted.v1"
    KEY = "freeze"

    freeze: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowOverridden(Event):
    """Break-glass: a person let this rollout go on outside its window; approvals still count."""

    TYPE = "tidewheel.window.overridden.v1"
    KEY = "model"

    model: ModelName
    rollout: RolloutId
    version: int
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowAwaited(Event):
    """The rollout waits until changes are allowed again."""

    TYPE = "tidewheel.window.awaited.v1"
    KEY = "model"

    model: ModelName
    rollout: RolloutId
    version: int
    opens_at: datetime | None
    """None while it depends on an event."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A version that answers a share of the requests; a shadow's answers are seen by nobody."""

    role: Literal["champion", "challenger", "shadow"]
    version: int
    manifest: Digest
    weight: float
    """For a shadow: the share of requests that it answers beside the arm that is seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A step of the fallback ladder, tried in order after the arm that was chosen."""

    kind: Literal["champion", "previous", "baseline"]
    version: int | None = None
    manifest: Digest | None = None
    rule: Json | None = None
    """The baseline rule (`shared.baselines`), complete enough to answer without any file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentDesired(Event):
    """The whole desired state of one endpoint; no replica may have applied it yet."""

    TYPE = "tidewheel.deployment.desired.v1"
    KEY = "model"

    model: ModelName
    generation: int
    arms: tuple[Arm, ...]
    """Weights without shadows add up to 1; no arms when only the baseline rule may answer."""
    ladder: tuple[Rung, ...]
    salt: str
    """Chosen per rollout, so that the same entities are not always the test subjects."""
    rollout: RolloutId | None
    probation: bool = False
    """True while the champion is young; serving then measures every second."""
    owner: str = ""
    """The team whose members may ask this endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutAdvanced(Event):
    """The challenger answers this share from now on: unseen, as a canary, or as an experiment."""

    TYPE = "tidewheel.rollout.advanced.v1"
    KEY = "model"

    model: ModelName
    rollout: RolloutId
    version: int
    step: int
    weight: float
    evidence: Json
    stage: Literal["shadow", "canary", "experiment"] = "canary"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPromoted(Event):
    """This version is the champion; replicas apply it as they hear of it."""

    TYPE = "tidewheel.model.promoted.v1"
    KEY = "model"

    model: ModelName
    rollout: RolloutId
    version: int
    manifest: Digest
    previous: int | None
    dataset_version: int
    generation: int
    evaluation: UUID
    evidence: Json
    approved_by: tuple[str, ...] = ()
    authors: Mapping[str, str] = field(default_factory=dict)
    break_glass: str = ""
    """Who opened a closed window for it, where somebody did."""


AbortReason = Literal[
    "worse",
    "undecided",
    "denied",
    "expired",
    "refused_by_serving",
    "stale_verdict",
    "cap_reached",
    "champion_changed",
    "experiment_over",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutAborted(Event):
    """The rollout ended without promotion; the champion answers everything."""

    TYPE = "tidewheel.rollout.aborted.v1"
    KEY = "model"

    model: ModelName
    rollout: RolloutId
    version: int
    dataset_version: int
    reason: AbortReason
    detail: str
    evidence: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRolledBack(Event):
    """An earlier version is the champion again."""

    TYPE = "tidewheel.deployment.rolled_back.v1"
    KEY = "model"

    model: ModelName
    from_version: int
    to_version: int | None
    to_manifest: Digest | None
    generation: int
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSuperseded(Event):
    """A newer accepted version took the place of this rollout."""

    TYPE = "tidewheel.rollout.superseded.v1"
    KEY = "model"

    model: ModelName
    rollout: RolloutId
    version: int
    dataset_version: int
    by_version: int


# --- serving (many writers: no sequence; replica and replica_sequence instead) ----------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingApplied(Event):
    """This replica answers by this generation from now on."""

    TYPE = "tidewheel.serving.applied.v1"
    KEY = "model"

    model: ModelName
    replica: str
    replica_sequence: int
    generation: int
    versions: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingRefused(Event):
    """This replica will not use an artifact; what answered before goes on answering."""

    TYPE = "tidewheel.serving.refused.v1"
    KEY = "model"

    model: ModelName
    replica: str
    replica_sequence: int
    generation: int
    version: int
    reason: Literal["digest_mismatch", "unsafe", "load_failed", "missing", "faulty"]
    """`faulty`: it was loaded, and what it did beside the champion may not go on."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmMeasure:
    """What one arm did since the last measure."""

    version: int
    role: str
    requests: int
    errors: int
    latency_counts: tuple[int, ...]
    """Answers per latency cell; upper edges in `shared.latency.EDGES_SECONDS`, last one open."""
    visits: int | None = None
    """Entities that asked since the last measure, rows without one each for itself. Rows of one
    entity share their fate, so evidence counts visits; None where nothing is compared."""
    visits_failed: int = 0
    """Visits with at least one error."""
    visits_slow: int = 0
    """Visits with at least one answer later than the objective."""
    new_entities: int = 0
    """Entities that this arm met for the first time in this generation on this replica."""
    dropped: int = 0
    """For a shadow: requests that it should have answered and had no time for."""
    compared: int = 0
    """For a shadow: answers that were compared with the ones that were seen."""
    disagreed: int = 0
    """Of those: another class, or a number further away than a tenth of the champion's error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingMeasured(Event):
    """What the arms of one endpoint did on this replica since its last measure."""

    TYPE = "tidewheel.serving.measured.v1"
    KEY = "model"

    model: ModelName
    replica: str
    replica_sequence: int
    generation: int
    arms: tuple[ArmMeasure, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingFellBack(Event):
    """Answers come from a lower rung on this replica until the one above works again."""

    TYPE = "tidewheel.serving.fell_back.v1"
    KEY = "model"

    model: ModelName
    replica: str
    replica_sequence: int
    generation: int
    rung: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaAnnounced(Event):
    """This replica is alive; silence for 15 seconds means it is gone."""

    TYPE = "tidewheel.replica.announced.v1"
    KEY = "replica"

    replica: str
    replica_sequence: int
    url: str
    models: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRow:
    """One answered row."""

    id: str
    model: ModelName
    version: int | None
    manifest: Digest | None
    rung: str
    arm: str
    generation: int
    entity: str | None
    columns: int
    """Index into the batch's `columns`: the names of the features below."""
    features: tuple[float | str | bool | None, ...]
    answer: float | str | bool
    score: float | None
    """Probability of the positive class, for binary classification."""
    at: datetime
    weight: float = 1.0
    """The share of requests that the arm had."""
    shadow_of: str | None = None
    """For an answer that nobody saw: the prediction that was seen instead."""
    arms: tuple[int, ...] = ()
    """Versions that requests were shared among, the champion's first; none while it is alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionsLogged(Event):
    """These rows were answered; their outcomes are not known yet."""

    TYPE = "tidewheel.predictions.logged.v1"
    KEY = "replica"

    replica: str
    batch: int
    """Number and content are fixed in the spool before the first send, so a repeat is the same."""
    columns: tuple[tuple[str, ...], ...]
    rows: tuple[PredictionRow, ...]
    gaps: int = 0
    """Rows that this replica answered and that are in no batch, since the batch before: its disk
    was full, they waited too long, or their file was damaged. A batch may tell of gaps alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundTruthObserved(Event):
    """The outcome of a prediction was observed; nobody has joined it yet."""

    TYPE = "tidewheel.ground_truth.observed.v1"
    KEY = "model"

    model: ModelName
    prediction: str
    value: float | str | bool
    observed_at: datetime
    revision: int = 1
    source: str = ""


# --- monitoring -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDrift:
    """One feature of one window against the reference."""

    feature: str
    test: str
    statistic: float
    p_value: float
    effect: float
    """Shift of the mean in reference standard deviations, or the largest change of a share."""
    low: float | None = None
    high: float | None = None
    """Interval of the effect at the level of its test; None where the test has none."""
    scale: int = 1
    """How many windows were taken together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowEvaluated(Event):
    """A window of predictions is closed and was compared with the reference."""

    TYPE = "tidewheel.window.evaluated.v1"
    KEY = "model"

    model: ModelName
    version: int
    window: int
    rows: int
    started_at: datetime
    ended_at: datetime
    drifted: bool
    alpha: float
    features: tuple[FeatureDrift, ...]
    """Worst first."""
    detail: str
    tier: Literal["", "clean", "warning", "critical", "insufficient"] = ""
    """Empty in events from before there were tiers."""
    mode: Literal["", "block", "independent", "insufficient"] = ""
    """How chance was calibrated."""
    scales: tuple[int, ...] = ()
    """The numbers of windows that were taken together and tested, each by itself."""
    family_p: float | None = None
    reference: Digest | None = None
    counts: Digest | None = None
    """Digests of the profile, a blob, and of the window's sketch, which the monitor keeps with the
    window: it works the verdict out again from them and the sketches before, bit for bit."""
    invalid: int = 0
    """Values of a wrong type; they count as missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftDetected(Event):
    """The inputs or answers differ from the reference by more than chance allows."""

    TYPE = "tidewheel.drift.detected.v1"
    KEY = "model"

    model: ModelName
    version: int
    window: int
    severity: Literal["warning", "critical"]
    features: tuple[FeatureDrift, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftCleared(Event):
    """Inputs and answers look like the reference again."""

    TYPE = "tidewheel.drift.cleared.v1"
    KEY = "model"

    model: ModelName
    version: int
    window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityMeasured(Event):
    """How wrong the answers of a window were, as far as labels have come."""

    TYPE = "tidewheel.quality.measured.v1"
    KEY = "model"

    model: ModelName
    version: int
    window: int
    metric: str
    value: float | None
    """None where it is censored."""
    labels: int
    completeness: float
    """Labels over predictions of the window, 0 to 1."""
    reference: float | None
    """The same metric on the held-out rows at registration."""
    baseline: float | None
    """The same metric of the baseline rule on the same rows."""
    state: Literal["provisional", "final", "censored"] = "provisional"
    """Censored: too few labels in some band of scores for a point to be honest."""
    expected: float | None = None
    """The completeness that the delays of labels let expect at this age, 0 to 1."""
    known_at: datetime | None = None
    low: float | None = None
    high: float | None = None
    """Interval of `value`."""
    revision: int = 1
    """Counts what was said about this window; the highest one is what is known."""
    estimated: float | None = None
    """What the scores alone let expect of the labelled rows."""
    gap_low: float | None = None
    gap_high: float | None = None
    """Interval of the mean loss less what scores let expect; without 0 in it, answers changed where
    scores look the same."""
    rule: Literal["", "better", "worse", "unclear"] = ""
    """Beside the baseline rule on the same rows; empty where it cannot be said."""
    value_is: str = ""
    """What `value` and its like are: `error_rate` where the metric is accuracy, otherwise the
    metric itself; lower is better. Empty in events from before it was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatedMetric:
    """One more metric of the same estimate; here higher is better."""

    metric: str
    value: float
    low: float
    high: float
    reference: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityEstimated(Event):
    """What the metric of a window would be if scores still mean what they meant; no label used."""

    TYPE = "tidewheel.quality.estimated.v1"
    KEY = "model"

    model: ModelName
    version: int
    window: int
    metric: str
    value: float
    low: float
    high: float
    reference: float
    """The same estimate on the held-out rows."""
    others: tuple[EstimatedMetric, ...] = ()
    """For two classes: roc_auc, accuracy, f1, precision and recall, as far as they exist."""
    value_is: str = ""
    """As in `QualityMeasured`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityDegraded(Event):
    """The answers have become worse than they were on the held-out rows."""

    TYPE = "tidewheel.quality.degraded.v1"
    KEY = "model"

    model: ModelName
    version: int
    window: int
    metric: str
    value: float
    reference: float
    bound: float
    """The value that chance would not have exceeded."""
    labels: int
    by: Literal["window", "detector", "rule"] = "window"
    """What said so: the test of a window, the running detector on losses, or the comparison with
    the baseline rule, whose value is then the reference."""
    evidence: float | None = None
    """Of the detector: how many times its expectation under no change."""
    detail: str = ""
    value_is: str = ""
    """As in `QualityMeasured`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedLoss:
    """Champion and challenger on the same request: one was seen, the other a shadow."""

    prediction: str
    champion: float
    challenger: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmLoss:
    """The loss of one answer of one arm."""

    prediction: str
    entity: str | None
    role: Literal["champion", "challenger"]
    weight: float
    """The challenger's share of requests when it answered."""
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LossesObserved(Event):
    """Labels have come for a model with two arms; each answer is told once, at its first label."""

    TYPE = "tidewheel.losses.observed.v1"
    KEY = "model"

    model: ModelName
    champion: int
    challenger: int
    metric: str
    pairs: tuple[PairedLoss, ...]
    singles: tuple[ArmLoss, ...]
    """At most 500 of both in one event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRecovered(Event):
    """The answers are as good as on the held-out rows again."""

    TYPE = "tidewheel.quality.recovered.v1"
    KEY = "model"

    model: ModelName
    version: int
    window: int
    metric: str
    value: float
    value_is: str = ""
    """As in `QualityMeasured`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingRequested(Event):
    """The monitor wants a fresh model; the trainer decides."""

    TYPE = "tidewheel.retraining.requested.v1"
    KEY = "model"

    model: ModelName
    version: int
    reason: Literal["drift", "quality"]
    window: int
    detail: str
    windows: tuple[int, ...] = ()
    """The windows that agreed."""
    labels: int | None = None
    """Labelled rows since the champion's training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingWithheld(Event):
    """There was a reason to retrain and a better one not to."""

    TYPE = "tidewheel.retraining.withheld.v1"
    KEY = "model"

    model: ModelName
    version: int
    reason: Literal[
        "cool_down",
        "not_confirmed",
        "trigger_off",
        "budget",
        "brake",
        "no_labels",
        "duplicate",
        "transient",
    ]
    window: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakeSet(Event):
    """So many models changed at once that the cause is likely upstream of all: nothing retrains."""

    TYPE = "tidewheel.brake.set.v1"
    KEY = "scope"

    scope: str
    """`fleet`, or `dataset/` and the name of the source that the models share."""
    confirmed: int
    watched: int
    models: tuple[ModelName, ...]
    """Some of them, at most 50."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakeLifted(Event):
    """Models of this scope may be retrained again."""

    TYPE = "tidewheel.brake.lifted.v1"
    KEY = "scope"

    scope: str
    by: str
    """A person, or `tidewheel` when it ended by itself."""
    reason: Literal["released", "over", "new_regime"]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackAdvised(Event):
    """During a passing disturbance the champion is worse than what is below it on the ladder."""

    TYPE = "tidewheel.fallback.advised.v1"
    KEY = "model"

    model: ModelName
    version: int
    window: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackEnded(Event):
    """The champion may answer again."""

    TYPE = "tidewheel.fallback.ended.v1"
    KEY = "model"

    model: ModelName
    version: int
    window: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationProposed(Event):
    """The monitor takes a period for abnormal; nothing is left out before somebody says so."""

    TYPE = "tidewheel.annotation.proposed.v1"
    KEY = "model"

    model: ModelName
    version: int
    dataset: DatasetName
    starts_at: datetime
    ends_at: datetime
    tag: Literal["transient", "corrupt", "new_regime"]
    windows: tuple[int, ...]
    evidence: tuple[UUID, ...]
    """Ids of the verdicts that it rests on."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataQualityAlarmed(Event):
    """What a model is asked with is not what it was made for, or it is older than allowed."""

    TYPE = "tidewheel.data-quality.alarmed.v1"
    KEY = "model"

    model: ModelName
    version: int
    kind: Literal["schema", "missing", "range", "unseen", "stale"]
    window: int | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataQualityCleared(Event):
    """An alarm about data or age is over."""

    TYPE = "tidewheel.data-quality.cleared.v1"
    KEY = "model"

    model: ModelName
    version: int
    kind: Literal["schema", "missing", "range", "unseen", "stale"]
    window: int | None


# --- requests (many writers: signed, and checked by whoever decides) ---------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalGiven(Event):
    """Somebody approves or denies; it is no approval before the deployer has checked it."""

    TYPE = "tidewheel.approval.given.v1"
    KEY = "model"

    model: ModelName
    rollout: RolloutId
    version: int
    manifest: Digest
    granted: bool
    by: str
    comment: str = ""
    evaluation: UUID | None = None
    """The verdict that was looked at; a later one needs a new approval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackRequested(Event):
    """Somebody wants a former champion back."""

    TYPE = "tidewheel.rollback.requested.v1"
    KEY = "model"

    model: ModelName
    by: str
    reason: str
    to: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BestRequested(Event):
    """Somebody wants the best registered version by this metric to be rolled out."""

    TYPE = "tidewheel.best.requested.v1"
    KEY = "model"

    model: ModelName
    metric: str
    by: str
    reason: str


# --- audit ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditAnchored(Event):
    """The chained log had this head; a log without it was cut or changed."""

    TYPE = "tidewheel.audit.anchored.v1"
    KEY = "log"

    log: str
    position: int
    chain: Digest


# --- dead letters ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class EventParked(Event):
    """An event was set aside with its reason; later ones of its subject wait behind it."""

    TYPE = "tidewheel.event.parked.v1"
    KEY = "parked_subject"

    parked_subject: str
    service: str
    consumer: str
    topic: str
    partition: int
    offset: int
    event: str
    event_sequence: int | None
    failure: str
    reason: str
    trace: str
    payload: str
    """The record as it came, base64."""
    headers: Mapping[str, str] = field(default_factory=dict)


ALL: tuple[type[Event], ...] = tuple(
    kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
)
BY_TYPE: Mapping[str, type[Event]] = {kind.TYPE: kind for kind in ALL}
