"""Features as they are shown: each as serious as its own test found it."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from services.drift_monitor.api.features import (
    cells_of,
    columns_of,
    said_of,
    worst_of,
)
from services.drift_monitor.api.pictures import beside, counts_of
from services.drift_monitor.detection import Comparison, compare, reason_of, severity_of
from services.drift_monitor.pictures.heat import MOST_COLUMNS
from shared.events import Json
from shared.manifest import Column
from shared.reference import build_reference, read_reference
from tests.drift_monitor.building import NOON, Answered, Floats, a_profile

SHIFT = 0.05


def a_window(found: Comparison) -> Json:
    """A compared window as it is kept."""
    features = [asdict(one) for one in found.features]
    return {"window": 1, "mode": found.mode, "alpha": found.alpha, "detail": found.detail,
            "severity": found.severity, "features": features}  # fmt: skip


FOUND: Json = {"feature": "a", "test": "location", "statistic": 9.0, "p_value": 1e-9,
               "effect": 0.5, "low": 0.3, "high": 0.7}  # fmt: skip
CALM: Json = FOUND | {"p_value": 1.0, "effect": 0.01, "low": None, "high": None}
REASON = "24 training rows are too few"


def a_row(number: int, *found: Json, **changes: object) -> Json:
    """A window as it is read."""
    known: Json = {"window": number, "mode": "block", "alpha": 5e-4, "features": [*found],
                   "closed_at": NOON, "judge_at": None, "ended_at": NOON, "rows": 50,
                   "detail": f"no verdict; not tested: {REASON}; alpha 0.0005"}  # fmt: skip
    return known | changes


def tiers(profile: bytes, rows: Floats) -> tuple[str, dict[str, str]]:
    """The tier of a window, and that of each of its features."""
    reference = read_reference(profile)
    answers = np.nan_to_num(rows[:, 0]) + 2 * rows[:, 1]
    found = compare(reference, reference.layout.count([*rows.T.copy(), answers]))
    return found.tier, {one["feature"]: one["tier"] for one in worst_of([a_window(found)], SHIFT)}


def test_a_small_drift_is_a_warning_though_another_feature_of_the_window_is_critical() -> None:
    series = np.random.default_rng(3).normal(size=(108_000, 3))
    profile = a_profile(series[:100_000], window=8000)

    tier, each = tiers(profile, series[100_000:] + np.array([0.075, 0, 1.0]))

    assert tier == "critical"
    assert (each["c"], each["a"], each["b"]) == ("critical", "warning", "clean")


def test_what_is_wholly_missing_is_a_warning_where_nothing_can_be_tested() -> None:
    series = np.random.default_rng(3).normal(size=(30, 3))
    window = np.random.default_rng(4).normal(size=(50, 3)) / 2
    window[:, 0] = np.nan

    tier, each = tiers(a_profile(series, window=50), window)

    assert (tier, each["a"], each["b"]) == ("warning", "warning", "insufficient")


@pytest.mark.parametrize(
    ("test", "low", "high", "severity"),
    [
        ("location", 0.051, 0.2, "critical"),
        ("location", 0.03, 0.2, "warning"),
        ("scale", -0.2, -0.06, "critical"),
        ("missing", 0.021, 0.1, "critical"),
        ("missing", 0.019, 0.1, "warning"),
        ("level", -0.3, -0.021, "critical"),
        ("shape", None, None, "warning"),
    ],
)
def test_a_share_is_tolerated_less_than_a_shift(
    test: str, low: float | None, high: float | None, severity: str
) -> None:
    found = severity_of(test, is_drift=True, low=low, high=high, shift=SHIFT)

    assert found == severity
    assert severity_of(test, is_drift=False, low=low, high=high, shift=SHIFT) is None


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (a_row(3, features=None, closed_at=None, rows=20),
         "Window 3 is open with 20 rows and not judged yet"),
        (a_row(3, features=None, judge_at=NOON), "Window 3 is closed and waits for its verdict"),
        (a_row(3, mode="insufficient", alpha=None, detail="judged in vain 12 times: ValueError"),
         "Window 3 was not judged: judged in vain 12 times: ValueError"),
        (a_row(3, CALM | {"test": "mostly_outside"}, mode="insufficient"),
         f"Window 3 was not judged: {REASON}"),
        (a_row(3, FOUND), "Window 3: critical: a lies 0.50 standard deviations above"),
        (a_row(3, CALM), "Window 3: like the reference: a lies 0.01"),
        (a_row(3, CALM | {"feature": "b"}), "Window 3: a was not tested, it has too few rows"),
        (a_row(3, *(CALM | {"feature": f"f{n}"} for n in range(50))),
         "Window 3: a is not among the 50 that differ most"),
    ],
)  # fmt: skip
def test_what_a_window_says_of_a_feature_is_what_was_judged(window: Json, words: str) -> None:
    assert said_of(window, "a", SHIFT).startswith(words)


def test_a_verdict_that_is_none_says_why() -> None:
    given_up = a_row(1, detail="judged in vain 12 times: x; y")

    assert reason_of(a_row(1)["detail"]) == REASON
    assert reason_of(given_up["detail"]) == "judged in vain 12 times: x; y"


def test_of_more_windows_than_the_map_is_wide_the_worst_of_neighbours_is_shown() -> None:
    count = 2 * MOST_COLUMNS + 1
    closed = [a_row(number + 1, FOUND if number == 7 else CALM) for number in range(count)]
    gone = a_row(0, mode="insufficient", detail="judged in vain 12 times")

    columns, cells = columns_of([gone, *closed]), cells_of([gone, *closed], SHIFT)

    assert len(columns) <= MOST_COLUMNS
    assert [columns[0].first, columns[-1].last] == [0, count]
    (worst,) = [cell for cell in cells if cell.tier == "critical"]
    assert columns[worst.column].first <= 8 <= columns[worst.column].last
    assert worst.words.startswith("window 8: a lies")
    assert sum(column.windows for column in columns) == count + 1
    assert columns_of([gone])[0].unjudged == "judged in vain 12 times"
    assert columns_of([*closed, gone])[-1].unjudged == ""


def test_a_window_of_a_season_is_drawn_beside_the_rows_of_that_season() -> None:
    """Low in the morning, high at noon: beside all rows either would look wholly shifted."""
    days = np.arange(60) * np.timedelta64(1, "D") + np.datetime64("2026-01-01")
    hours = np.array([7, 12]) * np.timedelta64(1, "h")
    moments = (days[:, None, None] + hours[:, None] + np.zeros((1, 30), "m8[h]")).ravel()
    level = np.where((moments - moments.astype("M8[D]")) == hours[1], 5.0, 0.0)
    values = np.random.default_rng(6).normal(size=len(moments)) + level
    reference = read_reference(
        build_reference(
            columns=[Column(name="a", kind="number")],
            train={"a": values},
            holdout_answers=Answered(values[:100]),
            holdout_targets=values[:100],
            holdout_losses=np.zeros(100),
            metric="mae",
            classes=(),
            seed=1,
            time_ordered=True,
            window=30,
            season="hour_of_day",
            times=moments.astype("M8[us]").astype(np.int64),
        )
    )
    noon = reference.layout.count([values[level > 0], values[level > 0]])
    mine = reference.layout.split(noon)[0]

    assert (counts_of(reference, 0, "h12") == mine).all()
    assert beside(reference, 0, "h12") == ". The reference is of the season h12"
    assert not counts_of(reference, 0, "h03").any()
    assert beside(reference, 0, "h03").endswith("has no rows of it in the season h03")
    assert (counts_of(reference, 0, "") == reference.counts[0]).all()
    assert beside(reference, 0, "") == ""
