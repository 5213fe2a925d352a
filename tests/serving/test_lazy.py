"""Thousands of models in one process: opened when asked, closed when others are asked more."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from services.serving.app import Serving
from services.serving.domain.versions import Loaded, Proof
from services.serving.settings import Settings
from services.serving.store import proofs
from shared.artifacts import ArtifactStore
from shared.events import Digest, ModelName
from shared.manifest import Manifest
from shared.running import Part
from tests.serving.building import (
    A_ROW,
    FLOW,
    Replica,
    Version,
    a_desired,
    a_regressor,
    a_replica,
    a_version,
    settings_for,
    until,
)

MODELS = 40


def names(count: int) -> list[str]:
    return [f"m-{number}" for number in range(count)]


async def with_models(replica: Replica, store: ArtifactStore, count: int = MODELS) -> None:
    """So many models, each with a file of its own."""
    for number, name in enumerate(names(count), 1):
        await replica.want(a_desired(1, a_version(store, number, model=name), model=name))


def loaded_of(replica: Replica, model: str = FLOW) -> Loaded:
    found = replica.serving.deployments.endpoints[ModelName(model)].main_path[0].loaded
    assert found is not None
    return found


async def test_a_version_is_proved_when_it_is_applied_and_opened_when_it_is_asked(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 3)))
    before = len(replica.serving.deployments.sessions)
    shown = (await replica.client.get(f"/v1/models/{FLOW}")).json()["arms"][0]

    (answer,) = await replica.answers()

    assert (before, shown["loaded"], shown["open"]) == (0, True, False)
    assert (answer["version"], answer["rung"]) == (3, "champion")
    assert len(replica.serving.deployments.sessions) == 1


async def test_after_a_restart_nothing_is_opened_before_it_is_asked(
    settings: Settings, store: ArtifactStore
) -> None:
    async with a_replica(settings) as replica:
        await with_models(replica, store)

    async with a_replica(settings, lambda _: []) as again:
        deployments = again.serving.deployments
        at_first = (len(deployments.sessions), len(list(deployments.endpoints.values())))
        (answer,) = await again.answers(model="m-7")

        assert at_first == (0, 0)
        assert (len(deployments.endpoints), answer["version"]) == (MODELS, 8)
        assert (len(deployments.sessions), len(list(deployments.endpoints.values()))) == (1, 1)


async def test_what_was_asked_last_is_open_again_soon_after_a_restart(
    settings: Settings, store: ArtifactStore
) -> None:
    async with a_replica(settings) as replica:
        await with_models(replica, store)
        for name in ("m-3", "m-9"):
            await replica.answers(model=name)

    def warming(serving: Serving) -> Sequence[Part]:
        return [serving.deployments.warm_up]

    async with a_replica(settings, warming) as again:
        await until(again.serving.deployments.is_warm.is_set)

        assert {loaded.version for loaded in again.serving.deployments.sessions.busiest(9)} == {
            4,
            10,
        }


async def test_a_cold_model_costs_less_than_a_kilobyte(
    settings: Settings, store: ArtifactStore
) -> None:
    version = a_version(store, 1)
    async with a_replica(settings) as replica:
        for name in names(200):
            await replica.serving.deployments.want(a_desired(1, version, model=name))
        await until(lambda: replica.serving.deployments.is_settled)

    async with a_replica(settings, lambda _: []) as again:
        known = again.serving.deployments.endpoints.known
        known.clear()
        gc.collect()
        tracemalloc.start()
        known.update(again.serving.disk.known())
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert taken / 200 < 1_000


async def test_the_least_recently_asked_are_closed_and_opened_again(
    tmp_path: Path, store: ArtifactStore
) -> None:
    async with a_replica(settings_for(tmp_path, open_bytes=1_000_000)) as replica:
        await with_models(replica, store)
        sessions = replica.serving.deployments.sessions
        each = 0
        for name in names(MODELS):
            await replica.answers(model=name)
            await replica.answers(model="m-0")
            each = each or sessions.open_bytes
            sessions.most_bytes = 10 * each
            assert sessions.open_bytes <= 10 * each

        assert sessions.closed >= MODELS - 10
        assert loaded_of(replica, "m-0").opened is not None
        assert loaded_of(replica, "m-1").opened is None
        assert (await replica.answers(model="m-1"))[0]["rung"] == "champion"


async def test_a_version_that_is_answering_is_not_closed(
    replica: Replica, store: ArtifactStore
) -> None:
    await with_models(replica, store, 4)
    sessions = replica.serving.deployments.sessions
    first = await replica.serving.deployments.opened(loaded_of(replica, "m-0"))
    assert first is not None
    sessions.most_bytes = sessions.open_bytes
    (session,) = sessions._open.values()

    session.busy.append(None)
    await replica.answers(model="m-1")
    while_busy = loaded_of(replica, "m-0").opened
    session.busy.pop()
    await replica.answers(model="m-2")

    assert while_busy is first
    assert loaded_of(replica, "m-0").opened is None
    assert len(first.say([dict(A_ROW)])) == 1, "who has it may use it to the end"


async def test_models_of_the_same_files_share_what_is_open(
    replica: Replica, store: ArtifactStore
) -> None:
    estimator = a_regressor(5.0)
    for number, name in enumerate(names(5), 1):
        version = a_version(store, number, estimator=estimator, model=name)
        await replica.want(a_desired(1, version, model=name))

    answers = [(await replica.answers(model=name))[0] for name in names(5)]

    assert [answer["version"] for answer in answers] == [1, 2, 3, 4, 5]
    assert len({answer["answer"] for answer in answers}) == 1
    assert (
        len(replica.serving.deployments.sessions),
        replica.serving.deployments.sessions.opened,
    ) == (1, 1)


async def test_many_first_requests_at_once_open_a_version_once_and_in_few_threads(
    replica: Replica, store: ArtifactStore
) -> None:
    await with_models(replica, store)
    before = threading.active_count()

    answers = await asyncio.gather(*(replica.answers(model=n) for n in names(MODELS) * 5))

    assert {answer[0]["rung"] for answer in answers} == {"champion"}
    assert replica.serving.deployments.sessions.opened == MODELS
    assert threading.active_count() - before <= replica.serving.settings.openers + 4


def slowly(replica: Replica, model: str, gate: threading.Event) -> None:
    """Opening this model waits for the gate."""
    disk = replica.serving.disk
    file = loaded_of(replica, model).manifest.files["model.skops"].digest
    whole: Callable[[Digest], bytes] = disk.read

    def read(digest: Digest) -> bytes:
        if digest == file:
            gate.wait(20)
        return whole(digest)

    object.__setattr__(disk, "read", read)


async def test_while_a_version_takes_long_to_open_the_rung_below_answers_and_then_it_does(
    tmp_path: Path, store: ArtifactStore
) -> None:
    gate = threading.Event()
    async with a_replica(settings_for(tmp_path, opening_seconds=0.05)) as replica:
        await replica.want(a_desired(1, a_version(store, 2)))
        await replica.want(a_desired(1, a_version(store, 1, model="other"), model="other"))
        slowly(replica, FLOW, gate)

        (early,) = await replica.answers()
        (neighbour,) = await replica.answers(model="other")
        gate.set()
        await until(lambda: loaded_of(replica).opened is not None)
        (late,) = await replica.answers()

    assert (early["rung"], neighbour["rung"], late["rung"]) == ("baseline", "champion", "champion")


async def test_a_new_champion_is_open_before_it_takes_the_place_of_one_that_is(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1)))
    await replica.answers()

    await replica.want(a_desired(2, a_version(store, 2), previous=a_version(store, 1)))

    path = replica.serving.deployments.endpoints[FLOW].main_path
    assert [step.loaded.opened is not None for step in path[:2] if step.loaded] == [True, True]


async def test_an_endpoint_that_nobody_asks_is_forgotten_and_made_again(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 3)))
    await replica.answers()
    deployments, later = replica.serving.deployments, [0.0]
    clock = deployments._monotonic
    deployments._monotonic = lambda: clock() + later[0]

    later[0] = 61.0
    deployments.retry_due()
    while_open = deployments.endpoints.warm(FLOW)
    deployments.sessions.drop(loaded_of(replica))
    replica.serving.upkeep.say_measures(all_of_them=True)
    later[0] = 122.0
    deployments.retry_due()
    replica.serving.upkeep.say_measures()

    assert while_open is not None
    assert deployments.endpoints.warm(FLOW) is None
    assert deployments.measures == []
    assert (await replica.answers())[0]["rung"] == "champion"


async def test_a_version_that_rests_is_not_forgotten(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 3)))
    deployments = replica.serving.deployments
    loaded_of(replica).health.failures = 3
    clock = deployments._monotonic
    deployments._monotonic = lambda: clock() + 61

    deployments.retry_due()

    assert deployments.endpoints.warm(FLOW) is not None


async def test_models_are_listed_in_pages_and_stay_cold(
    settings: Settings, store: ArtifactStore
) -> None:
    async with a_replica(settings) as replica:
        await with_models(replica, store, 5)

    async with a_replica(settings, lambda _: []) as again:
        first = (await again.client.get("/v1/models?limit=3")).json()
        second = (await again.client.get(f"/v1/models?limit=3&cursor={first['next']}")).json()
        wrong = await again.client.get("/v1/models?limit=0")

        assert [one["model"] for one in first["items"] + second["items"]] == names(5)
        assert (first["next"], second["next"]) == ("m-2", None)
        assert all(one["arms"][0]["loaded"] for one in first["items"])
        assert list(again.serving.deployments.endpoints.values()) == []
        assert wrong.status_code == 422


class Counted:
    """A prover that counts what it is asked."""

    def __init__(self, replica: Replica) -> None:
        self._real = replica.serving.deployments.bringer._prover
        replica.serving.deployments.bringer._prover = self
        self.asked = 0

    async def prove(self, digest: Digest, manifest: Manifest) -> Proof:
        self.asked += 1
        return await self._real.prove(digest, manifest)

    async def close(self) -> None:
        await self._real.close()


async def applied_by(settings: Settings, version: Version) -> int:
    """How often it was proved until it was applied."""
    async with a_replica(settings) as replica:
        prover = Counted(replica)
        await replica.want(a_desired(1, version))
        assert (await replica.answers())[0]["rung"] == "champion"
        return prover.asked


async def test_replicas_that_share_artifacts_share_proofs(
    tmp_path: Path, store: ArtifactStore
) -> None:
    version = a_version(store, 3)
    first = settings_for(tmp_path)
    second = settings_for(
        tmp_path, data=tmp_path / "other", artifacts_folder=first.data / "artifacts"
    )

    asked = [await applied_by(one, version) for one in (first, second)]

    assert asked == [1, 0]
    assert not (second.data / "artifacts").exists()


async def test_another_release_does_not_trust_the_proofs_of_the_one_before(
    settings: Settings, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = a_version(store, 3)
    async with a_replica(settings) as replica:
        await replica.want(a_desired(1, version))
    monkeypatch.setattr(proofs, "CHECKS", 10**6)

    async with a_replica(settings) as again:
        before = again.serving.deployments._proofs.of(version.digest)
        answers = await again.answers()

        assert before is None
        assert answers[0]["rung"] == "champion"
        assert again.serving.deployments._proofs.of(version.digest) is not None


async def test_an_estimate_is_kept_of_what_is_open_and_nothing_of_what_is_gone(
    replica: Replica, store: ArtifactStore
) -> None:
    sessions = replica.serving.deployments.sessions
    await with_models(replica, store, 3)
    for name in names(3):
        await replica.answers(model=name)
    taken = sessions.open_bytes

    for name in names(3):
        await replica.want(a_desired(2, model=name))
        await replica.answers(model=name)
    replica.serving.upkeep.say_measures(all_of_them=True)
    gc.collect()

    assert taken > 3 * 8_000
    assert (len(sessions), sessions.open_bytes) == (0, 0)
