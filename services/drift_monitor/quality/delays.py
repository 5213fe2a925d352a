"""How long labels take to come, and how many should have come by now.

Predictions without a label count as censored at their age: labelled ones alone would make delays
look short. What is kept per model is one count per step of delay; ages of unlabelled predictions
come from the windows.

Source: Kaplan and Meier (1958), Journal of the American Statistical Association 53.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

STEPS_PER_DECADE: Final = 8
EDGES: Final = tuple(float(10 ** (k / STEPS_PER_DECADE)) for k in range(8 * STEPS_PER_DECADE + 1))
"""Seconds, from one second to more than three years; the first step holds all below."""
_EDGES: Final = np.array(EDGES)
LEAST: Final = 30
"""Labels below which nothing is said about delays."""
SETTLED: Final = 0.95
"""Of the final level: a window whose labels should have come so far is not provisional."""
SAMPLES: Final = 16

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def no_delays() -> Counts:
    """Counts of no labels: one per step, the last one beyond all edges."""
    return np.zeros(len(EDGES) + 1, dtype=np.int64)


def counted(seconds: Iterable[float]) -> Counts:
    """How many of these delays fall into each step (edge before, edge]."""
    return counted_each({"": list(seconds)})[""]


def counted_each(delays: Mapping[str, Sequence[float]]) -> dict[str, Counts]:
    """How many delays of each model fall into each step."""
    size = len(EDGES) + 1
    sizes = [len(seconds) for seconds in delays.values()]
    all_of_them = np.fromiter(chain.from_iterable(delays.values()), np.float64, sum(sizes))
    places = np.searchsorted(_EDGES, all_of_them, side="left")
    places += np.repeat(np.arange(len(sizes)) * size, sizes)
    counts = np.bincount(places, minlength=len(sizes) * size).astype(np.int64)
    return dict(zip(delays, counts.reshape(-1, size), strict=True))


def censored(steps: Sequence[int], rows: Sequence[int]) -> Floats:
    """Unlabelled predictions by the steps that they have lived through without a label.

    An age within a step counts as half of it: one half has lived through, the other half has not.

    Args:
        steps: of their ages, as `np.searchsorted(EDGES, age, side="right")` has it, shape (n,).
        rows: predictions of each, shape (n,).
    """
    found = np.zeros(len(EDGES) + 1)
    for step, count in zip(steps, rows, strict=True):
        found[step] += count / 2
        found[max(step - 1, 0)] += count / 2
    return found


def fitted(came: Counts, labels: int) -> Counts:
    """Labels per step, no more than so many: what is too much is taken from all steps alike.

    Args:
        came: shape (n,); of windows that are kept, and of others that are not kept any more.
        labels: of the windows that are kept.
    """
    total = int(came.sum())
    if labels >= total:
        return came
    shares = came * (labels / total)
    found: Counts = np.floor(shares).astype(np.int64)
    broken = np.argsort(found - shares, kind="stable")
    found[broken[: labels - int(found.sum())]] += 1
    return found


def before(came: Counts, earlier: Counts, later: Counts) -> Counts:
    """Labels per step without those that came later.

    Where labels of windows that are gone were taken from all steps alike, as `fitted` does, some
    of the later ones are gone, too: in the share that shows in a step of which too few are left.

    Args:
        came: shape (n,); all that ever came, as far as they were not taken.
        earlier, later: those of single predictions that are known still, shape (n,).
    """
    both = earlier + later
    many = both >= LEAST
    kept = float(np.min(came[many] / both[many], initial=1.0))
    found: Counts = np.maximum(came - np.floor(later * kept).astype(np.int64), 0)
    return found


def survival(came: Counts, left: Floats | Counts) -> NDArray[np.float64]:
    """The share that has no label after each step.

    Args:
        came: labels per step, shape (n,).
        left: predictions per step that are known to have none until its end, shape (n,).
    """
    both = (came + left)[::-1].cumsum()[::-1].astype(np.float64)
    stays = 1 - np.divide(came, both, out=np.zeros(len(came)), where=both > 0)
    found: NDArray[np.float64] = np.cumprod(stays)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """The distribution of delays of a model.

    Attributes:
        reached: share of predictions that have a label after each step; it may level off below 1.
    """

    reached: tuple[float, ...]

    @classmethod
    def of(cls, came: Counts, left: Floats | Counts) -> "Delays | None":
        """None while too few labels have come."""
        if came.sum() < LEAST:
            return None
        return cls(reached=tuple((1 - survival(came, left)[: len(EDGES)]).tolist()))

    @property
    def level(self) -> float:
        """Share of predictions that ever get a label, as far as can be seen."""
        return self.reached[-1]

    def at(self, age: float) -> float:
        """Share that has a label at this age in seconds."""
        step = int(np.searchsorted(EDGES, age, side="right")) - 1
        return self.reached[step] if step >= 0 else 0.0

    @property
    def settled(self) -> float:
        """Age in seconds at which nearly all labels that ever come are there."""
        enough = SETTLED * self.level
        return next(
            edge for edge, share in zip(EDGES, self.reached, strict=True) if share >= enough
        )

    def expected(self, youngest: float, oldest: float) -> float:
        """Mean share of labels over predictions whose ages lie evenly between these."""
        ages = np.linspace(youngest, oldest, SAMPLES).tolist()
        return sum(self.at(age) for age in ages) / SAMPLES
