"""Metrics of how rows are ordered by one score: areas under a curve."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from services.evaluator.evidence import Evidence, Floats
from services.evaluator.metrics.exact import EXACT_BITS, Counts, ratio
from services.evaluator.metrics.rows import equal_to
from shared.errors import Unprocessable

_DRAWS_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A metric of how rows are ordered by one score: area under a curve.

    Attributes:
        order: rows from the highest score to the lowest, shape (rows,).
        starts: where in that order each group of equal scores begins.
        positive: whether a row, in that order, is positive.
    """

    metric: Literal["roc_auc", "average_precision"]
    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    positive: Counts

    def of_weights(self, weights: Floats) -> Floats:
        """See `Measure`."""
        # A few draws at a time stay in the processor's cache.
        parts = range(0, len(weights), _DRAWS_AT_ONCE)
        found = [self._values(weights[start : start + _DRAWS_AT_ONCE]) for start in parts]
        return 1 - np.concatenate(found)

    def _values(self, weights: Floats) -> Floats:
        # Running sums of whole numbers are several times faster than those of floats.
        all_rows = np.take(weights, self.order, axis=1).astype(np.int64)
        positives = all_rows * self.positive
        if len(self.starts) < len(self.order):
            positives = np.add.reduceat(positives, self.starts, axis=1)
            all_rows = np.add.reduceat(all_rows, self.starts, axis=1)
        curve = _area if self.metric == "roc_auc" else _precision
        return curve(positives, all_rows)

    def without(self, groups: NDArray[np.intp], count: int) -> Floats:
        """See `Measure`."""
        found = []
        for start in range(0, count, _DRAWS_AT_ONCE):
            some = np.arange(start, min(start + _DRAWS_AT_ONCE, count))[:, np.newaxis]
            found.append(self.of_weights((groups != some).astype(np.float64)))
        return np.concatenate(found)


def ranked(metric: str, scores: Floats, positive: NDArray[np.bool_]) -> Ranked:
    """Rows by their scores, ready for any weights."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return Ranked(
        metric="roc_auc" if metric == "roc_auc" else "average_precision",
        order=order,
        starts=starts,
        positive=positive[order].astype(np.int64),
    )


def _area(positives: Counts, all_rows: Counts) -> Floats:
    """Whole numbers up to the last division: pairs in the right order, ties half."""
    negatives = all_rows - positives
    above = np.cumsum(negatives, axis=1)
    total = above[:, -1]
    doubled = np.sum(positives * (2 * (total[:, np.newaxis] - above) + negatives), axis=1)
    return ratio(doubled, 2 * positives.sum(axis=1) * total)


def _precision(positives: Counts, all_rows: Counts) -> Floats:
    """Precision at each threshold, weighted by the recall it adds."""
    hits, drawn = np.cumsum(positives, axis=1), np.cumsum(all_rows, axis=1)
    total, rows = hits[:, -1], drawn[:, -1:]
    terms = hits / np.maximum(drawn, 1)
    terms *= positives
    # Terms as whole numbers that fill a float64 exactly, so that their sum has no order.
    step = np.ldexp(1.0, np.frexp(rows)[1] - EXACT_BITS)
    terms /= step
    np.rint(terms, out=terms)
    found = ratio(terms.sum(axis=1) * step[:, 0], total)
    return np.where(rows[:, 0] > total, found, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Averaged:
    """The mean of one metric over classes, one against the rest."""

    parts: tuple[Ranked, ...]

    def of_weights(self, weights: Floats) -> Floats:
        """See `Measure`."""
        return _mean([part.of_weights(weights) for part in self.parts])

    def without(self, groups: NDArray[np.intp], count: int) -> Floats:
        """See `Measure`."""
        return _mean([part.without(groups, count) for part in self.parts])


def _mean(values: Sequence[Floats]) -> Floats:
    found: Floats = np.add.reduce(values) / len(values)
    return found


def curves_of(evidence: Evidence, predictor: str, metric: str) -> Ranked | Averaged:
    """Area under the curve of a predictor; of more than two classes the mean over classes."""
    parts = tuple(ranked(metric, *side) for side in sides(evidence, predictor))
    return parts[0] if len(parts) == 1 else Averaged(parts=parts)


def sides(evidence: Evidence, predictor: str) -> list[tuple[Floats, NDArray[np.bool_]]]:
    """Scores and positives: of two classes the second one, of more each against the rest.

    Raises:
        Unprocessable: the predictor does not know a class of the candidate.
    """
    classes = evidence.classes["candidate"]
    known = list(evidence.classes[predictor])
    asked = classes[1:] if len(classes) == 2 else classes
    missing = [label for label in asked if label not in known]
    if missing:
        raise Unprocessable(f"the {predictor} knows no class {missing[0]!r}")
    return [
        (evidence.answers[predictor][:, known.index(label)], equal_to(evidence.y, label) > 0)
        for label in asked
    ]
