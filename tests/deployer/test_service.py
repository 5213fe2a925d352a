"""Reactions, timers and doors of the deployer on a real database."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from services.deployer.domain import rollout_id
from shared.errors import NotFound
from shared.events import (
    ArmMeasure,
    BestAsked,
    DatasetName,
    DeploymentDesired,
    DeploymentRolledBack,
    Digest,
    EvaluationCompleted,
    LossesObserved,
    ModelDefined,
    ModelName,
    ModelPromoted,
    PairedLoss,
    QualityDegraded,
    ReplicaAnnounced,
    RolloutAborted,
    RolloutAdvanced,
    RolloutSuperseded,
    ServingApplied,
    ServingMeasured,
    ServingRefused,
)
from shared.ids import uuid7
from shared.latency import CELLS
from tests.deployer.conftest import NO_FILES, Site

pytestmark = pytest.mark.real

PUMP = ModelName("pump")


def a_spec(**rollout: Any) -> dict[str, Any]:
    return {
        "apiVersion": "tidewheel/v1",
        "name": "pump",
        "owner": "ada",
        "task": "regression",
        "data": {"dataset": "flow", "target": "y"},
        "rollout": {"steps": [0.1], "step_for": "0", "minimum_requests": 50, **rollout},
    }


def accepted(
    version: int, champion: int | None = None, *, accepted: bool = True, **rollout: Any
) -> EvaluationCompleted:
    return EvaluationCompleted(
        model=PUMP,
        version=version,
        accepted=accepted,
        reason="accepted" if accepted else "worse",
        mode="refresh" if champion else "first",
        gates=(),
        manifest=Digest(f"{version:064x}"),
        champion=champion,
        champion_manifest=Digest(f"{champion:064x}") if champion else None,
        dataset=DatasetName("flow"),
        dataset_version=version,
        dataset_digest=Digest("d" * 64),
        split=Digest("e" * 64),
        evidence=None,
        spec=a_spec(**rollout),
        rows=100,
        seed=1,
        seconds=0.1,
    )


def measured(
    generation: int, sequence: int, *, errors: int = 0, slow: int = 0, requests: int = 60
) -> ServingMeasured:
    fast = [0] * CELLS
    fast[3], fast[-1] = requests - slow, slow
    return ServingMeasured(
        model=PUMP,
        replica="0",
        replica_sequence=sequence,
        generation=generation,
        arms=(
            _arm(1, "champion", 9 * requests, 0, [9 * requests, *[0] * (CELLS - 1)]),
            _arm(2, "challenger", requests, errors, fast),
        ),
        seconds=1.0,
    )


def _arm(version: int, role: str, requests: int, errors: int, counts: list[int]) -> ArmMeasure:
    return ArmMeasure(
        version=version,
        role=role,
        requests=requests,
        errors=errors,
        latency_counts=tuple(counts),
    )


def as_(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer tw_{role}"}


async def with_champion(site: Site, *versions: int) -> None:
    champion = None
    for version in versions:
        await site.hear(accepted(version, champion, strategy="direct"))
        champion = version


async def test_an_accepted_version_is_said_to_answer_and_says_why(site: Site) -> None:
    verdict = await site.hear(accepted(1))

    promoted = (await site.said(ModelPromoted))[0]
    desired = (await site.said(DeploymentDesired))[0]
    assert promoted.event.evaluation == promoted.causation == verdict.id
    assert promoted.correlation == verdict.correlation
    assert desired.event.arms[0].version == 1
    assert desired.event.ladder[-1].rule == {"rule": "constant", "value": 1}


async def test_a_version_that_was_rejected_for_want_of_its_files_holds_up_no_verdict(
    site: Site,
) -> None:
    await site.hear(accepted(1, accepted=False))
    await site.hear(replace(accepted(2, accepted=False), manifest=NO_FILES, spec={"no": "spec"}))

    endpoint = await site.store.endpoint(PUMP)
    assert endpoint is not None
    assert endpoint.rule == {"rule": "constant", "value": 1}
    assert len(await site.said(DeploymentDesired)) == 1


async def test_an_accepted_version_without_its_files_is_not_rolled_out(site: Site) -> None:
    with pytest.raises(NotFound):
        await site.hear(replace(accepted(1), manifest=NO_FILES))

    assert await site.store.endpoint(PUMP) is None


async def test_a_canary_lives_in_the_cascade_of_its_dataset_version(site: Site) -> None:
    await with_champion(site, 1)
    verdict = await site.hear(accepted(2, 1, steps=[0.1, 0.5]))

    measure = await site.hear(measured(2, 1))

    advanced = (await site.said(RolloutAdvanced))[-1]
    assert advanced.event.weight == 0.5
    assert advanced.causation == measure.id
    assert advanced.correlation == verdict.correlation


async def test_enough_good_answers_promote_a_canary(site: Site) -> None:
    await with_champion(site, 1)
    await site.hear(accepted(2, 1))

    await site.hear(measured(2, 1, requests=30))
    await site.hear(measured(2, 2, requests=30))

    promoted = (await site.said(ModelPromoted))[-1].event
    assert (promoted.version, promoted.previous) == (2, 1)
    assert promoted.evidence["canary"]["measures"] == {"0": [1, 2]}


async def test_a_measure_heard_twice_counts_once(site: Site) -> None:
    await with_champion(site, 1)
    await site.hear(accepted(2, 1))

    await site.hear(measured(2, 1, requests=30))
    await site.hear(measured(2, 1, requests=30))

    assert [heard.event.version for heard in await site.said(ModelPromoted)] == [1]


async def test_slow_answers_abort_a_canary(site: Site) -> None:
    await with_champion(site, 1)
    await site.hear(accepted(2, 1))

    await site.hear(measured(2, 1, requests=100, slow=60))

    assert (await site.said(RolloutAborted))[0].event.reason == "worse"


async def test_a_refusal_of_serving_aborts_in_the_cascade_of_the_rollout(site: Site) -> None:
    await with_champion(site, 1)
    verdict = await site.hear(accepted(2, 1))

    await site.hear(
        ServingRefused(
            model=PUMP,
            replica="0",
            replica_sequence=4,
            generation=2,
            version=2,
            reason="unsafe",
            detail="a type that is not on the list",
        )
    )

    aborted = (await site.said(RolloutAborted))[0]
    assert aborted.event.reason == "refused_by_serving"
    assert aborted.correlation == verdict.correlation


async def test_a_superseded_rollout_ends_in_its_own_cascade(site: Site) -> None:
    await with_champion(site, 1)
    old = await site.hear(accepted(2, 1))

    await site.hear(accepted(3, 1))

    superseded = (await site.said(RolloutSuperseded))[0]
    assert superseded.event.version == 2
    assert superseded.correlation == old.correlation


async def test_degraded_quality_rolls_back_by_itself(site: Site) -> None:
    await with_champion(site, 1, 2)

    await site.hear(
        QualityDegraded(
            model=PUMP,
            version=2,
            window=3,
            metric="mae",
            value=4.0,
            reference=1.0,
            bound=1.5,
            labels=200,
        )
    )

    rolled_back = (await site.said(DeploymentRolledBack))[0].event
    assert (rolled_back.to_version, rolled_back.by) == (1, "tidewheel")
    assert "200 labels" in rolled_back.reason


async def test_two_first_verdicts_at_once_give_one_champion(site: Site) -> None:
    await asyncio.gather(site.hear(accepted(1)), site.hear(accepted(2)), site.hear(accepted(3)))

    rows = await site.database.fetch("select version from champion where until_at is null")
    promoted = await site.said(ModelPromoted)
    assert len(rows) == 1
    assert [heard.event.generation for heard in await site.said(DeploymentDesired)] == list(
        range(1, len(promoted) + 1)
    )


async def test_two_champions_of_a_model_are_impossible(site: Site) -> None:
    await with_champion(site, 1)

    with pytest.raises(asyncpg.UniqueViolationError):
        await site.database.execute(
            "insert into champion (model, version, manifest, since_at) "
            "values ('pump', 2, 'x', now())"
        )


async def test_a_timer_that_ran_out_is_used_once(site: Site) -> None:
    await with_champion(site, 1)
    await site.hear(accepted(2, 1, give_up_after="1h", probation="0"))
    site.now += timedelta(hours=1)

    taken = await asyncio.gather(site.timers.take_one(), site.timers.take_one())
    while await site.timers.take_one():
        pass

    assert any(taken)
    assert [h.event.reason for h in await site.said(RolloutAborted)] == ["undecided"]


async def test_what_a_timer_says_belongs_to_the_cascade_and_has_an_id_of_its_own(
    site: Site,
) -> None:
    await with_champion(site, 1)
    verdict = await site.hear(accepted(2, 1, give_up_after="30m"))
    site.now += timedelta(minutes=30)

    await site.timers.take_one()

    aborted = (await site.said(RolloutAborted))[0]
    assert aborted.correlation == verdict.correlation
    assert aborted.causation == verdict.id
    said = await site.said()
    assert len({heard.id for heard in said}) == len(said)


# --- doors --------------------------------------------------------------------------------------


async def test_a_rollback_is_one_request(site: Site, client: httpx.AsyncClient) -> None:
    await with_champion(site, 1, 2)

    answer = await client.post(
        "/v1/models/pump/rollback", json={"reason": "odd answers"}, headers=as_("operator")
    )

    rolled_back = (await site.said(DeploymentRolledBack))[0]
    assert answer.status_code == 200
    assert answer.json() == {
        "generation": 3,
        "from": 2,
        "to": 1,
        "event_id": str(rolled_back.id),
    }
    assert rolled_back.event.by == "the-operator"


async def test_a_repeated_rollback_with_one_key_happens_once(
    site: Site, client: httpx.AsyncClient
) -> None:
    await with_champion(site, 1, 2, 3)
    headers = as_("operator") | {"Idempotency-Key": "abc"}

    answers = [
        await client.post("/v1/models/pump/rollback", json={"reason": "odd"}, headers=headers)
        for _ in range(2)
    ]

    assert answers[0].json() == answers[1].json()
    assert len(await site.said(DeploymentRolledBack)) == 1


async def test_an_approval_lets_a_rollout_go_on(site: Site, client: httpx.AsyncClient) -> None:
    await site.hear(accepted(1, approval="four_eyes"))
    waiting = (await client.get("/v1/models/pump/deployment", headers=as_("viewer"))).json()

    answer = await client.post(
        f"/v1/rollouts/{waiting['rollout']['id']}/approve",
        json={"comment": "looks good"},
        headers=as_("approver"),
    )

    assert waiting["rollout"]["stage"] == "awaiting_approval"
    assert answer.json()["stage"] == "promoted"
    assert (await site.said(ModelPromoted))[0].event.version == 1


async def test_who_defined_a_model_may_not_approve_its_versions(
    site: Site, client: httpx.AsyncClient
) -> None:
    await site.hear(
        ModelDefined(
            model=PUMP,
            dataset=DatasetName("flow"),
            spec=a_spec(),
            spec_digest=Digest("a" * 64),
            code_digest=Digest("b" * 64),
            defined_by="the-approver",
        )
    )
    await site.hear(accepted(1, approval="four_eyes"))
    path = f"/v1/rollouts/{rollout_id(PUMP, 1)}"

    refused = await client.post(f"{path}/approve", headers=as_("approver"))
    denied = await client.post(f"{path}/deny", headers=as_("approver"))

    assert (refused.status_code, refused.json()["code"]) == (403, "self_approval")
    assert denied.status_code == 200
    assert (await site.said(RolloutAborted))[0].event.reason == "denied"


async def test_the_deployment_says_whether_every_live_replica_applied_it(
    site: Site, client: httpx.AsyncClient
) -> None:
    await with_champion(site, 1)
    for name, generation in (("0", 1), ("1", 0)):
        await site.hear(
            ReplicaAnnounced(replica=name, replica_sequence=1, url="http://x", models=1)
        )
        await site.hear(
            ServingApplied(
                model=PUMP,
                replica=name,
                replica_sequence=2,
                generation=generation,
                versions=(1,),
            )
        )
    first = (await client.get("/v1/models/pump/deployment", headers=as_("viewer"))).json()

    site.now += timedelta(seconds=14)
    await site.hear(ReplicaAnnounced(replica="0", replica_sequence=3, url="http://x", models=1))
    site.now += timedelta(seconds=2)
    second = (await client.get("/v1/models/pump/deployment", headers=as_("viewer"))).json()

    assert not first["applied_by_all"]
    assert [replica["generation"] for replica in first["replicas"]] == [1, 0]
    assert second["applied_by_all"]
    assert [replica["replica"] for replica in second["replicas"]] == ["0"]


async def test_lists_come_in_pages(site: Site, client: httpx.AsyncClient) -> None:
    await with_champion(site, 1, 2, 3)

    first = (await client.get("/v1/models/pump/rollouts?limit=2", headers=as_("viewer"))).json()
    path = f"/v1/models/pump/rollouts?limit=2&cursor={first['next']}"
    second = (await client.get(path, headers=as_("viewer"))).json()
    models = (await client.get("/v1/deployments", headers=as_("viewer"))).json()

    assert [rollout["version"] for rollout in first["items"]] == [3, 2]
    assert [rollout["version"] for rollout in second["items"]] == [1]
    assert second["next"] is None
    assert models["items"][0]["champion"] == 3


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/models/nothing/deployment", None, 404),
        ("GET", "/v1/models/%00/deployment", None, 422),
        ("GET", "/v1/models/pump/rollouts?cursor=x", None, 422),
        ("GET", "/v1/models/pump/rollouts?limit=0", None, 422),
        ("GET", "/v1/deployments?cursor=%00", None, 422),
        ("POST", "/v1/models/nothing/rollback", {"reason": "x"}, 404),
        ("POST", "/v1/models/pump/rollback", {"reason": "x"}, 409),
        ("POST", "/v1/models/pump/rollback", {"reason": "x", "version": 9}, 409),
        ("POST", "/v1/models/pump/rollback", {"reason": "x", "version": 10**30}, 422),
        ("POST", "/v1/models/pump/rollback", {"reason": ""}, 422),
        ("POST", "/v1/models/pump/rollback", {"reason": "x", "to": 1}, 422),
        ("POST", "/v1/models/pump/rollback", [], 422),
        ("POST", "/v1/models/pump/rollback", {"reason": "a\0b"}, 422),
        ("POST", f"/v1/rollouts/{UUID(int=7)}/deny", {"comment": "a\0b"}, 422),
        ("POST", f"/v1/rollouts/{UUID(int=7)}/approve", None, 404),
        ("POST", "/v1/rollouts/seven/approve", None, 422),
    ],
)
async def test_wrong_requests_are_refused_with_a_problem(
    site: Site, client: httpx.AsyncClient, method: str, path: str, body: Any, status: int
) -> None:
    await with_champion(site, 1)
    said = len(await site.said())

    answer = await client.request(method, path, json=body, headers=as_("admin"))

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(await site.said()) == said


@pytest.mark.parametrize("role", ["viewer", "producer", "predictor", "approver", "auditor"])
async def test_only_operators_roll_back(site: Site, client: httpx.AsyncClient, role: str) -> None:
    await with_champion(site, 1, 2)

    answer = await client.post("/v1/models/pump/rollback", json={"reason": "x"}, headers=as_(role))

    assert answer.status_code == 403


async def test_whatever_follows_from_a_verdict_belongs_to_its_cascade(site: Site) -> None:
    cascade = uuid7()

    await site.hear(accepted(1), cascade=cascade)

    assert {heard.correlation for heard in await site.said()} == {cascade}


# --- trials ---------------------------------------------------------------------------------------


async def test_experiments_stay_beside_each_other_and_beside_a_rollout_that_waits(
    site: Site, client: httpx.AsyncClient
) -> None:
    await with_champion(site, 1)
    for version in (2, 3):
        await site.hear(accepted(version, 1, strategy="experiment"))
    await site.hear(accepted(4, 1, strategy="experiment", approval="one"))

    found = (await client.get("/v1/models/pump/deployment", headers=as_("viewer"))).json()

    assert [one["version"] for one in found["experiments"]] == [2, 3]
    assert found["rollout"]["stage"] == "awaiting_approval"
    assert [arm["version"] for arm in found["arms"]] == [1, 2, 3]


async def test_a_version_comes_back_as_the_best_although_it_had_a_rollout(site: Site) -> None:
    await with_champion(site, 1, 2)
    best = BestAsked(by="ada", metric="mae", reason="it was better", ranking=((1, 0.1), (2, 0.2)))

    await site.hear(replace(accepted(1, 2, strategy="direct"), best=best))

    rows = await site.database.fetch("select version, best, stage from rollout order by number")
    assert [tuple(row) for row in rows] == [
        (1, False, "promoted"),
        (2, False, "promoted"),
        (1, True, "promoted"),
    ]


async def test_losses_heard_from_the_monitor_abort_a_shadow(site: Site) -> None:
    await with_champion(site, 1)
    await site.hear(accepted(2, 1, strategy="shadow"))

    await site.hear(
        LossesObserved(
            model=PUMP,
            champion=1,
            challenger=2,
            metric="mae",
            pairs=tuple(
                PairedLoss(prediction=str(row), champion=0.1, challenger=1.0) for row in range(60)
            ),
            singles=(),
        )
    )

    aborted = (await site.said(RolloutAborted))[0].event
    assert aborted.reason == "worse"
    assert aborted.evidence["policy_digest"]
