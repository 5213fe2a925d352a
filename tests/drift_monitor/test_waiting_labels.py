"""Labels that wait for predictions have so much room and no more, whoever sends them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from services.drift_monitor.handlers.accepting import sane_of
from services.drift_monitor.store import PostgresStore, waiting
from services.drift_monitor.store.horizon import TOGETHER
from shared.events import GroundTruthObserved, ModelName
from shared.telemetry import REGISTRY
from tests.drift_monitor.building import PUMP, a_label, a_profile, autoregressive, registered
from tests.drift_monitor.conftest import Site, heard_of

pytestmark = pytest.mark.real
PROFILE = a_profile(autoregressive(0.3, 1000, 3, seed=1), window=50)
FILL = """
    insert into waiting_label (prediction, model, value, revision, observed_at, event, known_at,
        heard_at, room)
    select 'old-' || n, $1, '1', 1, now(), gen_random_uuid(), now(),
        now() - interval '1 hour' + n * interval '1 ms', $2
    from generate_series(1, $3::int) n
"""


def orphaned(model: str) -> float:
    found = REGISTRY.get_sample_value("tidewheel_labels_orphaned_total", {"model": model})
    return found or 0.0


def labels_of(model: str, count: int, name: str = "new") -> list[GroundTruthObserved]:
    return [
        replace(a_label(f"{name}-{model}-{n}", 1.0), model=ModelName(model)) for n in range(count)
    ]


async def waiting_in(site: Site, models: Sequence[str]) -> list[int]:
    sql = "select count(*) from waiting_label where model = $1 and ($2 or prediction like 'new%')"
    return [int(await site.database.fetchval(sql, model, True)) for model in models]


async def test_the_room_of_a_model_is_full_at_last_and_the_oldest_labels_go(site: Site) -> None:
    await site.hear(registered(site.artifacts, PROFILE))
    await site.database.execute(FILL, PUMP, PUMP, waiting.MOST - 10)
    before = orphaned(PUMP)

    await site.hear_together(labels_of(PUMP, 30))

    left = await site.database.fetchval("select count(*) from waiting_label")
    assert left == waiting.MOST
    assert orphaned(PUMP) - before == 20
    oldest = await site.database.fetchval(
        "select min(substr(prediction, 5)::int) from waiting_label where prediction like 'old-%'"
    )
    assert oldest == 21


async def test_first_labels_of_predictions_that_have_come_are_not_crowded_out(site: Site) -> None:
    """Nobody can judge them while their version cannot be read; others of them share the room."""
    await site.hear(registered(site.artifacts, PROFILE))
    await site.hear(site.serving.batch(autoregressive(0.3, 40, 3, seed=2)))
    known = await site.database.fetchval("select policy from version")
    await site.database.execute("update version set policy = '{}'")
    firsts = [a_label(name, answer + 0.1) for name, answer in site.serving.asked]
    seconds = [replace(one, value=9.0, revision=2) for one in firsts[:10]]
    await site.hear_together([*firsts, *seconds])
    await site.database.execute("update waiting_label set heard_at = now() - interval '1 day'")
    await site.database.execute(FILL, PUMP, PUMP, waiting.MOST)
    site.store.unchecked.clear()
    before = orphaned(PUMP)

    await site.hear_together(labels_of(PUMP, 30))
    crowded_out = orphaned(PUMP) - before
    left = await site.database.fetchval("select count(*) from waiting_label where room = $1", PUMP)
    await site.database.execute("update version set policy = $1", known)
    await site.versions.count_waiting()

    assert (crowded_out, left) == (30 + len(seconds), waiting.MOST)
    assert await site.database.fetchval("select count(*) from outcome where counts") == 40


async def test_made_up_models_share_one_room_and_take_none_of_anybody_elses(site: Site) -> None:
    await site.hear(registered(site.artifacts, PROFILE))
    await site.database.execute(FILL, "nobody", "", waiting.MOST)
    made_up = [f"made-up-{n}" for n in range(40)]

    await site.hear_together([one for model in made_up for one in labels_of(model, 1)])
    await site.hear_together(labels_of(PUMP, 5))

    rooms = await site.database.fetch(
        "select room, count(*)::int as labels from waiting_label group by room order by room"
    )
    assert [(row["room"], row["labels"]) for row in rooms] == [("", waiting.MOST), (PUMP, 5)]
    assert await waiting_in(site, made_up) == [1] * 40


async def test_made_up_models_make_no_series(site: Site) -> None:
    await site.hear(registered(site.artifacts, PROFILE))
    await site.hear_together(
        [*labels_of(PUMP, 3), *(one for n in range(50) for one in labels_of(f"fake-{n}", 2))]
    )
    before = {model: orphaned(model) for model in (PUMP, "other")}
    site.now += timedelta(days=4000)

    await site.forgetter.forget()

    assert {model: orphaned(model) - count for model, count in before.items()} == {
        PUMP: 3,
        "other": 100,
    }
    assert orphaned("fake-7") == 0
    assert await site.database.fetchval("select count(*) from waiting_label") == 0


async def test_old_labels_go_a_page_at_a_time(site: Site) -> None:
    await site.hear(registered(site.artifacts, PROFILE))
    await site.database.execute(FILL, PUMP, PUMP, 2 * TOGETHER + 5)
    before = orphaned(PUMP)
    site.now += timedelta(days=4000)

    await site.forgetter.forget()

    assert orphaned(PUMP) - before == 2 * TOGETHER + 5


async def test_a_room_with_place_is_seldom_counted(site: Site) -> None:
    await site.hear(registered(site.artifacts, PROFILE))

    await site.hear_together(labels_of(PUMP, 10, "a"))
    await site.hear_together(labels_of(PUMP, 10, "b"))

    left = site.store.unchecked[PUMP]
    assert left == (waiting.MOST - 10) // 16 - 10


async def test_what_two_monitors_find_too_much_at_once_is_dropped_once(site: Site) -> None:
    await site.database.execute(FILL, "nobody", "", waiting.MOST + 20)
    stores = [PostgresStore(site.database), PostgresStore(site.database)]
    together = asyncio.Barrier(2)

    async def take(store: PostgresStore, name: str) -> int:
        labels = sane_of([heard_of(label) for label in labels_of(name, 30)])
        async with site.database.transaction():
            await store.wait_for(labels)
            await together.wait()
            dropped = await store.make_room()
            await together.wait()
        return dropped.total()

    dropped = await asyncio.gather(take(stores[0], "fake-a"), take(stores[1], "fake-b"))
    later = [(await store.make_room()).total() for store in stores]

    assert sorted(dropped) == [0, 50]
    assert sorted(later) == [0, 30]
    assert await site.store.count_waiting() == waiting.MOST
