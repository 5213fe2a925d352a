"""Desired states come into effect whole, newest first, and survive a restart."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from services.serving.settings import Settings
from services.serving.store.disk import Disk, DiskRefused
from shared import clock
from shared.artifacts import ArtifactStore, key_of
from shared.codec import decode
from shared.events import ServingApplied, ServingRefused
from tests.serving.building import (
    A_ROW,
    FLOW,
    Replica,
    a_desired,
    a_replica,
    a_version,
    settings_for,
    until,
)


def place_in_store(settings: Settings, digest: str) -> Path:
    return Path(settings.artifacts.removeprefix("file://")) / key_of(digest)  # type: ignore[arg-type]


def place_on_disk(settings: Settings, digest: str) -> Path:
    return settings.data / "artifacts" / digest


async def test_a_desired_state_is_applied_and_said(replica: Replica, store: ArtifactStore) -> None:
    version = a_version(store, 3)

    await replica.want(a_desired(1, version))

    assert [a["version"] for a in await replica.answers()] == [3]
    (said,) = replica.said(ServingApplied)
    assert (said.generation, said.versions) == (1, (3,))


async def test_what_is_said_names_the_event_that_caused_it(
    replica: Replica, store: ArtifactStore
) -> None:
    heard = a_desired(1, a_version(store, 1))

    await replica.want(heard)

    envelope = decode(replica.serving.spool.outgoing(1)[0].message.value)
    assert (envelope.causation, envelope.correlation) == (heard.id, heard.correlation)


@pytest.mark.parametrize("generation", [1, 2])
async def test_a_generation_that_is_not_newer_changes_nothing(
    replica: Replica, store: ArtifactStore, generation: int
) -> None:
    await replica.want(a_desired(2, a_version(store, 1)))

    await replica.want(a_desired(generation, a_version(store, 9)))

    assert (await replica.answers())[0]["version"] == 1


async def test_a_burst_of_generations_ends_with_the_newest(
    replica: Replica, store: ArtifactStore
) -> None:
    versions = [a_version(store, number) for number in range(1, 6)]

    for generation, version in enumerate(versions, 1):
        await replica.serving.deployments.want(a_desired(generation, version))
    await until(lambda: replica.serving.deployments.is_settled)

    answer = (await replica.answers())[0]
    assert (answer["version"], answer["generation"]) == (5, 5)


async def test_no_request_fails_while_versions_are_swapped(
    replica: Replica, store: ArtifactStore
) -> None:
    versions = [a_version(store, number) for number in (1, 2)]
    await replica.want(a_desired(1, versions[0]))
    is_over = asyncio.Event()
    seen: set[tuple[int, float]] = set()
    statuses: list[int] = []

    async def keep_asking() -> None:
        while not is_over.is_set():
            response = await replica.ask()
            statuses.append(response.status_code)
            seen.update((a["version"], round(a["answer"])) for a in response.json()["predictions"])
            await asyncio.sleep(0)

    asking = [asyncio.create_task(keep_asking()) for _ in range(8)]
    for generation in range(2, 22):
        await replica.want(a_desired(generation, versions[generation % 2]))
    is_over.set()
    await asyncio.gather(*asking)

    assert set(statuses) == {200}
    assert seen == {(1, 11), (2, 12)}


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone", "foreign"])
async def test_a_damaged_artifact_is_refused_and_the_old_version_goes_on(
    replica: Replica, store: ArtifactStore, settings: Settings, damage: str
) -> None:
    await replica.want(a_desired(1, a_version(store, 1)))
    data = b"PK this is no model" if damage == "foreign" else None
    bad = a_version(store, 2, data=data)
    place = place_in_store(settings, bad.file)
    whole = place.read_bytes()
    match damage:
        case "truncated":
            place.write_bytes(whole[: len(whole) // 2])
        case "flipped":
            place.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        case "gone":
            place.unlink()

    await replica.want(a_desired(2, bad))

    assert (await replica.answers())[0]["version"] == 1
    (said,) = replica.said(ServingRefused)
    reasons = {"gone": "missing", "foreign": "unsafe"}
    assert (said.version, said.reason) == (2, reasons.get(damage, "digest_mismatch"))


async def test_a_mended_artifact_is_applied_by_itself(
    replica: Replica, store: ArtifactStore, settings: Settings
) -> None:
    await replica.want(a_desired(1, a_version(store, 1)))
    bad = a_version(store, 2)
    place = place_in_store(settings, bad.file)
    whole = place.read_bytes()
    place.write_bytes(b"damaged")
    await replica.want(a_desired(2, bad))
    place.write_bytes(whole)

    def answers_with_two() -> bool:
        replica.serving.deployments.retry_due()
        return replica.serving.deployments.endpoints[FLOW].generation == 2

    await until(answers_with_two)

    assert len(replica.said(ServingRefused)) == 1
    assert (await replica.answers())[0]["version"] == 2


async def test_a_bad_challenger_leaves_the_champion_alone(
    replica: Replica, store: ArtifactStore
) -> None:
    champion = a_version(store, 1)
    await replica.want(a_desired(1, champion))

    await replica.want(a_desired(2, champion, challenger=a_version(store, 2, data=b"no model")))

    answer = (await replica.answers())[0]
    assert (answer["version"], answer["generation"]) == (1, 1)


async def test_the_first_version_being_bad_the_rule_answers(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1, data=b"no model")))

    answer = (await replica.answers())[0]

    assert (answer["rung"], answer["answer"], answer["version"]) == ("baseline", -1.0, None)
    assert replica.said(ServingRefused)[0].reason == "unsafe"


async def test_a_store_that_does_not_answer_refuses_no_version(
    tmp_path: Path, store: ArtifactStore
) -> None:
    version = a_version(store, 1)
    settings = settings_for(tmp_path, artifacts="s3://nowhere/x")

    async with a_replica(settings) as replica:
        await replica.serving.deployments.want(a_desired(1, version))
        shutil.copytree(tmp_path / "store", tmp_path / "mended")
        replica.serving.deployments.bringer.store = lambda: ArtifactStore(
            f"file://{tmp_path}/mended"
        )

        def is_applied() -> bool:
            replica.serving.deployments.retry_due()
            return bool(replica.said(ServingApplied))

        await until(is_applied)

        assert replica.said(ServingRefused) == []


async def test_a_restart_answers_from_the_own_disk_with_the_store_gone(
    settings: Settings, store: ArtifactStore
) -> None:
    async with a_replica(settings) as replica:
        await replica.want(a_desired(4, a_version(store, 2), previous=a_version(store, 1)))
    shutil.rmtree(settings.artifacts.removeprefix("file://"))

    async with a_replica(settings, lambda _: []) as again:
        answer = (await again.answers())[0]

    assert (answer["version"], answer["generation"], answer["rung"]) == (2, 4, "champion")


async def test_a_restart_answers_as_before_when_the_newest_state_was_refused(
    settings: Settings, store: ArtifactStore
) -> None:
    async with a_replica(settings) as replica:
        await replica.want(a_desired(1, a_version(store, 1)))
        await replica.want(a_desired(2, a_version(store, 2, data=b"no model")))
    shutil.rmtree(settings.artifacts.removeprefix("file://"))

    async with a_replica(settings) as again:
        await until(lambda: again.serving.deployments.is_settled)
        answer = (await again.answers())[0]

    assert (answer["version"], answer["generation"]) == (1, 1)


async def test_after_a_restart_on_a_damaged_disk_the_rung_below_answers(
    settings: Settings, store: ArtifactStore
) -> None:
    champion, previous = a_version(store, 2), a_version(store, 1)
    async with a_replica(settings) as replica:
        await replica.want(a_desired(1, champion, previous=previous))
    shutil.rmtree(settings.artifacts.removeprefix("file://"))
    place_on_disk(settings, champion.file).write_bytes(b"bit rot")

    async with a_replica(settings) as again:
        answer = (await again.answers())[0]

    assert (answer["version"], answer["rung"]) == (1, "previous")


async def test_what_rotted_on_the_disk_is_fetched_again(
    settings: Settings, store: ArtifactStore
) -> None:
    champion = a_version(store, 2)
    async with a_replica(settings) as replica:
        await replica.want(a_desired(1, champion))
    place_on_disk(settings, champion.file).write_bytes(b"bit rot")

    async with a_replica(settings) as again:

        def is_whole() -> bool:
            again.serving.deployments.retry_due()
            return again.serving.deployments.endpoints[FLOW].main_path[0].loaded is not None

        await until(is_whole)

        assert (await again.answers())[0]["rung"] == "champion"


async def test_sweeping_keeps_what_is_named_and_what_was_used_of_late(
    settings: Settings, store: ArtifactStore
) -> None:
    old, new = a_version(store, 1), a_version(store, 2)
    async with a_replica(settings) as replica:
        await replica.want(a_desired(1, old))
        await replica.want(a_desired(2, new))
        await replica.serving.deployments.sweep()
        assert place_on_disk(settings, old.file).exists()
        for digest in (old.digest, old.file, new.digest, new.file):
            os.utime(place_on_disk(settings, digest), (0, 0))

        await replica.serving.deployments.sweep()

        kept = {place.name for place in (settings.data / "artifacts").iterdir()}
    assert kept == {new.digest, new.file}


async def test_versions_that_nobody_names_leave_the_memory(
    replica: Replica, store: ArtifactStore
) -> None:
    for number in (1, 2, 3):
        await replica.want(a_desired(number, a_version(store, number)))
        await replica.open()
    replica.serving.upkeep.say_measures()

    assert len(replica.serving.deployments.sessions) == 1
    assert [v.version for v in replica.serving.deployments._loaded.values()] == [3]


def test_two_processes_never_share_a_folder(settings: Settings) -> None:
    disk = Disk(settings.data)

    with pytest.raises(DiskRefused, match="another process"):
        Disk(settings.data)

    disk.close()


def test_a_damaged_state_is_set_aside_and_comes_again_from_the_log(settings: Settings) -> None:
    settings.data.mkdir()
    (settings.data / "state.db").write_bytes(b"garbage " * 1000)

    disk = Disk(settings.data)

    assert list(disk.known()) == []
    assert disk.positions("tidewheel.deployment.v1") == {}
    disk.close()


async def test_a_release_that_reads_desired_states_otherwise_begins_at_the_beginning(
    replica: Replica, store: ArtifactStore
) -> None:
    places, disk = replica.serving.places, replica.serving.disk
    disk.keep_positions("tidewheel.deployment.v1", {0: 5})
    before = places.known()

    await places.hear(a_desired(1, a_version(store, 1)), 0, 2)
    places.write()

    assert before == {}
    assert places.known() == {("tidewheel.deployment.v1", 0): 3}


def test_positions_are_found_again(settings: Settings) -> None:
    disk = Disk(settings.data)
    disk.keep_positions("topic", {0: 5, 3: 9})
    disk.keep_positions("topic", {3: 10})
    disk.close()

    again = Disk(settings.data)

    assert again.positions("topic") == {0: 5, 3: 10}
    assert again.sweep([], kept_hours=0, now=clock.now) == []
    again.close()


async def test_models_are_listed_with_their_arms(replica: Replica, store: ArtifactStore) -> None:
    champion, challenger = a_version(store, 1), a_version(store, 2)
    await replica.want(a_desired(1, champion, challenger=challenger, weight=0.25))

    listed = (await replica.client.get("/v1/models")).json()["items"]
    shown = (await replica.client.get(f"/v1/models/{FLOW}")).json()

    assert [(m["model"], m["rung"]) for m in listed] == [(FLOW, "champion")]
    assert [(a["role"], a["weight"], a["loaded"]) for a in shown["arms"]] == [
        ("champion", 0.75, True),
        ("challenger", 0.25, True),
    ]
    assert [c["name"] for c in shown["columns"]] == list(A_ROW)
    assert (await replica.client.get("/v1/models/other")).status_code == 404
