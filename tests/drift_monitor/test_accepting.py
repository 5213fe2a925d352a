"""Anybody may send a label, with any id and any time or none: neither decides what is known."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pytest

from services.drift_monitor.handlers.accepting import DOOR, LONGEST_WAY, sane_of
from services.drift_monitor.quality.delays import EDGES, Delays, counted
from services.serving.handlers import voice
from shared import clock
from shared.events import Event, GroundTruthObserved, Heard
from shared.letters import Reader, Record
from shared.postgres import Cause
from shared.reactions import on
from shared.telemetry import REGISTRY
from shared.topics import FEEDBACK
from tests.drift_monitor.building import (
    NOON,
    PUMP,
    a_profile,
    a_spec,
    autoregressive,
    registered,
)
from tests.drift_monitor.conftest import Site

CAME = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PROFILE = a_profile(autoregressive(0.3, 1000, 3, seed=1), window=50)


async def _nothing(_: Heard[Event]) -> Iterable[Event]:
    return []


READER = Reader([on(GroundTruthObserved, _nothing)])


def on_the_topic(came_at: datetime | None = CAME, **changes: Any) -> Heard[Any]:
    """What the monitor hears of a record that somebody wrote; without a time unless given."""
    data = {
        "model": PUMP,
        "prediction": changes.pop("prediction", "p-1"),
        "value": changes.pop("value", 1.0),
        "observed_at": "2026-03-04T00:00:00+00:00",
        "revision": changes.pop("revision", 1),
    }
    given = {
        "specversion": "1.0",
        "id": "label-of-p-1",
        "source": "//laboratory",
        "type": GroundTruthObserved.TYPE,
        "data": data,
        **changes,
    }
    record = Record(
        topic=FEEDBACK.name,
        partition=0,
        offset=0,
        key=PUMP.encode(),
        value=orjson.dumps(given),
        came_at=came_at,
    )
    letter = READER.read(record)
    assert letter.failure is None, letter.failure
    assert letter.heard is not None
    return letter.heard


def known_at(**given: Any) -> datetime:
    (label,) = sane_of([on_the_topic(**given)])
    return label.known_at


# --- when it was accepted -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "time",
    [
        "1970-01-01T00:00:00Z",
        "2026-11-18T12:00:00Z",
        "2030-01-01T00:00:00Z",
        "9999-12-31T23:59:59-12:00",
        "0001-01-01T00:00:00+14:00",
    ],
)
def test_a_label_is_known_when_it_came_whatever_its_producer_says(time: str) -> None:
    assert known_at(time=time) == CAME


def test_a_label_without_a_time_is_known_when_it_came() -> None:
    heard = on_the_topic()

    assert known_at() == heard.time == CAME


def test_where_the_broker_does_not_stamp_records_our_own_clock_does() -> None:
    before = clock.now()

    assert before <= known_at(came_at=None, time="2030-01-01T00:00:00Z") <= clock.now()


@pytest.mark.parametrize(
    ("waited", "counts"),
    [
        (timedelta(0), timedelta(0)),
        (timedelta(hours=71), timedelta(hours=71)),
        (timedelta(hours=73), LONGEST_WAY),
        (timedelta(hours=-5), timedelta(0)),
    ],
)
def test_what_waited_in_servings_spool_was_accepted_at_its_door(
    waited: timedelta, counts: timedelta
) -> None:
    given = {"source": f"{DOOR}serving-0", "time": (CAME - waited).isoformat()}

    assert known_at(**given) == CAME - counts


def test_the_door_is_where_serving_says_that_it_is() -> None:
    assert f"{voice.SOURCE}/" == DOOR


@pytest.mark.parametrize("says", ["nothing", "when it was predicted", "a year ahead"])
def test_how_long_labels_take_is_not_for_their_producer_to_say(says: str) -> None:
    true = np.random.default_rng(1).lognormal(np.log(2), 0.3, 500).tolist()
    came = [NOON + days * DAY for days in true]
    times: dict[str, list[dict[str, str]]] = {
        "nothing": [{}] * len(came),
        "when it was predicted": [{"time": NOON.isoformat()}] * len(came),
        "a year ahead": [{"time": (at + 365 * DAY).isoformat()} for at in came],
    }

    heards = [
        on_the_topic(came_at=at, **given) for at, given in zip(came, times[says], strict=True)
    ]

    seconds = [(one.known_at - NOON).total_seconds() for one in sane_of(heards)]
    found = Delays.of(counted(seconds), np.zeros(len(EDGES) + 1))
    assert found is not None
    assert found.settled / DAY.total_seconds() == pytest.approx(3.4, abs=0.5)


# --- what tells labels apart ----------------------------------------------------------------------


def corrections(prediction: str = "p-1") -> list[Heard[Any]]:
    """Of one label, all of them under one id, each by somebody who has come later."""
    said = [(1, 1.0), (2, 2.0), (3, 3.0), (3, 7.0)]
    return [
        on_the_topic(CAME + n * DAY, prediction=prediction, revision=revision, value=value)
        for n, (revision, value) in enumerate(said)
    ]


def test_what_says_something_else_is_another_label_whatever_its_id() -> None:
    heards = corrections()

    events = [one.event for one in sane_of(heards)]

    assert len(set(events)) == len({heard.told_apart_by for heard in heards}) == 4
    assert {heard.id for heard in heards} == {heards[0].id}
    assert all(isinstance(one, UUID) for one in events)


async def hear(site: Site, heards: list[Heard[Any]]) -> None:
    async with site.database.transaction(Cause.of(heards[-1])) as transaction:
        await transaction.say(await site.labels.take(heards, {}))


def counting(prediction: str, at: datetime) -> float | None:
    """By all that was said: of the labels known then the highest revision, the smaller key."""
    known = [one for one in sane_of(corrections(prediction)) if one.known_at <= at]
    ranked = sorted(known, key=lambda one: (-one.revision, one.event.int))
    return float(ranked[0].value) if ranked else None


@pytest.mark.real
async def test_corrections_under_one_id_count_in_any_order_early_or_late_together_or_not(
    site: Site,
) -> None:
    await site.hear(registered(site.artifacts, PROFILE, spec=a_spec(window=50)))
    batches = site.serving.batches_of(autoregressive(0.3, 50, 3, seed=2), size=25)
    orders = list(permutations(range(4)))

    for place, ((name, _), order) in enumerate(zip(site.serving.asked, orders, strict=False)):
        said = corrections(name)
        heards = [said[n] for n in order]
        early = place % 3
        if place == 12:
            await site.hear(batches[0])
        for some in (heards[:early], heards[early:]):
            for part in [some] if place % 2 else [[one] for one in some]:
                if part:
                    await hear(site, part)
    await site.hear(batches[1])

    answers = dict(site.serving.asked[: len(orders)])
    look = (await site.store.looks([(PUMP, 1, 1)]))[PUMP, 1, 1]
    for at in (CAME + n * DAY for n in range(-1, 4)):
        found = await site.store.labelled((PUMP, 1, 1), look.begun_at, look.ended_at, at)
        values = {name: counting(name, at) for name in answers}
        losses = [abs(answers[n] - value) for n, value in values.items() if value is not None]
        assert sorted(found.losses.tolist()) == pytest.approx(sorted(losses))
    assert await site.store.count_waiting() == 0


# --- what is counted ------------------------------------------------------------------------------


def counted_as(outcome: str) -> float:
    return REGISTRY.get_sample_value("tidewheel_labels_total", {"outcome": outcome}) or 0.0


def delays_told() -> float:
    name, labels = "tidewheel_label_delay_seconds_count", {"model": str(PUMP)}
    return REGISTRY.get_sample_value(name, labels) or 0.0


class Cut(Exception):
    """What a test has happen before a commit."""


@pytest.mark.real
async def test_labels_are_counted_once_however_often_their_transaction_is_tried(
    site: Site,
) -> None:
    await site.hear(registered(site.artifacts, PROFILE))
    await site.hear(site.serving.batch(autoregressive(0.3, 20, 3, seed=2)))
    known = [on_the_topic(prediction=name) for name, _ in site.serving.asked]
    heards = [*known, on_the_topic(prediction="nobody's")]
    before = counted_as("joined"), counted_as("unknown"), delays_told()

    async def be_cut() -> None:
        async with site.database.transaction():
            await site.labels.take(heards, {})
            raise Cut

    for _ in range(3):
        with pytest.raises(Cut):
            await be_cut()
    assert (counted_as("joined"), counted_as("unknown"), delays_told()) == before
    await hear(site, heards)

    assert counted_as("joined") - before[0] == 20
    assert counted_as("unknown") - before[1] == 1
    assert delays_told() - before[2] == 20
