"""Labels are looked up by index: what a batch costs does not grow with what is kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import pytest

from services.drift_monitor.quality import Label, Outcome
from services.drift_monitor.quality.joining import Given
from services.drift_monitor.store import PostgresStore
from services.drift_monitor.store.outcomes import Weighed
from shared.ids import uuid7
from tests.drift_monitor.building import NOON, PUMP
from tests.drift_monitor.conftest import Site

pytestmark = pytest.mark.real

ROWS, FEW = 10_000, 40
IDS = [f"p-{n}" for n in range(1, FEW + 1)]
BEGUN, ENDED = (NOON + timedelta(seconds=second) for second in (1500, 1999))
TABLES = ["outcome", "prediction", "unseen", "waiting_label"]
FILL = (
    "insert into column_names values ('none', '[]') on conflict do nothing",
    f'insert into prediction (id, model, version, "window", place, names, features, answer, arm, '
    f"rung, predicted_at) select 'p-' || n, 'pump', 1, n / 500, n, 'none', '', '1', 'champion', "
    f"'champion', timestamptz '{NOON}' + n * interval '1 second' from generate_series(1, {ROWS}) n",
    'insert into outcome (place, model, version, "window", at, known_at, value, revision, '
    'observed_at, event, loss, counts) select p.place, p.model, 1, p."window", p.predicted_at, '
    "p.predicted_at, '1', k, p.predicted_at, gen_random_uuid(), 1, k = 2 "
    "from prediction p, generate_series(1, 2) k",
    "insert into unseen (id, seen, model, version, answer, weight, predicted_at) "
    "select 's-' || id, id, model, 2, answer, 1, predicted_at from prediction",
    f"insert into waiting_label (prediction, model, value, revision, observed_at, event, known_at) "
    f"select 'w-' || n, 'm-' || n, '1', 1, now(), gen_random_uuid(), now() "
    f"from generate_series(1, {ROWS}) n",
)
Ask = Callable[[PostgresStore], Awaitable[object]]


async def keep_another(store: PostgresStore) -> None:
    """A label that replaces another."""
    before = Label(1.0, 2, NOON, uuid7())
    given = Given("p-9999", 9999, PUMP, 1, 1, 1.0, None, NOON, label=before, known_at=NOON)
    await store.keep([Weighed(Outcome(given, Label(2.0, 3, NOON, uuid7()), NOON))])


ASKED: dict[str, Ask] = {
    "answers": lambda store: store.answers(IDS),
    "labels taken back": lambda store: store.take_labels(IDS),
    "losses of a window": lambda store: store.labelled((PUMP, 1, 3), BEGUN, ENDED),
    "losses as known": lambda store: store.labelled((PUMP, 1, 3), BEGUN, ENDED, ENDED),
    "losses to be fed": lambda store: store.due({(PUMP, 1): (BEGUN, ENDED)}, FEW),
    "labels that wait": lambda store: store.take_waiting(["m-1"], ["w-1", "w-2"]),
    "a label replaced": keep_another,
}


async def read_whole(site: Site, asked: Sequence[Ask]) -> dict[str, int]:
    """How often whole tables were read in this transaction to answer these."""
    before = await _scans(site)
    for ask in asked:
        await ask(site.store)
    after = await _scans(site)
    return {name: after[name] - before[name] for name in TABLES if after[name] > before[name]}


async def _scans(site: Site) -> dict[str, int]:
    rows = await site.database.fetch("select relname, seq_scan from pg_stat_xact_user_tables")
    return {row["relname"]: row["seq_scan"] for row in rows}


async def fill(site: Site) -> None:
    for statement in FILL:
        await site.database.execute(statement)


async def test_big_tables_are_read_by_their_indexes(site: Site) -> None:
    await fill(site)
    await site.database.execute("analyze")

    async with site.database.transaction():
        found = {name: await read_whole(site, [ask]) for name, ask in ASKED.items()}

    assert found == {name: {} for name in ASKED}


async def test_a_plan_that_was_made_for_empty_tables_does_for_big_ones(site: Site) -> None:
    asked = [ASKED["answers"], ASKED["labels taken back"]]
    await site.database.execute("vacuum analyze outcome, prediction, unseen")

    async with site.database.transaction():
        # So often that the plan is the one for any number of predictions, and is kept.
        for _ in range(7):
            await read_whole(site, asked)
        await fill(site)
        answers = await site.store.answers(IDS)
        found = await read_whole(site, asked)

    assert (len(answers.id), found) == (FEW, {})


async def test_labels_that_are_taken_back_are_all_there_were(site: Site) -> None:
    await fill(site)

    async with site.database.transaction():
        taken = await site.store.take_labels(IDS)
        left = await site.database.fetchval("select count(*) from outcome where place <= $1", FEW)

    assert sorted((one.prediction, one.revision) for one in taken) == sorted(
        (prediction, revision) for prediction in IDS for revision in (1, 2)
    )
    assert left == 0
