"""The running test on losses: hardly ever wrong, and quick where something has changed."""

from __future__ import annotations

import numpy as np
import pytest

from services.drift_monitor.quality.detector import (
    BOUND,
    GRID,
    QUIET,
    Detector,
    Limit,
    feed,
    has_gone_back,
)
from shared.reference import losses_profile
from tests.drift_monitor.building import Floats

TENTH = Limit(unit=1.0, mean=0.1, limit=0.1)


def mistakes(rate: float, rows: int, seed: int) -> list[float]:
    return [float(miss) for miss in np.random.default_rng(seed).random(rows) < rate]


def brute(losses: list[float], p: float) -> list[float]:
    """The mean of the bets after each loss, straight from the definition."""
    steps = np.minimum(np.array(GRID) / (p * (1 - p)), 0.99 / p)
    bets, found = np.zeros(len(GRID)), []
    for loss in losses:
        bets = (bets + 1) * (1 + steps * (loss - p))
        found.append(float(bets.mean()))
    return found


def test_it_is_the_statistic_of_its_definition(seed: int) -> None:
    losses = mistakes(0.12, 500, seed)

    expected = brute(losses, 0.1)

    assert max(expected) < BOUND
    for rows in (1, 17, 500):
        found, alarms = feed(Detector(), losses[:rows], TENTH)
        assert found.evidence == pytest.approx(expected[rows - 1])
        assert (found.labels, alarms) == (rows, [])


def test_fed_in_pieces_it_is_the_same(seed: int) -> None:
    losses = mistakes(0.3, 400, seed)
    whole, alarms = feed(Detector(), losses, TENTH)

    state, places = Detector(), []
    for start in range(0, 400, 7):
        state, found = feed(state, losses[start : start + 7], TENTH)
        places += [start + alarm.at for alarm in found]

    assert state == whole
    assert places == [alarm.at for alarm in alarms]
    assert alarms


def test_an_alarm_tells_what_it_saw_and_begins_anew() -> None:
    found, alarms = feed(Detector(), [1.0] * 60, TENTH)

    first = alarms[0]
    assert first.evidence >= BOUND
    assert (first.level, first.reference, first.limit) == (1.0, 0.1, 0.1)
    assert len(alarms) == 60 // first.labels
    assert found.labels == 60 % first.labels


def test_clean_labels_hardly_ever_alarm(seed: int) -> None:
    alarms = 0
    for rate in (0.05, 0.3):
        limit = Limit(unit=1.0, mean=rate, limit=rate)
        alarms += len(feed(Detector(), mistakes(rate, 500_000, seed), limit)[1])

    # Proved: at most one per million on average; six or more have a probability below 6e-4.
    assert alarms <= 5


def test_losses_that_repeat_themselves_are_beyond_the_promise(seed: int) -> None:
    # Of ten alike in a row, nine are above the limit given the one before, whatever the mean is.
    blocks = np.repeat(mistakes(0.1, 50_000, seed), 10).tolist()

    _, alarms = feed(Detector(), blocks, Limit(unit=1.0, mean=0.1, limit=0.1))

    assert alarms


@pytest.mark.parametrize(("base", "most"), [(0.05, 800), (0.10, 900)])
def test_five_hundredths_more_are_found_within_hundreds_of_labels(base: float, most: int) -> None:
    limit = Limit(unit=1.0, mean=base, limit=base)

    delays = []
    for seed in range(40):
        _, alarms = feed(Detector(), mistakes(base + 0.05, 10_000, seed), limit)
        delays.append(alarms[0].labels)

    assert np.median(delays) <= most


def test_losses_of_any_unit_are_bounded_by_their_cap() -> None:
    reference = losses_profile("mae", np.linspace(0, 2, 200))
    limit = Limit.of(reference, tolerance=0.1)

    assert limit is not None
    assert limit.unit == reference.cap
    assert limit.limit == pytest.approx(reference.bounded_high + 0.1 * reference.bounded_mean)
    huge = feed(Detector(), [1e140], limit)[0]
    capped = feed(Detector(), [reference.cap], limit)[0]
    assert huge == capped


def test_a_reference_without_mistakes_still_allows_some() -> None:
    reference = losses_profile("accuracy", np.zeros(500))

    limit = Limit.of(reference, tolerance=0.1)

    assert limit is not None
    assert 0 < limit.limit < 0.01


def test_held_out_rows_without_a_mistake_promise_nothing_that_they_cannot_know(seed: int) -> None:
    limit = Limit.of(losses_profile("accuracy", np.zeros(100)), tolerance=0.1)

    assert limit is not None
    assert limit.limit == pytest.approx(1 - 0.025 ** (1 / 100))
    for rate in (0.02, 0.03):  # none of a hundred has a chance of .13 and .05
        assert feed(Detector(), mistakes(rate, 200_000, seed), limit)[1] == []
    assert feed(Detector(), mistakes(0.15, 2000, seed), limit)[1]


@pytest.mark.parametrize("metric", ["brier", "mae", "log_loss"])
def test_losses_that_were_all_alike_may_have_been_luck(metric: str) -> None:
    losses = np.full(100, 0.02)

    limit = Limit.of(losses_profile(metric, losses), tolerance=0.1)

    assert limit is not None
    unseen = 1 - 0.025 ** (1 / 100)
    assert limit.limit >= limit.mean + (1 - limit.mean) * unseen


@pytest.mark.parametrize("losses", [np.zeros(0), np.zeros(29), np.ones(100)])
def test_where_losses_cannot_get_worse_there_is_no_test(losses: Floats) -> None:
    assert Limit.of(losses_profile("accuracy", losses), tolerance=0.1) is None


LABELS = 10_000


def labels_until_over(rate: float, seed: int, step: int = 50) -> int:
    """Labels since an alarm until it is over, while answers go on to be this wrong."""
    limit = Limit(unit=1.0, mean=0.1, limit=0.11)
    state, alarms = feed(Detector(), [1.0] * 60, limit)
    assert alarms
    losses = mistakes(rate, LABELS, seed)
    for start in range(0, LABELS, step):
        before = state
        state, _ = feed(before, losses[start : start + step], limit)
        if has_gone_back(before, state):
            return start + step
    return LABELS


def test_an_alarm_is_over_a_thousand_labels_later_and_not_while_the_change_goes_on(
    seed: int,
) -> None:
    usual = [labels_until_over(0.1, seed + run) for run in range(20)]
    changed = [labels_until_over(0.15, seed + run) for run in range(20)]

    assert min(usual) >= QUIET - 60
    assert np.median(usual) <= QUIET
    assert max(usual) <= 5 * QUIET
    assert sum(labels < LABELS for labels in changed) <= 2
