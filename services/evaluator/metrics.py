"""Metrics as functions of weighted rows, so that the same resampled weights serve them all.

Every metric is a loss here: a score counts as one minus the score. Rows with weights stand for a
resampled hold-out; a value that does not exist there (one class is gone) is NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from services.evaluator.evidence import Evidence, Floats
from shared.errors import Unprocessable
from shared.losses import row_losses
from shared.spec_gate import is_row_metric

Kind = Literal["mean", "mistakes", "sums", "area", "precision"]
"""How a metric is compared: by row means, by counts of mistakes, by sums over rows, by DeLong's
placements, by sorted sums."""

_KINDS: Final[dict[str, Kind]] = {
    "accuracy": "mistakes",
    "rmse": "sums",
    "r2": "sums",
    "f1": "sums",
    "balanced_accuracy": "sums",
    "roc_auc": "area",
    "average_precision": "precision",
}
ON_LABELS: Final = frozenset({"f1", "balanced_accuracy", "roc_auc", "average_precision"})
"""Metrics that need more than one class among the outcomes."""
_KNOWN_SCALE: Final = {"accuracy": 1.0, "brier": 1.0}
_DRAWS_AT_ONCE: Final = 8
_EXACT: Final = 52
"""Bits of a float64 that sums of integers may fill and stay exact in any order."""


Counts = NDArray[np.int64]


class Insufficient(Exception):
    """The rows cannot carry an interval; the gate stays shut."""


class Measure(Protocol):
    """A metric of one predictor on fixed rows, under any weights."""

    def of_weights(self, weights: Floats) -> Floats:
        """Values, shape (draws,), for weights (whole numbers) of shape (draws, rows)."""
        ...

    def without(self, groups: NDArray[np.intp], count: int) -> Floats:
        """Values without the rows of each group, shape (count,); groups by row, from 0."""
        ...


def kind_of(metric: str) -> Kind:
    """How it is compared; what is unknown here is a mean of the user's own row losses."""
    return _KINDS.get(metric, "mean")


def surrogate_of(metric: str, task: str) -> str:
    """A mean over rows that orders parts of the hold-out where the metric itself is none."""
    if kind_of(metric) in ("mean", "mistakes"):
        return metric
    return "mse" if task == "regression" else "brier"


def known_scale(metric: str, classes: int) -> float | None:
    """The largest difference of two losses of one row; None when there is no such number."""
    scale = _KNOWN_SCALE.get(metric)
    return 2.0 if metric == "brier" and classes > 2 else scale


# --- what was said ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One predictor's answers; for classification the likeliest label, the first of equals."""

    values: NDArray[Any]
    probabilities: Floats | None


def said(evidence: Evidence, predictor: str) -> Said:
    """What a predictor answered to every row."""
    answers = evidence.answers[predictor]
    if evidence.task == "regression":
        return Said(values=answers, probabilities=None)
    labels = _labels(evidence.classes[predictor])
    return Said(values=labels[answers.argmax(axis=1)], probabilities=answers)


def _labels(classes: Sequence[Any]) -> NDArray[Any]:
    labels = np.empty(len(classes), dtype=object)
    labels[:] = classes
    return labels


def losses_of(evidence: Evidence, predictor: str, metric: str) -> Floats:
    """One loss per row, for metrics that are means of such.

    Raises:
        Unprocessable: there are none, or the metric does not fit the answers.
    """
    own = evidence.own_losses.get((predictor, metric))
    if own is not None:
        return own
    if not is_row_metric(metric):
        raise Unprocessable(f"there are no losses of {metric!r}")
    classes = evidence.classes.get(predictor, ())
    return row_losses(metric, evidence.y, said(evidence, predictor), classes)


# --- exact sums -------------------------------------------------------------------------------


def quantised(columns: Floats, weight: int) -> tuple[Floats, Floats]:
    """Columns as whole numbers times a power of two each.

    Sums of them, weighted by counts that add up to `weight`, are below 2**53: they are exact, and
    the same in every order, on every processor, whatever library adds them.

    Returns:
        The whole numbers, shape of `columns`, and the powers of two, shape (columns,).
    """
    largest = np.abs(columns).max(axis=0, initial=0.0)
    exponents = np.frexp(largest)[1] - (_EXACT - int(weight).bit_length())
    steps = np.ldexp(np.ones_like(largest), np.where(largest > 0, exponents, 0))
    whole: Floats = np.rint(columns / steps)
    return whole, steps


# --- metrics of sums --------------------------------------------------------------------------

Finish = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """A metric that is a function of sums over rows.

    Attributes:
        columns: shape (rows, columns).
        finish: from sums of shape (..., columns) to values of shape (...).
    """

    columns: Floats
    finish: Finish

    def of_weights(self, weights: Floats) -> Floats:
        """See `Measure`."""
        most = int(weights.sum(axis=1).max(initial=1.0))
        whole, steps = quantised(self.columns, most)
        return self.finish((weights @ whole) * steps)

    def without(self, groups: NDArray[np.intp], count: int) -> Floats:
        """See `Measure`."""
        whole, steps = quantised(self.columns, len(self.columns))
        inside = np.column_stack([np.bincount(groups, part, count) for part in whole.T])
        return self.finish((whole.sum(axis=0) - inside) * steps)


def sums_of(evidence: Evidence, predictor: str, metric: str) -> Sums:
    """The sums behind rmse, r2, f1 or balanced accuracy."""
    match metric:
        case "rmse":
            return _root(losses_of(evidence, predictor, "mse"))
        case "r2":
            return _unexplained(losses_of(evidence, predictor, "mse"), evidence.y)
        case "f1" | "balanced_accuracy":
            return _confusions(evidence, predictor, metric)
        case unknown:
            raise Unprocessable(f"metric {unknown!r} is no function of sums")


def _root(squares: Floats) -> Sums:
    columns = np.column_stack([squares, np.ones_like(squares)])
    return Sums(columns=columns, finish=lambda sums: np.sqrt(_ratio(sums[..., 0], sums[..., 1])))


def _unexplained(squares: Floats, y: NDArray[Any]) -> Sums:
    """1 - R2: squared losses over the spread of the outcomes."""
    centred = np.asarray(y, dtype=np.float64) - float(np.median(y))
    columns = np.column_stack([squares, centred, np.square(centred), np.ones_like(squares)])

    def finish(sums: Floats) -> Floats:
        spread = sums[..., 2] - _ratio(np.square(sums[..., 1]), sums[..., 3])
        # What rounding leaves of a spread of nothing is no spread.
        return _ratio(sums[..., 0], np.where(spread > sums[..., 2] * 1e-9, spread, 0.0))

    return Sums(columns=columns, finish=finish)


def _confusions(evidence: Evidence, predictor: str, metric: str) -> Sums:
    """Per class that counts: rows answered rightly, rows answered so, rows that are so."""
    answered = said(evidence, predictor).values
    counted = counted_classes(evidence, metric)
    columns: list[Floats] = []
    for label in counted:
        is_so, is_said = (_equal(values, label) for values in (evidence.y, answered))
        columns += [is_so * is_said, is_said, is_so]
    finish = _f1_loss if metric == "f1" else _recall_loss
    others = ~np.logical_or.reduce([_equal(evidence.y, label) > 0 for label in counted])
    return Sums(columns=np.column_stack([*columns, others.astype(np.float64)]), finish=finish)


def counted_classes(evidence: Evidence, metric: str) -> list[Any]:
    """The classes that a score is averaged over: for f1 of two classes the second one alone."""
    classes = list(evidence.classes["candidate"])
    if metric == "f1" and len(classes) == 2:
        return classes[1:]
    return [label for label in classes if np.any(_equal(evidence.y, label))]


def _equal(values: NDArray[Any], label: Any) -> Floats:
    return np.array([value == label for value in values.tolist()], dtype=np.float64)


def _f1_loss(sums: Floats) -> Floats:
    right, answered, observed = (sums[..., place:-1:3] for place in range(3))
    loss = 1 - (2 * right / np.maximum(answered + observed, 1)).mean(axis=-1)
    missing = (observed <= 0).any(axis=-1)
    if observed.shape[-1] == 1:
        missing |= sums[..., -1] <= 0
    return np.where(missing, np.nan, loss)


def _recall_loss(sums: Floats) -> Floats:
    right, observed = sums[..., 0:-1:3], sums[..., 2:-1:3]
    loss = 1 - (right / np.maximum(observed, 1)).mean(axis=-1)
    return np.where((observed <= 0).any(axis=-1), np.nan, loss)


def _ratio(above: Floats | Counts, below: Floats | Counts) -> Floats:
    found = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=found, where=below > 0)
    return found


# --- metrics of an order ----------------------------------------------------------------------


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
        return self.of_weights((groups != np.arange(count)[:, np.newaxis]).astype(np.float64))


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
    return _ratio(doubled, 2 * positives.sum(axis=1) * total)


def _precision(positives: Counts, all_rows: Counts) -> Floats:
    """Precision at each threshold, weighted by the recall it adds."""
    hits, drawn = np.cumsum(positives, axis=1), np.cumsum(all_rows, axis=1)
    total, rows = hits[:, -1], drawn[:, -1:]
    terms = hits / np.maximum(drawn, 1)
    terms *= positives
    # Terms as whole numbers that fill a float64 exactly, so that their sum has no order.
    step = np.ldexp(1.0, np.frexp(rows)[1] - _EXACT)
    terms /= step
    np.rint(terms, out=terms)
    found = _ratio(terms.sum(axis=1) * step[:, 0], total)
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
        (evidence.answers[predictor][:, known.index(label)], _equal(evidence.y, label) > 0)
        for label in asked
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
    return Sums(columns=columns, finish=lambda sums: _ratio(sums[..., 0], sums[..., 1]))
