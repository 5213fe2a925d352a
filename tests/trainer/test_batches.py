"""A whole dataset version is answered: a row for every row, in a file, whatever is killed."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import polars as pl
import pytest
import uvicorn
from sklearn.linear_model import Ridge

from services.trainer import batch
from services.trainer.batch.answering import INCOMPLETE, INFINITE, UNUSABLE, answer
from services.trainer.batch.store import BatchStore
from services.trainer.fitting.run import fit
from services.trainer.worker import Workshop
from shared import clock, http
from shared.confined import Confined
from shared.errors import Conflict, NotFound
from shared.events import (
    BatchFailed,
    BatchPredicted,
    Event,
    ModelPromoted,
    ModelRegistered,
    TrainingCompleted,
)
from shared.jobs import Jobs
from shared.manifest import Manifest, read_manifest
from shared.models import dump, load, predict
from tests.support.door import door_settings
from tests.support.house import a_spec, some_rows
from tests.support.schemas import example_of
from tests.support.waiting import eventually
from tests.trainer.builders import an_argument, defined
from tests.trainer.conftest import Room

pytestmark = pytest.mark.timeout(180)
real = pytest.mark.real
CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def batches(room: Room) -> batch.Batches:
    jobs = Jobs(room.database, batch.KIND)
    return batch.Batches(store=BatchStore(room.database), jobs=jobs, artifacts=room.artifacts)


@pytest.fixture
def answering(batches: batch.Batches, confined: Confined) -> batch.BatchWorker:
    return batch.BatchWorker(
        store=batches.store, jobs=batches.jobs, artifacts=batches.artifacts, confined=confined,
        now=clock.now, seconds=60, megabytes=1000,
    )  # fmt: skip


@asynccontextmanager
async def at_work(worker: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def has_said(room: Room, kind: type[Event], count: int = 1) -> list[Any]:
    async def enough() -> bool:
        return len(await room.said(kind)) >= count

    await eventually(enough, what=f"{count} {kind.__name__}", timeout_seconds=60)
    return [heard.event for heard in await room.said(kind)]


async def a_champion(
    room: Room,
    workshop: Workshop,
    batches: batch.Batches,
) -> Manifest:
    """Version 3 of `demand`, trained on what is published as version 1."""
    await room.hear(defined(a_spec("demand", "sales")))
    await room.publish(1, 200)
    async with at_work(workshop):
        (made,) = await has_said(room, TrainingCompleted)
    same: Any = {"model": made.model, "version": 3, "manifest": made.manifest}
    registered: Any = example_of(ModelRegistered)
    promoted: Any = example_of(ModelPromoted)
    async with room.database.transaction():
        await batches.note_version(replace(registered, event=replace(registered.event, **same)))
    await room.hear(replace(promoted.event, **same, dataset_version=1))
    return read_manifest(room.artifacts.get(made.manifest))


@dataclass(frozen=True, slots=True)
class Ran:
    code: int | None
    out: str


@dataclass(frozen=True, slots=True)
class Starving:
    """Whatever else is queued finds that all of its workers have died."""

    answering: batch.BatchWorker
    but: UUID

    async def run(self) -> None:
        sql = (
            "update job set attempt = 8 where kind = 'batch' and state = 'waiting' and id <> $1 "
            "returning id"
        )
        database = self.answering.jobs.database
        await eventually(lambda: database.fetchval(sql, self.but), what="a batch to be queued")
        await self.answering.run()


@asynccontextmanager
async def opened(app: Any) -> AsyncIterator[str]:
    """The address of a door that is open."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())

    async def is_open() -> bool:
        return server.started

    await eventually(is_open, what="the door to open")
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


async def the_command(folder: Path, url: str, *arguments: str) -> Ran:
    """`tidewheel` in a process of its own, as an operator."""
    context = folder / "context.json"
    context.write_text(json.dumps({"services": {"trainer": url}, "key": "tw_operator"}))
    path = os.pathsep.join((str(CHECKOUT / "client"), str(CHECKOUT)))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tidewheel", *arguments, cwd=folder,
        env={"PATH": os.defpath, "PYTHONPATH": path, "TIDEWHEEL_CONTEXT": str(context)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return Ran(process.returncode, out.decode())


def frame_of(data: bytes) -> pl.DataFrame:
    return pl.read_csv(io.BytesIO(data))


@real
async def test_every_row_has_its_answer_in_order(
    room: Room, workshop: Workshop, batches: batch.Batches, answering: batch.BatchWorker
) -> None:
    manifest = await a_champion(room, workshop, batches)
    await room.publish(2, 300)

    batch_id = await batches.ask("demand", None, "sales", None, "ada")
    again = await batches.ask("demand", 3, "sales", 2, "bob")
    async with at_work(answering):
        (event,) = await has_said(room, BatchPredicted)

    found = frame_of(room.artifacts.get(event.output))
    rows = frame_of(some_rows(300).encode())
    model = load(room.artifacts.get(manifest.files["model.skops"].digest))
    expected = predict(model, rows.select("a", "b").to_numpy().astype(float), "regression")
    shown = await batches.store.find(batch_id)
    assert again == batch_id == event.batch
    assert (event.version, event.dataset_version, event.requested_by) == (3, 2, "ada")
    assert (event.rows, event.refused) == (300, 0)
    assert found["row"].to_list() == list(range(1, 301))
    assert found["answer"].to_list() == pytest.approx(expected.values.tolist())
    assert set(found["rung"]) == {"version"}
    assert shown is not None
    assert (shown["state"], shown["done"], shown["output"]) == ("done", 300, event.output)


@real
async def test_a_killed_child_is_followed_by_another(
    room: Room,
    workshop: Workshop,
    batches: batch.Batches,
    answering: batch.BatchWorker,
    confined: Confined,
) -> None:
    await a_champion(room, workshop, batches)
    batch_id = await batches.ask("demand", None, "sales", None, "ada")

    async with at_work(answering):

        async def began() -> bool:
            found = await batches.store.find(batch_id)
            return found is not None and found["started_at"] is not None

        await eventually(began, what="the batch to begin", timeout_seconds=30)
        if confined.template_pid:
            os.kill(confined.template_pid, signal.SIGKILL)
        (event,) = await has_said(room, BatchPredicted)

    assert event.rows == 200
    assert len(await room.said(BatchPredicted)) == 1


@real
async def test_what_cannot_be_answered_is_said_and_may_be_tried_again(
    room: Room, workshop: Workshop, batches: batch.Batches, answering: batch.BatchWorker
) -> None:
    manifest = await a_champion(room, workshop, batches)
    first = await batches.ask("demand", 3, "sales", 1, "ada")
    await room.database.execute(
        "update job set payload = jsonb_set(payload, '{file}', to_jsonb($2::text)) where id = $1",
        first, "0" * 64,
    )  # fmt: skip

    async with at_work(answering):
        (failed,) = await has_said(room, BatchFailed)
        second = await batches.ask("demand", 3, "sales", 1, "ada")
        (event,) = await has_said(room, BatchPredicted)

    assert failed.reason == "error"
    assert "0000" in failed.detail
    assert second != first
    assert event.batch == second
    assert manifest.files


@real
async def test_a_batch_whose_workers_all_died_says_that_it_failed(
    room: Room,
    workshop: Workshop,
    batches: batch.Batches,
    answering: batch.BatchWorker,
    tmp_path: Path,
) -> None:
    await a_champion(room, workshop, batches)
    given_up = await batches.ask("demand", 3, "sales", 1, "ada")
    # As it is left by the last of them: claimed for the eighth time, and silent since.
    await room.database.execute(
        "update job set state = 'running', attempt = 8, lease_until = now() - interval '1 second' "
        "where id = $1",
        given_up,
    )

    async with at_work(answering):
        (event,) = await has_said(room, BatchFailed)
    door = batch.router(room.store, batches.store, batches, room.artifacts)
    app = http.build("trainer", door_settings(tmp_path), [door], ready=lambda: {"ready": True})
    async with opened(app) as url:
        shown = await the_command(tmp_path, url, "batches", "demand", "--json")
        (found,) = [json.loads(line) for line in shown.out.splitlines()]
        async with at_work(Starving(answering, given_up)):
            ended = await the_command(tmp_path, url, "batch", "demand", "--version", "3",
                                      "--data-version", "1", "--out", "answers.csv")  # fmt: skip

    assert (event.batch, event.reason) == (given_up, "crashed")
    assert (found["state"], found["outcome"], found["reason"]) == ("failed", "failed", "crashed")
    assert found["finished_at"] is not None
    assert ended.code == 65
    assert "no answers (crashed): given up after 8 attempts" in ended.out
    assert not (tmp_path / "answers.csv").exists()


@real
async def test_what_does_not_fit_is_refused_at_the_door(
    room: Room, workshop: Workshop, batches: batch.Batches, tmp_path: Path
) -> None:
    await a_champion(room, workshop, batches)
    await room.publish(2, 0, csv="a,c\n1.0,2.0\n")
    await room.database.execute(
        "update dataset_version set columns = $1 where version = 2",
        [["a", "text"], ["c", "number"]],
    )
    app = http.build(
        "trainer",
        door_settings(tmp_path),
        [batch.router(room.store, batches.store, batches, room.artifacts)],
        ready=lambda: {"ready": True},
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://trainer"
    ) as client:
        operator = {"Authorization": "Bearer tw_operator"}
        path = "/v1/models/demand/batches"
        taken = await client.post(path, json={"dataset_version": 1}, headers=operator)
        wrong = await client.post(path, json={"dataset_version": 2}, headers=operator)
        never = await client.post(path, json={"dataset_version": 9}, headers=operator)
        looked = await client.get(taken.json()["status_url"], headers=operator)
        early = await client.get(taken.json()["status_url"] + "/output", headers=operator)
        listed = await client.get(path, headers=operator)
        stranger = await client.post(path, json={}, headers={"Authorization": "Bearer tw_viewer"})

    assert taken.status_code == 202
    assert wrong.status_code == 422
    assert [fault["detail"] for fault in wrong.json()["errors"]] == [
        "its column 'a' is text, the version needs number",
        "it has no column 'b'",
    ]
    assert never.status_code == 404
    assert looked.json()["state"] == "waiting"
    assert early.status_code == 409
    assert [one["batch"] for one in listed.json()["items"]] == [taken.json()["batch"]]
    assert stranger.status_code == 403


@real
async def test_without_a_champion_a_version_must_be_named(batches: batch.Batches) -> None:
    with pytest.raises(Conflict, match="no champion yet"):
        await batches.ask("demand", None, "sales", None, "ada")
    with pytest.raises(NotFound, match="Version 7"):
        await batches.ask("demand", 7, "sales", None, "ada")


ODD = pl.DataFrame({"a": [0.5, None, float("inf"), 1e6, 0.5], "b": [1.0, 1.0, 1.0, 1.0, None]})


def answered(
    folder: Path, made: Mapping[str, Any], rows: pl.DataFrame, file_format: str = "csv"
) -> tuple[dict[str, Any], pl.DataFrame]:
    """What the child makes of these rows, without the database."""
    paths = {name: folder / name for name in ("data", "model", "output", "progress")}
    if file_format == "csv":
        rows.write_csv(paths["data"])
    else:
        rows.write_parquet(paths["data"])
    paths["model"].write_bytes(made["model"])
    told = answer({
        "manifest": made["manifest"], "format": file_format,
        "columns": [["a", "number"], ["b", "number"]],
        **{name: str(path) for name, path in paths.items()},
    })  # fmt: skip
    read = pl.read_csv if file_format == "csv" else pl.read_parquet
    assert paths["progress"].read_text() == str(len(rows))
    return told, read(paths["output"])


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_odd_rows_get_the_rule_s_answer_or_a_reason(tmp_path: Path, file_format: str) -> None:
    made = fit(an_argument(a_spec("demand", "sales", serving={"bounds": [-50, 50]})))

    told, found = answered(tmp_path, made, ODD, file_format)

    assert told == {"rows": 5, "refused": 1, "by_rule": 1}
    assert found["rung"].to_list() == ["version", "version", "none", "baseline", "version"]
    assert found["reason"].to_list() == [None, None, INFINITE, UNUSABLE, None]
    assert found["answer"].is_null().to_list() == [False, False, True, False, False]


def test_a_version_that_takes_no_missing_values_leaves_these_rows_to_the_rule(
    tmp_path: Path,
) -> None:
    X = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    bare = dump(Ridge().fit(X, np.array([1.0, 2.0, 3.0])))
    made = fit(an_argument(a_spec("demand", "sales"))) | {"model": bare}

    told, found = answered(tmp_path, made, ODD)

    assert told == {"rows": 5, "refused": 1, "by_rule": 2}
    assert found["reason"].to_list() == [None, INCOMPLETE, INFINITE, None, INCOMPLETE]


def test_classes_come_with_their_probabilities(tmp_path: Path) -> None:
    text = "a,b,y\n" + "".join(
        f"{n % 7 / 7:.3f},{n % 5 / 5:.3f},{'high' if n % 7 > 3 else 'low'}\n" for n in range(200)
    )
    spec = a_spec(
        "demand", "sales", task="classification", train={"candidates": [], "baseline": "majority"},
        gates=[{"metric": "log_loss", "vs": "baseline"}],
    )  # fmt: skip
    kinds = {"a": "number", "b": "number", "y": "text"}
    made = fit(an_argument(spec, csv=text, columns=kinds))

    told, found = answered(tmp_path, made, frame_of(text.encode()).select("a", "b"))

    sums = found["probability_high"] + found["probability_low"]
    assert told["refused"] == 0
    assert set(found["answer"]) == {"high", "low"}
    assert sums.to_list() == pytest.approx([1.0] * 200)
