"""Every call about abnormal periods and about brakes."""

from collections.abc import Sequence

from tidewheel.calling import Call, Json, get, given, post, quoted


def annotations(dataset: str, state: str | None, limit: int) -> Call:
    """What was said of periods of a dataset, and what the monitor suggests."""
    path = f"/v1/datasets/{quoted(dataset)}/annotations"
    what = f"annotations of {dataset} cannot be listed"
    return get("registry", path, what, state=state, limit=limit)


def annotate(
    dataset: str,
    reason: str,
    *,
    tag: str | None = None,
    starts_at: str | None = None,
    ends_at: str | None = None,
    column: str | None = None,
    models: Sequence[str] = (),
    evidence: Sequence[str] = (),
    proposal: str | None = None,
) -> Call:
    """Say what a period is; what is not given comes from a proposal of the monitor."""
    body: Json = {"reason": reason, "models": list(models), "evidence": list(evidence)}
    body |= given(tag=tag, starts_at=starts_at, ends_at=ends_at, column=column, proposal=proposal)
    path = f"/v1/datasets/{quoted(dataset)}/annotations"
    return post("registry", path, f"nothing is said of {dataset}", body)


def decide_annotation(dataset: str, annotation: str, verb: str, reason: str) -> Call:
    """`approve` or `decline` what waits for a second person, `lift` what is active."""
    path = f"/v1/datasets/{quoted(dataset)}/annotations/{quoted(annotation)}/{verb}"
    return post("registry", path, f"the annotation stays as it is ({verb})", {"reason": reason})


def brakes(limit: int) -> Call:
    """Brakes that keep models from being retrained, those that are set first."""
    return get("drift_monitor", "/v1/brakes", "brakes cannot be listed", limit=limit)


def release(scope: str, reason: str) -> Call:
    """The models of a brake may be retrained again."""
    body: Json = {"scope": scope, "reason": reason}
    return post("drift_monitor", "/v1/brakes/release", f"the brake of {scope} stays", body)
