"""What one model lacks is nobody else's: its windows wait for their verdicts, others get theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from services.drift_monitor.handlers import Ageing, Settling
from services.drift_monitor.handlers.verdicts import MOST_TRIES
from shared.artifacts import ArtifactStore, key_of
from shared.errors import StoreUnavailable, Unavailable
from shared.events import (
    Digest,
    Event,
    GroundTruthObserved,
    ModelName,
    ModelRegistered,
    PredictionsLogged,
    QualityMeasured,
    WindowEvaluated,
)
from shared.telemetry import REGISTRY
from tests.drift_monitor.building import (
    NAMES,
    NOON,
    PUMP,
    Floats,
    Serving,
    a_label,
    a_profile,
    a_spec,
    autoregressive,
    registered,
)
from tests.drift_monitor.conftest import Site
from tests.drift_monitor.test_ingest import promoted
from tests.drift_monitor.test_measuring import tell
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

FAN = ModelName("fan")
OF_PUMP = a_profile(autoregressive(0.3, 1000, 3, seed=1), window=50)
OF_FAN = a_profile(autoregressive(0.3, 1000, 3, seed=5), window=50)
QUIET = autoregressive(0.3, 600, 3, seed=2)
LATER = timedelta(minutes=6)


class Blob:
    """A file of the artifact store that somebody takes away, or breaks, and brings back."""

    def __init__(self, artifacts: ArtifactStore, data: bytes) -> None:
        self.data = data
        self.path = Path(artifacts.url.removeprefix("file://")) / key_of(artifacts.put(data))

    def take_away(self) -> None:
        self.path.unlink()

    def spoil(self) -> None:
        self.path.write_bytes(self.data[:-1])

    def bring_back(self) -> None:
        self.path.write_bytes(self.data)


def of_fan(said: ModelRegistered) -> ModelRegistered:
    return replace(said, model=FAN)


class Fan(Serving):
    """Answers for the other model."""

    def batch(
        self, rows: Floats, *, version: int = 1, names: Sequence[str] = NAMES
    ) -> PredictionsLogged:
        found = super().batch(rows, version=version, names=names)
        return replace(found, rows=tuple(replace(row, model=FAN) for row in found.rows))


@pytest.fixture
async def two(site: Site) -> Site:
    """A monitor that has just started beside two models that are known: no profile is read yet."""
    spec = a_spec(close_after="1h")
    await site.hear(
        registered(site.artifacts, OF_PUMP, spec=spec),
        of_fan(registered(site.artifacts, OF_FAN)),
        promoted(),
        replace(promoted(), model=FAN),
    )
    return Site(site.database, site.artifacts)


def evaluated(said: list[Event]) -> list[tuple[str, int]]:
    return [(e.subject, e.window) for e in said if isinstance(e, WindowEvaluated)]


@pytest.mark.parametrize("harm", ["take_away", "spoil"])
async def test_a_profile_that_cannot_be_read_holds_up_its_own_verdicts_and_nothing_else(
    two: Site, harm: str
) -> None:
    blob, fan = Blob(two.artifacts, OF_PUMP), Fan("serving-1")
    getattr(blob, harm)()
    verdicts = two.predictions.verdicts

    first = await two.hear_together([two.serving.batch(QUIET[:50]), fan.batch(QUIET[:50])])
    second = await two.hear_together(
        [*two.serving.batches_of(QUIET[50:110], size=30), fan.batch(QUIET[50:100])]
    )
    in_vain = await verdicts.judge_due()
    two.now += LATER
    still = await verdicts.judge_due()
    waiting = await two.store.count_unjudged()
    blob.bring_back()
    two.now += LATER
    judged, again = await verdicts.judge_due(), await verdicts.judge_due()

    assert (evaluated(first), evaluated(second)) == ([("fan", 1)], [("fan", 2)])
    assert (in_vain, still, waiting) == (0, 0, 2)
    assert (judged, again) == (2, 0)
    assert sorted(evaluated(await two.said())) == [("fan", 1), ("fan", 2), ("pump", 1), ("pump", 2)]
    assert await two.counted() == 210
    assert await two.database.fetchval("select count(*) from dead_letter") == 0


async def test_a_verdict_that_came_late_is_the_one_that_would_have_come_at_once(two: Site) -> None:
    blob, rows = Blob(two.artifacts, OF_PUMP), QUIET[:150] + 0.4
    blob.take_away()
    for batch in two.serving.batches_of(rows, size=50):
        await two.hear(batch)
    blob.bring_back()
    two.now += LATER
    await two.predictions.verdicts.judge_due()
    late = {e.window: e for e in await two.said(WindowEvaluated) if isinstance(e, WindowEvaluated)}
    known = replace(registered(two.artifacts, OF_PUMP, 2), version=2)

    await two.hear(known)
    at_once = [
        one
        for batch in Serving("serving-2").batches_of(rows, size=50, version=2)
        for one in await two.hear(batch)
        if isinstance(one, WindowEvaluated)
    ]

    assert [replace(e, version=1) for e in at_once] == [
        replace(late[e.window], started_at=e.started_at, ended_at=e.ended_at) for e in at_once
    ]


async def test_a_window_behind_one_that_waits_is_judged_after_it(two: Site) -> None:
    blob = Blob(two.artifacts, OF_PUMP)
    blob.take_away()
    await two.hear(two.serving.batch(QUIET[:50]))
    blob.bring_back()
    restarted = Site(two.database, two.artifacts)
    restarted.serving = two.serving

    behind = await restarted.hear(two.serving.batch(QUIET[50:100]))
    restarted.now += LATER
    await restarted.predictions.verdicts.judge_due()
    free = await restarted.hear(two.serving.batch(QUIET[100:150]))

    assert evaluated(behind) == []
    assert evaluated(free) == [("pump", 3)]
    assert evaluated(await two.said()) == [("pump", 1), ("pump", 2), ("pump", 3)]


async def test_of_two_monitors_one_judges_what_was_left(two: Site) -> None:
    blob = Blob(two.artifacts, OF_PUMP)
    blob.take_away()
    await two.hear(two.serving.batch(QUIET[:50]))
    blob.bring_back()
    other = Site(two.database, two.artifacts)
    two.now = other.now = two.now + LATER

    judged = [await one.predictions.verdicts.judge_due() for one in (two, other)]

    assert judged == [1, 0]
    assert evaluated(await two.said()) == [("pump", 1)]


async def test_an_artifact_store_that_does_not_answer_is_asked_once_and_holds_up_nothing(
    two: Site,
) -> None:
    asked: list[Digest] = []

    async def away(digest: Digest) -> bytes:
        asked.append(digest)
        raise StoreUnavailable("the artifact store does not answer")

    fetch, two.judging.profiles.fetch = two.judging.profiles.fetch, away
    fan = Fan("serving-1")

    said = await two.hear_together([two.serving.batch(QUIET[:60]), fan.batch(QUIET[:50])])
    two.judging.profiles.fetch = fetch
    two.now += LATER
    judged = await two.predictions.verdicts.judge_due()

    assert (evaluated(said), len(asked), judged) == ([], 1, 2)
    assert await two.counted() == 110


async def test_a_verdict_that_fails_for_another_reason_takes_none_of_the_others_along(
    two: Site,
) -> None:
    manifest = Blob(
        two.artifacts,
        two.artifacts.get(
            Digest(
                str(
                    await two.database.fetchval(
                        "select max(manifest) from version where model = $1", PUMP
                    )
                )
            )
        ),
    )
    manifest.take_away()
    await two.database.execute('update version set policy = policy || \'{"dataset": ""}\'')
    fan = Fan("serving-1")

    said = await two.hear_together([two.serving.batch(QUIET[:50] + 9), fan.batch(QUIET[:50])])
    manifest.bring_back()
    two.now += LATER
    judged = await two.predictions.verdicts.judge_due()

    assert (evaluated(said), judged) == ([("fan", 1)], 1)
    assert sorted(evaluated(await two.said())) == [("fan", 1), ("pump", 1)]


def labels_of(serving: Serving, model: ModelName, rows: int) -> list[GroundTruthObserved]:
    return [
        replace(a_label(prediction, answer), model=model)
        for prediction, answer in serving.asked[:rows]
    ]


async def test_labels_of_a_model_without_its_profile_are_joined_and_measured_once_it_is_back(
    two: Site,
) -> None:
    blob, fan = Blob(two.artifacts, OF_PUMP), Fan("serving-1")
    blob.take_away()
    await two.hear_together([two.serving.batch(QUIET[:50]), fan.batch(QUIET[:50])])

    said = await two.hear_together([*labels_of(two.serving, PUMP, 50), *labels_of(fan, FAN, 50)])
    blob.bring_back()
    two.now += LATER
    await two.predictions.verdicts.judge_due()

    assert {e.subject for e in said if isinstance(e, QualityMeasured)} == {"fan"}
    measured = [e for e in await two.said(QualityMeasured) if e.subject == "pump"]
    assert [(e.window, e.labels) for e in measured if isinstance(e, QualityMeasured)] == [(1, 50)]
    cells = await two.database.fetch(
        "select model, count(distinct cell) as cells, count(loss) as losses from outcome "
        "group by model order by model"
    )
    assert [row["losses"] for row in cells] == [50, 50]
    assert all(row["cells"] > 1 for row in cells)


@pytest.mark.parametrize("harm", ["take_away", "spoil"])
async def test_a_version_without_its_profile_keeps_no_other_of_its_model_from_being_settled(
    site: Site, harm: str
) -> None:
    blob, days = Blob(site.artifacts, OF_FAN), [timedelta(days=n) for n in (1, 20, 21)]
    spec = a_spec(window=50)
    await site.hear(registered(site.artifacts, OF_PUMP, 1, spec=spec))
    await site.hear(registered(site.artifacts, OF_FAN, 2, spec=spec), promoted(2))
    for version in (1, 2):
        await site.hear(*site.serving.batches_of(QUIET[:100], size=50, version=version))
    halves = [a_label(prediction, answer) for prediction, answer in site.serving.asked[::2]]
    await tell(site, halves, NOON + days[0])
    getattr(blob, harm)()
    started, again = (Site(site.database, site.artifacts) for _ in range(2))
    started.now, again.now = NOON + days[1], NOON + days[2]

    await Settling(store=started.store, judging=started.judging).settle()
    healthy, unfed = await settled(site), await site.store.unfed(PUMP)
    due = await site.database.fetchval("select due_at from label_delay")
    in_the_way = await site.store.windows_due(PUMP, started.now, 100)
    blob.bring_back()
    await Settling(store=again.store, judging=again.judging).settle()

    assert healthy == [(1, 1), (1, 2)]
    assert (list(unfed), in_the_way) == ([(PUMP, 2)], [])
    assert timedelta(minutes=5) <= due - started.now <= timedelta(minutes=30)
    assert await settled(site) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert await site.store.unfed(PUMP) == {}


async def settled(site: Site) -> list[tuple[int, int]]:
    """Windows that were measured for the last time, by version and number."""
    rows = await site.database.fetch(
        "select version, number from window_quality where settled order by version, number"
    )
    return [(row["version"], row["number"]) for row in rows]


async def test_an_old_window_closes_though_its_profile_is_gone(two: Site) -> None:
    blob = Blob(two.artifacts, OF_PUMP)
    await two.hear(two.serving.batch(QUIET[:25]))
    blob.take_away()
    two.now += timedelta(hours=2)
    ageing = Ageing(predictions=two.predictions)

    closed = await ageing.close_old()

    assert (closed, ageing.failed) == (1, {})
    assert await two.store.count_unjudged() == 1


async def test_rows_of_a_version_of_before_cells_were_kept_wait_for_its_profile(two: Site) -> None:
    await two.database.execute(
        "update version set layout = null, width = null where model = $1", PUMP
    )
    blob, fan = Blob(two.artifacts, OF_PUMP), Fan("serving-1")
    blob.take_away()

    said = await two.hear_together([two.serving.batch(QUIET[:60]), fan.batch(QUIET[:50])])
    blob.bring_back()
    again = Site(two.database, two.artifacts)
    newer = await again.hear(two.serving.batch(QUIET[60:65]))
    counted = await again.versions.count_waiting()

    assert evaluated(said) == [("fan", 1)]
    assert (newer, counted) == ([], 65)
    assert await two.counted() == 115
    assert sorted(evaluated(await two.said())) == [("fan", 1), ("pump", 1)]


async def test_a_profile_that_rows_wait_for_is_asked_for_with_nothing_locked(two: Site) -> None:
    await two.database.execute("update version set layout = null, width = null")
    blob = Blob(two.artifacts, OF_PUMP)
    blob.take_away()
    await two.hear(two.serving.batch(QUIET[:60]))
    restarted = Site(two.database, two.artifacts)

    async with asyncio.timeout(20), two.database.transaction():
        await two.store.lock([PUMP])
        # In a context of its own: it is not part of this transaction.
        counting = asyncio.create_task(restarted.versions.count_waiting(), context=Context())
        counted = await counting

    assert counted == 0
    assert await two.store.has_unclaimed((PUMP, 1))
    assert not await two.store.has_unclaimed((FAN, 1))


class Hanging:
    """An artifact store that gives out some things, and does not even say no to others."""

    def __init__(self, site: Site, *held: Digest) -> None:
        self.site, self.held, self.asked = site, set(held), list[Digest]()
        self.answers = asyncio.Event()
        site.judging.profiles.fetch = self.fetch
        site.judging.profiles.fetching.most_seconds = 0.05

    async def fetch(self, digest: Digest) -> bytes:
        self.asked.append(digest)
        if not self.held or digest in self.held:
            await self.answers.wait()
        return await self.site.artifacts.aget(digest)

    async def answer(self) -> None:
        """Give out everything from now on, what was asked for long ago, too."""
        self.answers.set()
        self.site.judging.profiles.fetching.most_seconds = 10.0


async def manifest_of_pump(site: Site) -> Digest:
    found = await site.database.fetchval("select manifest from version where model = $1", PUMP)
    return Digest(str(found))


async def need_manifests(site: Site) -> None:
    """Have each verdict look into the manifest, as of versions registered long ago."""
    await site.database.execute('update version set policy = policy || \'{"dataset": ""}\'')


async def test_an_artifact_store_that_hangs_is_not_waited_for_with_models_locked(
    two: Site,
) -> None:
    store, fan = Hanging(two), Fan("serving-1")

    said = await two.hear_together([two.serving.batch(QUIET[:60]), fan.batch(QUIET[:50])])
    behind = await two.hear(two.serving.batch(QUIET[60:110]))
    two.now += LATER
    in_vain = await two.predictions.verdicts.judge_due()
    await store.answer()
    await eventually(lambda: is_loaded(two), what="what was late")
    two.now += LATER
    judged = await two.predictions.verdicts.judge_due()

    assert (evaluated(said), evaluated(behind), in_vain, judged) == ([], [], 0, 3)
    # What is on its way is not asked for again.
    assert len(store.asked) == len(set(store.asked)) == 4
    assert await two.counted() == 160


async def is_loaded(site: Site) -> bool:
    versions = (await site.store.versions([(PUMP, 1), (FAN, 1)])).values()
    failures = [await site.judging.profiles.failure(one, anew=True) for one in versions]
    return failures == [None, None]


async def test_a_manifest_that_hangs_holds_up_the_verdicts_that_need_it_alone(two: Site) -> None:
    store, fan = Hanging(two, await manifest_of_pump(two)), Fan("serving-1")
    await need_manifests(two)

    await two.hear_together([*two.serving.batches_of(QUIET[:100], size=50), fan.batch(QUIET[:50])])
    two.now += LATER
    await two.predictions.verdicts.judge_due()
    without = evaluated(await two.said())
    await store.answer()
    two.now += LATER
    judged = await two.predictions.verdicts.judge_due()

    assert (without, judged) == ([("fan", 1)], 2)
    assert evaluated(await two.said()) == [("fan", 1), ("pump", 1), ("pump", 2)]


async def test_a_verdict_that_fails_holds_up_those_behind_it_but_not_for_ever(two: Site) -> None:
    blob = Blob(two.artifacts, OF_PUMP)
    blob.take_away()
    await two.hear_together(two.serving.batches_of(QUIET[:150], size=50))
    blob.bring_back()
    await two.database.execute(
        "update window_sketch set counts = '\\x00' where model = $1 and number = 1", PUMP
    )
    judged: list[int] = []

    for _ in range(MOST_TRIES + 1):
        two.now += LATER
        judged.append(await two.predictions.verdicts.judge_due())
        judged.append(len(await two.said(WindowEvaluated)))
    two.now += LATER
    last = await two.predictions.verdicts.judge_due()
    behind = await two.hear(two.serving.batch(QUIET[150:200]))

    assert judged == [0, 0] * (MOST_TRIES - 1) + [2, 3, 0, 3]
    assert (last, evaluated(behind)) == (0, [("pump", 4)])
    told = [one for one in await two.said(WindowEvaluated) if isinstance(one, WindowEvaluated)]
    assert [one.window for one in told] == [1, 2, 3, 4]
    assert (told[0].tier, told[0].drifted, told[0].features) == ("insufficient", False, ())
    assert told[0].detail.startswith(f"no verdict; judged in vain {MOST_TRIES} times: ")
    assert all(one.mode != "insufficient" for one in told[1:])


async def test_in_a_batch_too_a_verdict_that_fails_holds_up_those_behind_it(two: Site) -> None:
    manifest = Blob(two.artifacts, two.artifacts.get(await manifest_of_pump(two)))
    manifest.take_away()
    await need_manifests(two)
    before, fan = windows_counted(), Fan("serving-1")

    said = await two.hear_together(
        [*two.serving.batches_of(QUIET[:150], size=50), fan.batch(QUIET[:50])]
    )
    undone = windows_counted()
    manifest.bring_back()
    two.now += LATER
    judged = await two.predictions.verdicts.judge_due()

    assert (evaluated(said), judged) == ([("fan", 1)], 3)
    assert evaluated(await two.said())[1:] == [("pump", 1), ("pump", 2), ("pump", 3)]
    assert (undone, windows_counted()) == (before, before + 3)


def windows_counted() -> float:
    samples = (one for metric in REGISTRY.collect() for one in metric.samples)
    return sum(
        one.value
        for one in samples
        if one.name == "tidewheel_drift_windows_total" and one.labels["model"] == PUMP
    )


async def both_wait(site: Site) -> None:
    """A window of each model, whose profiles were gone for a while."""
    blobs = [Blob(site.artifacts, data) for data in (OF_PUMP, OF_FAN)]
    for blob in blobs:
        blob.take_away()
    await site.hear_together([site.serving.batch(QUIET[:50]), Fan("serving-1").batch(QUIET[:50])])
    for blob in blobs:
        blob.bring_back()
    site.now += LATER


async def test_a_version_that_nobody_can_read_holds_up_its_own_windows_alone(two: Site) -> None:
    await both_wait(two)
    # It comes before the other one.
    await two.database.execute("update version set policy = '[1]' where model = $1", FAN)

    judged = await two.predictions.verdicts.judge_due()

    assert (judged, evaluated(await two.said())) == (1, [("pump", 1)])
    assert await two.store.unjudged_due(two.now, 10) == []


async def test_a_verdict_waits_no_longer_than_the_database_is_away(two: Site) -> None:
    await both_wait(two)
    await two.database.execute(
        "create function clash() returns trigger language plpgsql as "
        "$$ begin raise exception 'could not serialize' using errcode = '40001'; end $$"
    )
    await two.database.execute(
        "create trigger clash before update of mode on window_sketch "
        "for each row execute function clash()"
    )

    with pytest.raises(Unavailable):
        await two.predictions.verdicts.judge_due()
    await two.database.execute("drop trigger clash on window_sketch")
    judged = await two.predictions.verdicts.judge_due()

    assert judged == 2
