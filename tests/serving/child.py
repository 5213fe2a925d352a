"""Serving as a process of its own, and what it said on a real broker."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import httpx

from local.paths import CHECKOUT
from services.serving.settings import Settings
from shared.broker import TopicPartition, close_consumer, make_consumer
from shared.codec import decode
from shared.events import Event, Heard, PredictionsLogged
from shared.topics import Topic
from tests.serving.building import FLOW, KEY, environment_of

A_ROW = {"load": 1.0, "hour": 3, "lag": 0.5}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Child:
    """`python -m services.serving.app`, killed with whoever made it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.model_copy(update={"port": free_port(), "admin_port": free_port()})
        self.log = settings.data.parent / "serving.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.settings.port}",
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=20,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def start(self, *, fault: str = "", until: Callable[[], bool] | None = None) -> Self:
        told = {name: value for name, value in os.environ.items() if "TIDEWHEEL" not in name}  # noqa: TID251
        told |= environment_of(self.settings) | {"TIDEWHEEL_SERVING_FAULT": fault}
        told["TIDEWHEEL_SERVING_ENVIRONMENT"] = "test"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.serving.app"], cwd=CHECKOUT, env=told, stderr=log
            )
        self.wait(until or self.is_ready)
        return self

    def wait(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain; log: {self.log.read_text()[-3000:]}")
            time.sleep(0.02)

    def is_ready(self) -> bool:
        try:
            return self.http.get("/ready").status_code == 200
        except httpx.TransportError:
            return False

    def is_gone(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def serves(self, generation: int, model: str = FLOW) -> bool:
        try:
            shown = self.http.get(f"/v1/models/{model}")
        except httpx.TransportError:
            return False
        return shown.status_code == 200 and shown.json()["generation"] == generation

    def ask(self, rows: Sequence[Mapping[str, Any]] = (A_ROW,)) -> list[dict[str, Any]]:
        response = self.http.post(f"/v1/models/{FLOW}/predict", json={"rows": list(rows)})
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()["predictions"]
        return found

    def ask_until_gone(self, most: int = 5_000) -> list[str]:
        """Ids of the answers that arrived before the process died."""
        ids: list[str] = []
        for _ in range(most):
            try:
                ids += [answer["prediction_id"] for answer in self.ask()]
            except httpx.TransportError:
                break
        self.wait(self.is_gone)
        return ids

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> tuple[int, float]:
        """SIGTERM; the exit code and how long it took."""
        assert self.process is not None
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        return code, time.monotonic() - started


async def heard_on(
    kafka: str,
    prefix: str,
    topic: Topic,
    is_enough: Callable[[list[Heard[Event]]], bool],
    seconds: float = 60.0,
) -> list[Heard[Event]]:
    """Everything on a topic, from its beginning, until it is enough."""
    consumer = make_consumer(kafka)
    heard: list[Heard[Event]] = []
    try:
        await consumer.start()
        await consumer._client._wait_on_metadata(prefix + topic.name)
        numbers = consumer.partitions_for_topic(prefix + topic.name)
        consumer.assign([TopicPartition(prefix + topic.name, number) for number in numbers])
        async with asyncio.timeout(seconds):
            while not is_enough(heard):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    heard += [decode(record.value, record.headers) for record in records]
    finally:
        await close_consumer(consumer)
    return heard


def of_kind(heard: Sequence[Heard[Event]], kind: type[Event]) -> list[Any]:
    return [one.event for one in heard if isinstance(one.event, kind)]


def logged_ids(heard: Sequence[Heard[Event]]) -> dict[str, set[int]]:
    """Prediction id to the numbers of the batches that hold it.

    A batch that came twice must be the same both times; readers count its number once.
    """
    batches: dict[int, PredictionsLogged] = {}
    found: dict[str, set[int]] = defaultdict(set)
    for event in of_kind(heard, PredictionsLogged):
        assert batches.setdefault(event.batch, event) == event
        for row in event.rows:
            found[row.id].add(event.batch)
    return found
