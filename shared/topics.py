"""Every topic, declared once: who writes it, who reads it, how long it is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared import events as e
from shared.events import Event

SERVICES: Final = ("registry", "trainer", "evaluator", "deployer", "serving", "drift_monitor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic and its rules.

    Attributes:
        name: on the wire, before any prefix.
        writer: the one service that writes it, or a word for the outsiders who may.
        types: what may be said on it.
        readers: the services that subscribe to it.
        sequenced: whether its events carry their position per subject; false where many write.
        partitions: 12 for facts, 24 for streams.
        retention: None keeps history for ever.
        retention_bytes: cap per partition; None means no cap.
        outsiders: whether others than our services write it, so that a record may be anything, has
            no order to keep, and may stop nobody.
        signed: whether its events prove by a signature who said them.
    """

    name: str
    writer: str
    types: tuple[type[Event], ...]
    readers: tuple[str, ...]
    sequenced: bool = True
    partitions: int = 12
    retention: timedelta | None = None
    retention_bytes: int | None = None
    outsiders: bool = False
    signed: bool = False


OFFERS: Final = Topic(
    name="tidewheel.offers.v1",
    writer="producers",
    types=(e.DatasetOffered,),
    readers=("registry",),
    sequenced=False,
    outsiders=True,
)
DATASETS: Final = Topic(
    name="tidewheel.datasets.v1",
    writer="registry",
    types=(e.DatasetPublished, e.DatasetRefused, e.DatasetAnnotated),
    readers=("registry", "trainer", "deployer", "drift_monitor"),
)
MODELS: Final = Topic(
    name="tidewheel.models.v1",
    writer="registry",
    types=(e.ModelDefined, e.ModelRegistered, e.CandidateSuperseded),
    readers=("registry", "trainer", "evaluator", "deployer", "drift_monitor"),
)
TRAINING: Final = Topic(
    name="tidewheel.training.v1",
    writer="trainer",
    types=(
        e.TrainingStarted,
        e.TrainingCompleted,
        e.TrainingFailed,
        e.TrainingSkipped,
        e.BatchPredicted,
        e.BatchFailed,
    ),
    readers=("registry", "drift_monitor"),
)
EVALUATION: Final = Topic(
    name="tidewheel.evaluation.v1",
    writer="evaluator",
    types=(e.EvaluationCompleted, e.AnchorMoved, e.AnchorRetired, e.BestRefused),
    readers=("registry", "deployer", "drift_monitor"),
)
DEPLOYMENT: Final = Topic(
    name="tidewheel.deployment.v1",
    writer="deployer",
    types=(
        e.RolloutProposed,
        e.ApprovalRequested,
        e.ApprovalGranted,
        e.ApprovalDenied,
        e.ApprovalWithdrawn,
        e.ApprovalExpired,
        e.RequestRefused,
        e.FreezeDeclared,
        e.FreezeLifted,
        e.WindowOverridden,
        e.WindowAwaited,
        e.DeploymentDesired,
        e.RolloutAdvanced,
        e.ModelPromoted,
        e.RolloutAborted,
        e.DeploymentRolledBack,
        e.RolloutSuperseded,
    ),
    readers=("registry", "trainer", "evaluator", "serving", "drift_monitor"),
)
SERVING: Final = Topic(
    name="tidewheel.serving.v1",
    writer="serving",
    types=(
        e.ServingApplied,
        e.ServingRefused,
        e.ServingMeasured,
        e.ServingFellBack,
        e.ReplicaAnnounced,
    ),
    readers=("registry", "deployer"),
    sequenced=False,
    retention=timedelta(days=30),
    retention_bytes=2**30,
)
PREDICTIONS: Final = Topic(
    name="tidewheel.predictions.v1",
    writer="serving",
    types=(e.PredictionsLogged,),
    readers=("drift_monitor",),
    sequenced=False,
    partitions=24,
    retention=timedelta(days=7),
    retention_bytes=2**32,
)
FEEDBACK: Final = Topic(
    name="tidewheel.feedback.v1",
    writer="producers and serving's feedback door",
    types=(e.GroundTruthObserved,),
    readers=("drift_monitor",),
    sequenced=False,
    outsiders=True,
    partitions=24,
    retention=timedelta(days=7),
    retention_bytes=2**32,
)
MONITORING: Final = Topic(
    name="tidewheel.monitoring.v1",
    writer="drift_monitor",
    types=(
        e.WindowEvaluated,
        e.DriftDetected,
        e.DriftCleared,
        e.QualityMeasured,
        e.QualityDegraded,
        e.LossesObserved,
        e.QualityRecovered,
        e.RetrainingRequested,
        e.RetrainingWithheld,
        e.QualityEstimated,
        e.BrakeSet,
        e.BrakeLifted,
        e.FallbackAdvised,
        e.FallbackEnded,
        e.AnnotationProposed,
        e.DataQualityAlarmed,
        e.DataQualityCleared,
    ),
    readers=("registry", "trainer", "deployer"),
)
REQUESTS: Final = Topic(
    name="tidewheel.requests.v1",
    writer="registry and outside tools, each request signed",
    types=(e.ApprovalGiven, e.RollbackRequested, e.BestRequested),
    readers=("registry", "deployer", "evaluator"),
    sequenced=False,
    retention=timedelta(days=30),
    outsiders=True,
    signed=True,
)
AUDIT: Final = Topic(
    name="tidewheel.audit.v1",
    writer="registry",
    types=(e.AuditAnchored,),
    readers=("registry",),
    partitions=1,
)


def dead_letters_of(service: str) -> Topic:
    """Where a service puts a copy of every event that it set aside."""
    return Topic(
        name=f"tidewheel.{service}.dead-letters.v1",
        writer=service,
        types=(e.EventParked,),
        readers=("registry",),
        sequenced=False,
        partitions=1,
        retention=timedelta(days=30),
    )


DEAD_LETTERS: Final[Mapping[str, Topic]] = {name: dead_letters_of(name) for name in SERVICES}

ALL: Final[tuple[Topic, ...]] = (
    OFFERS,
    DATASETS,
    MODELS,
    TRAINING,
    EVALUATION,
    DEPLOYMENT,
    SERVING,
    PREDICTIONS,
    FEEDBACK,
    MONITORING,
    REQUESTS,
    AUDIT,
    *DEAD_LETTERS.values(),
)
BY_NAME: Final[Mapping[str, Topic]] = {topic.name: topic for topic in ALL}

_OF_TYPE: Final[Mapping[type[Event], Topic]] = {
    kind: topic
    for topic in ALL
    if topic.name not in {t.name for t in DEAD_LETTERS.values()}
    for kind in topic.types
}


def topic_of(kind: type[Event], service: str = "") -> Topic:
    """The topic on which this kind of event is said; dead letters have one per service."""
    if kind is e.EventParked:
        return DEAD_LETTERS[service]
    return _OF_TYPE[kind]
