"""Comparing candidates over folds that share their training rows. It orders; it never promotes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shared.probability import t_sf


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldComparison:
    """The mean difference over folds, and how sure it is. `p` is of a mean this high by chance."""

    mean: float
    t: float
    df: int
    p: float


def corrected_t(differences: Sequence[float], test_to_train: float) -> FoldComparison:
    """A t-test over folds, its variance corrected for the rows that folds have in common.

    The plain t-test takes folds for independent and is wrong several times too often.

    Args:
        differences: loss(other) - loss(candidate) per fold of every repeat.
        test_to_train: rows judged on per row fitted on; 1 / (k - 1) for k folds.

    Raises:
        ValueError: fewer than two folds, or the ratio is not positive.

    Source: Nadeau and Bengio (2003), Inference for the generalization error, Machine Learning 52.
    """
    folds = len(differences)
    if folds < 2 or test_to_train <= 0:
        raise ValueError("a comparison needs two folds and a positive ratio of rows")
    mean = math.fsum(differences) / folds
    variance = math.fsum((d - mean) ** 2 for d in differences) / (folds - 1)
    se = math.sqrt(variance * (1 / folds + test_to_train))
    if se == 0:
        t = math.copysign(math.inf, mean) if mean else 0.0
        return FoldComparison(mean=mean, t=t, df=folds - 1, p=0.0 if mean > 0 else 1.0)
    return FoldComparison(mean=mean, t=mean / se, df=folds - 1, p=t_sf(mean / se, folds - 1))
