"""A database of the first release is read by this one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import asyncpg
import pytest

from services.deployer.app import MIGRATIONS
from services.deployer.domain import Stage
from services.deployer.store import PostgresStore
from tests.conftest import OpenDatabase

pytestmark = pytest.mark.real

_POLICY = {
    "strategy": "canary",
    "steps": [0.05, 0.5],
    "step_for": "PT10M",
    "minimum_requests": 100,
    "give_up_after": "P1D",
    "window": "Mon-Thu 08:00-16:00 Europe/Berlin",
    "approval": "manual",
    "probation": "PT1H30M",
    "objective": "PT0.1S",
}
_ROLLOUT = {
    "id": "00000000-0000-0000-0000-000000000007",
    "version": 2,
    "manifest": "2" * 64,
    "dataset_version": 2,
    "rule": {"rule": "constant", "value": 1.0},
    "evaluation": "00000000-0000-0000-0000-000000000008",
    "correlation": "00000000-0000-0000-0000-000000000009",
    "champion": 1,
    "policy": _POLICY,
    "stage": "awaiting_approval",
    "at": "2026-03-04T12:00:00Z",
    "proposed_at": "2026-03-04T12:00:00Z",
    "step": 0,
    "canary_at": None,
    "first_generation": 0,
    "step_generation": 0,
    "step_requests": 0,
    "held_until": None,
    "evidence": {
        "errors": {"abort": [], "promote": [], "requests": [0, 0], "events": [0, 0]},
        "slow": {"abort": [], "promote": [], "requests": [0, 0], "events": [0, 0]},
        "measures": {},
    },
    "detail": "",
}
_ENDPOINT = {
    "model": "pump",
    "generation": 3,
    "seq": 5,
    "fence": 2,
    "champion": {"version": 1, "manifest": "1" * 64, "rule": {}, "before": None},
    "past": [],
    "rule": None,
    "rollout": _ROLLOUT,
    "awaiting": None,
    "taken_up": [1, 2],
    "salt": "a",
    "evaluation": None,
    "correlation": None,
    "probation_until": "2026-03-04T13:00:00Z",
}


async def test_what_was_on_its_way_goes_on_after_an_upgrade(
    open_database: OpenDatabase, tmp_path: Path
) -> None:
    old = tmp_path / "services" / "deployer" / "migrations"
    old.mkdir(parents=True)
    shutil.copy(MIGRATIONS / "0001_deployer.sql", old)
    database = await open_database("deployer", old)
    connection = await asyncpg.connect(database.url)
    await connection.execute(
        "insert into endpoint (model, generation, seq, body, due_seq, changed_at) "
        "values ('pump', 3, 5, $1, 5, now())",
        json.dumps(_ENDPOINT),
    )
    await connection.execute(
        "insert into rollout (id, model, version, dataset_version, stage, at, body) "
        "values ($1, 'pump', 2, 2, 'awaiting_approval', now(), $2)",
        _ROLLOUT["id"],
        json.dumps(_ROLLOUT),
    )
    await connection.close()

    await database.prepare([MIGRATIONS])

    endpoint = await PostgresStore(database).endpoint("pump")
    assert endpoint is not None
    assert endpoint.probation is not None
    rollout = endpoint.rollout
    assert rollout is not None
    assert rollout.stage is Stage.AWAITING_APPROVAL
    assert rollout.approvals is not None
    assert rollout.rules.window == ("Mon-Thu 08:00-16:00 Europe/Berlin",)
    assert rollout.rules.approval.needed == 1
    assert rollout.rules.give_up_after.days == 1
    assert [r for _, r in await PostgresStore(database).rollouts("pump", below=9, limit=9)]
