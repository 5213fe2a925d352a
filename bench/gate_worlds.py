"""Worlds in which it is known which of two refitted models is better, and by how much.

The rows of a real data set are the population; models are refitted on resamples of it, and their
losses on every row are known. Held-out rows are drawn with chances that are tilted just so much
that the expected difference of losses is exactly what a simulation asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from services.evaluator.evidence import Evidence
from services.evaluator.metrics import losses_of

Floats = NDArray[np.float64]

CLASSES = ("benign", "malignant")
FITTED = 250
"""Rows of a resample that a model is fitted on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Every row there is, with the answers of two models and a baseline."""

    task: Literal["regression", "classification"]
    y: NDArray[Any]
    answers: Mapping[str, Floats]

    def evidence(self, rows: NDArray[np.intp], *, ordered: bool = False) -> Evidence:
        """These rows as a verdict sees them."""
        return Evidence(
            task=self.task,
            ordered=ordered,
            y=self.y[rows],
            row_hashes=np.arange(len(rows), dtype=np.uint64),
            times=np.arange(len(rows), dtype=np.int64) if ordered else None,
            classes=dict.fromkeys(self.answers, CLASSES) if self.task == "classification" else {},
            answers={name: values[rows] for name, values in self.answers.items()},
        )

    def gains(self, metric: str) -> Floats:
        """Loss of the champion minus loss of the candidate, of every row."""
        everything = self.evidence(np.arange(len(self.y)))
        gains: Floats = losses_of(everything, "champion", metric) - losses_of(
            everything, "candidate", metric
        )
        return gains


class World(Protocol):
    """Held-out rows of two fresh models, the candidate better by `gain` in expectation."""

    def __call__(self, draw: np.random.Generator, rows: int, gain: float) -> Evidence: ...


@cache
def _rows_of(name: str) -> tuple[Floats, NDArray[Any]]:
    load = load_breast_cancer if name == "breast_cancer" else load_diabetes
    X, y = load(return_X_y=True)
    return np.asarray(X, dtype=np.float64), y


def refitted(name: Literal["breast_cancer", "diabetes"], draw: np.random.Generator) -> Population:
    """Champion and candidate: the same estimator on two resamples of the same rows."""
    X, y = _rows_of(name)
    samples = {side: draw.integers(0, len(y), FITTED) for side in ("champion", "candidate")}
    if name == "diabetes":
        fits = {
            side: make_pipeline(StandardScaler(), Ridge(alpha=10.0)).fit(X[rows], y[rows])
            for side, rows in samples.items()
        }
        answers = {side: fit.predict(X) for side, fit in fits.items()}
        return Population(
            task="regression", y=y, answers={**answers, "baseline": np.full(len(y), np.median(y))}
        )
    fits = {
        side: make_pipeline(StandardScaler(), LogisticRegression(C=0.05)).fit(X[rows], y[rows])
        for side, rows in samples.items()
    }
    labels = np.empty(len(y), dtype=object)
    labels[:] = [CLASSES[0] if benign else CLASSES[1] for benign in y]
    # In the data set 1 stands for benign, which comes first here.
    answers = {side: fit.predict_proba(X)[:, ::-1] for side, fit in fits.items()}
    prior = np.tile([y.mean(), 1 - y.mean()], (len(y), 1))
    return Population(task="classification", y=labels, answers={**answers, "baseline": prior})


def tilted(gains: Floats, wanted: float) -> Floats | None:
    """Chances per row, as even as possible, under which the gain has this mean.

    None where no chances give it: all rows favour the same side, or do not differ.
    """
    if not gains.min() < wanted < gains.max():
        return None
    scale = gains.std()

    def chances(tilt: float) -> Floats:
        powers = tilt * gains / scale
        weights = np.exp(powers - powers.max())
        found: Floats = weights / weights.sum()
        return found

    low, high = -40.0, 40.0
    for _ in range(80):
        middle = (low + high) / 2
        if chances(middle) @ gains < wanted:
            low = middle
        else:
            high = middle
    found = chances((low + high) / 2)
    return found if abs(float(found @ gains) - wanted) < 1e-6 * scale else None


def tilted_world(name: Literal["breast_cancer", "diabetes"], metric: str) -> World:
    """Independent rows of a real data set."""

    def drawn(draw: np.random.Generator, rows: int, gain: float) -> Evidence:
        while True:
            population = refitted(name, draw)
            chances = tilted(population.gains(metric), gain)
            if chances is not None:
                return population.evidence(draw.choice(len(population.y), size=rows, p=chances))

    return drawn


def swapped_world(name: Literal["breast_cancer", "diabetes"]) -> World:
    """Independent rows on each of which both models change places by chance: no metric can differ.

    For metrics that are no means of rows; the only gain it knows is none.
    """

    def drawn(draw: np.random.Generator, rows: int, gain: float) -> Evidence:
        if gain:
            raise ValueError("models that change places by chance are equally good")
        population = refitted(name, draw)
        whole = population.evidence(draw.integers(0, len(population.y), rows))
        swap = draw.random(rows) < 0.5
        one, other = whole.answers["candidate"], whole.answers["champion"]
        where = swap if one.ndim == 1 else swap[:, None]
        answers = {
            **whole.answers,
            "candidate": np.where(where, other, one),
            "champion": np.where(where, one, other),
        }
        return Evidence(
            task=whole.task,
            ordered=False,
            y=whole.y,
            row_hashes=whole.row_hashes,
            classes=whole.classes,
            answers=answers,
        )

    return drawn


# --- rows in time -------------------------------------------------------------------------------

LONG_RUN = 150_000
"""Rows that stand for the true loss of a model in a world of time."""
_WEIGHTS = np.array([2.0, -1.0, 0.5])


def autoregressive(draw: np.random.Generator, shape: tuple[int, ...], memory: float) -> Floats:
    """Series along the first axis, variance 1, correlation `memory` between neighbours."""
    shocks = draw.normal(size=shape) * np.sqrt(1 - memory**2)
    series = np.empty(shape)
    series[0] = draw.normal(size=shape[1:])
    for t in range(1, shape[0]):
        series[t] = memory * series[t - 1] + shocks[t]
    return series


def _stretch(draw: np.random.Generator, rows: int, memory: float) -> tuple[Floats, Floats]:
    X = autoregressive(draw, (rows, len(_WEIGHTS)), memory)
    return X, X @ _WEIGHTS + 1.5 * autoregressive(draw, (rows,), memory)


@cache
def _long_run(memory: float) -> tuple[Floats, Floats]:
    return _stretch(np.random.Generator(np.random.PCG64(11)), LONG_RUN, memory)


def series_world(memory: float = 0.7) -> World:
    """Rows in time whose errors resemble their neighbours.

    A constant is added to the better one's answers until its long-run absolute error differs by
    what is asked.
    """

    def drawn(draw: np.random.Generator, rows: int, gain: float) -> Evidence:
        fits = {}
        for side in ("champion", "candidate"):
            X, y = _stretch(draw, FITTED, memory)
            fits[side] = Ridge(alpha=1.0).fit(X, y)
        long_X, long_y = _long_run(memory)
        errors = {side: long_y - fit.predict(long_X) for side, fit in fits.items()}
        added = _handicaps(errors["champion"], errors["candidate"], gain)
        X, y = _stretch(draw, rows, memory)
        answers = {side: fit.predict(X) + added[side] for side, fit in fits.items()}
        population = Population(
            task="regression", y=y, answers={**answers, "baseline": np.zeros(rows)}
        )
        return population.evidence(np.arange(rows), ordered=True)

    return drawn


def _handicaps(champion: Floats, candidate: Floats, gain: float) -> dict[str, float]:
    """What is added to the answers of each side so that the candidate gains exactly this."""
    mae_champion, mae_candidate = np.abs(champion).mean(), np.abs(candidate).mean()
    if mae_champion - mae_candidate > gain:
        # The candidate is better than asked: it gets worse until the champion leads by -gain.
        return {"candidate": _shift_to(candidate, mae_champion - gain), "champion": 0.0}
    return {"candidate": 0.0, "champion": _shift_to(champion, mae_candidate + gain)}


def _shift_to(errors: Floats, wanted: float) -> float:
    """The constant on answers that brings the mean absolute error up to what is wanted."""
    centre = float(np.median(errors))
    low, high = 0.0, 10.0 * float(np.abs(errors).mean())
    for _ in range(40):
        middle = (low + high) / 2
        is_too_good = np.abs(errors - centre - middle).mean() < wanted
        low, high = (middle, high) if is_too_good else (low, middle)
    return centre + (low + high) / 2


WORLDS: Mapping[str, tuple[str, Callable[[], World], int, float]] = {
    "log_loss": ("log_loss", lambda: tilted_world("breast_cancer", "log_loss"), 400, 0.02),
    "accuracy": ("accuracy", lambda: tilted_world("breast_cancer", "accuracy"), 400, 0.02),
    "mae": ("mae", lambda: tilted_world("diabetes", "mae"), 400, 2.5),
    "mae, rows in time": ("mae", series_world, 1000, 0.1),
}
"""By name: the metric, the world, its held-out rows and the margin of a refresh."""

SWAPPED: Mapping[str, tuple[str, Callable[[], World], int]] = {
    "roc_auc": ("roc_auc", lambda: swapped_world("breast_cancer"), 400),
    "rmse": ("rmse", lambda: swapped_world("diabetes"), 400),
}
