"""Rounds of the monitor: they cost what is due, end, and let nobody wait for anybody's fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from bench.rounds_world import NOW, Fleet, a_fleet
from services.drift_monitor.brake import FLEET, Brake
from services.drift_monitor.course import About, Course, Phase
from services.drift_monitor.handlers import Ageing
from services.drift_monitor.handlers.rounds import take
from services.drift_monitor.handlers.settling import fed_at, look_again_at, soonest
from services.drift_monitor.handlers.vitals import Vitals
from services.drift_monitor.quality.delays import EDGES
from services.drift_monitor.store import (
    behind,
    idle,
    reporting,
    settling,
    sketches,
    unjudged,
    vitals,
)
from services.drift_monitor.store.delays import FEW_WINDOWS
from services.drift_monitor.store.qualities import Look
from services.drift_monitor.store.vitals import VitalsTable
from shared.errors import Unavailable
from shared.events import (
    BrakeLifted,
    BrakeSet,
    DataQualityAlarmed,
    ModelName,
    RetrainingRequested,
    RetrainingWithheld,
    WindowEvaluated,
)
from shared.postgres import Cause
from shared.telemetry import REGISTRY
from tests.drift_monitor.building import (
    NOON,
    PUMP,
    a_label,
    a_policy,
    a_profile,
    a_spec,
    autoregressive,
    published,
    registered,
)
from tests.drift_monitor.conftest import Site, heard_of
from tests.drift_monitor.test_ingest import promoted
from tests.support.waiting import eventually

real = pytest.mark.real
MODELS, WINDOWS = 300, 100
FEW = 3
PAUSE = timedelta(seconds=15)
PROFILE = a_profile(autoregressive(0.3, 1000, 3, seed=1), window=50)
LARGE = {"window_sketch", "window_quality", "label_delay", "outcome"}


@pytest.fixture
async def fleet(database_url: str) -> AsyncIterator[Fleet]:
    """Three models; each has a hundred closed windows, the last two of them not settled."""
    async with a_fleet(database_url) as made:
        await made.add(FEW, WINDOWS)
        yield made


async def plan_of(fleet: Fleet, sql: str, *arguments: Any) -> list[dict[str, Any]]:
    """The nodes of the plan of a statement that was run."""
    told = await fleet.database.fetchval(
        f"explain (analyze, format json) {sql}",
        *arguments,
    )
    nodes, left = (
        [],
        [node["Plan"] for node in (json.loads(told) if isinstance(told, str) else told)],
    )
    while left:
        node = left.pop()
        left += node.get("Plans", [])
        nodes.append(node)
    return nodes


def rows_read(nodes: Sequence[dict[str, Any]]) -> float:
    """By all scans together, those that were thrown away among them."""
    read = 0.0
    for node in nodes:
        if "Scan" in node["Node Type"]:
            rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            read += float(rows * node["Actual Loops"])
    return read


@real
async def test_a_round_reads_what_is_due_and_nothing_else(database_url: str) -> None:
    async with a_fleet(database_url) as fleet:
        await fleet.add(MODELS, WINDOWS)
        await fleet.database.execute(
            "update label_delay set due_at = null where model <> $1", "model-7"
        )
        await fleet.open_old()
        await fleet.settling.settle()
        await _all_critical(fleet)
        await fleet.database.execute("vacuum analyze label_delay, alarm_report")
        plans = await plans_of(fleet, "model-7")
        again = await fleet.settling.settle()

    assert again == 0
    for what, nodes in plans.items():
        through = [n for n in nodes if n["Node Type"] == "Seq Scan"]
        # A row of each model is read to tell of every one.
        large = LARGE - {"label_delay"} if what == "labels" else LARGE
        assert not [n for n in through if n["Relation Name"] in large], what
    assert rows_read(plans["models"]) == 0
    assert rows_read(plans["windows"]) <= 10
    assert rows_read(plans["next"]) <= 10
    assert rows_read(plans["unfed"]) <= 10
    assert rows_read(plans["old"]) <= 3 * MODELS
    # A row of its own, and the newest windows; none of the hundred without a figure.
    assert rows_read(plans["vitals"]) <= 15 * MODELS
    # One alarm is due, and of ninety windows that are too young for labels none is read.
    assert rows_read(plans["alarms"]) <= 10
    assert rows_read(plans["labels"]) <= 15 * MODELS
    assert rows_read(plans["unjudged"]) == rows_read(plans["behind"]) == 0
    assert rows_read(plans["waits"]) <= 1
    assert rows_read(plans["idle"]) <= 10 * MODELS
    assert rows_read(plans["usual"]) <= 2 * WINDOWS


async def _all_critical(fleet: Fleet) -> None:
    """All windows are, and a report of one version is to be drawn; labels take ninety hours."""
    await fleet.database.execute("update window_sketch set severity = 'critical'")
    await fleet.database.execute(
        "insert into alarm_report select model, version, newest, "
        "case when model = 'model-7' then now() end, now() from version union all "
        "select 'former-' || n, 1, 1, null, now() from generate_series(1, 10000) n"
    )
    await fleet.database.execute("update label_delay set settled = 90 * 3600")
    await fleet.database.execute("analyze window_sketch")


async def plans_of(fleet: Fleet, model: str) -> dict[str, list[dict[str, Any]]]:
    """Of the statements of a round, a moment after one."""
    later = NOW + timedelta(seconds=10)
    return {
        "models": await plan_of(fleet, settling.MODELS_DUE, later, 200),
        "windows": await plan_of(fleet, settling.WINDOWS_DUE, model, later, 100),
        "next": await plan_of(fleet, settling.NEXT_LOOK, model),
        "unfed": await plan_of(fleet, settling.UNFED, model),
        "old": await plan_of(fleet, sketches.OLD, NOW, 20, model, 1, "", 50),
        "vitals": await plan_of(fleet, vitals.STANDINGS),
        "alarms": await plan_of(fleet, reporting.TAKE_ALARMS, 5),
        "unjudged": await plan_of(fleet, unjudged.DUE, later, 200),
        "waits": await plan_of(fleet, unjudged.WAITS, [model], [1]),
        "behind": await plan_of(fleet, behind.BEHIND),
        "idle": await plan_of(fleet, idle.IDLE_WINDOWS, NOW, "", 0, "", 200),
        "labels": await plan_of(fleet, vitals.COVERAGES, NOW, 5),
        "usual": await plan_of(fleet, vitals.USUAL, NOW, 100, [model], [1]),
    }


@real
async def test_one_model_that_cannot_be_settled_or_closed_keeps_no_other_waiting(
    fleet: Fleet,
) -> None:
    database = fleet.database
    await fleet.open_old()
    # Its profile is nowhere; a window of it is old, and losses are to be fed.
    await database.execute("update version set reference = repeat('f', 64) where model = 'model-2'")
    await database.execute("update detector set fed_to = $1", NOW - timedelta(days=1))
    ageing, verdicts = fleet.ageing, fleet.ageing.predictions.verdicts

    closed, again = await ageing.close_old(), await ageing.close_old()
    await fleet.settling.settle()

    unjudged = await database.fetch("select model from window_sketch where judge_at is not null")
    due = {
        row["model"]: row["due_at"]
        for row in await database.fetch("select model, due_at from label_delay")
    }
    assert (closed, again, ageing.failed) == (3, 0, {})
    assert [row["model"] for row in unjudged] == ["model-2"]
    assert due["model-2"] == NOW + timedelta(minutes=5)
    assert all(moment is None or moment > NOW for moment in due.values())
    fleet.clock[0] += timedelta(minutes=6)
    await database.execute(
        "update version v set reference = o.reference from version o "
        "where v.model = 'model-2' and o.model = 'model-1'"
    )
    assert await verdicts.judge_due() == 1
    assert await verdicts.store.count_unjudged() == 0


@real
async def test_windows_close_though_no_profile_can_be_read(fleet: Fleet) -> None:
    await fleet.open_old()

    async def away(_: object) -> bytes:
        raise Unavailable("no profile can be read")

    await fleet.database.execute("update version set reference = repeat('e', 64)")
    fleet.judging.profiles.fetch = away
    verdicts = fleet.ageing.predictions.verdicts

    closed = await fleet.ageing.close_old()
    fleet.clock[0] += timedelta(minutes=6)

    assert (closed, await verdicts.judge_due()) == (3, 0)
    assert await verdicts.store.unjudged_due(fleet.clock[0], 10) == []
    assert await verdicts.store.count_unjudged() == 3


@real
async def test_unlabelled_predictions_of_many_windows_are_counted_once_in_a_while(
    fleet: Fleet,
) -> None:
    windows, model = FEW_WINDOWS + 50, "model-3"
    await _more_windows(fleet, model, windows)
    store = fleet.judging.store

    first = await store.delays(model, NOW, keep=True)
    await fleet.database.execute("update window_sketch set rows = 90 where model = $1", model)
    kept = await store.delays(model, NOW + timedelta(hours=1))
    anew = await store.delays(model, NOW + timedelta(days=5))
    back = await store.delays(model, NOW - timedelta(hours=1))

    assert first[1].sum() == 50 * (WINDOWS + windows)
    assert kept[1].tolist() == first[1].tolist()
    assert anew[1].sum() == back[1].sum() == 40 * (WINDOWS + windows)
    assert len(first[1]) == len(EDGES) + 1


async def _more_windows(fleet: Fleet, model: str, windows: int) -> None:
    """Windows of ninety days ago, half of whose rows have labels."""
    await fleet.database.execute(
        "insert into window_sketch (model, version, number, rows, counts, begun_at, started_at, "
        "ended_at, closed_at, opened_at) select $1, 1, 1000 + n, 100, '', at, at, at, at, at from "
        "generate_series(1, $2::int) n, (select $3::timestamptz - interval '90 days' as at) then_",
        model, windows, NOW,
    )  # fmt: skip
    await fleet.database.execute(
        "insert into window_quality (model, version, number, labels) "
        "select $1, 1, 1000 + n, 50 from generate_series(1, $2::int) n",
        model, windows,
    )  # fmt: skip


# --- one order of locks -----------------------------------------------------------------------


async def waits_for_the_fleet(site: Site) -> object:
    return await site.database.fetchval(
        "select 1 from pg_locks where locktype = 'advisory' and classid = 7437 and not granted"
    )


@real
async def test_a_brake_is_lifted_beside_a_batch_that_holds_a_model_of_it(site: Site) -> None:
    held = About(
        model=PUMP, version=1, owner="ada", policy=replace(a_policy(), dataset="flow"), now=NOON
    )
    course = Course(phase=Phase.HELD, version=1, confirmed_at=NOON)
    brake = Brake(scope=FLEET, set_at=NOON, until=NOON + timedelta(days=7))
    said = BrakeSet(scope=FLEET, confirmed=9, watched=9, models=(PUMP,), detail="at once")
    lifted = BrakeLifted(scope=FLEET, by="ada", reason="released", detail="known")
    async with site.database.transaction():
        await site.store.set_brake(brake, said)
        await site.store.save_course(held, course, None, NOON)
    has_fleet, has_course = asyncio.Event(), asyncio.Event()
    before = await site.store.due_course(NOON)

    async def a_batch() -> None:
        """Predictions of this model, and of another whose question the fleet must answer."""
        async with site.database.transaction():
            await site.store.lock([PUMP, "valve"])
            await has_fleet.wait()
            await site.store.save_course(held, course, None, NOON)
            has_course.set()
            await site.store.lock_fleet()
            await site.store.save_course(
                replace(held, model=ModelName("valve")), course, NOON, NOON
            )

    async def a_person() -> None:
        async with site.database.transaction():
            await site.store.lock_fleet()
            has_fleet.set()
            await has_course.wait()
            await eventually(lambda: waits_for_the_fleet(site), what="the batch to wait")
            await site.store.lift_brake(lifted, NOON)

    await asyncio.wait_for(asyncio.gather(a_batch(), a_person()), 30)

    assert before is None
    assert await site.store.due_course(NOON) in (PUMP, "valve")
    assert (await site.store.course(PUMP)).due_at == NOON


@real
async def test_what_is_held_without_a_brake_is_looked_at_once(site: Site) -> None:
    held = About(
        model=PUMP, version=1, owner="ada", policy=replace(a_policy(), dataset="flow"), now=NOON
    )
    brake = Brake(scope="dataset/flow", set_at=NOON, until=NOON + timedelta(days=7))
    said = BrakeSet(scope=brake.scope, confirmed=9, watched=9, models=(PUMP,), detail="at once")
    lifted = BrakeLifted(scope=brake.scope, by="ada", reason="released", detail="known")
    await site.store.set_brake(brake, said)
    await site.store.save_course(held, Course(phase=Phase.HELD, version=1), None, NOON)
    await site.store.lift_brake(lifted, NOON)

    # The version that was held is champion no more: nothing is to be looked at.
    looked = await site.brakes.look_at_one(), await site.brakes.look_at_one()

    assert looked == (True, False)


# --- when the next look is --------------------------------------------------------------------


def a_look(age: timedelta) -> Look:
    ended = NOON - age
    return Look(
        number=1, rows=100, per_cell=None, begun_at=ended, ended_at=ended, is_closed=True,
        labels=50, steps=1, revision=1, state="provisional", settled=False,
    )  # fmt: skip


def test_a_window_is_looked_at_when_its_labels_should_be_there_and_then_ever_less_often() -> None:
    hour = timedelta(hours=1)
    first = look_again_at(a_look(hour), 3 * 3600.0, NOON)
    later = [look_again_at(a_look(n * hour), 1800.0, NOON) - NOON for n in (1, 24, 24 * 300)]

    assert first == NOON + 2 * hour
    assert all(n * hour / 12 < wait < n * hour / 2 for n, wait in zip((1, 24), later, strict=False))
    assert later[2] <= timedelta(days=10)


def test_windows_of_like_age_are_looked_at_at_one_moment() -> None:
    day = timedelta(days=1)
    ages = [30 * day + n * timedelta(hours=1) for n in range(48)]

    moments = {look_again_at(a_look(age), 1800.0, NOON) for age in ages}

    assert len(moments) == 1


@pytest.mark.parametrize("age", [timedelta(days=-365 * 7000), timedelta(days=365 * 2000)])
def test_moments_of_wild_clocks_are_not_waited_for(age: timedelta) -> None:
    again = look_again_at(a_look(age), 1800.0, NOON)
    fed = fed_at(NOON - age, timedelta(hours=1), NOON)

    due = soonest([again, fed], NOON, PAUSE)

    assert due is not None
    assert NOON + PAUSE <= due <= NOON + timedelta(days=10)


def test_nothing_to_wait_for_is_no_moment() -> None:
    assert soonest([], NOON, PAUSE) is None


# --- what nobody could count ------------------------------------------------------------------


@real
@pytest.mark.parametrize(
    ("heard", "rows"),
    [
        ([], None),
        ([(1, 500)], 0),
        ([(1, 500), (2, 700)], 200),
        ([(2, 700)], 300),
        ([(2, 100)], 0),
    ],
)
async def test_rows_that_have_come_since_are_known_or_they_are_not(
    site: Site, heard: list[tuple[int, int]], rows: int | None
) -> None:
    await site.hear(*(published(version, size) for version, size in heard))

    assert await site.store.rows_since("flow", 1, 400) == rows


@real
async def test_a_model_whose_data_nobody_told_of_is_not_refused_for_want_of_labels(
    site: Site,
) -> None:
    profile = a_profile(autoregressive(0.0, 4000, 3, seed=1), window=50)
    quiet = autoregressive(0.0, 150, 3, seed=2)
    await site.hear(registered(site.artifacts, profile), promoted())

    await site.hear(*site.serving.batches_of(quiet + np.array([3.0, 0, 0])))

    withheld = await site.said(RetrainingWithheld)
    (asked, *_) = await site.said(RetrainingRequested)
    assert isinstance(asked, RetrainingRequested)
    assert asked.labels is None
    assert "no_labels" not in {getattr(one, "reason", "") for one in withheld}


@real
async def test_rows_that_came_before_their_version_are_counted_page_by_page(site: Site) -> None:
    profile = a_profile(autoregressive(0.0, 4000, 3, seed=1), window=50)
    await site.hear(*site.serving.batches_of(autoregressive(0.0, 120, 3, seed=2)))
    labels = [a_label(prediction, answer) for prediction, answer in site.serving.asked[:60]]
    await site.hear_together(labels)
    told = heard_of(registered(site.artifacts, profile))
    versions = replace(site.versions, together=7)

    async with site.database.transaction(Cause.of(told)) as transaction:
        await transaction.say(await versions.watch(told))
    await versions.count_waiting()

    windows = await site.database.fetch(
        "select number, w.rows, labels from window_sketch w "
        "left join window_quality q using (model, version, number) order by number"
    )
    assert [tuple(row) for row in windows] == [(1, 50, 50), (2, 50, 10), (3, 20, None)]
    assert await site.counted() == 120
    assert len(await site.said(WindowEvaluated)) == 2


@real
@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2026-03-04T12:00:00"]
)
async def test_a_label_of_no_moment_keeps_no_other_from_being_joined(
    site: Site, moment: str
) -> None:
    profile = a_profile(autoregressive(0.0, 4000, 3, seed=1), window=50)
    await site.hear(registered(site.artifacts, profile))
    await site.hear(*site.serving.batches_of(autoregressive(0.0, 10, 3, seed=2)))
    first, second = (a_label(prediction, 1.0) for prediction, _ in site.serving.asked[:2])
    wild = replace(first, observed_at=datetime.fromisoformat(moment))

    await site.hear_together([wild, second])

    joined = await site.database.fetch(
        "select p.id from outcome o join prediction p on p.place = o.place"
    )
    assert [row["id"] for row in joined] == [second.prediction]


# --- steps that fail --------------------------------------------------------------------------


async def test_a_step_that_fails_keeps_no_other_waiting_and_ends_nothing() -> None:
    taken: list[str] = []

    async def away() -> None:
        raise Unavailable("the database is away")

    async def broken() -> None:
        raise ValueError("nobody foresaw this")

    async def sound() -> None:
        taken.append("sound")

    before = failures("verdicts"), failures("ages")

    await take({"ages": away, "verdicts": broken, "rows": sound})

    assert taken == ["sound"]
    assert (failures("verdicts") - before[0], failures("ages") - before[1]) == (1, 0)


def failures(name: str) -> float:
    return REGISTRY.get_sample_value("tidewheel_rounds_failed_total", {"round": name}) or 0.0


@real
async def test_a_champion_whose_age_cannot_be_told_keeps_no_other_waiting(site: Site) -> None:
    pump, fan = promoted(), replace(promoted(), model=ModelName("fan"))
    spec = a_spec(freshness="2h")
    known = registered(site.artifacts, PROFILE, spec=spec)
    await site.hear(known, replace(known, model=fan.model), pump, fan)
    await site.database.execute(
        "create function refuse() returns trigger language plpgsql as "
        "$$ begin raise exception 'nobody foresaw this'; end $$"
    )
    await site.database.execute(
        "create trigger refuse before insert on data_alarm for each row "
        "when (new.model = 'fan') execute function refuse()"
    )
    await site.database.execute(
        "insert into published (dataset, version, rows, at) "
        "select distinct dataset, 2, 100, $1::timestamptz from version",
        NOON,
    )
    site.now = NOON + timedelta(hours=3)
    ageing = Ageing(predictions=site.predictions)

    changed, again = await ageing.check_age(), await ageing.check_age()

    assert (changed, again) == (1, 0)
    assert [one.subject for one in await site.said(DataQualityAlarmed)] == [PUMP]
    assert ageing.unchecked == {"fan": site.now + timedelta(minutes=5)}


@real
async def test_a_champion_whose_figures_make_no_sense_keeps_no_other_untold(fleet: Fleet) -> None:
    await fleet.database.execute(
        "insert into window_quality (model, version, number, quality) "
        "values ('model-2', 1, 1000, '[]')"
    )

    await Vitals(VitalsTable(fleet.database), lambda: NOW).tell()

    told = {
        model: REGISTRY.get_sample_value("tidewheel_drift_severity", {"model": model})
        for model in ("model-1", "model-2", "model-3")
    }
    assert told == {"model-1": 0, "model-2": None, "model-3": 0}
