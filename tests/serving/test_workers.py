"""Several workers behind one address: each a replica, and one dying costs the others nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from services.serving.crew import send_left_behind, settings_of
from services.serving.settings import Settings
from services.serving.store.disk import Disk
from shared.bus import ensure_topics
from shared.events import PredictionsLogged
from shared.topics import PREDICTIONS
from tests.serving.building import A_ROW, a_desired, a_replica, settings_for
from tests.serving.child import Child, free_port, heard_on, logged_ids

WORKERS = 2


def two_free_ports() -> int:
    """A port whose neighbour is free, too."""
    for _ in range(100):
        port = free_port()
        with contextlib.suppress(OSError):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port + 1))
            return port
    raise AssertionError("no two free ports side by side")


@pytest.fixture
async def crew(tmp_path: Path) -> AsyncIterator[Child]:
    """Two workers that were told of one model before; its rule answers, which needs no library."""
    settings = settings_for(tmp_path, workers=WORKERS)
    heard = a_desired(1)
    for number in range(WORKERS):
        async with a_replica(settings_of(settings, number)) as replica:
            await replica.want(heard)
    with Child(settings) as child:
        child.settings = child.settings.model_copy(update={"admin_port": two_free_ports()})
        yield child


def said_in(child: Child, event: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in child.log.read_text().splitlines() if line[:1] == "{"]
    return [line for line in lines if line["event"] == event]


def pids_of(child: Child) -> dict[int, int]:
    """The process of each worker, by its number."""
    return {int(str(s["worker"])): int(str(s["pid"])) for s in said_in(child, "worker_started")}


def who_answers(child: Child) -> str:
    """Which replica is ready behind a new connection; empty while nobody is."""
    try:
        with httpx.Client(base_url=child.http.base_url) as client:
            return str(client.get("/ready").json()["replica"])
    except httpx.TransportError:
        return ""


def all_answer(child: Child) -> bool:
    return {who_answers(child) for _ in range(20)} == {"0", "0-1"}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


async def start(child: Child) -> None:
    await asyncio.to_thread(lambda: child.start(until=lambda: all_answer(child)))


async def test_each_worker_answers_on_the_one_address_with_its_own_name_and_metrics(
    crew: Child,
) -> None:
    await start(crew)
    answers = [crew.ask() for _ in range(20)]

    admin = [crew.settings.admin_port + number for number in range(WORKERS)]
    async with httpx.AsyncClient() as client:
        metrics = [(await client.get(f"http://127.0.0.1:{port}/metrics")).text for port in admin]
    assert {answer[0]["rung"] for answer in answers} == {"baseline"}
    assert all("tidewheel_models_served 1.0" in text for text in metrics)
    assert crew.terminate()[0] == 0
    own = crew.settings.data
    assert (own / "worker-1" / "state.db").exists()
    assert not (own / "worker-1" / "artifacts").exists()


async def test_the_rate_of_a_key_holds_for_all_workers_together(crew: Child) -> None:
    limits = {"requests_per_second": 0.01, "requests_burst": 6}
    crew.settings = crew.settings.model_copy(update=limits)
    await start(crew)

    statuses = Counter(asked_anew(crew) for _ in range(30))

    assert statuses == {200: 6, 429: 24}


def asked_anew(child: Child) -> int:
    """On a connection of its own, which any worker may take."""
    headers = dict(child.http.headers)
    with httpx.Client(base_url=child.http.base_url, headers=headers, timeout=20) as client:
        return client.post("/v1/models/flow/predict", json={"rows": [A_ROW]}).status_code


async def test_a_killed_worker_is_started_again_and_hardly_anybody_notices(crew: Child) -> None:
    await start(crew)
    before = pids_of(crew)
    is_over = asyncio.Event()
    statuses: Counter[int] = Counter()

    async def keep_asking() -> None:
        async with httpx.AsyncClient(
            base_url=crew.http.base_url, headers=crew.http.headers, timeout=10
        ) as client:
            while not is_over.is_set():
                try:
                    response = await client.post("/v1/models/flow/predict", json={"rows": [A_ROW]})
                    statuses[response.status_code] += 1
                except httpx.TransportError:
                    statuses[0] += 1  # it was with the worker that died

    asking = [asyncio.create_task(keep_asking()) for _ in range(8)]
    os.kill(before[1], signal.SIGKILL)
    await asyncio.to_thread(crew.wait, lambda: pids_of(crew)[1] != before[1])
    await asyncio.to_thread(crew.wait, lambda: all_answer(crew))
    is_over.set()
    await asyncio.gather(*asking)

    after = pids_of(crew)
    assert after[0] == before[0]
    assert set(statuses) <= {0, 200}
    assert statuses[0] <= 8
    assert statuses[200] > 20


async def test_when_the_watching_process_is_killed_its_workers_end_in_order(crew: Child) -> None:
    await start(crew)
    workers = pids_of(crew).values()

    crew.kill()

    await asyncio.to_thread(crew.wait, lambda: not any(is_alive(pid) for pid in workers))
    assert len([line for line in said_in(crew, "stopping") if line["asked"]]) == WORKERS


async def test_a_crew_whose_worker_cannot_have_its_folder_says_so_and_ends(crew: Child) -> None:
    disk = Disk(crew.settings.data / "worker-1")

    await asyncio.to_thread(lambda: crew.start(until=crew.is_gone))

    assert crew.process is not None
    assert crew.process.returncode == 78
    assert "another process" in str(said_in(crew, "disk_refused")[0]["reason"])
    disk.close()


def test_the_first_worker_is_the_replica_that_one_worker_alone_would_be(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, workers=3, replica="west", admin_port=9000)

    first, third = settings_of(settings, 0), settings_of(settings, 2)

    assert first == settings
    assert (third.data, third.replica, third.admin_port) == (
        settings.data / "worker-2",
        "west-2",
        9002,
    )
    assert third.artifacts_folder == settings.data / "artifacts"


@pytest.mark.parametrize("workers", [0, 65])
def test_a_number_of_workers_that_makes_no_sense_is_refused(tmp_path: Path, workers: int) -> None:
    with pytest.raises(ValueError, match="workers"):
        Settings(**{**settings_for(tmp_path).model_dump(), "workers": workers})


@pytest.mark.real
async def test_what_a_worker_too_many_has_not_sent_is_sent_by_a_smaller_crew(
    tmp_path: Path, kafka: str, topic_prefix: str
) -> None:
    before = settings_for(tmp_path, workers=2, topic_prefix=topic_prefix)
    async with a_replica(settings_of(before, 1)) as second:
        await second.want(a_desired(1))
        answered = {one["prediction_id"] for one in await second.answers(A_ROW, A_ROW)}
    await ensure_topics(kafka, prefix=topic_prefix, partitions=2)

    await send_left_behind(before.model_copy(update={"workers": 1, "kafka": kafka}))

    heard = await heard_on(
        kafka, topic_prefix, PREDICTIONS, lambda h: answered <= logged_ids(h).keys()
    )
    assert {one.event.replica for one in heard if isinstance(one.event, PredictionsLogged)} == {
        "0-1"
    }
