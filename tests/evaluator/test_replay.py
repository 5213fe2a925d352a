"""A recorded verdict comes out again, bit for bit, from its event and its evidence alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.artifacts import key_of
from shared.events import EvaluationCompleted
from shared.postgres import Cause
from tests.evaluator.building import World, a_registration, a_spec, a_version, broken
from tests.evaluator.conftest import Site

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

OWN = "tests.evaluator.own_losses:tail"


async def replayed(site: Site, place: int = -1, role: str = "auditor") -> dict[str, Any]:
    heard = (await site.verdicts())[place]
    answer = await site.ask("POST", f"/verdicts/{heard.id}/replay", role)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


RICH: dict[str, Any] = {
    "slices": [
        {"name": "warm", "where": "x > 0"},
        {"name": "hot", "where": "x > 1", "role": "watched", "min_rows": 20},
    ],
    "checks": {"bounds": [-50, 50], "latency": "1s", "size_mb": 10},
}


@pytest.mark.parametrize(
    "spec",
    [
        a_spec(**RICH),
        a_spec(ordered=False, **RICH),
        a_spec(ordered=False, gates=[{"metric": "rmse", "vs": "champion"}]),
        a_spec(gates=[{"metric": OWN, "vs": "champion"}]),
        a_spec(gates=[{"metric": "mae", "vs": "absolute", "max": 5, "slice": "x > 0"}]),
    ],
)
async def test_every_verdict_replays_bit_for_bit(site: Site, spec: Any) -> None:
    world = World.drawn()
    await site.crown(1, a_version(world, slope=2.0), spec=spec)
    await site.judged(2, a_version(world, slope=2.9), spec=spec)
    await site.judged(3, a_version(world, slope=1.0), spec=spec)

    found = [await replayed(site, place) for place in range(3)]

    assert [(one["same"], one["differences"]) for one in found] == [(True, [])] * 3


async def test_classes_replay_bit_for_bit(site: Site) -> None:
    world = World.drawn("classification")
    gates = [{"metric": "roc_auc", "vs": "champion"}, {"metric": "accuracy", "vs": "baseline"}]
    spec = a_spec("classification", gates=gates, ordered=False)
    await site.crown(1, a_version(world, slope=0.5), spec=spec)
    await site.judged(2, a_version(world, slope=3.0), spec=spec)

    assert (await replayed(site))["same"]


async def test_a_fleets_verdict_replays_bit_for_bit(site: Site) -> None:
    site.judge = replace(site.judge, fleet_minimum=2)
    other = a_version(World.drawn()).keep(site.artifacts)
    await site.hear(a_registration(1, other, spec=a_spec() | {"name": "valve"}, model="valve"))
    await site.work()
    await site.database.execute("update fleet_stream set claims = 1000000000000")

    accepted = await site.judged(1, a_version(World.drawn()))

    assert accepted.fleet is not None
    assert (await replayed(site))["same"]


async def test_a_verdict_that_was_changed_afterwards_shows(site: Site) -> None:
    await site.judged(1, a_version(World.drawn()))
    event = (await site.verdicts())[0].event
    better = replace(event.gates[0], lower=9.0)
    async with site.database.transaction(Cause.outside()) as transaction:
        await transaction.say([replace(event, gates=(better, *event.gates[1:]))])

    exact = await replayed(site)
    rounded = await replayed(site, role="viewer")

    assert not exact["same"]
    assert [one["field"] for one in exact["differences"]] == ["gates[0].lower"]
    assert exact["differences"][0]["recorded"] == 9.0
    assert rounded["differences"] == [{"field": "gates[0].lower"}]


async def test_a_verdict_that_looked_at_no_row_cannot_be_computed_again(site: Site) -> None:
    await site.judged(1, a_version(World.drawn()), spec={"apiVersion": "tidewheel/v0"})
    await site.judged(2, a_version(World.drawn()))
    refused = (await site.verdicts())[0]

    answer = await site.ask("POST", f"/verdicts/{refused.id}/replay", "auditor")

    assert answer.status_code == 409
    assert "before any held-out row was looked at" in answer.json()["detail"]


async def test_an_invalid_input_with_evidence_replays_too(site: Site) -> None:
    found = await site.judged(1, a_version(World.drawn(), estimator=broken(float("inf"))))

    assert (found.reason, found.evidence is not None) == ("invalid_input", True)
    assert (await replayed(site))["same"]


async def test_evidence_that_is_gone_is_told(site: Site, tmp_path: Path) -> None:
    found = await site.judged(1, a_version(World.drawn()))
    (tmp_path / key_of(_evidence(found))).unlink()
    heard = (await site.verdicts())[0]

    answer = await site.ask("POST", f"/verdicts/{heard.id}/replay", "auditor")

    assert answer.status_code == 409
    assert "evidence" in answer.json()["detail"]


def _evidence(event: EvaluationCompleted) -> Any:
    assert event.evidence is not None
    return event.evidence


async def test_an_unknown_verdict_is_not_found(site: Site) -> None:
    path = "/verdicts/00000000-0000-0000-0000-000000000001/replay"

    assert (await site.ask("POST", path)).status_code == 404
