"""Files that were made to do harm: none crashes or hangs anything, and the rung below answers."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor

from services.serving.handlers.loading import CannotLoad
from services.serving.handlers.proving import ProvesApart
from services.serving.settings import Settings
from services.serving.store.disk import Disk
from shared.artifacts import ArtifactStore
from shared.events import ServingRefused
from tests.serving import hostile
from tests.serving.building import (
    Version,
    a_desired,
    a_replica,
    a_version,
    settings_for,
    until,
)
from tests.serving.test_compiled import a_compiled_version, engine_of

# --- in serving -------------------------------------------------------------------------------


def place_on_disk(settings: Settings, digest: str) -> Path:
    return settings.data / "artifacts" / digest


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "one bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "foreign": lambda _: b"PK this is no model",
    "empty": lambda _: b"",
    "gone": lambda _: None,
}


def damage(place: Path, how: str) -> None:
    data = DAMAGES[how](place.read_bytes())
    if data is None:
        place.unlink()
    else:
        place.write_bytes(data)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("part", ["file", "digest"])
async def test_what_is_damaged_on_the_disk_is_fetched_again_by_the_first_request(
    settings: Settings, store: ArtifactStore, how: str, part: str
) -> None:
    version = a_compiled_version(store, 2)
    async with a_replica(settings) as replica:
        await replica.want(a_desired(1, version))
    damage(place_on_disk(settings, getattr(version, part)), how)

    async with a_replica(settings) as again:
        await again.ask()
        await until(lambda: again.serving.deployments.is_settled)

        (answer,) = await again.answers()
        assert (answer["rung"], await engine_of(again)) == ("champion", "onnx")
        assert again.said(ServingRefused) == []


@pytest.mark.parametrize("how", DAMAGES)
async def test_what_is_damaged_and_cannot_be_fetched_lets_the_rung_below_answer(
    settings: Settings, store: ArtifactStore, how: str
) -> None:
    champion, previous = a_version(store, 2), a_version(store, 1)
    async with a_replica(settings) as replica:
        await replica.want(a_desired(1, champion, previous=previous))
    shutil.rmtree(settings.artifacts.removeprefix("file://"))
    damage(place_on_disk(settings, champion.file), how)

    async with a_replica(settings) as again:
        answers = [(await again.answers())[0] for _ in range(3)]

    assert [(a["version"], a["rung"]) for a in answers] == [(1, "previous")] * 3


async def test_a_version_that_rots_while_it_is_open_goes_on_answering(
    settings: Settings, store: ArtifactStore
) -> None:
    version = a_version(store, 2)
    async with a_replica(settings) as replica:
        await replica.want(a_desired(1, version))
        await replica.answers()
        damage(place_on_disk(settings, version.file), "truncated")

        assert (await replica.answers())[0]["rung"] == "champion"


async def test_a_hostile_version_is_refused_by_the_child_and_the_old_one_goes_on(
    tmp_path: Path, store: ArtifactStore
) -> None:
    data, _ = hostile.originals("forest")
    bad = a_version(store, 2, data=hostile.deep(data))
    async with a_replica(settings_for(tmp_path, probe="child")) as replica:
        await replica.want(a_desired(1, a_version(store, 1)))
        await replica.want(a_desired(2, bad))

        (answer,) = await replica.answers()
        (said,) = replica.said(ServingRefused)

    assert (answer["version"], answer["rung"]) == (1, "champion")
    assert (said.version, said.reason) == (2, "unsafe")


@pytest.fixture
async def apart(settings: Settings) -> AsyncIterator[Callable[..., ProvesApart]]:
    made: list[ProvesApart] = []

    def make(**limits: Any) -> ProvesApart:
        made.append(ProvesApart(settings.data / "artifacts", **limits))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def proved(
    prover: ProvesApart, settings: Settings, store: ArtifactStore, versions: list[Version]
) -> list[str]:
    """The engine that was proved, or why none was, of versions that are proved together."""
    disk = Disk(settings.data)
    for version in versions:
        for digest in (version.digest, *(f.digest for f in version.manifest.files.values())):
            store.fetch(digest, disk.place_of(digest))
    disk.close()

    async def one(version: Version) -> str:
        try:
            return (await prover.prove(version.digest, version.manifest)).engine
        except CannotLoad as error:
            return error.problem.detail

    return list(await asyncio.gather(*map(one, versions)))


async def test_a_version_that_takes_the_child_does_not_take_those_beside_it(
    settings: Settings, store: ArtifactStore, apart: Callable[..., ProvesApart]
) -> None:
    neighbours = KNeighborsRegressor(algorithm="brute")
    large = neighbours.fit(np.zeros((3_000_000, 3)), np.zeros(3_000_000))
    versions = [a_version(store, 1), a_version(store, 2, estimator=large), a_version(store, 3)]

    said = await proved(apart(seconds=60, megabytes=64), settings, store, versions)

    assert said[::2] == ["scikit-learn", "scikit-learn"]
    assert "more than 64 MB" in said[1]


async def test_a_version_that_takes_too_long_is_refused(
    settings: Settings, store: ArtifactStore, apart: Callable[..., ProvesApart]
) -> None:
    said = await proved(
        apart(seconds=0.0001, megabytes=512), settings, store, [a_version(store, 1)]
    )

    assert said == ["it did not load and give its first answers in 0.0001 s"]


async def test_a_graph_that_answers_otherwise_than_was_promised_is_found_in_the_child(
    settings: Settings, store: ArtifactStore, apart: Callable[..., ProvesApart]
) -> None:
    good, bad = a_compiled_version(store, 1), a_compiled_version(store, 2, data=b"no graph")

    prover = apart(seconds=60, megabytes=512)

    said = await proved(prover, settings, store, [good, bad])

    again = [await proved(prover, settings, store, some) for some in ([good], [bad, good])]

    assert said == ["onnx", "scikit-learn"]
    assert again == [["onnx"], ["scikit-learn", "onnx"]]
