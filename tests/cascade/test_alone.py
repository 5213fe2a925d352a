"""Serving answers whatever else is dead: one by one, all at once, and after a restart then."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from local.stack import Infrastructure
from shared.topics import SERVICES
from tests.support.house import House, a_spec, some_rows, until

pytestmark = pytest.mark.real

ROW = {"a": 0.5, "b": -0.5}
OTHERS = tuple(name for name in SERVICES if name != "serving")
RESTART_SECONDS = 5.0
"""From its own disk; the design's goal for a start after a crash."""


@pytest.fixture(scope="module")
def model(house: House) -> str:
    """A model with two versions: the champion and the one before."""
    house.define(a_spec("alone", "alone", triggers={"drift": False, "quality": False}))
    for version in (1, 2):
        house.publish("alone", some_rows(60 + version))
        house.answered_by("alone", version, ROW)
    return "alone"


@contextmanager
def without_broker(infrastructure: Infrastructure) -> Iterator[None]:
    infrastructure.stop_broker()
    try:
        yield
    finally:
        infrastructure.start_broker()


@contextmanager
def without_database(infrastructure: Infrastructure) -> Iterator[None]:
    infrastructure.stop_postgres()
    try:
        yield
    finally:
        infrastructure.start_postgres()


@contextmanager
def without_others(house: House) -> Iterator[None]:
    house.services.stop(*OTHERS)
    try:
        yield
    finally:
        house.services.supervisor.start(*OTHERS)


@contextmanager
def without_store(house: House) -> Iterator[None]:
    """The object store is gone, as a whole and without a word."""
    place = Path(house.services.artifacts.removeprefix("file://"))
    hidden = place.with_name(f"{place.name}-away")
    place.rename(hidden)
    try:
        yield
    finally:
        hidden.rename(place)


class Asking(threading.Thread):
    """Asks without a pause, as clients do, and keeps every answer."""

    def __init__(self, house: House, model: str) -> None:
        super().__init__(daemon=True)
        self._url = f"{house.services.url('serving')}/v1/models/{model}/predict"
        self._headers = {"Authorization": f"Bearer {house.services.key}"}
        self._end = threading.Event()
        self.answers: Counter[tuple[int, int | None, str | None]] = Counter()
        self.ids: list[str] = []
        self.seconds: list[float] = []

    def run(self) -> None:
        with httpx.Client(headers=self._headers, timeout=10) as client:
            while not self._end.wait(0.005):
                started = time.monotonic()
                response = client.post(self._url, json={"rows": [ROW]})
                self.seconds.append(time.monotonic() - started)
                told = response.json().get("predictions", [{}])[0]
                self.answers[response.status_code, told.get("version"), told.get("rung")] += 1
                self.ids += [told["prediction_id"]] if told else []

    def end(self) -> None:
        self._end.set()
        self.join(20)


@contextmanager
def asking(house: House, model: str) -> Iterator[Asking]:
    thread = Asking(house, model)
    thread.start()
    try:
        yield thread
    finally:
        thread.end()


def restart(house: House) -> float:
    """Kill -9 serving; the seconds until it is ready again."""
    starts = house.services.supervisor.starts("serving")
    house.services.kill("serving")
    started = time.monotonic()
    until(lambda: house.services.supervisor.starts("serving") > starts, what="its new start")
    house.services.wait_ready("serving")
    return time.monotonic() - started


def enough(thread: Asking, more: int = 100) -> None:
    """Wait until so many more questions were answered."""
    due = len(thread.seconds) + more
    until(lambda: len(thread.seconds) >= due or not thread.is_alive(), what="more answers")


def test_with_everything_else_dead_it_answers_also_after_its_own_restart(
    infrastructure: Infrastructure, house: House, model: str
) -> None:
    with (
        without_others(house),
        without_broker(infrastructure),
        without_database(infrastructure),
        without_store(house),
    ):
        with asking(house, model) as before:
            enough(before)
        seconds = restart(house)
        with asking(house, model) as after:
            enough(after)
        state = house.get("serving", "/ready")

    assert set(before.answers) == set(after.answers) == {(200, 2, "champion")}
    assert seconds < RESTART_SECONDS * 3, "on a busy machine; the nightly test is stricter"
    assert (state["ready"], state["broker"]) == (True, "silent")
    house.services.wait_ready()
    until(lambda: house.get("serving", "/ready")["spool_bytes"] == 0, what="the log to be told")


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("dead", ["broker", "database", "others", "store"])
def test_with_one_part_dead_it_answers_under_load_and_after_its_own_restart(
    infrastructure: Infrastructure, house: House, model: str, dead: str
) -> None:
    deaths: dict[str, Callable[[], object]] = {
        "broker": lambda: without_broker(infrastructure),
        "database": lambda: without_database(infrastructure),
        "others": lambda: without_others(house),
        "store": lambda: without_store(house),
    }
    death = deaths[dead]()
    with asking(house, model) as during:
        with death:  # type: ignore[attr-defined] # each is a context
            enough(during, 2_000)
        enough(during, 500)
    with deaths[dead]():  # type: ignore[attr-defined] # each is a context
        seconds = restart(house)
        with asking(house, model) as after:
            enough(after, 500)

    assert set(during.answers) == set(after.answers) == {(200, 2, "champion")}
    assert seconds < RESTART_SECONDS
    house.services.wait_ready()
    until(lambda: house.get("serving", "/ready")["spool_bytes"] == 0, what="the log to be told")


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_ten_minutes_alone_scaled_down_cost_no_answer_and_no_time(
    infrastructure: Infrastructure, house: House, model: str
) -> None:
    with asking(house, model) as normal:
        enough(normal, 3_000)
    with (
        without_others(house),
        without_broker(infrastructure),
        without_database(infrastructure),
        without_store(house),
        asking(house, model) as alone,
    ):
        enough(alone, 9_000)
    house.services.wait_ready()

    assert set(alone.answers) == {(200, 2, "champion")}
    assert worst(alone) <= 1.5 * worst(normal) + 0.02
    assert len(alone.ids) == len(set(alone.ids)) == len(alone.seconds)


def worst(thread: Asking) -> float:
    """The 99th percentile of its seconds."""
    return sorted(thread.seconds)[int(0.99 * len(thread.seconds))]
