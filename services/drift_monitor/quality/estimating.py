"""What the metrics of a window are likely to be before its labels come, from its scores alone.

It holds while a score means what it meant on the held-out rows. So the estimate is blind where
answers change and inputs do not; once labels come, the difference between both shows just that.

Source: confidence-based performance estimation, as in NannyML's documentation; here over counts per
cell of the score. Intervals by the delta method, from chance in the outcomes and in the held-out
rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.quality.units import in_unit
from shared import probability
from shared.events import EstimatedMetric
from shared.reference import BOUNDED, Losses
from shared.scores import THRESHOLD, Scores
from shared.sketch import Counts

Floats = NDArray[np.float64]
ENDS: Final = 0.025
"""Probability beyond either end of an interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """The watched metric of a window by its scores, and what else they tell.

    Attributes:
        reference: the same over the held-out rows.
        others: of two classes, higher is better.
    """

    metric: str
    value: float
    low: float
    high: float
    reference: float
    others: tuple[EstimatedMetric, ...] = ()


def estimate(
    reference: Losses, scores: Scores, edges: Sequence[float], counts: Counts
) -> Estimated | None:
    """Estimate the metrics of a window; None when it has no scores.

    Args:
        reference: of the held-out rows that `scores` are of.
        edges: of the cells of the score.
        counts: rows of the window per cell, missing scores left out.
    """
    metric, inflation = reference.metric, reference.inflation
    window = counts[: len(scores.rows)].astype(np.float64)
    if window.sum() <= 0:
        return None
    held_out = np.array(scores.rows, dtype=np.float64)
    losses, deviations = np.array(scores.losses), np.array(scores.deviations)
    share = window / window.sum()
    value = float(share @ losses)
    chance = deviations**2 * (share / window.sum() + share**2 / np.maximum(held_out, 1))
    least = reference.unseen * float(1 / window.sum() + 1 / held_out.sum())
    reach = _z() * (max(float(chance.sum()), least) * inflation) ** 0.5
    before = float(held_out @ losses / held_out.sum())
    highest = 1.0 if metric in BOUNDED else np.inf
    return Estimated(
        metric=metric,
        value=in_unit(metric, value),
        low=in_unit(metric, max(0.0, value - reach)),
        high=in_unit(metric, min(value + reach, highest)),
        reference=in_unit(metric, before),
        others=_of_two_classes(scores, edges, window, inflation) if scores.rates else (),
    )


def _z() -> float:
    return probability.z_of(ENDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows per cell of the score, by their likely outcome.

    Attributes:
        positive, negative: expected rows of the second and of the first class, shape (cells,).
        above: cells whose rows are answered with the second class.
    """

    positive: Floats
    negative: Floats
    above: NDArray[np.bool_]


def table(rates: Sequence[float], edges: Sequence[float], window: Floats) -> Table:
    """Expected outcomes of a window with so many rows per cell."""
    positive = window * np.array(rates)
    lows = np.concatenate([[-np.inf], np.asarray(edges, dtype=np.float64)])
    return Table(positive=positive, negative=window - positive, above=lows >= THRESHOLD)


def metrics_of(found: Table) -> dict[str, tuple[float, Floats]]:
    """Each metric that exists, with its derivative by the positive rows of each cell.

    The rows of a cell are fixed: what is no positive row is a negative one.
    """
    p, q, above = found.positive, found.negative, found.above.astype(np.float64)
    positives, negatives, rows = float(p.sum()), float(q.sum()), float((p + q).sum())
    answered = float(above @ (p + q))
    hits = float(above @ p)
    right = hits + float((1 - above) @ q)
    metrics = {"accuracy": (right / rows, (2 * above - 1) / rows)}
    if positives > 0 and negatives > 0:
        metrics["roc_auc"] = _auc(p, q)
    if answered > 0:
        metrics["precision"] = (hits / answered, above / answered)
    if positives > 0:
        metrics["recall"] = (hits / positives, above / positives - hits / positives**2)
    if answered + positives > 0:
        both = answered + positives
        metrics["f1"] = (2 * hits / both, 2 * above / both - 2 * hits / both**2)
    return metrics


def _auc(p: Floats, q: Floats) -> tuple[float, Floats]:
    below = np.cumsum(q) - q / 2
    higher = p.sum() - np.cumsum(p) + p / 2
    ordered, pairs = float(p @ below), float(p.sum() * q.sum())
    slope = (below - higher) / pairs - ordered * (q.sum() - p.sum()) / pairs**2
    return ordered / pairs, slope


def _of_two_classes(
    scores: Scores, edges: Sequence[float], window: Floats, inflation: float
) -> tuple[EstimatedMetric, ...]:
    held_out = np.array(scores.rows, dtype=np.float64)
    rates = unsure(np.array(scores.rates), held_out)
    before = metrics_of(table(scores.rates, edges, held_out))
    chance = rates * (1 - rates) * (window + window**2 / np.maximum(held_out, 1)) * inflation
    found: list[EstimatedMetric] = []
    for name, (value, slope) in metrics_of(table(scores.rates, edges, window)).items():
        reach = _z() * float(slope**2 @ chance) ** 0.5
        found.append(
            EstimatedMetric(
                metric=name,
                value=value,
                low=max(0.0, value - reach),
                high=min(1.0, value + reach),
                reference=before[name][0] if name in before else value,
            )
        )
    return tuple(found)


def unsure(rates: Floats, held_out: Floats) -> Floats:
    """Rates as far as chance goes: none is nearer to 0 or 1 than one row more can tell.

    Neighbouring cells of one rate were taken together to find it, and are here.

    Args:
        rates: shape (cells,).
        held_out: rows of each.
    """
    together = np.concatenate([[0], np.cumsum(rates[1:] != rates[:-1])])
    rows = np.bincount(together, weights=held_out)[together]
    least = 1 / np.maximum(rows + 1, 2)
    found: Floats = np.clip(rates, least, 1 - least)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The metric of labelled rows less what their scores let expect, in its own unit.

    Attributes:
        expected: by the scores.
        low, high: interval of the difference.
    """

    expected: float
    low: float
    high: float

    @property
    def is_open(self) -> bool:
        """Whether answers have changed where scores look the same, for the worse or the better."""
        return self.low > 0 or self.high < 0


def gap(
    reference: Losses,
    scores: Scores,
    cells: NDArray[np.int64],
    losses: Floats,
    weights: Floats,
    *,
    alpha: float,
) -> Gap | None:
    """Hold the losses of labelled rows against what their scores meant; None for fewer than two.

    Args:
        reference: of the held-out rows that `scores` are of.
        cells: of the score of each labelled row, shape (n,); -1 where it has none.
        losses: shape (n,).
        weights: of each row in the mean, shape (n,).
        alpha: probability of an interval without 0 where nothing changed.
    """
    known = (cells >= 0) & (cells < len(scores.rows))
    if known.sum() < 2:
        return None
    cells, losses = cells[known], losses[known]
    shares = weights[known] / weights[known].sum()
    expected = np.array(scores.losses)[cells]
    off = losses - expected
    mean = float(shares @ off)
    usual = max(float(shares @ np.array(scores.deviations)[cells] ** 2), reference.unseen)
    own = max(float(off.var(ddof=1)), usual)
    per_cell = np.bincount(cells, weights=shares, minlength=len(scores.rows))
    deviations, held_out = np.array(scores.deviations), np.array(scores.rows, dtype=np.float64)
    learned = float((per_cell**2 * deviations**2 / np.maximum(held_out, 1)).sum())
    learned = max(learned, reference.unseen / max(float(held_out.sum()), 1))
    variance = (own * float(shares @ shares) + learned) * reference.inflation
    df = max(2.0, float(known.sum()) / reference.inflation - 1)
    reach = probability.t_quantile(alpha / 2, df) * float(variance**0.5)
    return _in_unit(reference.metric, float(shares @ expected), mean - reach, mean + reach)


def _in_unit(metric: str, expected: float, low: float, high: float) -> Gap:
    """Of differences of mean losses: what the metric would be at either end, less the expected."""
    usual = in_unit(metric, expected)
    ends = [in_unit(metric, max(expected + off, 0.0)) - usual for off in (low, high)]
    return Gap(expected=usual, low=ends[0], high=ends[1])
