"""Every event in words, and which of them tell why a model is what it is."""

from typing import Final

from services.registry.lineage.rollouts import of_approval, of_rollout, of_window
from services.registry.lineage.verdicts import of_verdict
from services.registry.lineage.watching import of_monitoring, of_serving
from shared.events import (
    AnchorMoved,
    AnchorRetired,
    AnnotationProposed,
    ApprovalDenied,
    ApprovalExpired,
    ApprovalGranted,
    ApprovalRequested,
    ApprovalWithdrawn,
    BatchFailed,
    BatchPredicted,
    BestRefused,
    BrakeLifted,
    CandidateSuperseded,
    DataQualityAlarmed,
    DatasetAnnotated,
    DatasetOffered,
    DatasetPublished,
    DatasetRefused,
    DeploymentRolledBack,
    DriftDetected,
    EvaluationCompleted,
    Event,
    FallbackAdvised,
    FallbackEnded,
    FreezeDeclared,
    FreezeLifted,
    ModelDefined,
    ModelPromoted,
    ModelRegistered,
    QualityDegraded,
    RequestRefused,
    RetrainingRequested,
    RetrainingWithheld,
    RolloutAborted,
    RolloutAdvanced,
    RolloutProposed,
    RolloutSuperseded,
    ServingRefused,
    TrainingCompleted,
    TrainingFailed,
    TrainingSkipped,
    TrainingStarted,
    WindowAwaited,
    WindowOverridden,
)

DECISIONS: Final[tuple[type[Event], ...]] = (
    ModelDefined,
    TrainingSkipped,
    TrainingFailed,
    TrainingCompleted,
    CandidateSuperseded,
    ModelRegistered,
    EvaluationCompleted,
    AnchorMoved,
    AnchorRetired,
    BestRefused,
    RolloutProposed,
    ApprovalRequested,
    ApprovalGranted,
    ApprovalDenied,
    ApprovalWithdrawn,
    ApprovalExpired,
    RequestRefused,
    WindowAwaited,
    WindowOverridden,
    RolloutAdvanced,
    ModelPromoted,
    RolloutAborted,
    RolloutSuperseded,
    DeploymentRolledBack,
    ServingRefused,
    DriftDetected,
    QualityDegraded,
    RetrainingRequested,
    RetrainingWithheld,
    FallbackAdvised,
    FallbackEnded,
    AnnotationProposed,
    DataQualityAlarmed,
)
"""What `why` tells of a model; the rest of the log is how it was carried out. Refusals of its data
and freezes that concern it come from other subjects."""

GOVERNANCE: Final[tuple[type[Event], ...]] = (
    DatasetAnnotated,
    BrakeLifted,
    AnchorRetired,
    ApprovalRequested,
    ApprovalGranted,
    ApprovalDenied,
    ApprovalWithdrawn,
    ApprovalExpired,
    RequestRefused,
    BestRefused,
    FreezeDeclared,
    FreezeLifted,
    WindowOverridden,
    ModelPromoted,
    DeploymentRolledBack,
)
"""What an auditor asks for: who allowed, refused, overrode, froze, withdrew and rolled back."""


def sentence(event: Event) -> str:
    """One sentence on what was decided and why."""
    return next((text for tell in _TELLERS if (text := tell(event))), f"{event.TYPE} happened.")


def _of_data(event: Event) -> str:
    match event:
        case DatasetOffered(dataset=dataset, uri=uri):
            return f"A version of {dataset} was offered at {uri}."
        case DatasetPublished(dataset=dataset, version=version, rows=rows):
            return f"Version {version} of {dataset} was published with {rows} rows."
        case DatasetRefused(dataset=dataset, reasons=reasons):
            why = "; ".join(reason.detail for reason in reasons)
            return f"A file for {dataset} was refused: {why}."
        case ModelDefined(dataset=dataset, defined_by=by):
            return f"{by} defined the model on {dataset}."
        case DatasetAnnotated(state=state, tag=tag, by=by, reason=reason):
            span = f"{event.starts_at:%Y-%m-%d %H:%M} to {event.ends_at:%Y-%m-%d %H:%M}"
            return f"{by}: {span} of {event.dataset} is {tag} ({state}), {reason}."
    return ""


def _of_training(event: Event) -> str:
    match event:
        case TrainingStarted(dataset_version=data, attempt=attempt):
            return f"Training on version {data} of the data began, attempt {attempt}."
        case TrainingSkipped(dataset_version=data, reason=reason, detail=detail):
            return f"Version {data} of the data was not trained on ({reason}): {detail}."
        case TrainingFailed(dataset_version=data, attempts=attempts, detail=detail):
            return f"Training on version {data} failed after {attempts} attempts: {detail}."
        case TrainingCompleted(dataset_version=data, use=use, rows_trained=rows):
            why = event.requested_by or event.trigger
            spared = f", {event.rows_left_out} left out by annotations" if event.periods else ""
            return f"{use} was trained on {rows} rows of version {data}{spared}, because of {why}."
        case CandidateSuperseded(dataset_version=data, by_version=version):
            return f"The candidate of version {data} came late: version {version} has newer data."
        case BatchPredicted(version=version, dataset_version=data, rows=rows):
            return (
                f"Version {version} answered the {rows} rows of version {data} of {event.dataset}."
            )
        case BatchFailed(version=version, dataset_version=data, detail=detail):
            return (
                f"Version {version} could not answer version {data} of {event.dataset}: {detail}."
            )
        case ModelRegistered(version=version, dataset_version=data):
            return f"The candidate of version {data} of the data became version {version}."
    return ""


_TELLERS: Final = (
    _of_data,
    _of_training,
    of_verdict,
    of_approval,
    of_window,
    of_rollout,
    of_serving,
    of_monitoring,
)
