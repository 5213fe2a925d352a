"""Versions that take the process with them are known to the next one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.serving.settings import Settings
from services.serving.store.asking import SLOTS, Asking
from shared.artifacts import ArtifactStore
from shared.events import Digest, ServingRefused
from tests.serving.building import A_ROW, FLOW, a_desired, a_replica, a_version

ONE, OTHER = Digest("1" * 64), Digest("2" * 64)


def die_while_asking(folder: Path, *digests: Digest) -> frozenset[Digest]:
    """A process ends in the middle of these questions; whom the next one suspects."""
    process = Asking(folder)
    next_one: list[Asking] = []

    def ask(left: Sequence[Digest]) -> None:
        if not left:
            next_one.append(Asking(folder))
            return
        process.noted(left[0], lambda _: ask(left[1:]))([])

    ask(digests)
    return next_one[0].suspects


def test_one_end_is_chance_and_two_are_a_suspicion(tmp_path: Path) -> None:
    once = die_while_asking(tmp_path, ONE)
    twice = die_while_asking(tmp_path, ONE, OTHER)

    assert once == frozenset()
    assert twice == frozenset([ONE])


def test_a_question_that_was_answered_or_raised_is_not_under_way(tmp_path: Path) -> None:
    def fail(_: Sequence[Any]) -> None:
        raise RuntimeError("out of order")

    for _ in range(2):
        process = Asking(tmp_path)
        assert process.noted(ONE, len)([1, 2]) == 2
        with pytest.raises(RuntimeError):
            process.noted(OTHER, fail)([])

    assert Asking(tmp_path).suspects == frozenset()


def test_an_end_in_order_blames_nobody(tmp_path: Path) -> None:
    for _ in range(2):
        process = Asking(tmp_path)

        def end(_: Sequence[Any], process: Asking = process) -> None:
            process.clear()

        process.noted(ONE, end)([])

    assert Asking(tmp_path).suspects == frozenset()


def test_a_long_life_forgives(tmp_path: Path) -> None:
    die_while_asking(tmp_path, ONE)
    die_while_asking(tmp_path, ONE)
    Asking(tmp_path).forgive()

    assert Asking(tmp_path).suspects == frozenset()


def test_more_questions_than_slots_are_asked_all_the_same(tmp_path: Path) -> None:
    process, depth = Asking(tmp_path), 0

    def ask(_: Sequence[Any]) -> int:
        nonlocal depth
        depth += 1
        return process.noted(ONE, ask)([]) if depth < SLOTS + 10 else depth

    assert process.noted(ONE, ask)([]) == SLOTS + 10
    assert process.noted(ONE, len)([1]) == 1


async def test_a_champion_that_killed_two_processes_rests_and_the_rung_below_answers(
    settings: Settings, store: ArtifactStore
) -> None:
    champion, previous = a_version(store, 2), a_version(store, 1)
    async with a_replica(settings) as replica:
        await replica.want(a_desired(1, champion, previous=previous))
    die_while_asking(settings.data, champion.digest)
    die_while_asking(settings.data, champion.digest)

    async with a_replica(settings) as again:
        (answer,) = await again.answers(A_ROW)
        shown = (await again.client.get(f"/v1/models/{FLOW}")).json()
        again.serving.deployments._loaded[champion.digest].health.rests_until = 0.0
        (later,) = await again.answers(A_ROW)

    assert (answer["rung"], later["rung"]) == ("previous", "champion")
    assert "died" in shown["cause"]


async def test_a_challenger_that_killed_two_processes_is_refused(
    settings: Settings, store: ArtifactStore
) -> None:
    champion, challenger = a_version(store, 1), a_version(store, 2)
    async with a_replica(settings) as replica:
        await replica.want(a_desired(1, champion, challenger=challenger, weight=1.0))
    die_while_asking(settings.data, challenger.digest)
    die_while_asking(settings.data, challenger.digest)

    async with a_replica(settings) as again:
        (answer,) = await again.answers(A_ROW)

        assert (answer["version"], answer["arm"]) == (1, "challenger")
        (said,) = again.said(ServingRefused)
        assert (said.version, said.reason, "died" in said.detail) == (2, "faulty", True)
