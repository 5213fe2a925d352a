"""Metrics as functions of weighted rows, so that the same resampled weights serve them all.

Every metric is a loss here: a score counts as one minus the score. Rows with weights stand for a
resampled hold-out; a value that does not exist there (one class is gone) is NaN.
"""

import numpy as np

from services.evaluator.evidence import Evidence
from services.evaluator.metrics.curves import Averaged, Ranked, curves_of, sides
from services.evaluator.metrics.exact import quantised, ratio
from services.evaluator.metrics.kinds import (
    ON_LABELS,
    Insufficient,
    Kind,
    Measure,
    kind_of,
    known_scale,
    surrogate_of,
)
from services.evaluator.metrics.rows import Said, losses_of, said
from services.evaluator.metrics.sums import Finish, Sums, sums_of

__all__ = [
    "ON_LABELS",
    "Averaged",
    "Finish",
    "Insufficient",
    "Kind",
    "Measure",
    "Ranked",
    "Said",
    "Sums",
    "kind_of",
    "known_scale",
    "losses_of",
    "measure_of",
    "quantised",
    "said",
    "sides",
    "surrogate_of",
]


def measure_of(evidence: Evidence, predictor: str, metric: str) -> Measure:
    """The metric of a predictor on these rows, for any weights.

    Raises:
        Unprocessable: the metric does not fit the answers.
    """
    if kind_of(metric) == "sums":
        return sums_of(evidence, predictor, metric)
    if kind_of(metric) in ("area", "precision"):
        return curves_of(evidence, predictor, metric)
    losses = losses_of(evidence, predictor, metric)
    columns = np.column_stack([losses, np.ones_like(losses)])
    return Sums(columns=columns, finish=lambda sums: ratio(sums[..., 0], sums[..., 1]))
