"""Folds share rows: the corrected test is as seldom wrong as it promises, the plain one is not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from services.trainer.fitting.cross_validation import corrected_t
from shared.probability import t_sf

FOLDS, REPEATS, ROWS = 10, 3, 100


def test_the_variance_grows_by_the_share_of_rows_in_common() -> None:
    """Mean 2, variance 1 over three folds: t = 2 / sqrt(1/3 + 1/2)."""
    found = corrected_t([1.0, 2.0, 3.0], 0.5)

    assert found.mean == 2
    assert found.t == pytest.approx(2 / math.sqrt(1 / 3 + 1 / 2))
    assert found.df == 2
    assert found.p == pytest.approx(t_sf(found.t, 2))


def test_equal_candidates_seldom_look_different(seed: int) -> None:
    """Two nearest-mean rules that see one of two equally good features each."""
    runs, corrected, plain = 150, 0, 0
    for run in range(runs):
        draw = np.random.Generator(np.random.PCG64([seed, run]))
        d = fold_differences(draw)
        corrected += corrected_t(d, 1 / (FOLDS - 1)).p < 0.05
        se = float(np.std(d, ddof=1)) / math.sqrt(len(d))
        plain += t_sf(float(np.mean(d)) / se, len(d) - 1) < 0.05 if se else 0

    assert corrected / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert plain > 2 * corrected


def fold_differences(draw: np.random.Generator) -> list[float]:
    y = np.arange(ROWS) % 2
    x = draw.normal(size=(ROWS, 2)) + 0.8 * y[:, np.newaxis]
    found = []
    for _ in range(REPEATS):
        for held in np.array_split(draw.permutation(ROWS), FOLDS):
            fitted = np.setdiff1d(np.arange(ROWS), held)
            wrong = []
            for feature in range(2):
                low, high = (x[fitted][y[fitted] == label, feature].mean() for label in (0, 1))
                answers = (x[held, feature] > (low + high) / 2) == (high > low)
                wrong.append(np.mean(answers != y[held]))
            found.append(float(wrong[0] - wrong[1]))
    return found


def test_the_same_difference_in_every_fold_leaves_no_doubt() -> None:
    assert corrected_t([0.1, 0.1], 0.5).p == 0
    assert corrected_t([0.0, 0.0], 0.5).p == 1
    assert corrected_t([-0.1, -0.1], 0.5).p == 1


@pytest.mark.parametrize(("folds", "ratio"), [([0.1], 0.5), ([0.1, 0.2], 0.0)])
def test_what_cannot_be_compared_is_refused(folds: list[float], ratio: float) -> None:
    with pytest.raises(ValueError, match="two folds"):
        corrected_t(folds, ratio)
