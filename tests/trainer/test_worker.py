from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from services.trainer.domain import NO_EXCLUSIONS
from services.trainer.worker import Workshop
from shared.events import (
    DatasetAnnotated,
    DatasetName,
    ModelDefined,
    TrainingCompleted,
    TrainingFailed,
    TrainingStarted,
)
from shared.holdout import read_holdout
from shared.manifest import read_manifest
from shared.models import load, predict
from shared.reference import read_reference
from tests.support.house import a_spec
from tests.support.waiting import eventually
from tests.trainer.builders import defined
from tests.trainer.conftest import Room

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]
HERE = Path(__file__).parents[2]
ODD = "tests.support.odd_estimators"


def with_candidate(
    candidate: dict[str, Any], *, model: str = "demand", **train: Any
) -> ModelDefined:
    return defined(a_spec(model, "sales", train={"candidates": [candidate], **train}))


@asynccontextmanager
async def at_work(workshop: Workshop) -> AsyncIterator[None]:
    task = asyncio.create_task(workshop.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def has_said(room: Room, kind: Any, count: int = 1) -> list[Any]:
    async def enough() -> bool:
        return len(await room.said(kind)) >= count

    await eventually(enough, what=f"{count} {kind.__name__}", timeout_seconds=90)
    return await room.said(kind)


async def test_a_run_ends_with_everything_that_its_event_names(
    room: Room, workshop: Workshop
) -> None:
    await room.hear(defined(a_spec("demand", "sales")))
    cause = await room.publish(1, 200)

    async with at_work(workshop):
        (heard,) = await has_said(room, TrainingCompleted)

    event = heard.event
    (started,) = await room.said(TrainingStarted)
    assert started.event.run == event.run
    assert (heard.correlation, heard.causation) == (cause.correlation, cause.id)
    assert [one.sequence for one in await room.said()] == [1, 2]
    manifest = read_manifest(room.artifacts.get(event.manifest))
    assert manifest.holdout == event.split
    assert manifest.dataset_digest == event.dataset_digest
    assert len(read_holdout(room.artifacts.get(event.split))) == event.rows_held_out
    assert read_reference(room.artifacts.get(manifest.reference)).rows == event.rows_trained
    model = load(room.artifacts.get(manifest.files["model.skops"].digest))
    assert predict(model, read_holdout(room.artifacts.get(event.split)).matrix(
        manifest.columns), "regression").values.shape == (event.rows_held_out,)  # fmt: skip
    assert event.seconds.keys() == {"queue", "read", "fit", "score", "compile", "package"}
    run = await room.store.run(event.run)
    assert run is not None
    assert (run["state"], run["outcome"]) == ("done", "completed")
    assert run["result"]["manifest"] == event.manifest


async def test_the_same_data_and_seed_give_the_same_version_however_the_data_arrive(
    room: Room, workshop: Workshop
) -> None:
    await room.hear(defined(a_spec("demand", "sales")))
    await room.publish(1, 200)
    async with at_work(workshop):
        (in_memory,) = await has_said(room, TrainingCompleted)
    await room.database.execute("update job set state = 'failed'")
    async with room.database.transaction():
        await room.trainer.train(in_memory.event.model, "ada")

    async with at_work(replace(workshop, inline_bytes=10)):
        as_a_file = (await has_said(room, TrainingCompleted, 2))[1]

    assert as_a_file.event.run != in_memory.event.run
    assert as_a_file.event.manifest == in_memory.event.manifest
    assert (in_memory.event.requested_by, as_a_file.event.requested_by) == ("", "ada")


async def test_a_run_leaves_out_what_is_annotated_when_it_is_claimed(
    room: Room, workshop: Workshop
) -> None:
    """However the annotation came in: nobody has replaced the order while it waited."""
    await room.hear(defined(a_spec("demand", "sales")))
    cause = await room.publish(1, 200)
    queued = await room.database.fetchval("select id from job")
    await room.store.save_annotation(
        DatasetAnnotated(
            dataset=DatasetName("sales"),
            annotation=UUID(int=7),
            state="active",
            tag="corrupt",
            column="a",
            starts_at=datetime(1970, 1, 1, tzinfo=UTC),
            ends_at=datetime(1970, 1, 1, 0, 0, 0, 100_000, tzinfo=UTC),
            models=(),
            share=0.05,
            author="ada",
            by="ada",
            reason="a leak",
        )
    )

    async with at_work(workshop):
        (heard,) = await has_said(room, TrainingCompleted)

    (started,) = await room.said(TrainingStarted)
    assert started.event.run == heard.event.run != queued
    assert heard.correlation == cause.correlation
    assert (heard.event.rows_left_out, heard.event.periods) == (10, (UUID(int=7),))
    manifest = read_manifest(room.artifacts.get(heard.event.manifest))
    assert manifest.left_out is not None
    assert manifest.left_out.annotations == (str(UUID(int=7)),)
    assert manifest.exclusions_digest == heard.event.exclusions_digest != NO_EXCLUSIONS
    assert sorted(await room.states()) == [(1, "done"), (1, "superseded")]


async def test_every_bad_end_has_its_reason_and_its_number_of_tries(
    room: Room, workshop: Workshop
) -> None:
    endings: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "waits": ({"use": f"{ODD}.Waiting"}, {"budget": "1s"}),
        "crashes": ({"use": f"{ODD}.Crashing"}, {}),
        # 6,000 rows make a kernel of 288 MB, several times over.
        "greedy": ({"use": "sklearn.gaussian_process.GaussianProcessRegressor"}, {"memory": 256}),
        "reaches-out": ({"use": "os.system", "with": {"command": "true"}}, {}),
    }
    for model, (candidate, train) in endings.items():
        await room.hear(with_candidate(candidate, model=model, **train))
    await room.publish(1, 6000)

    async with at_work(workshop):
        heard = await has_said(room, TrainingFailed, len(endings))

    ended = {one.event.model: one.event for one in heard}
    assert {model: (event.reason, event.attempts) for model, event in ended.items()} == {
        "waits": ("timeout", 1),
        "crashes": ("crashed", 3),
        "greedy": ("resource_exceeded", 2),
        "reaches-out": ("error", 1),
    }
    assert "1 s" in ended["waits"].detail
    assert "SIGSEGV" in ended["crashes"].detail
    assert "256 MB" in ended["greedy"].detail
    assert "os.system is not on the allow-list" in ended["reaches-out"].detail
    assert len(await room.said(TrainingStarted)) == 7
    assert {state for _, state in await room.states()} == {"failed"}


async def test_missing_bytes_are_a_failure_not_a_wait(room: Room, workshop: Workshop) -> None:
    await room.hear(defined(a_spec("demand", "sales")))
    await room.publish(1, 200)
    forget_everything(room.artifacts.url)

    async with at_work(workshop):
        (heard,) = await has_said(room, TrainingFailed)

    assert heard.event.reason == "error"
    assert "no artifact has the digest" in heard.event.detail


async def test_a_stopped_worker_gives_its_run_back(room: Room, workshop: Workshop) -> None:
    await room.hear(with_candidate({"use": f"{ODD}.Waiting"}))
    await room.publish(1, 200)

    async with at_work(workshop):
        await has_said(room, TrainingStarted)

    assert await room.states() == [(1, "waiting")]


async def test_a_worker_killed_midway_completes_once(
    room: Room, workshop: Workshop, database_url: str
) -> None:
    slow = {"use": "sklearn.ensemble.GradientBoostingRegressor", "with": {"n_estimators": 400}}
    await room.hear(with_candidate(slow))
    await room.publish(1, 2000)
    doomed = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.trainer.worker_process", database_url, room.artifacts.url, "1",
        cwd=HERE, start_new_session=True,
    )  # fmt: skip
    await has_said(room, TrainingStarted)
    children = await with_a_fit_below(doomed.pid)

    os.kill(doomed.pid, signal.SIGKILL)
    await doomed.wait()
    async with at_work(workshop):
        (heard,) = await has_said(room, TrainingCompleted)
        assert await room.jobs.claim("another") is None

    assert heard.event.attempt == 2
    assert [one.event.attempt for one in await room.said(TrainingStarted)] == [1, 2]
    assert len(await room.said()) == 3
    assert await room.states() == [(1, "done")]
    assert not any(is_alive(pid) for pid in children)


def forget_everything(url: str) -> None:
    for blob in Path(url.removeprefix("file://")).rglob("*"):
        if blob.is_file():
            blob.unlink()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in found]


async def with_a_fit_below(pid: int) -> list[int]:
    """The template and its busy child, once there is one."""

    def below() -> list[int]:
        templates = children_of(pid)
        return templates + [child for t in templates for child in children_of(t)]

    async def busy() -> bool:
        return len(below()) >= 3  # with the one that waits for the next job

    await eventually(busy, what="a fit", timeout_seconds=60)
    return below()


async def test_the_process_of_the_service_stays_small() -> None:
    program = (
        "import sys, services.trainer.app;"
        "print(sorted({'sklearn', 'polars', 'numpy', 'optuna', 'scipy'} & set(sys.modules)))"
    )

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=HERE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()

    assert out.decode().strip() == "[]"
