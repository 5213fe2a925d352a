"""All six services over the broker and the database of this run, and hands to use them with."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from local.services import Services
from tests.support.waiting import NeverHappened, wait_until

T = TypeVar("T")
PATIENCE_SECONDS = 120.0


def until(condition: Callable[[], T | None], *, what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """The first answer of `condition` that is not None or false.

    Raises:
        NeverHappened: there was none in time; the message names what was waited for.
    """
    return wait_until(condition, what=what, timeout_seconds=seconds)


@dataclass
class House:
    """The services of one test run.

    Attributes:
        services: started, each on a port of its own.
    """

    services: Services
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(
            headers={"Authorization": f"Bearer {self.services.key}"}, timeout=20
        )

    def close(self) -> None:
        """Let go of the connections."""
        self.http.close()

    def ask(self, service: str, method: str, path: str, **content: Any) -> httpx.Response:
        """One request with the admin's key; connection errors count as 599 while a door is shut."""
        try:
            return self.http.request(method, self.services.url(service) + path, **content)
        except httpx.TransportError as error:
            return httpx.Response(599, text=str(error))

    def get(self, service: str, path: str, **query: Any) -> Any:
        """The JSON of an answer; None unless it is 200."""
        answer = self.ask(service, "GET", path, params=query)
        return answer.json() if answer.status_code == 200 else None

    def define(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Define a model, patiently."""

        def accepted() -> Any:
            answer = self.ask("registry", "POST", "/v1/models", json=spec)
            assert answer.status_code not in (400, 401, 403, 422), answer.text
            return answer.json() if answer.status_code in (200, 201) else None

        return dict(until(accepted, what="the registry to take a definition"))

    def publish(self, dataset: str, csv: str, *, key: str = "") -> dict[str, Any]:
        """Publish a version, patiently; `key` makes repeats safe."""
        headers = {
            "Content-Type": "text/csv",
            "Idempotency-Key": key or f"{dataset}-{zlib.crc32(csv.encode())}",
        }

        def accepted() -> Any:
            path = f"/v1/datasets/{dataset}/versions"
            answer = self.ask("registry", "POST", path, content=csv.encode(), headers=headers)
            assert answer.status_code not in (400, 401, 403, 422), answer.text
            return answer.json() if answer.status_code in (200, 201) else None

        return dict(until(accepted, what=f"the registry to take a version of {dataset}"))

    def events(self, subject: str, *types: str) -> list[dict[str, Any]]:
        """Everything the log says about a subject, in order; only these types if any are named."""
        found: list[dict[str, Any]] = []
        cursor: Any = None
        while True:
            query = {"subject": subject, "limit": 1000} | ({"cursor": cursor} if cursor else {})
            answer = self.get("registry", "/v1/events", **query)
            if answer is None:
                return []
            found += answer["items"]
            cursor = answer["next"]
            if cursor is None:
                break
        wanted = {f"tidewheel.{name}.v1" for name in types}
        return [event for event in found if not wanted or event["type"] in wanted]

    def heard(self, subject: str, event_type: str, count: int = 1) -> list[dict[str, Any]]:
        """The events of one type, once there are `count` of them."""

        def enough() -> list[dict[str, Any]] | None:
            found = self.events(subject, event_type)
            return found if len(found) >= count else None

        try:
            return until(enough, what=f"{count} of {event_type} of {subject}")
        except NeverHappened as error:
            told = [f"{e['type']} {json.dumps(e['data'])[:300]}" for e in self.events(subject)]
            raise AssertionError("\n".join([str(error), *told])) from None

    def predict(self, model: str, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """One prediction; None while there is none."""
        path = f"/v1/models/{model}/predict"
        answer = self.ask("serving", "POST", path, json={"rows": [row]})
        assert answer.status_code < 500 or answer.status_code in (503, 599), answer.text
        if answer.status_code != 200:
            return None
        return dict(answer.json()["predictions"][0])

    def answered_by(self, model: str, version: int, row: Mapping[str, Any]) -> dict[str, Any]:
        """A prediction by this version, once serving has it."""

        def right() -> dict[str, Any] | None:
            found = self.predict(model, row)
            return found if found and found["version"] == version else None

        return until(right, what=f"version {version} of {model} to answer")

    def arm(self, service: str, fault: str) -> int:
        """Restart a service with a fault point for this one life; how often it has started."""
        self.services.configure(service, once=True, FAULT=fault)
        self.services.restart(service)
        return self.services.supervisor.starts(service)

    def rearmed(self, service: str, starts: int) -> None:
        """Wait until a service has died of its fault point and is back."""
        until(
            lambda: self.services.supervisor.starts(service) > starts,
            what=f"{service} to die at its fault point",
        )
        self.services.wait_ready(service)


def a_spec(model: str, dataset: str, **changes: Any) -> dict[str, Any]:
    """A small regression that is promoted whenever it beats its baseline."""
    spec: dict[str, Any] = {
        "apiVersion": "tidewheel/v1",
        "name": model,
        "owner": "team-test",
        "task": "regression",
        "data": {"dataset": dataset, "target": "y"},
        "train": {
            "candidates": [{"use": "sklearn.linear_model.Ridge", "with": {"alpha": 0.1}}],
            "baseline": "median",
        },
        "gates": [{"metric": "mae", "vs": "baseline"}],
        "rollout": {"strategy": "direct"},
        "triggers": {"dataset": "any", "cooldown": "0"},
        "monitor": {"window": 20, "cooldown": "0", "confirm": 1},
    }
    for name, change in changes.items():
        spec[name] = {**spec.get(name, {}), **change} if isinstance(change, dict) else change
    return spec


def some_rows(count: int, *, shift: float = 0.0, start: int = 0) -> str:
    """A CSV in which y is nearly 3a - 2b; the same at every call."""
    lines = ["a,b,y"]
    for i in range(start, start + count):
        a, b = (i * 7919 % 1000) / 500 - 1, (i * 104729 % 1000) / 500 - 1
        noise = ((i * 1299709) % 1000 / 500 - 1) * 0.05
        lines.append(f"{a:.4f},{b:.4f},{3 * a - 2 * b + noise + shift:.5f}")
    return "\n".join(lines) + "\n"


def assert_told_once(events: Iterable[Mapping[str, Any]]) -> None:
    """No event twice, and no gap: per topic and subject the sequences run from 1."""
    sequences: dict[tuple[str, str], list[int]] = {}
    ids: set[str] = set()
    for event in events:
        assert event["id"] not in ids, f"{event['type']} {event['id']} is in the log twice"
        ids.add(event["id"])
        if event["sequence"] is not None:
            sequences.setdefault((event["topic"], event["subject"]), []).append(event["sequence"])
    for subject, found in sequences.items():
        assert sorted(found) == list(range(1, len(found) + 1)), f"{subject}: {sorted(found)}"
