"""Every call that the client knows, as data; the two clients differ only in how they send it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from tidewheel.errors import Failure, of_answer

Json = dict[str, Any]
Row = Mapping[str, Any]
Progress = Callable[[int], None]

_FORMATS = {".csv": "text/csv", ".parquet": "application/vnd.apache.parquet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP call.

    Attributes:
        what: what is not done when it fails, for people.
        body: JSON, or bytes, or a file that is streamed.
        repeatable: whether sending it twice does no harm.
        progress: told how many bytes of a file have left so far.
    """

    what: str
    service: str
    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Json | bytes | Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    seconds: float = 30.0
    progress: Progress | None = None

    def content(self) -> bytes | None:
        """The body, unless it is a file.

        Raises:
            Failure: it holds a number that JSON does not know.
        """
        if not isinstance(self.body, dict):
            return self.body if isinstance(self.body, bytes) else None
        try:
            return json.dumps(self.body, allow_nan=False, default=str).encode()
        except ValueError as error:
            why = f"a value cannot be sent as JSON: {error}"
            raise Failure(self.what, why=(why,), fix="send null for what is unknown") from error

    def all_headers(self, key: str) -> dict[str, str]:
        """The headers to send; a state-changing call gets a key under which it happens once."""
        given = {"Authorization": f"Bearer {key}", **self.headers}
        if isinstance(self.body, dict):
            given["Content-Type"] = "application/json"
        return given


def answer(call: Call, status: int, content: bytes, headers: Mapping[str, str]) -> Json:
    """The JSON of an answer.

    Raises:
        Failure: the service refused, or answered something else.
    """
    try:
        plain: Any = json.loads(content) if content else {}
    except ValueError:
        plain = {"detail": content[:200].decode(errors="replace")}
    found: Json = plain if isinstance(plain, dict) else {"items": plain}
    if status >= 400:
        raise of_answer(call.what, status, found, headers)
    return found


def _get(service: str, path: str, what: str, **query: Any) -> Call:
    given = {name.rstrip("_"): value for name, value in query.items() if value is not None}
    return Call(what=what, service=service, method="GET", path=path, query=given)


def _post(service: str, path: str, what: str, body: Json) -> Call:
    once = {"Idempotency-Key": uuid4().hex}
    return Call(what=what, service=service, method="POST", path=path, body=body, headers=once)


def _name(text: str) -> str:
    return quote(text, safe="/")


def publish(
    dataset: str,
    source: str | Path,
    format_: str | None = None,
    progress: Progress | None = None,
) -> Call:
    """A file is uploaded; `root:key` is published by reference."""
    what, path = f"{dataset} is not published", f"/v1/datasets/{_name(dataset)}/versions"
    file = Path(source)
    if isinstance(source, str) and ":" in source and not file.exists():
        body: Json = {"uri": source, **({"format": format_} if format_ else {})}
        return _post("registry", path, what, body)
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
    return _get("registry", "/v1/datasets", "datasets cannot be listed")


def dataset_versions(dataset: str, limit: int, cursor: str | None) -> Call:
    """The versions of a dataset, newest first."""
    path = f"/v1/datasets/{_name(dataset)}/versions"
    return _get("registry", path, "versions cannot be listed", limit=limit, cursor=cursor)


def apply(spec: Json) -> Call:
    """A model has this specification from now on."""
    return _post("registry", "/v1/models", f"{spec.get('name', 'the model')} is not defined", spec)


def models(limit: int, cursor: str | None) -> Call:
    """All models."""
    path, what = "/v1/models", "models cannot be listed"
    return _get("registry", path, what, limit=limit, cursor=cursor)


def model(name: str) -> Call:
    """One model."""
    return _get("registry", f"/v1/models/{_name(name)}", f"{name} cannot be shown")


def model_versions(name: str, limit: int, cursor: str | None) -> Call:
    """The versions of a model, newest first."""
    path, what = f"/v1/models/{_name(name)}/versions", f"versions of {name} cannot be listed"
    return _get("registry", path, what, limit=limit, cursor=cursor)


def why(name: str, limit: int) -> Call:
    """The last decisions about a model, each with its event."""
    return _get("registry", f"/v1/models/{_name(name)}/why", f"{name} has no story", limit=limit)


def events(subject: str | None, type_: str | None, after: int | str | None, limit: int) -> Call:
    """Events in the order in which the registry heard them."""
    what, path = "events cannot be listed", "/v1/events"
    return _get("registry", path, what, subject=subject, type=type_, after=after, limit=limit)


def outcomes(dataset: str | None, name: str | None) -> Call:
    """What became of each dataset version, per model."""
    what, path = "outcomes cannot be listed", "/v1/outcomes"
    return _get("registry", path, what, dataset=dataset, model=name)


def cascade(cascade_id: str) -> Call:
    """Everything that one trigger brought about."""
    return _get("registry", f"/v1/cascades/{cascade_id}", "the cascade cannot be shown")


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
    return _post("trainer", f"/v1/models/{_name(name)}/train", f"{name} is not trained", {})


def runs(name: str | None, limit: int, cursor: str | None) -> Call:
    """Training runs, newest first."""
    what, path = "runs cannot be listed", "/v1/runs"
    return _get("trainer", path, what, model=name, limit=limit, cursor=cursor)


def verdicts(name: str, limit: int) -> Call:
    """Verdicts about a model, newest first."""
    path = f"/v1/models/{_name(name)}/verdicts"
    return _get("evaluator", path, f"verdicts on {name} cannot be listed", limit=limit)


def deployments() -> Call:
    """The desired state of every endpoint."""
    return _get("deployer", "/v1/deployments", "deployments cannot be listed")


def deployment(name: str) -> Call:
    """Champion, rollout, arms, ladder and replicas of one endpoint."""
    path = f"/v1/models/{_name(name)}/deployment"
    return _get("deployer", path, f"the deployment of {name} cannot be shown")


def rollouts(name: str, limit: int) -> Call:
    """Rollouts of a model, newest first."""
    path = f"/v1/models/{_name(name)}/rollouts"
    return _get("deployer", path, f"rollouts of {name} cannot be listed", limit=limit)


def decide(rollout: str, verb: str, comment: str) -> Call:
    """`approve` or `deny`."""
    path, what = f"/v1/rollouts/{_name(rollout)}/{verb}", f"the rollout is not decided ({verb})"
    return _post("deployer", path, what, {"comment": comment})


def roll_back(name: str, reason: str, version: int | None) -> Call:
    """An earlier version becomes the champion again."""
    body: Json = {"reason": reason, **({"version": version} if version is not None else {})}
    path = f"/v1/models/{_name(name)}/rollback"
    return _post("deployer", path, f"{name} is not rolled back", body)


def predict(name: str, rows: Sequence[Row]) -> Call:
    """Answers for one row or many."""
    return Call(
        what=f"{name} gives no prediction",
        service="serving",
        method="POST",
        path=f"/v1/models/{_name(name)}/predict",
        body={"rows": [dict(row) for row in rows]},
        repeatable=False,
    )


def feedback(name: str, observations: Sequence[Row]) -> Call:
    """What really happened; an observation that comes again counts once."""
    body: Json = {"model": name, "observations": [dict(one) for one in observations]}
    return _post("serving", "/v1/feedback", f"the ground truth for {name} is not taken", body)


def drift(name: str, what: str, limit: int) -> Call:
    """`drift`, `quality` or `windows` of a model."""
    path = f"/v1/models/{_name(name)}/{what}"
    return _get("drift_monitor", path, f"the {what} of {name} cannot be shown", limit=limit)


def dead_letters(service: str) -> Call:
    """Events that a service set aside."""
    return _get(service, "/v1/dead-letters", f"dead letters of {service} cannot be listed")


def retry_dead_letters(service: str, topic: str, subject: str) -> Call:
    """Handle the parked events of a subject again, in order."""
    body: Json = {"topic": topic, "subject": subject}
    what = f"dead letters of {service} are not retried"
    return _post(service, "/v1/dead-letters/retry", what, body)
