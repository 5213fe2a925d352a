"""Every call about data, models and predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from tidewheel.calling import Call, Json, Progress, Row, get, given, post, quoted
from tidewheel.errors import Failure

_FORMATS: Final[Mapping[str, str]] = {
    ".csv": "text/csv",
    ".parquet": "application/vnd.apache.parquet",
}


def publish(
    dataset: str,
    source: str | Path,
    format_: str | None = None,
    progress: Progress | None = None,
) -> Call:
    """A file is uploaded; `root:key` is published by reference."""
    what, path = f"{dataset} is not published", f"/v1/datasets/{quoted(dataset)}/versions"
    file = Path(source)
    if isinstance(source, str) and ":" in source and not file.exists():
        body: Json = {"uri": source, **({"format": format_} if format_ else {})}
        return post("registry", path, what, body)
    if not file.is_file():
        raise Failure(what, why=(f"there is no file {file}",), fix="name a CSV or Parquet file")
    kind = _FORMATS.get(f".{format_}" if format_ else file.suffix.lower())
    if kind is None:
        raise Failure(
            what, why=(f"{file.name} is neither CSV nor Parquet",), fix="add --format csv|parquet"
        )
    return Call(
        what=what,
        service="registry",
        method="POST",
        path=path,
        body=file,
        headers={"Content-Type": kind, "Content-Length": str(file.stat().st_size)},
        seconds=600.0,
        progress=progress,
    )


def datasets() -> Call:
    """All datasets."""
    return get("registry", "/v1/datasets", "datasets cannot be listed")


def dataset_versions(dataset: str, limit: int, cursor: str | None) -> Call:
    """The versions of a dataset, newest first."""
    path = f"/v1/datasets/{quoted(dataset)}/versions"
    return get("registry", path, "versions cannot be listed", limit=limit, cursor=cursor)


def apply(spec: Json) -> Call:
    """A model has this specification from now on."""
    return post("registry", "/v1/models", f"{spec.get('name', 'the model')} is not defined", spec)


def models(limit: int, cursor: str | None) -> Call:
    """All models."""
    path, what = "/v1/models", "models cannot be listed"
    return get("registry", path, what, limit=limit, cursor=cursor)


def model(name: str) -> Call:
    """One model."""
    return get("registry", f"/v1/models/{quoted(name)}", f"{name} cannot be shown")


def model_versions(name: str, limit: int, cursor: str | None) -> Call:
    """The versions of a model, newest first."""
    path, what = f"/v1/models/{quoted(name)}/versions", f"versions of {name} cannot be listed"
    return get("registry", path, what, limit=limit, cursor=cursor)


def why(name: str, limit: int) -> Call:
    """The last decisions about a model, each with its event."""
    return get("registry", f"/v1/models/{quoted(name)}/why", f"{name} has no story", limit=limit)


def events(
    subject: str | None,
    type_: str | None,
    after: int | str | None,
    limit: int,
    *,
    newest: bool = False,
    without: str | None = None,
) -> Call:
    """Events in the order in which the registry heard them; `newest` is the last page of them."""
    query = given(subject=subject, type=type_, after=after, limit=limit, without=without)
    if newest:
        query["newest"] = "true"
    return get("registry", "/v1/events", "events cannot be listed", **query)


def outcomes(dataset: str | None, name: str | None) -> Call:
    """What became of each dataset version, per model."""
    what, path = "outcomes cannot be listed", "/v1/outcomes"
    return get("registry", path, what, dataset=dataset, model=name)


def freshness(name: str | None, limit: int, cursor: str | None) -> Call:
    """How long published data waits until it is served: one model, or all."""
    what = "freshness cannot be shown"
    if name is not None:
        return get("registry", f"/v1/models/{quoted(name)}/freshness", what, limit=limit)
    return get("registry", "/v1/freshness", what, limit=limit, cursor=cursor)


def cascade(cascade_id: str) -> Call:
    """Everything that one trigger brought about."""
    return get("registry", f"/v1/cascades/{cascade_id}", "the cascade cannot be shown")


def cascade_events(cascade_id: str, last: str | None) -> Call:
    """The same as it happens, as server-sent events; `last` is the last id that was seen."""
    return Call(
        what="the cascade cannot be watched",
        service="registry",
        method="GET",
        path=f"/v1/cascades/{cascade_id}/events",
        headers={"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})},
    )


def train(name: str) -> Call:
    """A run by hand."""
    return post("trainer", f"/v1/models/{quoted(name)}/train", f"{name} is not trained", {})


def runs(name: str | None, limit: int, cursor: str | None) -> Call:
    """Training runs, newest first."""
    what, path = "runs cannot be listed", "/v1/runs"
    return get("trainer", path, what, model=name, limit=limit, cursor=cursor)


def ask_batch(
    name: str, version: int | None, dataset: str | None, dataset_version: int | None
) -> Call:
    """A version answers a whole dataset version; by default the champion, the newest one."""
    body: Json = given(version=version, dataset=dataset, dataset_version=dataset_version)
    return post("trainer", f"/v1/models/{quoted(name)}/batches", f"{name} answers no batch", body)


def batch(batch_id: str) -> Call:
    """How far a batch is, or what came of it."""
    return get("trainer", f"/v1/batches/{quoted(batch_id)}", "the batch cannot be shown")


def batches(name: str, limit: int, cursor: str | None) -> Call:
    """The batches of a model, newest first."""
    path, what = f"/v1/models/{quoted(name)}/batches", f"batches of {name} cannot be listed"
    return get("trainer", path, what, limit=limit, cursor=cursor)


def batch_output(batch_id: str) -> Call:
    """The file of answers."""
    path = f"/v1/batches/{quoted(batch_id)}/output"
    call = get("trainer", path, "the answers cannot be fetched")
    return replace(call, seconds=600.0)


def verdicts(name: str, limit: int) -> Call:
    """Verdicts about a model, newest first."""
    path = f"/v1/models/{quoted(name)}/verdicts"
    return get("evaluator", path, f"verdicts on {name} cannot be listed", limit=limit)


def deployments() -> Call:
    """The desired state of every endpoint."""
    return get("deployer", "/v1/deployments", "deployments cannot be listed")


def deployment(name: str) -> Call:
    """Champion, rollout, arms, ladder and replicas of one endpoint."""
    path = f"/v1/models/{quoted(name)}/deployment"
    return get("deployer", path, f"the deployment of {name} cannot be shown")


def rollouts(name: str, limit: int) -> Call:
    """Rollouts of a model, newest first."""
    path = f"/v1/models/{quoted(name)}/rollouts"
    return get("deployer", path, f"rollouts of {name} cannot be listed", limit=limit)


def roll_back(name: str, reason: str, version: int | None) -> Call:
    """An earlier version becomes the champion again."""
    body: Json = {"reason": reason, **({"version": version} if version is not None else {})}
    path = f"/v1/models/{quoted(name)}/rollback"
    return post("deployer", path, f"{name} is not rolled back", body)


def predict(name: str, rows: Sequence[Row], *, explain: bool = False) -> Call:
    """Answers for one row or many."""
    return Call(
        what=f"{name} gives no prediction",
        service="serving",
        method="POST",
        path=f"/v1/models/{quoted(name)}/predict",
        query={"explain": "true"} if explain else {},
        body={"rows": [dict(row) for row in rows]},
        repeatable=False,
    )


def explain(name: str, rows: Sequence[Row]) -> Call:
    """What answers to these rows are made of."""
    return Call(
        what=f"{name} is not explained",
        service="serving",
        method="POST",
        path=f"/v1/models/{quoted(name)}/explain",
        body={"rows": [dict(row) for row in rows]},
        seconds=90.0,
    )


def feedback(name: str, observations: Sequence[Row]) -> Call:
    """What really happened; an observation that comes again counts once."""
    body: Json = {"model": name, "observations": [dict(one) for one in observations]}
    return post("serving", "/v1/feedback", f"the ground truth for {name} is not taken", body)


def drift(
    name: str, what: str, limit: int, version: int | None = None, cursor: str | None = None
) -> Call:
    """`drift`, `quality` or `windows` of a model, or of one version of it."""
    path, sorry = f"/v1/models/{quoted(name)}/{what}", f"the {what} of {name} cannot be shown"
    query = given(limit=limit, version=version, cursor=cursor)
    return get("drift_monitor", path, sorry, **query)


def replayed_window(
    name: str, version: int, window: int, alpha: float | None, shift: float | None
) -> Call:
    """The verdict about a window once more, by its own rules or by others."""
    path = f"/v1/models/{quoted(name)}/versions/{version}/windows/{window}/replay"
    what = f"the verdict about window {window} is not computed again"
    return get("drift_monitor", path, what, **given(alpha=alpha, shift=shift))


def picture(
    name: str, what: str, version: int | None, feature: str | None, window: int | None = None
) -> Call:
    """What the monitor saw, as SVG: `drift`, `quality`, or the `distribution` of a feature."""
    path = f"/v1/models/{quoted(name)}/pictures/{what}.svg"
    query = given(version=version, feature=feature, window=window)
    return get("drift_monitor", path, f"{name} cannot be pictured", **query)


def ask_report(name: str, version: int | None, window: int | None) -> Call:
    """A report about a window, the newest one by default."""
    body: Json = given(version=version, window=window)
    path = f"/v1/models/{quoted(name)}/reports"
    return post("drift_monitor", path, f"no report of {name} is drawn", body)


def report(report_id: str) -> Call:
    """How a report stands."""
    return get("drift_monitor", f"/v1/reports/{quoted(report_id)}", "the report cannot be shown")


def report_page(report_id: str) -> Call:
    """A finished report as HTML."""
    path, what = f"/v1/reports/{quoted(report_id)}/html", "the report cannot be fetched"
    return replace(get("drift_monitor", path, what), seconds=180.0)


def served(name: str) -> Call:
    """How serving answers for a model, and the columns that it takes."""
    return get("serving", f"/v1/models/{quoted(name)}", f"{name} cannot be shown as it is served")


def dead_letters(service: str, limit: int = 100) -> Call:
    """Events that a service set aside."""
    what = f"dead letters of {service} cannot be listed"
    return get(service, "/v1/dead-letters", what, limit=limit)


def retry_dead_letters(service: str, topic: str, subject: str) -> Call:
    """Handle the parked events of a subject again, in order."""
    body: Json = {"topic": topic, "subject": subject}
    what = f"dead letters of {service} are not retried"
    return post(service, "/v1/dead-letters/retry", what, body)
