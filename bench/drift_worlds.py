"""Made-up rows with and without drifts: mixed features of one copula, and rows that are alike.

The mixed world has 14 numbers of six shapes and 6 categories of 2 to 100 levels, moved by one
Gaussian copula; a model answers with the mean of four of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import expon, poisson

from shared.manifest import Column
from shared.reference import Reference, build_reference, read_reference
from shared.sketch import Sketch

Floats = NDArray[np.float64]
Columns = list[NDArray[Any]]

NUMBERS: Final = 14
LEVELS: Final = (2, 3, 5, 10, 30, 100)
FEATURES: Final = NUMBERS + len(LEVELS)
SHAPES: Final = ("normal", "lognormal", "uniform", "exponential", "half zero", "whole")
PAIR: Final = 0.6
"""Correlation of the first two numbers."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the model of a world answers."""

    values: NDArray[Any]
    probabilities: Floats | None = None


@dataclass(frozen=True, slots=True)
class Mixed:
    """How the mixed features hang together.

    Attributes:
        loads: of each feature on the common factor.
        pair: correlation of the first two numbers.
    """

    loads: Floats
    pair: float = PAIR

    @classmethod
    def drawn(cls, chance: np.random.Generator) -> Mixed:
        loads = chance.uniform(0.2, 0.6, size=FEATURES)
        loads[:2] = 0.0
        return cls(loads)

    def rows(self, chance: np.random.Generator, count: int) -> Columns:
        """Columns of features, numbers first."""
        common = chance.normal(size=(count, 1))
        latent = chance.normal(size=(count, FEATURES))
        latent = self.loads * common + np.sqrt(1 - np.square(self.loads)) * latent
        latent[:, 1] = self.pair * latent[:, 0] + np.sqrt(1 - self.pair**2) * latent[:, 1]
        return shaped(latent)


def shaped(latent: Floats) -> Columns:
    """Normal numbers as features of many shapes."""
    columns: Columns = [number(SHAPES[i % len(SHAPES)], latent[:, i]) for i in range(NUMBERS)]
    for i, levels in enumerate(LEVELS):
        weights = 1 / np.arange(1, levels + 1)
        limits = np.cumsum(weights / weights.sum())
        place = np.minimum(np.searchsorted(limits, ndtr(latent[:, NUMBERS + i])), levels - 1)
        names = np.array([f"level {n}" for n in range(levels)], dtype=object)
        columns.append(names[place])
    return columns


def number(shape: str, z: Floats) -> Floats:
    """One number by its normal score, with a standard deviation of about one."""
    share = ndtr(z)
    found: Floats
    match shape:
        case "normal":
            found = z.copy()
        case "lognormal":
            found = np.exp(z / 2) / 0.604
        case "uniform":
            found = share * np.sqrt(12)
        case "exponential":
            found = expon.ppf(share)
        case "half zero":
            found = np.where(share < 0.5, 0.0, z) / 0.59
        case _:
            found = poisson.ppf(share, 4.0) / 2
    return found


def numeric_rows(latent: Floats) -> Columns:
    """Rows of numbers as columns."""
    return [np.ascontiguousarray(column) for column in latent.T]


# --- models -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Model:
    """A reference, and what its monitor sees of rows."""

    reference: Reference

    def sketch(self, columns: Columns) -> Sketch:
        return self.reference.layout.sketch([*columns, answers(columns)])


def answers(columns: Columns) -> Floats:
    """The mean of four numbers."""
    found: Floats = np.mean(np.stack([c for c in columns if c.dtype != object][-4:]), axis=0)
    return found


def model_of(train: Columns, held_out: Columns, window: int, *, ordered: bool = True) -> Model:
    """A model whose reference is these rows."""
    said = answers(held_out)
    losses = np.abs(np.sin(1000 * said))
    names = [f"x{i}" for i in range(len(train))]
    data = build_reference(
        columns=[
            Column(name=name, kind="text" if values.dtype == object else "number")
            for name, values in zip(names, train, strict=True)
        ],
        train=dict(zip(names, train, strict=True)),
        holdout_answers=Answered(said),
        holdout_targets=said,
        holdout_losses=losses,
        metric="mae",
        classes=(),
        seed=1,
        time_ordered=ordered,
        window=window,
    )
    return Model(read_reference(data))


# --- drifts -------------------------------------------------------------------------------------

Drift = Callable[[np.random.Generator, Mixed, int, int], Columns]
"""Rows of a window: chance, the world, the number of the trial, and how many rows."""


def shifted(size: float) -> Drift:
    """One of the numbers, another in every trial, lies higher by so many standard deviations."""

    def rows(chance: np.random.Generator, world: Mixed, trial: int, count: int) -> Columns:
        columns = world.rows(chance, count)
        place = trial % NUMBERS
        columns[place] = columns[place] + size * spread_of(place)
        return columns

    return rows


def normal_shifted(size: float) -> Drift:
    """The same for a normal number: the hardest of the shapes."""

    def rows(chance: np.random.Generator, world: Mixed, trial: int, count: int) -> Columns:
        columns = world.rows(chance, count)
        place = (trial % 2 + 1) * len(SHAPES)
        columns[place] = columns[place] + size
        return columns

    return rows


def all_shifted(size: float) -> Drift:
    def rows(chance: np.random.Generator, world: Mixed, trial: int, count: int) -> Columns:
        del trial
        columns = world.rows(chance, count)
        moved = [c + size * spread_of(i) for i, c in enumerate(columns[:NUMBERS])]
        return [*moved, *columns[NUMBERS:]]

    return rows


def scaled(factor: float) -> Drift:
    def rows(chance: np.random.Generator, world: Mixed, trial: int, count: int) -> Columns:
        columns = world.rows(chance, count)
        place = trial % NUMBERS
        middle = float(np.mean(columns[place]))
        columns[place] = middle + (columns[place] - middle) * factor
        return columns

    return rows


def uncorrelated(pair: float) -> Drift:
    def rows(chance: np.random.Generator, world: Mixed, trial: int, count: int) -> Columns:
        del trial
        return Mixed(world.loads, pair).rows(chance, count)

    return rows


def replaced(share: float, value: float) -> Drift:
    """A share of one number is this value: nothing at all, or far too large."""

    def rows(chance: np.random.Generator, world: Mixed, trial: int, count: int) -> Columns:
        columns = world.rows(chance, count)
        place = trial % NUMBERS
        chosen = chance.random(count) < share
        columns[place] = np.where(
            chosen, columns[place] * value if np.isfinite(value) else value, columns[place]
        )
        return columns

    return rows


def unseen(share: float) -> Drift:
    def rows(chance: np.random.Generator, world: Mixed, trial: int, count: int) -> Columns:
        columns = world.rows(chance, count)
        place = NUMBERS + trial % len(LEVELS)
        columns[place] = np.where(chance.random(count) < share, "never seen", columns[place])
        return columns

    return rows


def spread_of(place: int) -> float:
    """Standard deviation of a number of the mixed world."""
    return _SPREADS[SHAPES[place % len(SHAPES)]]


_SPREADS: Final = {
    shape: float(np.std(number(shape, ndtri((np.arange(20_000) + 0.5) / 20_000))))
    for shape in SHAPES
}

DRIFTS: Final[dict[str, Drift]] = {
    "mean_0_1_sd": shifted(0.1),
    "mean_0_2_sd": shifted(0.2),
    "mean_0_3_sd": shifted(0.3),
    "normal_0_2_sd": normal_shifted(0.2),
    "all_0_05_sd": all_shifted(0.05),
    "scale_1_2": scaled(1.2),
    "correlation_0_2": uncorrelated(0.2),
    "correlation_0_4": uncorrelated(0.4),
    "missing_1_percent": replaced(0.01, np.nan),
    "unseen_1_percent": unseen(0.01),
    "times_1000_on_1_percent": replaced(0.01, 1000.0),
}


# --- rows that are alike ------------------------------------------------------------------------


def autoregressive(chance: np.random.Generator, rows: int, features: int, phi: float) -> Floats:
    """Stationary series of unit variance whose neighbours correlate by `phi`."""
    noise = chance.normal(size=(rows + 200, features))
    if phi == 0:
        return noise[200:]
    weights = np.sqrt(1 - phi**2) * phi ** np.arange(200)
    columns = [np.convolve(noise[:, i], weights)[200 : 200 + rows] for i in range(features)]
    return np.column_stack(columns)


def seasonal(chance: np.random.Generator, rows: int, features: int, window: int) -> Floats:
    """With a season of 7.3 windows and an amplitude of half a standard deviation."""
    turn = 2 * np.pi * np.arange(rows) / (7.3 * window)
    phases = chance.uniform(0, 2 * np.pi, size=features)
    return autoregressive(chance, rows, features, 0.5) + 0.5 * np.sin(turn[:, None] + phases)


def visited(chance: np.random.Generator, rows: int, features: int, each: int = 10) -> Floats:
    """Visitors bring about ten rows in a row, which share half of their variance."""
    lengths = chance.geometric(1 / each, size=rows)
    visitor = np.repeat(np.arange(rows), lengths)[:rows]
    own = chance.normal(size=(rows, features))
    shared = chance.normal(size=(int(visitor[-1]) + 1, features))[visitor]
    found: Floats = np.sqrt(0.5) * (own + shared)
    return found


def windows_of(columns: Columns, window: int) -> Sequence[Columns]:
    """Whole windows, one after the other."""
    whole = len(columns[0]) // window
    return [[c[i * window : (i + 1) * window] for c in columns] for i in range(whole)]
