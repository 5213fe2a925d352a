"""Quality on a real database: its state, what was known when, and the running test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from services.drift_monitor.handlers import Settling
from services.drift_monitor.store.outcomes import PARTED, Due, Fed, due_of, joined_texts
from services.drift_monitor.windows import Watched
from shared import codec
from shared.errors import StoreUnavailable
from shared.events import (
    Event,
    GroundTruthObserved,
    LossesObserved,
    ModelRegistered,
    QualityDegraded,
    QualityEstimated,
    QualityMeasured,
    QualityRecovered,
)
from shared.manifest import Column
from shared.postgres import Cause
from shared.reference import build_reference
from tests.drift_monitor.building import (
    NOON,
    PUMP,
    Answered,
    Floats,
    a_label,
    a_manifest,
    a_profile,
    a_spec,
    autoregressive,
    registered,
)
from tests.drift_monitor.conftest import Site, heard_of

pytestmark = pytest.mark.real

DAY = timedelta(days=1)
PROFILE = a_profile(autoregressive(0.0, 4000, 3, seed=1), window=100)
QUIET: Floats = autoregressive(0.0, 1000, 3, seed=2)


@pytest.fixture
async def watched(site: Site) -> Site:
    """A version whose windows have 100 rows."""
    await site.hear(registered(site.artifacts, PROFILE, spec=a_spec(window=100)))
    return site


async def tell(
    site: Site, labels: Sequence[GroundTruthObserved], at: datetime, *, fails: bool = False
) -> list[Event]:
    """Labels that are accepted, and heard of, at this moment."""
    site.now = at
    heards = [replace(heard_of(label), time=at) for label in labels]
    async with site.database.transaction(Cause.of(heards[-1])) as transaction:
        said = list(await site.labels.take(heards, {}))
        await transaction.say(said)
        if fails:
            raise StoreUnavailable("the connection broke")
    return said


async def settle(site: Site, at: datetime) -> list[Event]:
    """What only time has brought by this moment."""
    site.now = at
    before = await site.database.fetchval("select coalesce(max(sequence), 0) from said")
    await Settling(store=site.store, judging=site.judging).settle()
    rows = await site.database.fetch(
        "select payload from said where sequence > $1 order by sequence", before
    )
    return [codec.decode(row["payload"]).event for row in rows]


def labels_of(site: Site, off: float = 0.05, step: int = 1) -> list[GroundTruthObserved]:
    return [a_label(p, y + off) for p, y in site.serving.asked[::step]]


def measured(said: Sequence[Event]) -> list[QualityMeasured]:
    return [event for event in said if isinstance(event, QualityMeasured)]


def degraded(said: Sequence[Event]) -> list[QualityDegraded]:
    return [event for event in said if isinstance(event, QualityDegraded)]


async def version_of(site: Site) -> Watched:
    return (await site.store.versions([(PUMP, 1)]))[PUMP, 1]


async def test_a_closed_window_is_estimated_before_any_label_comes(watched: Site) -> None:
    said = await watched.hear(*watched.serving.batches_of(QUIET[:100]))

    (found,) = [event for event in said if isinstance(event, QualityEstimated)]
    assert (found.window, found.metric) == (1, "mae")
    assert found.low < found.value < found.high
    assert found.low < found.reference < found.high
    assert not [event for event in said if isinstance(event, QualityMeasured)]


async def test_a_window_is_provisional_until_its_labels_are_there(watched: Site) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:100]))
    labels = labels_of(watched)

    first = measured(await tell(watched, labels[::2], NOON + DAY))
    last = measured(await tell(watched, labels[1::2], NOON + 2 * DAY))

    (half,) = first
    assert (half.state, half.completeness, half.revision) == ("provisional", 0.5, 1)
    assert half.known_at == NOON + DAY
    assert half.low is not None
    assert half.high is not None
    assert half.low - 1e-9 <= 0.05 <= half.high + 1e-9
    assert [(m.state, m.completeness, m.revision) for m in last] == [("final", 1.0, 2)]


async def test_what_was_expected_at_a_moment_is_told_later_as_it_was_then(watched: Site) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:250]))
    labels, version = labels_of(watched), await version_of(watched)
    told = measured(await tell(watched, labels[0:100:2], NOON + DAY))
    told += measured(await tell(watched, labels[100:200], NOON + 2 * DAY))
    # From here on labels take ten times as long, and some are corrected.
    await tell(watched, labels[1:100:2], NOON + 20 * DAY)
    corrected = [replace(label, revision=2) for label in labels[:50]]
    await tell(watched, corrected, NOON + 21 * DAY)

    asked = [(one, one.known_at) for one in told if one.known_at]
    found = [await watched.judging.measuring.as_known(version, w.window, at) for w, at in asked]

    assert len(asked) >= 2
    assert all(one.expected is not None for one, _ in asked)
    assert [one.expected for one in found if one] == [one.expected for one, _ in asked]


async def test_with_few_labels_it_is_not_known_how_many_are_due(watched: Site) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:100]))
    labels, version = labels_of(watched), await version_of(watched)
    await tell(watched, labels[::5], NOON + DAY)

    few = await watched.judging.measuring.as_known(version, 1, NOON + DAY)
    await tell(watched, labels[1::5] + labels[2::5] + labels[3::5], NOON + 2 * DAY)
    later = await watched.judging.measuring.as_known(version, 1, NOON + DAY)

    assert few is not None
    assert (few.expected, few.completeness) == (None, 0.2)
    assert few.state != "final"
    assert later == replace(few, revision=1)


async def test_a_window_becomes_final_when_no_more_labels_are_to_come(watched: Site) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:300]))
    # Of two predictions one gets its label within a day, the other never.
    await tell(watched, labels_of(watched, step=2), NOON + DAY)

    said = measured(await settle(watched, NOON + 20 * DAY))
    again = await settle(watched, NOON + 21 * DAY)

    assert [(m.window, m.state, m.completeness) for m in said] == [
        (window, "final", 0.5) for window in (1, 2, 3)
    ]
    assert [round(m.expected or 0.0, 2) for m in said] == [0.5] * 3
    assert again == []


async def test_where_some_scores_have_no_labels_no_figure_is_told(watched: Site) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:100]))
    low = sorted(watched.serving.asked, key=lambda asked: asked[1])[:70]

    said = measured(await tell(watched, [a_label(p, y + 0.05) for p, y in low], NOON + DAY))

    assert [(m.state, m.value, m.low) for m in said] == [("censored", None, None)]
    assert await settle(watched, NOON + 90 * DAY) == []


async def test_labels_count_for_the_scores_like_theirs(watched: Site) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:100]))
    ranked = sorted(watched.serving.asked, key=lambda asked: asked[1])
    # All of the low answers have labels and are right; a third of the high ones have, and are off.
    told = [a_label(p, y) for p, y in ranked[:50]]
    told += [a_label(p, y + 1.0) for p, y in ranked[50::3]]

    (said,) = measured(await tell(watched, told, NOON + DAY))

    plain = len(ranked[50::3]) / len(told)
    assert said.value == pytest.approx(0.5, abs=0.1)
    assert plain < 0.3


async def test_what_was_known_at_a_moment_can_be_told_later(watched: Site) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:100]))
    first, answer = watched.serving.asked[0]
    await tell(watched, labels_of(watched), NOON + DAY)
    await tell(watched, [a_label(first, answer + 5.05, revision=2)], NOON + 3 * DAY)

    found = [
        await watched.judging.measuring.as_known(await version_of(watched), 1, NOON + days * DAY)
        for days in (0, 2, 4)
    ]

    assert found[0] is None
    assert [m and m.value for m in found[1:]] == pytest.approx([0.05, 0.05 + 5 / 100])
    assert [m and m.known_at for m in found[1:]] == [NOON + 2 * DAY, NOON + 4 * DAY]


async def test_worse_answers_than_the_rule_has_are_said_once(watched: Site) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:300]))
    # The rule says 0, which is right; the model says what it says.
    labels = [a_label(p, 0.0) for p, _ in watched.serving.asked]

    said = degraded(await tell(watched, labels, NOON + DAY))

    by_rule = [event for event in said if event.by == "rule"]
    assert [event.window for event in by_rule] == [1]
    assert (by_rule[0].reference, by_rule[0].value > 1) == (0.0, True)
    assert "the baseline rule would have had 0" in by_rule[0].detail


async def test_answers_that_changed_where_scores_look_the_same_open_the_gap(
    watched: Site,
) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:100]))

    (said,) = measured(await tell(watched, labels_of(watched, off=1.0), NOON + DAY))

    assert said.gap_low is not None
    assert said.gap_low > 0
    assert said.estimated is not None
    assert said.estimated < 0.2


# --- two classes ----------------------------------------------------------------------------------

WEATHER = ("dry", "wet")


def scored(rows: int, seed: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Probabilities of rain, and whether it rained, as often as they say."""
    chance = np.random.default_rng(seed)
    scores = chance.beta(2, 2, rows)
    return scores, chance.random(rows) < scores


def a_forecast(site: Site) -> ModelRegistered:
    """A version that answers whether it rains, with its probability."""
    scores, rained = scored(2000, 1)
    both = np.column_stack([1 - scores, scores])
    names = np.array(WEATHER, dtype=object)
    profile = build_reference(
        columns=[Column(name="a", kind="number")],
        train={"a": np.random.default_rng(2).normal(size=4000)},
        holdout_answers=Answered(names[(scores > 0.5).astype(int)], both),
        holdout_targets=names[rained.astype(int)],
        holdout_losses=(scores - rained) ** 2,
        metric="brier",
        classes=WEATHER,
        seed=1,
        time_ordered=True,
        window=100,
    )
    manifest = a_manifest(
        site.artifacts.put(profile),
        task="classification",
        metric="brier",
        columns=(Column(name="a", kind="number"),),
        classes=WEATHER,
        baseline={"rule": "majority", "shares": [["wet", 0.5], ["dry", 0.5]]},
    )
    told = registered(site.artifacts, PROFILE, spec=a_spec(window=100))
    return replace(told, manifest=site.artifacts.put(manifest.to_bytes()))


async def test_scores_of_two_classes_tell_what_metrics_to_expect_and_labels_what_they_are(
    site: Site,
) -> None:
    await site.hear(a_forecast(site))
    scores, rained = scored(100, 3)
    batch = site.serving.batch(np.zeros((100, 2)), names=("a", "b"))
    rows = tuple(
        replace(row, answer=WEATHER[int(score > 0.5)], score=float(score))
        for row, score in zip(batch.rows, scores, strict=True)
    )

    said = await site.hear(replace(batch, rows=rows))
    labels = [
        replace(a_label(row.id, 0.0), value=WEATHER[int(wet)])
        for row, wet in zip(rows, rained, strict=True)
    ]
    (found,) = measured(await tell(site, labels, NOON + DAY))

    (estimated,) = [event for event in said if isinstance(event, QualityEstimated)]
    brier = float(np.mean((scores - rained) ** 2))
    right = float(np.mean((scores > 0.5) == rained))
    others = {other.metric: other for other in estimated.others}
    assert set(others) == {"roc_auc", "accuracy", "f1", "precision", "recall"}
    assert others["accuracy"].low <= right <= others["accuracy"].high
    assert (found.metric, found.state) == ("brier", "final")
    assert found.value == pytest.approx(brier)
    assert found.baseline == pytest.approx(0.25)
    assert found.gap_low is not None
    assert found.gap_high is not None
    assert found.gap_low < 0 < found.gap_high


# --- the running test -----------------------------------------------------------------------------


async def bets(site: Site) -> tuple[int, list[float]]:
    row = await site.database.fetchrow("select labels, bets from detector")
    return (row["labels"], list(row["bets"])) if row else (0, [])


async def test_the_running_test_raises_an_alarm_before_a_window_is_measured(site: Site) -> None:
    await site.hear(registered(site.artifacts, PROFILE, spec=a_spec(window=1000)))
    await site.hear(*site.serving.batches_of(QUIET[:400]))
    await tell(site, labels_of(site, off=0.5), NOON + DAY)

    said = degraded(await settle(site, NOON + 30 * DAY))

    assert [event.by for event in said] == ["detector"]
    assert (said[0].evidence or 0) >= 1e6
    assert said[0].value > said[0].bound > said[0].reference


async def test_an_alarm_ends_though_no_window_can_be_judged(site: Site) -> None:
    await site.hear(registered(site.artifacts, PROFILE, spec=a_spec(window=10_000)))
    await site.hear(*site.serving.batches_of(QUIET[:400]))
    await tell(site, labels_of(site, off=0.5), NOON + DAY)
    alarmed = await settle(site, NOON + 30 * DAY)

    good: list[Event] = []
    for day in (31, 62, 93):
        site.serving.at, before = NOON + day * DAY, len(site.serving.asked)
        await site.hear(*site.serving.batches_of(QUIET[:700], size=350))
        good += await tell(site, labels_of(site)[before:], NOON + (day + 1) * DAY)
        good += await settle(site, NOON + (day + 30) * DAY)

    (recovered,) = [event for event in good if isinstance(event, QualityRecovered)]
    watch = (await version_of(site)).watch
    assert [event.by for event in degraded(alarmed)] == ["detector"]
    assert recovered.value == pytest.approx(0.05, abs=0.01)
    assert (watch.detector, watch.is_degraded) == (False, False)


async def test_an_alarm_that_stands_where_there_is_no_running_test_is_over(site: Site) -> None:
    """A former release had one, though only 29 rows were held out."""
    profile = a_profile(autoregressive(0.0, 145, 3, seed=1), window=100)
    await site.hear(registered(site.artifacts, profile, spec=a_spec(window=100)))
    watch = {"detector": True, "is_degraded": True}
    await site.database.execute("update version set watch = watch || $1::jsonb", watch)
    await site.database.execute(
        "insert into detector (model, version, fed_to, bets, labels, level, rule) "
        "values ($1, 1, $2, array[0, 0, 0, 0, 0, 0, 0]::float8[], 300, 0.5, '')",
        PUMP,
        NOON - DAY,
    )
    await site.hear(*site.serving.batches_of(QUIET[:100]))
    before = (await version_of(site)).watch

    said = await tell(site, labels_of(site), NOON + DAY)
    again = await tell(site, labels_of(site, off=0.06), NOON + 2 * DAY)

    watch_then = (await version_of(site)).watch
    assert (before.detector, before.is_degraded) == (True, True)
    assert (watch_then.detector, watch_then.is_degraded) == (False, False)
    assert [e.value > 0 for e in said if isinstance(e, QualityRecovered)] == [True]
    assert not [event for event in again if isinstance(event, QualityRecovered)]


async def test_losses_are_fed_at_one_age_however_soon_they_come(site: Site) -> None:
    spec = a_spec(window=1000)
    spec["data"] = {**spec["data"], "label_delay": "5d"}
    await site.hear(registered(site.artifacts, PROFILE, spec=spec))
    await site.hear(*site.serving.batches_of(QUIET[:400]))
    bad = [a_label(p, y + 0.5) for p, y in site.serving.asked[::20]]
    good = [a_label(p, y) for p, y in site.serving.asked if p not in {b.prediction for b in bad}]

    await tell(site, bad, NOON + DAY)
    early = await bets(site)
    await tell(site, good, NOON + 4 * DAY)
    await settle(site, NOON + 10 * DAY)
    labels, _ = await bets(site)

    assert early[0] == 0
    assert labels == 400


async def test_a_revised_label_corrects_the_window_and_not_the_running_test(watched: Site) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:100]))
    labels = labels_of(watched)
    await tell(watched, labels, NOON + DAY)
    await settle(watched, NOON + 30 * DAY)
    before = await bets(watched)
    first, answer = watched.serving.asked[0]

    said = await tell(watched, [*labels, a_label(first, answer + 9, revision=2)], NOON + 31 * DAY)

    assert before[0] == 100
    assert await bets(watched) == before
    assert [m.revision for m in measured(said)] == [2]


async def test_late_losses_are_fed_when_they_come_and_only_once(watched: Site) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:100]))
    labels = labels_of(watched)
    await tell(watched, labels[:90], NOON + DAY)
    await settle(watched, NOON + 30 * DAY)

    with pytest.raises(StoreUnavailable):
        await tell(watched, labels[90:], NOON + 40 * DAY, fails=True)
    lost = await bets(watched)
    await tell(watched, labels[90:], NOON + 40 * DAY)
    await tell(watched, labels[90:], NOON + 41 * DAY)

    assert (lost[0], (await bets(watched))[0]) == (90, 100)


async def test_losses_of_arms_are_told_however_late_their_labels_come(watched: Site) -> None:
    await watched.hear(registered(watched.artifacts, PROFILE, 2, spec=a_spec(window=100)))
    batch = watched.serving.batch(QUIET[:100])
    rows = tuple(replace(row, weight=0.5, arms=(1, 2)) for row in batch.rows)
    await watched.hear(replace(batch, rows=rows))
    labels = labels_of(watched)

    said = await tell(watched, labels[:60], NOON + DAY)
    said += await settle(watched, NOON + 20 * DAY)
    said += await tell(watched, labels, NOON + 25 * DAY)

    told = [s for event in said if isinstance(event, LossesObserved) for s in event.singles]
    assert sorted(s.prediction for s in told) == sorted(p for p, _ in watched.serving.asked)
    assert {round(s.loss, 6) for s in told} == {0.05}


async def test_expected_completeness_comes_from_the_models_own_delays(watched: Site) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:200]))
    labels = labels_of(watched)
    chance = np.random.default_rng(1)
    for days in range(1, 11):
        due = [label for label in labels[:100] if chance.random() < 0.3]
        await tell(watched, due or labels[:1], NOON + days * DAY)

    delays = await watched.judging.measuring.learn_delays(PUMP)

    assert delays is not None
    assert 0.3 < delays.level < 0.7
    assert delays.at(3 * 86_400) < delays.at(10 * 86_400)


async def test_labels_of_windows_that_are_forgotten_do_not_make_more_expected(
    watched: Site,
) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:300]))
    # Of two predictions one gets its label within a day, the other never.
    await tell(watched, labels_of(watched, step=2), NOON + DAY)
    await settle(watched, NOON + 20 * DAY)

    for table in ("window_sketch", "window_quality"):
        await watched.store.database.execute(f"delete from {table} where number <= 2")
    delays = await watched.judging.measuring.learn_delays(PUMP)

    assert delays is not None
    assert delays.level == pytest.approx(0.5)
    came = await watched.store.database.fetchval("select came from label_delay")
    assert sum(came) == 50


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["p-1"],
        ["p-1", "p-2"],
        ["p-1\x1fp-2"],
        ["\x1f", "a", "b\x1f"],
        [""],
        ["", ""],
        ["", "a"],
    ],
)
async def test_texts_that_are_sent_as_one_come_apart_again_whatever_is_in_them(
    site: Site, texts: list[str]
) -> None:
    joined, parted = joined_texts(texts)

    found = await site.database.fetchval(f"select {PARTED}::text[]", joined, parted)

    assert found == texts
    assert not any(parted in text for text in texts)


def test_a_list_that_was_cut_ends_before_its_last_moment() -> None:
    """More losses of that moment may have been left out; they are due the next time."""
    at = [NOON + timedelta(seconds=n) for n in (0, 1, 2, 2)]
    losses = [Fed(moment, place, 1, 0.5) for place, moment in enumerate(at)]
    until = NOON + timedelta(hours=1)

    assert due_of(losses, until, 5) == Due(losses, until)
    assert due_of(losses, until, 4) == Due(losses[:2], at[1])
    assert due_of(losses[2:], until, 2) == Due(losses[2:], at[2])
