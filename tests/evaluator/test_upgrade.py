"""A database of the first release is read by this one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.evaluator.app import MIGRATIONS
from services.evaluator.store import PostgresStore
from shared.ids import uuid7
from shared.jobs import Jobs
from tests.conftest import OpenDatabase
from tests.evaluator.building import a_spec

pytestmark = pytest.mark.real

_GATE = {
    "metric": "mae", "versus": "baseline", "passed": True, "estimate": 1.0, "lower": 0.5,
    "upper": 1.5, "confidence": 0.95, "margin": 0.0, "rows": 100, "test": "bootstrap-t",
    "detail": "",
}  # fmt: skip


async def a_version(connection: Any, model: str, version: int, split: str, champion: int) -> None:
    """A candidate that was judged on these rows; without any where `split` is empty."""
    registered = {"model": model, "version": version, "spec": a_spec(name=model), "split": split}
    await connection.execute(
        "insert into candidate (model, version, registered, cause, correlation, state) "
        "values ($1, $2, $3, $4, $4, 'accepted')",
        model,
        version,
        json.dumps(registered),
        uuid7(),
    )
    await connection.execute(
        "insert into verdict (model, version, champion, policy, job, accepted, gates, judged_at) "
        "values ($1, $2, $3, 'old', $4, true, $5, now())",
        model,
        version,
        champion,
        uuid7(),
        json.dumps([_GATE] if split else []),
    )


async def test_what_was_judged_before_an_upgrade_is_known_and_counts(
    open_database: OpenDatabase, tmp_path: Path
) -> None:
    old = tmp_path / "services" / "evaluator" / "migrations"
    old.mkdir(parents=True)
    shutil.copy(MIGRATIONS / "0001_evaluator.sql", old)
    database = await open_database("evaluator", old)
    connection = await asyncpg.connect(database.url)
    await a_version(connection, "pump", 1, "a" * 64, 0)
    await a_version(connection, "pump", 2, "b" * 64, 1)
    await a_version(connection, "pump", 3, "b" * 64, 1)
    await a_version(connection, "valve", 1, "", 0)
    await connection.execute("insert into champion values ('pump', 1, $1)", "1" * 64)
    await connection.close()

    await database.prepare([MIGRATIONS])
    store = PostgresStore(database, Jobs(database, "verdict"), Jobs(database, "best"))
    await store.know_all()
    await store.know_all()

    assert [await store.uses("pump", split * 64) for split in "ab"] == [1, 2]
    assert await store.newest_split("pump") == "b" * 64
    assert await store.newest_split("valve") is None
    assert await store.owner("pump") == await store.owner("valve") == a_spec()["owner"]
    standing = await store.standing("pump")  # type: ignore[arg-type] # a name
    assert standing.champion is not None
    assert standing.champion.proven == {"mae": 0.5}
