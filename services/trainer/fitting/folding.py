"""Which candidate is refitted: by the validation rows, or by repeated folds where asked for.

This orders the candidates of one run. Whether the chosen one is promoted is decided elsewhere, on
rows that none of them saw.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.trainer.fitting.building import Builder
from services.trainer.fitting.cross_validation import corrected_t
from services.trainer.fitting.reading import CannotTrain
from services.trainer.fitting.searching import Rows, Trial, fitted, validation_score
from shared.spec import ModelSpec

LEVEL: Final = 0.05
"""A candidate further down the list must be this surely better to be preferred."""

Scores = list[float]


def chosen(
    spec: ModelSpec,
    builder: Builder,
    trials: Sequence[Trial],
    rows: Rows,
    *,
    deadline: float,
    monotonic: Callable[[], float] = time.monotonic,
) -> Trial:
    """The candidate to be refitted.

    Without folds the one with the least loss on the validation rows. With folds the one with the
    least mean loss over them, but an earlier candidate of the list goes before it as long as the
    corrected t-test does not show that it is worse: people list what they would rather have first.

    Args:
        trials: the best of each candidate, in the order of the specification.
        rows: what the candidates may be fitted on.
        deadline: no new repeat begins after this moment of `monotonic`. When not even one could be
            ended, the validation rows decide.
    """
    best = min(trials, key=lambda trial: trial.score)
    if spec.train.folds < 2 or len(trials) < 2:
        return best
    scores: list[Scores] = [[] for _ in trials]
    for held in repeats(spec, len(rows.y)):
        found = [_folds(spec, builder, trial, rows, held, deadline, monotonic) for trial in trials]
        complete = [losses for losses in found if losses is not None]
        if len(complete) < len(trials):
            break
        for collected, losses in zip(scores, complete, strict=True):
            collected.extend(losses)
    return trials[preferred(scores, spec.train.folds)] if scores[0] else best


def repeats(spec: ModelSpec, rows: int) -> Iterator[list[NDArray[np.intp]]]:
    """For each repeat the rows of each fold; the same for every candidate."""
    for repeat in range(spec.train.repeats):
        draw = np.random.Generator(np.random.PCG64([spec.train.seed, repeat]))
        yield [np.sort(part) for part in np.array_split(draw.permutation(rows), spec.train.folds)]


def preferred(scores: Sequence[Scores], folds: int) -> int:
    """The place of the candidate that goes first.

    Args:
        scores: by candidate, its mean loss in every fold of every repeat.
    """
    means = [float(np.mean(losses)) for losses in scores]
    leader = int(np.argmin(means))
    for place in range(leader):
        worse = [mine - best for mine, best in zip(scores[place], scores[leader], strict=True)]
        if corrected_t(worse, 1 / (folds - 1)).p > LEVEL:
            return place
    return leader


def _folds(
    spec: ModelSpec,
    builder: Builder,
    trial: Trial,
    rows: Rows,
    held: Sequence[NDArray[np.intp]],
    deadline: float,
    monotonic: Callable[[], float],
) -> Scores | None:
    """Its loss in every fold of one repeat; None when time is over or a fold cannot be fitted."""
    losses: Scores = []
    for part in held:
        if monotonic() > deadline:
            return None
        rest = np.setdiff1d(np.arange(len(rows.y)), part)
        try:
            fit = fitted(spec, builder, trial.candidate, trial.parameters, _at(rows, rest))
            losses.append(validation_score(spec, fit, _at(rows, part)))
        except CannotTrain:
            return None
    return losses if bool(np.isfinite(losses).all()) else None


def _at(rows: Rows, places: NDArray[np.intp]) -> Rows:
    return Rows(X=rows.X[places], y=rows.y[places])
