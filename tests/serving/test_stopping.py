"""A stop: not ready first, then what is in flight, and gone in ten seconds whatever hangs."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor

from services.serving.store.spool import Spool
from shared import clock
from tests.serving.alone import serving_alone
from tests.serving.building import KEY, NAMES
from tests.serving.child import A_ROW, Child
from tests.support.waiting import wait_until

pytestmark = pytest.mark.real  # of sockets
MOST_SECONDS = 10.0


def a_slow_model() -> KNeighborsRegressor:
    """One row is quick; ten thousand of them take half a minute and more on a fast machine."""
    X = np.random.default_rng(7).normal(size=(1_000_000, len(NAMES)))
    return KNeighborsRegressor(3, algorithm="brute").fit(X, X[:, 0])


def ask(child: Child, rows: Sequence[Any] = (A_ROW,)) -> httpx.Response:
    with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}, timeout=30) as client:
        url = f"http://127.0.0.1:{child.settings.port}/v1/models/flow/predict"
        return client.post(url, json={"rows": list(rows)})


def in_background(pool: ThreadPoolExecutor, child: Child, rows: int) -> Future[httpx.Response]:
    return pool.submit(ask, child, [A_ROW] * rows)


def rows_left(child: Child) -> int:
    spool = Spool(child.settings.data / "spool.db", cap_bytes=10**9, now=clock.now)
    try:
        while spool.seal(most_rows=1_000):
            pass
        return sum(len(batch.rows) for batch in spool.batches(10**6))
    finally:
        spool.close()


def test_it_says_that_it_is_not_ready_and_goes_on_answering_before_it_closes(
    tmp_path: Path,
) -> None:
    with serving_alone(tmp_path, {}, quiet_seconds=2) as child:
        assert child.process is not None
        child.process.send_signal(signal.SIGTERM)

        wait_until(lambda: child.http.get("/ready").status_code == 503, what="not ready")
        during = ask(child)
        child.wait(child.is_gone)

    assert during.status_code == 200
    assert during.headers["connection"] == "close"
    assert child.process.returncode == 0


def test_what_is_in_flight_is_finished_and_logged(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool, serving_alone(tmp_path, {}) as child:
        asked = [in_background(pool, child, 3_000) for _ in range(3)]
        wait_until(lambda: child.http.get("/live").is_success, what="the questions to be on it")

        code, seconds = child.terminate()

        statuses = [one.result().status_code for one in asked]
        left = rows_left(child)
    assert (code, statuses) == (0, [200, 200, 200])
    assert seconds < MOST_SECONDS
    assert left == 9_000


@contextmanager
def a_silent_broker() -> Iterator[str]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_hanging_model_and_a_silent_broker_hold_nobody_up(tmp_path: Path) -> None:
    with (
        a_silent_broker() as kafka,
        ThreadPoolExecutor(4) as pool,
        serving_alone(
            tmp_path, {"estimator": a_slow_model()}, kafka=kafka, answer_seconds=60
        ) as child,
    ):
        asked = in_background(pool, child, 10_000)
        assert ask(child).status_code == 200
        telling = ask(child)

        code, seconds = child.terminate()

        left = rows_left(child)
        cut = asked.result()
    assert (cut.status_code, cut.json()["code"]) == (503, "stopping")
    assert telling.status_code == 200
    assert seconds < MOST_SECONDS
    assert code in (0, 1)
    assert left >= 2


def test_idle_and_slow_clients_hold_nobody_up(tmp_path: Path) -> None:
    with ExitStack() as lines, serving_alone(tmp_path, {}) as child:
        for number in range(20):
            line = socket.create_connection(("127.0.0.1", child.settings.port), timeout=10)
            lines.enter_context(line)
            line.sendall(b"POST /v1/models/flow/predict HTTP/1.1\r\nHost: x\r\n"[: number * 2])

        code, seconds = child.terminate()

    assert code == 0
    assert seconds < MOST_SECONDS


class Spreading(threading.Thread):
    """Asks whichever replica says that it is ready, as a balancer that looks often."""

    def __init__(self, children: Sequence[Child]) -> None:
        super().__init__(daemon=True)
        self._children = children
        self._end = threading.Event()
        self.statuses: Counter[int] = Counter()

    def run(self) -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}, timeout=10) as client:
            while not self._end.is_set():
                for child in [child for child in self._children if child.is_ready()]:
                    url = f"http://127.0.0.1:{child.settings.port}/v1/models/flow/predict"
                    try:
                        self.statuses[client.post(url, json={"rows": [A_ROW]}).status_code] += 1
                    except httpx.TransportError:
                        self.statuses[0] += 1

    def end(self) -> None:
        self._end.set()
        self.join(20)


def rolling_restart(tmp_path: Path, rounds: int, answers: int) -> Counter[int]:
    """Stop and start one of two replicas after the other while they are asked."""
    with ExitStack() as stack:
        folders = [tmp_path / name for name in ("a", "b")]
        for folder in folders:
            folder.mkdir()
        children = [
            stack.enter_context(serving_alone(folder, {}, rolls_out=True, replica=folder.name))
            for folder in folders
        ]
        spreading = Spreading(children)
        spreading.start()
        for number in range(rounds):
            due = sum(spreading.statuses.values()) + answers
            wait_until(lambda due=due: sum(spreading.statuses.values()) >= due, what="answers")  # type: ignore[misc] # the loop's own
            children[number % 2].terminate()
            children[number % 2].start()
        spreading.end()
    return spreading.statuses


def test_one_replica_after_the_other_is_stopped_and_nobody_notices(tmp_path: Path) -> None:
    statuses = rolling_restart(tmp_path, rounds=2, answers=50)

    assert set(statuses) == {200}


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_ten_thousand_requests_during_rolling_restarts_all_succeed(tmp_path: Path) -> None:
    statuses = rolling_restart(tmp_path, rounds=10, answers=1_000)

    assert set(statuses) == {200}
    assert sum(statuses.values()) >= 10_000


def test_twice_told_to_stop_is_once(tmp_path: Path) -> None:
    with serving_alone(tmp_path, {}) as child:
        assert child.process is not None
        started = time.monotonic()
        for _ in range(3):
            child.process.send_signal(signal.SIGTERM)

        code = child.process.wait(20)

    assert code == 0
    assert time.monotonic() - started < MOST_SECONDS
