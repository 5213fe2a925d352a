"""Approvals over HTTP and on a real database: who may, who did, what they were told, and races."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from services.deployer.domain import rollout_id
from shared.events import (
    ApprovalDenied,
    ApprovalExpired,
    ApprovalGranted,
    ApprovalWithdrawn,
    Digest,
    ModelName,
    ModelPromoted,
    RolloutAborted,
)
from shared.ids import uuid7
from tests.deployer.conftest import Site
from tests.deployer.people import PUMP, Door, a_definition, a_verdict_about

pytestmark = pytest.mark.real


@pytest.fixture
async def door(site: Site, tmp_path: Path) -> AsyncIterator[Door]:
    opened = Door(site, tmp_path)
    yield opened
    await opened.http.aclose()


SECOND = rollout_id(PUMP, 2)


async def waits(site: Site, approval: Any = "four_eyes", **rollout: Any) -> UUID:
    """Version 1 answers, version 2 waits for people; the id of its rollout."""
    await site.hear(a_definition("wanda"))
    await site.hear(a_verdict_about(1))
    await site.hear(a_verdict_about(2, 1, approval=approval, **rollout))
    return SECOND


async def champion(site: Site) -> int | None:
    endpoint = await site.store.endpoint(PUMP)
    return endpoint.champion_version if endpoint else None


# --- what people are told -------------------------------------------------------------------------


async def test_whoever_decides_is_told_on_what_evidence(site: Site, door: Door) -> None:
    await waits(site, "quorum", window="Mon-Fri 08:00-16:00 UTC")
    await door.decide("ann", SECOND)

    items = (await door.ask("bob", "GET", "/approvals")).json()["items"]

    assert len(items) == 1
    item, told = items[0], items[0]["evidence"]
    assert (item["model"], item["version"], item["champion"]) == ("pump", 2, 1)
    assert (item["needed"], item["missing"], item["approved_by"]) == (2, 1, ["ann"])
    assert item["excluded"] == ["dora", "wanda"]
    assert datetime.fromisoformat(item["expires_at"]) == site.now + timedelta(days=7)
    assert item["manifest"] == f"{2:064x}"
    assert item["you"] == "You may approve this."
    assert "compared with champion 1 on 1,200 held-out rows" in told["summary"]
    assert told["changed"][0] == ("data: version 2 of flow; the champion's is version 1 of flow")
    assert "rollout.approval: not given → 'quorum'" in told["changed"]
    assert told["gates"] == [
        "mae against the champion: better by 0.12 (95 % interval +0.05 to ∞, positive is better), "
        "0.01 may be lost; 1,200 rows, paired bootstrap: passed"
    ]
    assert "frost" in told["worst_slice"]
    assert "worse by 0.02" in told["worst_slice"]
    assert told["checks"] == ["bounds: all answers between 0 and 40: passed"]
    assert told["card"] == "c" * 64


@pytest.mark.parametrize(
    ("who", "told"),
    [
        ("wanda", "You wrote the specification and defined the model"),
        ("vic", "You may not approve: you do not hold the role approver"),
        ("ann", "You have approved this already"),
        ("cid", "You may approve this."),
    ],
)
async def test_everybody_is_told_whether_they_may(
    site: Site, door: Door, who: str, told: str
) -> None:
    await waits(site, "quorum")
    await door.decide("ann", SECOND)

    item = (await door.ask(who, "GET", "/approvals")).json()["items"][0]

    assert item["you"].startswith(told)


async def test_other_teams_see_nothing_and_may_nothing(site: Site, door: Door) -> None:
    await waits(site)

    listed = (await door.ask("gas", "GET", "/approvals")).json()["items"]
    answer = await door.decide("gas", SECOND)

    assert listed == []
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert await champion(site) == 1


async def test_the_list_comes_in_pages_and_refuses_wrong_questions(site: Site, door: Door) -> None:
    for name in ("a", "b", "c"):
        await site.hear(a_verdict_about(1, model=ModelName(name), approval="four_eyes"))

    first = (await door.ask("root", "GET", "/approvals?limit=2")).json()
    rest = (await door.ask("root", "GET", f"/approvals?limit=2&cursor={first['next']}")).json()

    assert [item["model"] for item in first["items"] + rest["items"]] == ["a", "b", "c"]
    assert rest["next"] is None
    for query in ("limit=0", "limit=1000000000", "limit=-1", "cursor=%00"):
        assert (await door.ask("root", "GET", f"/approvals?{query}")).status_code == 422


# --- who may --------------------------------------------------------------------------------------


async def test_a_quorum_lets_it_go_on(site: Site, door: Door) -> None:
    await waits(site, "quorum")

    one = (await door.decide("ann", SECOND, body={"comment": "the frost slice is fine"})).json()
    two = (await door.decide("bob", SECOND)).json()

    assert (one["missing"], one["stage"]) == (1, "awaiting_approval")
    assert (two["missing"], two["stage"]) == (0, "promoted")
    promoted = (await site.said(ModelPromoted))[-1].event
    assert promoted.approved_by == ("ann", "bob")
    rows = await site.database.fetch("select by, manifest, excluded from approval order by at")
    assert [row["by"] for row in rows] == ["ann", "bob"]
    assert {row["manifest"] for row in rows} == {f"{2:064x}"}
    assert rows[0]["excluded"] == ["dora", "wanda"]


async def test_one_person_with_two_keys_is_one_person(site: Site, door: Door) -> None:
    await waits(site, "quorum")
    await door.decide("ann", SECOND)

    again = await door.decide("ann-phone", SECOND)

    assert (again.status_code, again.json()["code"]) == (409, "already_approved")
    assert await champion(site) == 1


async def test_the_author_is_refused_and_told_who_else_may_not(site: Site, door: Door) -> None:
    await waits(site)

    answer = await door.decide("wanda", SECOND)

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (403, "self_approval")
    assert "wrote the specification" in problem["detail"]
    assert "except dora, wanda" in problem["detail"]
    assert await champion(site) == 1


async def test_an_admin_may_not_approve_own_work_either(site: Site, door: Door) -> None:
    await waits(site)
    await site.hear(a_definition("root"))

    answer = await door.decide("root", SECOND)

    assert (answer.status_code, answer.json()["code"]) == (403, "self_approval")
    assert await champion(site) == 1


@pytest.mark.parametrize("who", ["vic", "olga"])
async def test_other_roles_approve_nothing(site: Site, door: Door, who: str) -> None:
    await waits(site)

    answer = await door.decide(who, SECOND)

    assert answer.status_code == 403
    assert await champion(site) == 1


# --- what may not be ------------------------------------------------------------------------------


async def test_what_was_not_looked_at_is_not_approved(site: Site, door: Door) -> None:
    await waits(site)

    for body, code in (
        ({"manifest": "9" * 64}, "other_artifact"),
        ({"evaluation": str(uuid7())}, "other_verdict"),
    ):
        answer = await door.decide("ann", SECOND, body=body)
        assert (answer.status_code, answer.json()["code"]) == (409, code)

    item = (await door.ask("ann", "GET", "/approvals")).json()["items"][0]
    looked = {"manifest": item["manifest"], "evaluation": item["evaluation"]}
    assert (await door.decide("ann", SECOND, body=looked)).json()["stage"] == "promoted"


async def test_too_late_is_too_late_even_before_the_timer(site: Site, door: Door) -> None:
    await waits(site)
    site.now += timedelta(days=7)

    answer = await door.decide("ann", SECOND)
    while await site.timers.take_one():
        pass

    assert (answer.status_code, answer.json()["code"]) == (409, "approval_expired")
    assert (await site.said(ApprovalExpired))[0].event.granted_by == ()
    assert (await site.said(RolloutAborted))[0].event.reason == "expired"


async def test_a_version_that_the_evaluator_rejected_is_approved_by_nobody(
    site: Site, door: Door
) -> None:
    await waits(site)
    await site.hear(a_verdict_about(3, 1, accepted=False))

    answer = await door.decide("ann", rollout_id(PUMP, 3))

    assert (answer.status_code, answer.json()["code"]) == (409, "rejected_by_evaluator")
    assert "slice_harmed" in answer.json()["detail"]
    assert (await door.decide("gas", rollout_id(PUMP, 3))).status_code == 404
    assert (await door.decide("ann", rollout_id(PUMP, 9))).status_code == 404


async def test_what_is_over_is_not_approved(site: Site, door: Door) -> None:
    await waits(site)
    await door.decide("ann", SECOND)

    answer = await door.decide("bob", SECOND)

    assert answer.status_code == 409
    assert len(await site.said(ApprovalGranted)) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"comment": "x" * 2001},
        {"comment": "a\0b"},
        {"manifest": "ABC"},
        {"manifest": "Z" * 64},
        {"evaluation": "seven"},
        {"by": "bob"},
        {"granted": True},
        [],
        "yes",
    ],
)
async def test_wrong_words_are_refused_with_a_pointer(site: Site, door: Door, body: Any) -> None:
    await waits(site)

    answer = await door.decide("ann", SECOND, body=body)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"]
    assert not await site.said(ApprovalGranted)


async def test_a_repeated_approval_with_one_key_counts_once(site: Site, door: Door) -> None:
    await waits(site, "quorum")

    answers = [await door.decide("ann", SECOND, body={"comment": "ok"}, key="k1") for _ in range(2)]
    reused = await door.decide("ann", SECOND, body={"comment": "other"}, key="k1")

    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
    assert len(await site.said(ApprovalGranted)) == 1


# --- second thoughts ------------------------------------------------------------------------------


async def test_an_approval_is_taken_back_while_it_waits(site: Site, door: Door) -> None:
    await waits(site, "quorum")
    await door.decide("ann", SECOND)

    foreign = await door.decide("bob", SECOND, "withdraw")
    mine = await door.decide("ann-phone", SECOND, "withdraw", {"comment": "I misread the slice"})
    after = await door.decide("bob", SECOND)

    assert (foreign.status_code, foreign.json()["code"]) == (409, "not_approved")
    assert mine.json()["missing"] == 2
    assert (await site.said(ApprovalWithdrawn))[0].event.by == "ann"
    assert after.json()["missing"] == 1
    assert await site.database.fetchval("select array_agg(by) from approval") == ["bob"]
    assert (await door.decide("ann", SECOND)).json()["stage"] == "promoted"


async def test_it_is_taken_back_while_the_window_is_closed(site: Site, door: Door) -> None:
    await waits(site, window="Thu 08:00-16:00 UTC")
    approved = (await door.decide("ann", SECOND)).json()

    withdrawn = (await door.decide("ann", SECOND, "withdraw")).json()
    site.now += timedelta(hours=22)
    while await site.timers.take_one():
        pass

    assert approved["stage"] == "awaiting_window"
    assert withdrawn["stage"] == "awaiting_approval"
    assert await champion(site) == 1


async def test_a_denial_ends_it(site: Site, door: Door) -> None:
    await waits(site, "quorum")
    await door.decide("ann", SECOND)

    answer = await door.decide("wanda", SECOND, "deny", {"comment": "I know what is wrong"})

    assert answer.json()["stage"] == "aborted"
    assert (await site.said(ApprovalDenied))[0].event.by == "wanda"
    assert (await site.said(RolloutAborted))[0].event.reason == "denied"
    assert (await door.decide("bob", SECOND)).status_code == 409


# --- the table's own rules ------------------------------------------------------------------------


async def test_the_table_refuses_an_author_and_a_second_approval(site: Site, door: Door) -> None:
    await waits(site, "quorum")
    await door.decide("ann", SECOND)
    sql = (
        "insert into approval (rollout, evaluation, manifest, by, excluded, at) "
        "select rollout, evaluation, manifest, $1, excluded, at from approval"
    )

    with pytest.raises(asyncpg.CheckViolationError):
        await site.database.execute(sql, "wanda")
    with pytest.raises(asyncpg.UniqueViolationError):
        await site.database.execute(sql, "ann")


# --- races ----------------------------------------------------------------------------------------


async def test_two_people_at_once_are_both_counted(site: Site, door: Door) -> None:
    await waits(site, "quorum")

    answers = await asyncio.gather(*(door.decide(who, SECOND) for who in ("ann", "bob")))

    assert sorted(answer.json()["missing"] for answer in answers) == [0, 1]
    assert len(await site.said(ModelPromoted)) == 2
    assert await champion(site) == 2


async def test_one_person_ten_times_at_once_is_one(site: Site, door: Door) -> None:
    await waits(site, "quorum")

    answers = await asyncio.gather(
        *(door.decide(("ann", "ann-phone")[n % 2], SECOND) for n in range(10))
    )

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
    assert len(await site.said(ApprovalGranted)) == 1
    assert await champion(site) == 1


async def test_three_people_at_once_for_one_approval_promote_once(site: Site, door: Door) -> None:
    await waits(site)

    answers = await asyncio.gather(*(door.decide(who, SECOND) for who in ("ann", "bob", "cid")))

    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    assert len(await site.said(ApprovalGranted)) == 1
    assert [h.event.version for h in await site.said(ModelPromoted)] == [1, 2]


async def test_approving_and_denying_at_once_has_one_outcome(site: Site, door: Door) -> None:
    await waits(site)

    answers = await asyncio.gather(door.decide("ann", SECOND), door.decide("bob", SECOND, "deny"))

    assert sorted(answer.status_code for answer in answers) == [200, 409]
    promoted = [h.event.version for h in await site.said(ModelPromoted)] == [1, 2]
    assert promoted != bool(await site.said(RolloutAborted))


async def test_approving_while_it_expires_has_one_outcome(site: Site, door: Door) -> None:
    await waits(site)
    site.now += timedelta(days=7)

    answer, taken = await asyncio.gather(door.decide("ann", SECOND), site.timers.take_one())
    while await site.timers.take_one():
        pass

    assert answer.status_code == 409
    assert taken in (True, False)
    assert not await site.said(ApprovalGranted)
    assert [h.event.reason for h in await site.said(RolloutAborted)] == ["expired"]


async def test_who_defines_the_model_anew_while_approving_does_not_promote_it(
    site: Site, door: Door
) -> None:
    await waits(site, window="Thu 08:00-16:00 UTC")

    await asyncio.gather(site.hear(a_definition("ann")), door.decide("ann", SECOND))
    site.now += timedelta(hours=22)
    while await site.timers.take_one():
        pass

    assert await champion(site) == 1


async def test_an_approval_for_one_digest_does_not_serve_another(site: Site, door: Door) -> None:
    await waits(site)
    await site.database.execute(
        "update endpoint set body = jsonb_set(body, '{rollout,manifest}', to_jsonb($1::text))",
        Digest("8" * 64),
    )

    before = await door.decide("ann", SECOND, body={"manifest": f"{2:064x}"})
    endpoint = await site.store.endpoint(PUMP)

    assert before.json()["stage"] == "awaiting_approval"
    assert await champion(site) == 1
    assert endpoint is not None
    assert endpoint.rollout is not None
    assert endpoint.rollout.approvals is not None
    assert (endpoint.rollout.approvals.manifest, endpoint.rollout.approvals.grants) == (
        "8" * 64,
        (),
    )
