"""What another policy would have decided about everything on record."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from services.evaluator.evidence import read_evidence
from services.evaluator.rejudging import rejudge
from services.evaluator.verdict import decide, given_of, rules_from
from shared.spec import read_spec
from tests.evaluator.building import World, a_registration, a_spec, a_version
from tests.evaluator.conftest import Site

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


async def backtested(site: Site, policy: Any, **body: Any) -> list[dict[str, Any]]:
    answer = await site.ask("POST", "/backtests", "auditor", json={"policy": policy, **body})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def differing(lines: list[dict[str, Any]]) -> dict[int, Any]:
    """What would be decided now, by the versions for which it is something else."""
    found = [line["differs"] for line in lines if "differs" in line]
    return {one["version"]: one["now"] for one in found}


async def a_history(site: Site) -> None:
    """A first, one clearly better, one barely better, one worse, and one for no reason at all."""
    world = World.drawn(rows=400)
    spec = a_spec(slices=[{"name": "warm", "where": "x > 0"}])
    await site.crown(1, a_version(world, slope=2.0), spec=spec)
    await site.judged(2, a_version(world, slope=3.0), spec=spec, code="7")
    await site.judged(3, a_version(world, slope=2.1), spec=spec, code="8")
    await site.judged(4, a_version(world, slope=1.0), spec=spec, code="9")
    await site.judged(5, a_version(world), spec={"apiVersion": "tidewheel/v0"})


async def test_the_same_policy_reproduces_every_verdict(site: Site) -> None:
    await a_history(site)

    lines = await backtested(site, {})

    summary = lines[-1]["summary"]
    assert (summary["verdicts"], summary["same"]) == (5, 4)
    assert summary["not_judged"] == {"invalid_input: no row was looked at": 1}
    assert not [line for line in lines if "differs" in line]
    assert sum("progress" in line for line in lines) == 4


@pytest.mark.parametrize("confidence", [0.8, 0.999, 0.999999999999])
async def test_a_changed_alpha_lists_exactly_what_differs(site: Site, confidence: float) -> None:
    await a_history(site)
    policy = {"gates": [{"metric": "mae", "vs": "champion", "confidence": confidence}]}

    lines = await backtested(site, policy)

    told = differing(lines)
    assert told == await expected(site, policy)
    assert lines[-1]["summary"]["same"] == 4 - len(told)


async def expected(site: Site, policy: Any) -> dict[int, Any]:
    """The same in this process, verdict by verdict."""
    found = {}
    for event in (heard.event for heard in await site.verdicts()):
        if event.evidence is None:
            continue
        rules = rules_from(read_spec(event.spec | policy))
        evidence = read_evidence(site.artifacts.get(event.evidence))
        now = decide(evidence, rules, given_of(event.policy["given"]))
        if (now.accepted, now.reason) != (event.accepted, event.reason):
            found[event.version] = {"accepted": now.accepted, "reason": now.reason}
    return found


async def test_a_stricter_limit_turns_every_accepted_version_down(site: Site) -> None:
    await a_history(site)

    lines = await backtested(site, {"gates": [{"metric": "mae", "vs": "absolute", "max": 0.1}]})

    now = {
        line["differs"]["version"]: line["differs"]["now"] for line in lines if "differs" in line
    }
    assert now[1] == {"accepted": False, "reason": "limit"}
    assert lines[-1]["summary"]["newly_rejected"] == 3


async def test_known_parts_may_get_other_names_and_rules(site: Site) -> None:
    await a_history(site)

    lines = await backtested(
        site, {"slices": [{"name": "heat", "where": "x > 0", "min_rows": 5000}]}
    )

    assert {line["differs"]["now"]["reason"] for line in lines if "differs" in line} == {
        "insufficient"
    }


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({"slices": [{"name": "cold", "where": "x < -1"}]}, "'cold'"),
        ({"evaluation": {"entity": "x"}}, "entities"),
        ({"gates": [{"metric": "a.b:c", "vs": "champion"}]}, "a.b:c"),
        ({"checks": {"latency": "1s"}}, "latency was not measured"),
        ({"checks": {"monotone": {"x": "increasing"}}}, "sweep"),
        ({"checks": {"probes": [{"name": "p", "row": {"x": 1}, "min": 0}]}}, "probe"),
    ],
)
async def test_what_the_evidence_does_not_hold_is_counted_with_its_reason(
    site: Site, policy: Any, why: str
) -> None:
    await site.judged(1, a_version(World.drawn()))

    summary = (await backtested(site, policy))[-1]["summary"]

    assert sum(summary["not_judged"].values()) == 1
    assert why in next(iter(summary["not_judged"]))


async def test_a_verdict_of_a_release_that_recorded_no_rules_is_counted_with_its_reason() -> None:
    told = rejudge({"event": {"policy": {}, "spec": {}}, "evidence": b"of old", "policy": {}})

    assert told == {"problem": "the event does not say by which rules it was decided"}


async def test_recorded_figures_are_held_against_other_limits(site: Site) -> None:
    spec = a_spec(checks={"latency": "10s", "size_mb": 10})
    await site.judged(1, a_version(World.drawn()), spec=spec)

    strict = await backtested(site, {"checks": {"size_mb": 0.000001}})
    narrow = await backtested(site, {"checks": {"bounds": [0, 1]}})
    wide = await backtested(site, {"checks": {"bounds": [-99, 99], "latency": "9s"}})

    for lines in (strict, narrow):
        differing = [line["differs"] for line in lines if "differs" in line]
        assert [one["now"]["reason"] for one in differing] == ["check_failed"]
    assert wide[-1]["summary"]["same"] == 1


async def test_fewer_uses_of_the_same_rows_end_earlier(site: Site) -> None:
    await a_history(site)

    lines = await backtested(site, {"evaluation": {"uses": 2}})

    now = {
        line["differs"]["version"]: line["differs"]["now"] for line in lines if "differs" in line
    }
    assert now[3]["reason"] == now[4]["reason"] == "holdout_exhausted"
    assert set(now) == {3, 4}


async def test_a_fleets_claim_is_held_against_the_threshold_of_then(site: Site) -> None:
    site.judge = replace(site.judge, fleet_minimum=2)
    other = a_version(World.drawn()).keep(site.artifacts)
    await site.hear(a_registration(1, other, spec=a_spec() | {"name": "valve"}, model="valve"))
    await site.judged(1, a_version(World.drawn()))
    await site.database.execute("update fleet_stream set claims = 1000000000000")
    turned_down = await site.judged(2, a_version(World.drawn(), slope=0.4))

    summary = (await backtested(site, {}))[-1]["summary"]

    assert turned_down.reason == "fleet_fdr"
    assert summary["same"] == summary["verdicts"] == 3


async def test_one_model_alone_may_be_asked_about(site: Site) -> None:
    await site.judged(1, a_version(World.drawn()))
    files = a_version(World.drawn()).keep(site.artifacts)
    await site.hear(a_registration(1, files, spec=a_spec() | {"name": "valve"}, model="valve"))
    await site.work()

    both = (await backtested(site, {}))[-1]["summary"]
    one = (await backtested(site, {}, model="valve"))[-1]["summary"]

    assert (both["verdicts"], one["verdicts"]) == (2, 1)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"policy": {"alpha": 0.01}}, "/policy/alpha"),
        ({"policy": {"gates": [{"metric": "beauty", "vs": "champion"}]}}, "/policy/gates/0/metric"),
        ({"policies": {}}, "/policies"),
        ([], "/"),
    ],
)
async def test_a_policy_that_is_none_is_refused_with_its_place(
    site: Site, body: Any, pointer: str
) -> None:
    answer = await site.ask("POST", "/backtests", "auditor", json=body)

    assert answer.status_code == 422
    assert pointer in [fault["pointer"] for fault in answer.json()["errors"]]


async def test_viewers_do_not_run_backtests_and_nobody_asks_about_unknown_models(
    site: Site,
) -> None:
    refused = await site.ask("POST", "/backtests", "viewer", json={})
    unknown = await site.ask("POST", "/backtests", "auditor", json={"model": "absent"})

    assert (refused.status_code, unknown.status_code) == (403, 404)
