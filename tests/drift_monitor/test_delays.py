"""How long labels take: the estimate of Kaplan and Meier, and what it lets expect."""

from __future__ import annotations

import numpy as np
import pytest

from services.drift_monitor.quality.delays import (
    EDGES,
    LEAST,
    Delays,
    before,
    censored,
    counted,
    fitted,
    no_delays,
    survival,
)

DAY = 86_400.0


def step_of(age: float) -> int:
    return int(np.searchsorted(EDGES, age, side="right"))


def test_it_is_the_estimate_of_the_textbooks() -> None:
    # Weeks of remission of 21 patients under 6-mercaptopurine, Freireich et al. (1963).
    ended = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    left = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    came, stayed = np.bincount(ended, minlength=36), np.bincount(left, minlength=36)

    found = survival(came, stayed)

    expected = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
    assert {week: round(float(found[week]), 3) for week in expected} == expected
    assert found[35] == found[23]


def test_with_every_label_there_it_is_the_plain_share(seed: int) -> None:
    seconds = np.random.default_rng(seed).exponential(DAY, 5000)

    delays = Delays.of(counted(seconds), no_delays())

    assert delays is not None
    assert delays.level == 1.0
    for share in (0.1, 0.5, 0.9):
        edge = min(EDGES, key=lambda e: abs(e - np.quantile(seconds, share)))
        assert delays.at(edge) == pytest.approx(np.mean(seconds <= edge))


def test_labels_that_never_come_lower_the_level_and_not_the_delay(seed: int) -> None:
    chance = np.random.default_rng(seed)
    came = chance.exponential(DAY, 3000)

    delays = Delays.of(counted(came), censored([step_of(60 * DAY)], [2000]))

    assert delays is not None
    assert delays.level == pytest.approx(0.6)
    assert delays.settled == pytest.approx(3 * DAY, rel=0.4)


def test_young_predictions_do_not_make_delays_look_short(seed: int) -> None:
    chance = np.random.default_rng(seed)
    ages = chance.uniform(0, 10 * DAY, 20_000)
    delay = chance.exponential(5 * DAY, 20_000)
    known = delay <= ages

    steps = [step_of(age) for age in ages[~known].tolist()]
    delays = Delays.of(counted(delay[known]), censored(steps, [1] * len(steps)))

    assert delays is not None
    edge = max(e for e in EDGES if e <= 5 * DAY)
    assert delays.at(edge) == pytest.approx(1 - np.exp(-edge / (5 * DAY)), abs=0.03)
    assert np.mean(delay[known] <= edge) > delays.at(edge) + 0.1


def test_a_window_is_expected_to_have_the_mean_of_what_its_rows_should() -> None:
    delays = Delays.of(counted([10.0] * 50 + [10 * DAY] * 50), no_delays())

    assert delays is not None
    assert delays.expected(0.0, 0.0) == 0.0
    assert delays.expected(DAY, DAY) == 0.5
    assert 0.5 < delays.expected(5 * DAY, 20 * DAY) < 1.0
    assert delays.expected(15 * DAY, 20 * DAY) == 1.0


def test_labels_of_what_is_not_kept_any_more_are_taken_from_all_steps_alike() -> None:
    came = counted([10.0] * 600 + [DAY] * 300 + [30 * DAY] * 101)

    kept = fitted(came, 333)

    assert kept.sum() == 333
    assert np.abs(kept - came * 333 / 1001).max() < 1
    assert (fitted(came, 1001) == came).all()
    assert (fitted(came, 5000) == came).all()
    assert fitted(came, 0).sum() == 0
    assert fitted(no_delays(), 7).sum() == 0


def test_what_was_known_before_is_told_though_old_delays_have_faded_since() -> None:
    quick, slow = counted([10.0] * 1000), counted([DAY] * 1000)
    # The quick ones were of windows that are gone, so half of all was taken.
    faded = fitted(quick + slow, 1000)

    then = before(faded, counted([DAY] * 400), counted([DAY] * 600))

    assert faded.sum() == 1000
    assert then.sum() == 700
    assert then[quick.argmax()] / then.sum() == pytest.approx(1000 / 1400, abs=0.002)


def test_without_forgotten_windows_what_was_known_before_is_exact() -> None:
    earlier, later = counted([10.0] * 40 + [DAY]), counted([DAY] * 60 + [30 * DAY] * 3)

    assert (before(earlier + later, earlier, later) == earlier).all()
    assert (before(no_delays(), no_delays(), later) == no_delays()).all()


def test_of_few_labels_nothing_is_said() -> None:
    assert Delays.of(counted([1.0] * (LEAST - 1)), no_delays()) is None


def test_delays_beyond_all_steps_are_counted_and_reach_nothing() -> None:
    delays = Delays.of(counted([10.0] * 90 + [1e12] * 10), no_delays())

    assert delays is not None
    assert delays.level == pytest.approx(0.9)
