"""The ladder champion, previous, rule: the way down, who says so, and the way up again."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from local.paths import CHECKOUT
from services.serving.app import Serving
from services.serving.handlers.proving import ProvesInside
from services.serving.handlers.watchdog import EXIT_CODE
from services.serving.store.disk import Disk
from shared.artifacts import ArtifactStore
from shared.events import Digest, ServingFellBack, ServingRefused
from shared.running import Part
from tests.serving.building import (
    A_ROW,
    FLOW,
    Interference,
    Replica,
    a_desired,
    a_replica,
    a_version,
    settings_for,
    until,
)


def watched(serving: Serving) -> list[Part]:
    return [serving.watchdog.run, serving.deployments.run]


def fell_back(replica: Replica) -> ServingFellBack:
    """The newest of a model takes the place of one that has not been sent."""
    (said,) = replica.said(ServingFellBack)
    found: ServingFellBack = said
    return found


async def test_rung_by_rung_down_and_up_again(tmp_path: Path, store: ArtifactStore) -> None:
    async with a_replica(settings_for(tmp_path, rest_seconds=0.2)) as replica:
        champion, previous = a_version(store, 2), a_version(store, 1)
        await replica.want(a_desired(1, champion, previous=previous))
        first, second = Interference(replica, champion), Interference(replica, previous)
        first.say = first.fail
        one_down = [(await replica.answers())[0]["rung"] for _ in range(4)]
        said_one_down = fell_back(replica)
        second.say = second.fail

        two_down = [(await replica.answers())[0]["rung"] for _ in range(4)]
        said_two_down = fell_back(replica)
        first.heal()
        second.heal()
        await until(lambda: first.before.health.may_answer(time.perf_counter()))
        (back,) = await replica.answers()
        replica.serving.predictions.tell_standings()

        assert set(one_down) == {"previous"}
        assert (said_one_down.rung, "out of order" in said_one_down.cause) == ("previous", True)
        assert set(two_down) == {"baseline"}
        assert (said_two_down.rung, said_two_down.generation) == ("baseline", 1)
        assert back["rung"] == "champion"
        assert fell_back(replica).rung == "champion"


async def test_a_version_at_rest_gets_one_try_and_one_failure_sends_it_back(
    tmp_path: Path, store: ArtifactStore
) -> None:
    async with a_replica(settings_for(tmp_path, rest_seconds=0.05)) as replica:
        champion = a_version(store, 2)
        await replica.want(a_desired(1, champion))
        between = Interference(replica, champion)
        between.say = between.fail
        for _ in range(3):
            await replica.answers()
        await until(lambda: between.before.health.may_answer(time.perf_counter()))

        await replica.answers(A_ROW)
        is_resting = not between.before.health.may_answer(time.perf_counter())

        assert (between.asked, is_resting) == (4, True)


def spin_until(is_over: threading.Event) -> Any:
    """A loop in Python that would not end."""

    def say(_: Sequence[Any]) -> Any:
        while not is_over.is_set():
            pass

    return say


async def test_a_version_that_hangs_on_the_loop_is_interrupted_and_moves_to_a_thread(
    tmp_path: Path, store: ArtifactStore
) -> None:
    async with a_replica(settings_for(tmp_path, answer_seconds=0.2), watched) as replica:
        champion = a_version(store, 2)
        await replica.want(a_desired(1, champion))
        await replica.want(a_desired(1, a_version(store, 1), model="other"))
        between, is_over = Interference(replica, champion), threading.Event()
        between.before.health.seconds = 0.0
        between.say = spin_until(is_over)

        together = await asyncio.gather(*(replica.answers() for _ in range(5)))
        (neighbour,) = await replica.answers(model="other")

        assert [answers[0]["rung"] for answers in together] == ["baseline"] * 5
        assert between.asked == 1, "the five were one question, which is not asked again"
        assert neighbour["rung"] == "champion"
        assert between.before.health.seconds >= 0.2
        is_over.set()
        between.heal()
        assert (await replica.answers())[0]["rung"] == "champion"


async def test_versions_that_hang_in_threads_leave_threads_for_the_others(
    tmp_path: Path, store: ArtifactStore
) -> None:
    settings = settings_for(tmp_path, answer_seconds=0.1, inline_seconds=0, answer_threads=1)
    async with a_replica(settings) as replica:
        hanging = a_version(store, 2)
        await replica.want(a_desired(1, hanging))
        await replica.want(a_desired(1, a_version(store, 1), model="other"))
        between, is_over = Interference(replica, hanging), threading.Event()
        between.say = lambda _: is_over.wait(20)

        rungs = [(await replica.answers())[0]["rung"] for _ in range(4)]
        (neighbour,) = await replica.answers(model="other")

        is_over.set()
        assert (rungs, between.asked) == (["baseline"] * 4, 2)
        assert neighbour["rung"] == "champion"


def test_a_library_that_does_not_come_back_ends_the_process_and_is_remembered(
    tmp_path: Path,
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.serving.hanging", str(tmp_path / "data")],
        cwd=CHECKOUT,
        capture_output=True,
        timeout=60,
        check=False,
    )

    disk = Disk(tmp_path / "data")
    assert ended.returncode == EXIT_CODE, ended.stderr
    assert (disk.has_hung(Digest("a" * 64)), disk.has_hung(Digest("b" * 64))) == (True, False)
    disk.close()


async def test_a_version_that_once_held_up_the_process_is_asked_in_threads_only(
    tmp_path: Path, store: ArtifactStore
) -> None:
    champion = a_version(store, 1)
    async with a_replica(settings_for(tmp_path)) as replica:
        replica.serving.disk.mark_hung(champion.digest)
        await replica.want(a_desired(1, champion))
        between, asked_in = Interference(replica, champion), set[str]()

        def say(rows: Sequence[Any]) -> Any:
            asked_in.add(threading.current_thread().name)
            return between._real(rows)

        between.say = say
        answers = [(await replica.answers())[0]["rung"] for _ in range(3)]

        assert answers == ["champion"] * 3
        assert asked_in
        assert all(name.startswith("answer") for name in asked_in)


async def test_a_version_that_hangs_while_it_loads_is_refused_and_others_load(
    tmp_path: Path, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over = threading.Event()
    hanging, sound = a_version(store, 2), a_version(store, 1)
    async with a_replica(settings_for(tmp_path, load_seconds=0.3)) as replica:
        deployments = replica.serving.deployments
        prover = deployments.bringer._prover
        assert isinstance(prover, ProvesInside)

        def read(digest: Digest) -> bytes:
            if digest == hanging.file:
                is_over.wait(20)
            return replica.serving.disk.read(digest)

        monkeypatch.setattr(prover, "_read", read)
        await deployments.want(a_desired(1, hanging))
        await until(lambda: bool(replica.said(ServingRefused)))
        await deployments.want(a_desired(1, sound, model="other"))
        await until(lambda: "other" in deployments.endpoints)

        (neighbour,) = await replica.answers(model="other")
        (answer,) = await replica.answers()
        is_over.set()

        assert (neighbour["rung"], answer["rung"]) == ("champion", "baseline")
        (said,) = replica.said(ServingRefused)
        assert (said.version, said.reason, "did not load" in said.detail) == (
            2,
            "load_failed",
            True,
        )


async def test_killed_and_started_with_everything_else_dead_the_ladder_goes_on(
    tmp_path: Path, store: ArtifactStore
) -> None:
    champion, previous = a_version(store, 2), a_version(store, 1)
    settings = settings_for(tmp_path)
    async with a_replica(settings) as replica:
        await replica.want(a_desired(1, champion, previous=previous))
    shutil.rmtree(tmp_path / "store")
    for rotten in (champion.file, champion.digest):
        (settings.data / "artifacts" / rotten).unlink()

    async with a_replica(settings) as again:
        (answer,) = await again.answers()
        again.serving.predictions.tell_standings()

        assert (answer["version"], answer["rung"], answer["arm"]) == (1, "previous", "champion")
        assert (fell_back(again).rung, fell_back(again).cause) == (
            "previous",
            "champion: not loaded",
        )
        shown = (await again.client.get(f"/v1/models/{FLOW}")).json()
        assert (shown["rung"], shown["cause"]) == ("previous", "champion: not loaded")
