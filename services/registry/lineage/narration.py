"""The decisions about a model, in words."""

from typing import Final

from shared.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    CandidateSuperseded,
    DatasetPublished,
    DatasetRefused,
    DeploymentRolledBack,
    DriftDetected,
    EvaluationCompleted,
    Event,
    Gate,
    ModelDefined,
    ModelPromoted,
    ModelRegistered,
    QualityDegraded,
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
    WindowAwaited,
)

DECISIONS: Final[tuple[type[Event], ...]] = (
    DatasetRefused,
    ModelDefined,
    TrainingSkipped,
    TrainingFailed,
    TrainingCompleted,
    CandidateSuperseded,
    ModelRegistered,
    EvaluationCompleted,
    RolloutProposed,
    ApprovalRequested,
    ApprovalGranted,
    ApprovalDenied,
    WindowAwaited,
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
)
"""What `why` tells of; the rest of the log is how it was carried out."""


def sentence(event: Event) -> str:
    """One sentence on what was decided and why."""
    tellers = (_of_data, _of_training, _of_approval, _of_rollout, _of_watching)
    return next((text for tell in tellers if (text := tell(event))), f"{event.TYPE} happened.")


def _of_data(event: Event) -> str:
    match event:
        case DatasetPublished(dataset=dataset, version=version, rows=rows):
            return f"Version {version} of {dataset} was published with {rows} rows."
        case DatasetRefused(dataset=dataset, reasons=reasons):
            why = "; ".join(reason.detail for reason in reasons)
            return f"A file for {dataset} was refused: {why}."
        case ModelDefined(dataset=dataset, defined_by=by):
            return f"{by} defined the model on {dataset}."
    return ""


def _of_training(event: Event) -> str:
    match event:
        case TrainingSkipped(dataset_version=data, reason=reason, detail=detail):
            return f"Version {data} of the data was not trained on ({reason}): {detail}."
        case TrainingFailed(dataset_version=data, attempts=attempts, detail=detail):
            return f"Training on version {data} failed after {attempts} attempts: {detail}."
        case TrainingCompleted(dataset_version=data, use=use, trigger=trigger, rows_trained=rows):
            return f"{use} was trained on {rows} rows of version {data}, because of {trigger}."
        case CandidateSuperseded(dataset_version=data, by_version=version):
            return f"The candidate of version {data} came late: version {version} has newer data."
        case ModelRegistered(version=version, dataset_version=data):
            return f"The candidate of version {data} of the data became version {version}."
        case EvaluationCompleted(version=version, accepted=True, gates=gates):
            return f"Version {version} was accepted: {_told(gates)}."
        case EvaluationCompleted(version=version, reason=reason, gates=gates):
            return f"Version {version} was rejected ({reason}): {_told(gates)}."
    return ""


def _told(gates: tuple[Gate, ...]) -> str:
    return "; ".join(map(_gate, gates)) or "no gate could be judged"


def _gate(gate: Gate) -> str:
    verdict = "passed" if gate.passed else "failed"
    if gate.estimate is None:
        return f"{gate.metric} against {gate.versus} {verdict} ({gate.detail})"
    ends = ", ".join("none" if end is None else f"{end:+.4g}" for end in (gate.lower, gate.upper))
    margin = f", margin {gate.margin:.4g}" if gate.versus == "champion" else ""
    return (
        f"{gate.metric} against {gate.versus} {verdict}: {gate.estimate:+.4g} "
        f"[{ends}] at {gate.confidence:.0%}{margin}, {gate.rows} rows"
    )


def _of_approval(event: Event) -> str:
    match event:
        case RolloutProposed(version=version):
            return f"Version {version} is on its way to answer."
        case ApprovalRequested(version=version):
            return f"Version {version} waits for a person's approval."
        case ApprovalGranted(version=version, by=by, comment=comment):
            return f"{by} approved version {version}: {comment or 'no comment'}."
        case ApprovalDenied(version=version, by=by, comment=comment):
            return f"{by} denied version {version}: {comment or 'no comment'}."
        case WindowAwaited(version=version, opens_at=opens_at):
            return f"Version {version} waits until changes are allowed, {opens_at:%a %d %b %H:%M}."
    return ""


def _of_rollout(event: Event) -> str:
    match event:
        case RolloutAdvanced(version=version, weight=weight):
            return f"Version {version} answers {weight:.0%} of the requests."
        case ModelPromoted(version=version, previous=None):
            return f"Version {version} became the first champion."
        case ModelPromoted(version=version, previous=previous):
            return f"Version {version} became champion in place of version {previous}."
        case RolloutAborted(version=version, reason=reason, detail=detail):
            return f"The rollout of version {version} ended ({reason}): {detail}."
        case RolloutSuperseded(version=version, by_version=newer):
            return f"The rollout of version {version} gave way to version {newer}."
        case DeploymentRolledBack(from_version=old, to_version=new, by=by, reason=reason):
            target = f"version {new}" if new is not None else "the baseline rule"
            return f"{by} rolled version {old} back to {target}: {reason}."
    return ""


def _of_watching(event: Event) -> str:
    match event:
        case ServingRefused(version=version, replica=replica, reason=reason, detail=detail):
            return f"Replica {replica} refused version {version} ({reason}): {detail}."
        case DriftDetected(version=version, window=window, features=features, severity=severity):
            worst = ", ".join(feature.feature for feature in features[:3])
            return f"Inputs of version {version} drifted in window {window} ({severity}): {worst}."
        case QualityDegraded(version=version, metric=metric, value=value, bound=bound):
            return f"{metric} of version {version} is {value:.4g}, above {bound:.4g}."
        case RetrainingRequested(reason=reason, detail=detail):
            return f"A retraining was asked for because of {reason}: {detail}."
        case RetrainingWithheld(reason=reason, detail=detail):
            return f"A retraining was not asked for ({reason}): {detail}."
    return ""
