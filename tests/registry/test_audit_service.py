"""The chain in the real database: made by the insert, kept by refusal, checked from outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from services.registry.audit import GENESIS, link_of
from services.registry.store import MIGRATIONS
from shared import codec
from shared.events import (
    AuditAnchored,
    Event,
    FreezeDeclared,
    FreezeLifted,
    Heard,
    ModelName,
    ModelPromoted,
    ReplicaAnnounced,
    WindowOverridden,
)
from tests.registry.builders import MOMENT, heard
from tests.registry.conftest import House
from tests.registry.test_log import a_promotion, a_skip
from tests.support.schemas import example_of

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


async def lines(house: House, **query: Any) -> list[dict[str, Any]]:
    answer = await house.client.get("/v1/audit/verify", params=query)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


async def verdict(house: House) -> dict[str, Any]:
    return (await lines(house))[-1]


async def anchored(house: House) -> AuditAnchored:
    """Tell the head and hear it again, as the bus would."""
    said = await house.registry.anchor()
    assert said is not None
    payloads = await house.database.fetch("select payload from said order by said_at")
    found = [codec.decode(row["payload"]) for row in payloads]
    await house.react([one for one in found if one.event == said][-1])
    return said


async def tampered(house: House, sql: str, *arguments: Any) -> None:
    """As somebody who owns the database and has switched the triggers off."""
    async with house.database.transaction() as transaction:
        await transaction.connection.execute("set local session_replication_role = replica")
        await transaction.connection.execute(sql, *arguments)


async def with_facts(house: House, count: int = 12) -> list[int]:
    """Positions of that many facts."""
    for number in range(count):
        await house.react(heard(a_skip(number + 1)))
    rows = await house.database.fetch("select seq from audit_link order by seq")
    return [row["seq"] for row in rows]


async def test_every_fact_that_is_kept_is_linked_by_its_own_insert(house: House) -> None:
    await with_facts(house)
    announced = ReplicaAnnounced(replica="0", replica_sequence=1, url="http://x", models=0)
    await house.react(heard(announced))

    found = await lines(house, rows=True)

    rows = [line for line in found if line["kind"] == "row"]
    assert len(rows) == 12
    previous = GENESIS
    for row in rows:
        assert row["chain"] == link_of(previous, row["row"])
        previous = row["chain"]
    assert found[-1] | {"kind": "verdict", "whole": True, "rows": 12} == found[-1]


async def test_the_canonical_text_holds_everything_that_the_log_shows(house: House) -> None:
    fact = heard(a_skip())
    await house.react(fact)

    (shown,) = (await house.get("/v1/events"))["items"]
    (row,) = [line for line in await lines(house, rows=True) if line["kind"] == "row"]

    told = json.loads(row["row"])
    names = ("position", "id", "topic", "type", "subject", "sequence", "source")
    assert told[:7] == [shown[name] for name in names]
    assert told[7:9] == [shown["correlation"], shown["causation"]]
    assert told[9] == fact.time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert told[10] == shown["data"]


async def test_writers_at_once_make_one_chain(house: House) -> None:
    await asyncio.gather(*(house.react(heard(a_skip(n + 1))) for n in range(40)))

    assert (await verdict(house))["whole"] is True
    assert (await verdict(house))["rows"] == 40


@pytest.mark.parametrize(
    "sql",
    [
        "update event_log set data = '{}'",
        "delete from event_log where type = 'tidewheel.training.skipped.v1'",
        "truncate event_log",
        "update audit_link set chain = ''",
        "delete from audit_link",
        "truncate audit_link",
    ],
)
async def test_what_is_linked_can_neither_be_changed_nor_removed(house: House, sql: str) -> None:
    await with_facts(house, 2)

    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="append-only"):
        await house.database.execute(sql)

    assert (await verdict(house))["whole"] is True


Tamper = Callable[[House, list[int]], Awaitable[None]]


async def _alter(house: House, at: list[int]) -> None:
    sql = "update event_log set data = jsonb_set(data, '{detail}', '\"no\"') where seq = $1"
    await tampered(house, sql, at[5])


async def _delete(house: House, at: list[int]) -> None:
    for table in ("event_log", "audit_link"):
        await tampered(house, f"delete from {table} where seq = $1", at[5])


async def _hide(house: House, at: list[int]) -> None:
    """A row that passes for one that is forgotten anyway."""
    sql = "update event_log set type = 'tidewheel.serving.measured.v1' where seq = $1"
    await tampered(house, sql, at[5])


async def _truncate(house: House, at: list[int]) -> None:
    for table in ("event_log", "audit_link"):
        await tampered(house, f"delete from {table} where seq >= $1", at[8])


async def _insert(house: House, at: list[int]) -> None:
    columns = "topic, type, subject, sequence, source, correlation, causation, time, data"
    await tampered(
        house,
        f"insert into event_log (seq, event_id, {columns}) "
        f"select 100000, gen_random_uuid(), {columns} from event_log where seq = $1",
        at[5],
    )


async def _swap(house: House, at: list[int]) -> None:
    await tampered(house, "update event_log set seq = -1 where seq = $1", at[3])
    await tampered(house, "update event_log set seq = $2 where seq = $1", at[7], at[3])
    await tampered(house, "update event_log set seq = $1 where seq = -1", at[7])


async def _compute_anew(house: House, at: list[int]) -> None:
    await _alter(house, at)
    await tampered(house, "delete from audit_link")
    rows = await house.database.fetch(
        "select seq, event_log_text(event_log) as row from event_log order by seq"
    )
    previous = GENESIS
    for row in rows:
        previous = link_of(previous, row["row"])
        await tampered(
            house, "insert into audit_link values ($1, $2)", row["seq"], bytes.fromhex(previous)
        )


@pytest.mark.parametrize(
    "tamper", [_alter, _delete, _hide, _truncate, _insert, _swap, _compute_anew]
)
async def test_whoever_gets_past_the_triggers_is_found(house: House, tamper: Tamper) -> None:
    positions = await with_facts(house)
    await anchored(house)
    assert (await verdict(house))["whole"] is True

    await tamper(house, positions)

    told = await verdict(house)
    assert told["whole"] is False
    assert told["faults"]


async def test_the_head_is_anchored_when_it_has_moved_and_only_then(house: House) -> None:
    assert await house.registry.anchor() is None
    await with_facts(house, 2)

    first = await anchored(house)

    assert await house.registry.anchor() is None
    await with_facts(house, 1)
    second = await anchored(house)
    head = await house.get("/v1/audit/head")
    assert second.position > first.position
    assert head["head"] == {"position": second.position, "chain": second.chain}
    assert head["anchor"]["position"] == second.position


async def test_registries_side_by_side_anchor_a_head_once(house: House) -> None:
    await with_facts(house, 2)

    told = await asyncio.gather(*(house.registry.anchor() for _ in range(4)))

    assert len([one for one in told if one is not None]) == 1
    assert len(await house.said("audit.anchored")) == 1


async def test_rows_of_before_the_chain_are_linked_by_the_migration(database_url: str) -> None:
    connection: Any = await asyncpg.connect(database_url)
    try:
        await connection.execute((MIGRATIONS / "0001_registry.sql").read_text())
        insert = (
            "insert into event_log (event_id, topic, type, subject, source, correlation, time, "
            "data) values (gen_random_uuid(), 't', $1, 's', 'x', gen_random_uuid(), now(), '{}')"
        )
        for _ in range(5):
            await connection.execute(insert, "tidewheel.training.skipped.v1")
        await connection.execute(insert, ReplicaAnnounced.TYPE)

        await connection.execute((MIGRATIONS / "0002_audit.sql").read_text())
        await connection.execute(insert, "tidewheel.training.skipped.v1")

        rows = await connection.fetch(
            "select encode(chain, 'hex') as chain, event_log_text(e) as row "
            "from audit_link join event_log e using (seq) order by seq"
        )
    finally:
        await connection.close()
    previous = GENESIS
    for row in rows:
        previous = link_of(previous, row["row"])
        assert row["chain"] == previous
    assert len(rows) == 6


def a_freeze(**changes: Any) -> FreezeDeclared:
    facts: dict[str, Any] = {
        "freeze": "year-end",
        "models": (),
        "starts_at": MOMENT,
        "ends_at": MOMENT + timedelta(days=3),
        "by": "olga",
        "reason": "the books are closed",
    }
    return FreezeDeclared(**(facts | changes))


async def governed(house: House) -> list[Heard[Event]]:
    """A promotion, a freeze of everything, one of another model, its end, and something else."""
    facts: list[Heard[Event]] = [
        heard(a_promotion(approved_by=("ada", "bob")), at=MOMENT),
        heard(a_freeze(), at=MOMENT + timedelta(hours=1)),
        heard(a_freeze(freeze="v", models=("valve",)), at=MOMENT + timedelta(hours=2)),
        heard(
            FreezeLifted(freeze="v", by="ada", reason="too early"), at=MOMENT + timedelta(hours=3)
        ),
        heard(a_skip(), at=MOMENT + timedelta(hours=4)),
    ]
    for fact in facts:
        await house.react(fact)
    return facts


async def asked(house: House, **query: Any) -> list[str]:
    items = (await house.get("/v1/audit", **query))["items"]
    return [item["type"].removeprefix("tidewheel.").removesuffix(".v1") for item in items]


async def test_governance_is_listed_newest_first_in_words(fed: House) -> None:
    await governed(fed)

    found = (await fed.get("/v1/audit"))["items"]

    assert [item["text"] for item in found] == [
        "ada lifted the freeze v: too early.",
        "olga froze valve from Sat 21 Nov 2026 09:00 UTC to Tue 24 Nov 2026 09:00 UTC: "
        "the books are closed.",
        "olga froze all models from Sat 21 Nov 2026 09:00 UTC to Tue 24 Nov 2026 09:00 UTC: "
        "the books are closed.",
        "Version 1 became the first champion, approved by ada, bob.",
    ]


async def test_governance_is_found_by_time_model_and_person(fed: House) -> None:
    await governed(fed)
    at = (MOMENT + timedelta(hours=1)).isoformat()

    assert await asked(fed, since=at, until=(MOMENT + timedelta(hours=2)).isoformat()) == [
        "freeze.declared"
    ]
    assert await asked(fed, model="pump") == ["freeze.declared", "model.promoted"]
    assert await asked(fed, person="ada") == ["freeze.lifted", "model.promoted"]
    assert await asked(fed, model="valve") == [
        "freeze.lifted",
        "freeze.declared",
        "freeze.declared",
    ]
    assert await asked(fed, person="nobody") == []


async def test_pages_of_governance_lead_to_the_next(fed: House) -> None:
    await governed(fed)

    first = await fed.client.get("/v1/audit", params={"limit": 3})
    rest = await fed.client.get(first.links["next"]["url"])

    assert [len(first.json()["items"]), len(rest.json()["items"])] == [3, 1]


async def test_governance_is_for_auditors(house: House) -> None:
    for path in ("/v1/audit", "/v1/audit/head", "/v1/audit/verify"):
        by_viewer = await house.client.get(path, headers={"Authorization": "Bearer tw_viewer"})
        by_auditor = await house.client.get(path, headers={"Authorization": "Bearer tw_auditor"})

        assert (by_viewer.status_code, by_auditor.status_code) == (403, 200)


async def test_a_moment_without_an_offset_is_refused(house: House) -> None:
    answer = await house.client.get("/v1/audit", params={"since": "2026-11-21T09:00:00"})

    assert answer.status_code == 422
    assert "offset" in answer.json()["detail"]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
async def test_a_moment_outside_of_all_years_is_refused(fed: House, moment: str) -> None:
    log = await fed.client.get("/v1/audit", params={"until": moment})
    production = await fed.client.get("/v1/models/pump/production", params={"at": moment})

    assert (log.status_code, production.status_code) == (422, 422)


async def test_a_team_s_auditor_sees_the_governance_of_that_team(fed: House) -> None:
    await governed(fed)

    ours = await fed.client.get("/v1/audit", headers={"Authorization": "Bearer tw_rotating"})
    others = await fed.client.get("/v1/audit", headers={"Authorization": "Bearer tw_elsewhere"})
    whole = await fed.client.get("/v1/audit/head", headers={"Authorization": "Bearer tw_rotating"})

    promoted = ModelPromoted.TYPE
    assert promoted in {item["type"] for item in ours.json()["items"]}
    assert promoted not in {item["type"] for item in others.json()["items"]}
    assert whole.status_code == 403


async def test_freezes_that_concern_a_model_are_part_of_why_and_refusals_do_not_fill_it(
    fed: House,
) -> None:
    await fed.react(heard(a_freeze()))
    override: Any = example_of(WindowOverridden).event
    await fed.react(heard(replace(override, model=ModelName("pump"))))
    for number in range(6):
        await fed.publish("pumps", f"wrong\n{number}\n")

    types = [item["type"] for item in (await fed.get("/v1/models/pump/why", limit=50))["items"]]

    assert types.count("tidewheel.dataset.refused.v1") == 2
    assert "tidewheel.freeze.declared.v1" in types
    assert "tidewheel.window.overridden.v1" in types
