"""What serving and the monitor saw, and what was set aside, in words."""

from shared.events import (
    AnnotationProposed,
    AuditAnchored,
    BrakeLifted,
    BrakeSet,
    DataQualityAlarmed,
    DataQualityCleared,
    DriftCleared,
    DriftDetected,
    Event,
    EventParked,
    FallbackAdvised,
    FallbackEnded,
    GroundTruthObserved,
    LossesObserved,
    PredictionsLogged,
    QualityDegraded,
    QualityEstimated,
    QualityMeasured,
    QualityRecovered,
    ReplicaAnnounced,
    RetrainingRequested,
    RetrainingWithheld,
    ServingApplied,
    ServingFellBack,
    ServingMeasured,
    ServingRefused,
    WindowEvaluated,
)
from shared.figures import shown


def of_serving(event: Event) -> str:
    """One sentence; empty for what is none of these."""
    match event:
        case ServingApplied(replica=replica, generation=generation):
            return f"Replica {replica} answers by generation {generation}."
        case ServingRefused(version=version, replica=replica, reason=reason, detail=detail):
            return f"Replica {replica} refused version {version} ({reason}): {detail}."
        case ServingMeasured(replica=replica, arms=arms, seconds=seconds):
            requests = sum(arm.requests for arm in arms)
            return f"Replica {replica} answered {requests} requests in {seconds:.0f} s."
        case ServingFellBack(replica=replica, rung=rung, cause=cause):
            return f"Replica {replica} answers from {rung}: {cause}."
        case ReplicaAnnounced(replica=replica, models=models):
            return f"Replica {replica} is alive with {models} models."
        case PredictionsLogged(replica=replica, batch=batch, rows=rows):
            return f"Replica {replica} answered {len(rows)} rows (batch {batch})."
        case GroundTruthObserved(prediction=prediction, value=value):
            return f"Prediction {prediction} turned out to be {value}."
    return ""


def of_monitoring(event: Event) -> str:
    """One sentence; empty for what is none of these."""
    match event:
        case WindowEvaluated(version=version, window=window, rows=rows, drifted=drifted):
            seen = "differ from" if drifted else "are like"
            return f"The {rows} rows of window {window} of version {version} {seen} the reference."
        case DriftDetected(version=version, window=window, features=features, severity=severity):
            worst = ", ".join(feature.feature for feature in features[:3])
            return f"Inputs of version {version} drifted in window {window} ({severity}): {worst}."
        case DriftCleared(version=version, window=window):
            return f"Inputs of version {version} are like the reference again in window {window}."
        case QualityMeasured(version=version, metric=metric, value=None, labels=labels):
            return f"{shown(metric)} of version {version} cannot be told from {labels} labels yet."
        case QualityMeasured(version=version, metric=metric, value=value, labels=labels):
            return f"{shown(metric)} of version {version} was {value:.4g} over {labels} labels."
        case QualityDegraded():
            return _worsened(event)
        case QualityRecovered(version=version, metric=metric, value=value):
            what = f"{shown(metric)} of version {version}"
            return f"{what} is {value:.4g}, as on the held-out rows again."
        case LossesObserved(champion=champion, challenger=challenger, pairs=pairs, singles=single):
            count = len(pairs) + len(single)
            return f"{count} losses of versions {champion} and {challenger} became known."
        case QualityEstimated(version=version, metric=metric, value=value, window=window):
            what = f"{shown(metric)} of version {version}"
            return f"{what} is estimated as {value:.4g} in window {window}."
    return _of_disturbance(event) or _of_retraining(event)


def _worsened(event: QualityDegraded) -> str:
    what = f"{shown(event.metric)} of version {event.version}"
    if event.by == "detector":
        seen = f"{event.evidence or 0:.3g} times what no change lets expect"
        return f"{what} has worsened: losses add up to {seen}."
    return f"{what} is {event.value:.4g}, above {event.bound:.4g}."


def _of_disturbance(event: Event) -> str:
    match event:
        case DataQualityAlarmed(version=version, kind=kind, detail=detail):
            return f"Data quality of version {version} ({kind}): {detail}."
        case DataQualityCleared(version=version, kind=kind):
            return f"The alarm about {kind} of version {version} is over."
        case BrakeSet(scope=scope, confirmed=confirmed, watched=watched):
            return f"{confirmed} of {watched} models of {scope} changed at once: look upstream."
        case BrakeLifted(scope=scope, by=by, reason=reason):
            return f"{by} lets models of {scope} be retrained again ({reason})."
        case FallbackAdvised(version=version, detail=detail):
            return f"Version {version} is worse than what is below it for now: {detail}."
        case FallbackEnded(version=version, detail=detail):
            return f"Version {version} may answer again: {detail}."
        case AnnotationProposed(dataset=dataset, tag=tag, detail=detail):
            return f"A period of {dataset} looks {tag.replace('_', ' ')}: {detail}."
    return ""


def _of_retraining(event: Event) -> str:
    match event:
        case RetrainingRequested(reason=reason, detail=detail):
            return f"A retraining was asked for because of {reason}: {detail}."
        case RetrainingWithheld(reason=reason, detail=detail):
            return f"A retraining was not asked for ({reason}): {detail}."
        case EventParked(event=parked, service=service, reason=reason):
            return f"{service} set {parked} aside: {reason}."
        case AuditAnchored(log=log, position=position):
            return f"The log of {log} was anchored at position {position}."
    return ""
