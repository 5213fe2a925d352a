"""Every answer is in the log or a counted gap: a full spool, several replicas, a power cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from local.stack import Infrastructure
from services.serving.settings import Settings
from shared.artifacts import ArtifactStore
from shared.bus import ensure_topics, publish
from shared.events import PredictionsLogged
from shared.topics import DEPLOYMENT, PREDICTIONS
from tests.serving.building import a_desired, a_version, settings_for
from tests.serving.child import A_ROW, Child, heard_on, logged_ids, of_kind

pytestmark = pytest.mark.real


@pytest.fixture
def settings(tmp_path: Path, kafka: str, topic_prefix: str) -> Settings:
    return settings_for(tmp_path, kafka=kafka, topic_prefix=topic_prefix)


@pytest.fixture
def replicas(settings: Settings, tmp_path: Path) -> Iterator[list[Child]]:
    """Two of them, each with a folder and a name of its own."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Child(settings.model_copy(update={"replica": name, "data": tmp_path / name}))
            )
            for name in ("a", "b")
        ]


async def deploy(settings: Settings, lineage: str = "") -> None:
    store = ArtifactStore(settings.artifacts)
    version = a_version(store, 1, lineage=lineage) if lineage else None
    await ensure_topics(settings.kafka, prefix=settings.topic_prefix, partitions=2)
    await publish(settings.kafka, settings.topic_prefix, DEPLOYMENT, [a_desired(1, version)])


async def all_logged(settings: Settings, rows: int) -> tuple[dict[str, set[int]], int]:
    """What the log holds, once rows and gaps together are so many; and the gaps."""
    heard = await heard_on(
        settings.kafka,
        settings.topic_prefix,
        PREDICTIONS,
        lambda h: len(logged_ids(h)) + sum(e.gaps for e in of_kind(h, PredictionsLogged)) >= rows,
    )
    return logged_ids(heard), sum(event.gaps for event in of_kind(heard, PredictionsLogged))


async def test_what_a_full_spool_could_not_keep_is_told_as_a_gap(
    infrastructure: Infrastructure, settings: Settings
) -> None:
    await deploy(settings)
    small = settings.model_copy(update={"spool_bytes": 50_000})
    with Child(small) as child:
        await asyncio.to_thread(lambda: child.start(until=lambda: child.serves(1)))
        await asyncio.to_thread(infrastructure.stop_broker)
        try:
            answered = [
                a for _ in range(30) for a in await asyncio.to_thread(child.ask, [A_ROW] * 10)
            ]
            child.kill()
            await asyncio.to_thread(child.start)
            answered += await asyncio.to_thread(child.ask, [A_ROW] * 10)
            on_disk = sum(path.stat().st_size for path in (small.data / "spool").glob("*.rows"))
        finally:
            await asyncio.to_thread(infrastructure.start_broker)

        found, gaps = await all_logged(settings, len(answered))

    ids = {answer["prediction_id"] for answer in answered}
    assert on_disk <= 50_000
    assert gaps > 0
    assert len(answered) == len(found) + gaps
    assert found.keys() <= ids


async def test_several_replicas_log_each_of_their_answers_once(
    settings: Settings, replicas: list[Child]
) -> None:
    await deploy(settings)
    for child in replicas:
        await asyncio.to_thread(lambda child=child: child.start(until=lambda: child.serves(1)))  # type: ignore[misc] # the loop's own

    answered = [
        answer["prediction_id"]
        for _ in range(20)
        for child in replicas
        for answer in await asyncio.to_thread(child.ask, [A_ROW] * 5)
    ]
    replicas[0].kill()
    await asyncio.to_thread(replicas[0].start)
    await asyncio.to_thread(replicas[0].terminate)

    found, gaps = await all_logged(settings, len(answered))
    assert set(answered) == found.keys()
    assert gaps == 0
    assert all(len(numbers) == 1 for numbers in found.values())


@pytest.mark.nightly
async def test_files_that_are_damaged_while_the_process_is_down_are_gaps(
    infrastructure: Infrastructure, settings: Settings
) -> None:
    await deploy(settings)
    with Child(settings) as child:
        await asyncio.to_thread(lambda: child.start(until=lambda: child.serves(1)))
        await asyncio.to_thread(infrastructure.stop_broker)
        try:
            answered = [
                a for _ in range(20) for a in await asyncio.to_thread(child.ask, [A_ROW] * 5)
            ]
            child.kill()
            for path in (settings.data / "spool").glob("*.rows"):
                data = bytearray(path.read_bytes())
                data[len(data) // 2] ^= 0xFF
                path.write_bytes(data)
            await asyncio.to_thread(child.start)
        finally:
            await asyncio.to_thread(infrastructure.start_broker)

        found, gaps = await all_logged(settings, len(answered))

    assert len(found) + gaps == len(answered)
    assert gaps > 0
