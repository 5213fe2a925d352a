"""A verdict of months ago comes out again bit for bit, and what other rules would have said."""

from __future__ import annotations

from datetime import timedelta

import httpx
import numpy as np
import pytest

from shared.events import WindowEvaluated
from tests.drift_monitor.building import (
    NOON,
    Floats,
    a_profile,
    a_spec,
    autoregressive,
    registered,
)
from tests.drift_monitor.conftest import Site

pytestmark = pytest.mark.real

PROFILE = a_profile(autoregressive(0.0, 4000, 3, seed=1), window=50)
QUIET: Floats = autoregressive(0.0, 1000, 3, seed=2)
PATH = "/v1/models/pump/versions/1/windows"


async def judged(site: Site, windows: int) -> list[WindowEvaluated]:
    """So many windows, of which the last one has moved a little; a month between two of them."""
    await site.hear(registered(site.artifacts, PROFILE, spec=a_spec()))
    for number in range(windows):
        moved = np.array([0.9, 0, 0]) if number == windows - 1 else 0.0
        site.serving.at = site.now = NOON + number * timedelta(days=30)
        await site.hear(*site.serving.batches_of(QUIET[number * 50 : number * 50 + 50] + moved))
    return [one for one in await site.said(WindowEvaluated) if isinstance(one, WindowEvaluated)]


async def test_a_verdict_of_months_ago_comes_out_again_bit_for_bit(
    site: Site, client: httpx.AsyncClient
) -> None:
    said = await judged(site, 20)
    site.now = NOON + timedelta(days=405 + 2 * 30)
    await site.forgetter.forget()

    oldest = await client.get(f"{PATH}/3/replay")
    newest = await client.get(f"{PATH}/20/replay")
    forgotten = await client.get(f"{PATH}/1/replay")

    found = newest.json()
    assert (oldest.status_code, newest.status_code) == (200, 200), newest.text
    assert (oldest.json()["same"], found["same"]) == (True, True)
    assert found["differences"] == []
    assert found["tier"] == found["recorded"] == said[-1].tier != "clean"
    assert (found["counts"], found["recorded_counts"]) == (said[-1].counts, said[-1].counts)
    assert tuple(found["scales"]) == said[-1].scales
    assert found["family_p"] == said[-1].family_p
    assert found["windows"] == list(range(20, 4, -1))
    # It has outlasted its time, and is no part of what is compared with a window that is kept.
    assert oldest.json()["windows"] == [3, 2, 1]
    assert forgotten.status_code == 200


async def test_windows_are_dropped_once_none_that_is_kept_was_compared_with_them(
    site: Site,
) -> None:
    await judged(site, 18)
    site.now = NOON + timedelta(days=400 + 17 * 30 - 60)

    await site.forgetter.forget()

    left = await site.database.fetch("select number from window_sketch order by number")
    # Of windows 16 to 18, which ended in the last 400 days, the first was compared with 15 others.
    assert [row["number"] for row in left] == list(range(1, 19))
    site.now += timedelta(days=30)
    await site.forgetter.forget()
    left = await site.database.fetch("select min(number) as first from window_sketch")
    assert left[0]["first"] == 2
    site.now += timedelta(days=3000)
    await site.forgetter.forget()
    assert await site.database.fetch("select 1 from window_sketch") == []


async def test_other_rules_tell_what_would_differ_and_decide_nothing(
    site: Site, client: httpx.AsyncClient
) -> None:
    said = await judged(site, 4)
    before = await site.database.fetch("select * from window_sketch order by number")

    strict = (await client.get(f"{PATH}/4/replay", params={"alpha": 1e-9})).json()
    lax = (await client.get(f"{PATH}/4/replay", params={"shift": 50.0})).json()

    assert said[-1].tier == "critical"
    assert (strict["same"], strict["alpha"]) == (False, 1e-9)
    fields = {one["field"]: one for one in lax["differences"]}
    assert fields["severity"] == {"field": "severity", "recorded": "critical", "now": "warning"}
    assert lax["tier"] == "warning"
    assert await site.database.fetch("select * from window_sketch order by number") == before


@pytest.mark.parametrize(("factor", "same"), [(1 + 1e-13, True), (1 + 1e-6, False)])
async def test_last_digits_are_those_of_a_processor_others_are_told(
    site: Site, client: httpx.AsyncClient, factor: float, same: bool
) -> None:
    await judged(site, 3)
    await site.database.execute(
        "update window_sketch set features = (select jsonb_agg(jsonb_set(one, '{effect}', "
        "to_jsonb((one->>'effect')::float8 * $1::float8))) "
        "from jsonb_array_elements(features) one) "
        "where number = 2",
        factor,
    )

    found = (await client.get(f"{PATH}/2/replay")).json()

    assert found["same"] is same
    assert bool(found["differences"]) is not same


async def test_bytes_that_are_not_what_was_judged_are_told(
    site: Site, client: httpx.AsyncClient
) -> None:
    await judged(site, 3)
    await site.database.execute(
        "update window_sketch w set counts = o.counts from window_sketch o "
        "where w.number = 2 and o.number = 3"
    )

    found = (await client.get(f"{PATH}/2/replay")).json()

    assert not found["same"]
    assert found["differences"][0]["field"] == "counts"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/99/replay", 404),
        ("/2/replay", 409),
        ("/0/replay", 422),
        ("/1/replay?alpha=nan", 422),
        ("/1/replay?alpha=0", 422),
        ("/1/replay?shift=-1", 422),
        ("/1/replay?shift=inf", 422),
    ],
)
async def test_what_cannot_be_computed_again_is_refused(
    site: Site, client: httpx.AsyncClient, path: str, status: int
) -> None:
    await judged(site, 1)
    await site.hear(site.serving.batch(QUIET[:5]))

    answer = await client.get(PATH + path)
    unknown = await client.get("/v1/models/valve/versions/1/windows/1/replay")

    assert answer.status_code == status, answer.text
    assert unknown.status_code == 404
