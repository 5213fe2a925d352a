"""How far the mean of some losses can be off by chance, for few rows and seldom mistakes, too.

Of losses that are 0 or 1 bounds are exact, of others Student's, as if there had been one row more
with the largest loss: rows without a mistake do not show that there are none.

Source: Clopper and Pearson (1934), Biometrika 26(4).
"""

from math import fsum, hypot, sqrt
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.quality.estimating import ENDS
from services.drift_monitor.quality.units import in_unit
from shared import probability
from shared.reference import BOUNDED, Losses, most_unseen, with_one_more

CLOSE: Final = 1e-9
"""A share of weights that is nearer to none or all of them is that: sums of weights are rounded."""

Floats = NDArray[np.float64]
Rule = Literal["", "better", "worse", "unclear"]


def reach(reference: Losses, capped: Floats, weights: Floats, limit: float, alpha: float) -> float:
    """How far a capped mean lies above its limit by chance, at most, but for `alpha`."""
    # In a run of bad answers neighbours are alike because the world changed, which is what is
    # looked for; so how alike they are by chance is taken from the reference alone.
    factor = limit / reference.capped_mean if reference.capped_mean else 1.0
    df = max(2.0, min(float(len(capped)), reference.rows) / reference.inflation - 1)
    t = probability.t_quantile(alpha, df)
    if reference.metric == "accuracy":
        size = known_by(reference, weights)
        mean = share_of(capped, weights)
        own = mean - probability.share_least(mean * size, size, alpha)
    else:
        deviation = max(float(capped.std(ddof=1)), reference.spread)
        own = t * deviation / sqrt(known_by(reference, weights))
    return hypot(own, factor * _above(reference, t, alpha))


def _above(reference: Losses, t: float, alpha: float) -> float:
    """How far the mean of capped losses may lie above that of the held-out rows."""
    mean, size = reference.capped_mean, reference.size
    if reference.metric == "accuracy":
        return 1 - probability.share_least(size * (1 - mean), size, alpha) - mean
    seldom = (reference.cap - mean) * most_unseen(size, alpha)
    return max(t * reference.spread / sqrt(size), seldom)


def known_by(reference: Losses, weights: Floats) -> float:
    """Independent rows that know as much as labelled ones with these weights."""
    return 1 / (reference.inflation * float(weights @ weights))


def share_of(marks: Floats, weights: Floats) -> float:
    """The weight of those of the rows that are marked by 1, all others being 0."""
    share = fsum((weights * marks).tolist())
    return 0.0 if share < CLOSE else 1.0 if share > 1 - CLOSE else share


def interval(
    reference: Losses, losses: Floats, weights: Floats
) -> tuple[float | None, float | None]:
    """The 95 % interval of the mean; None for fewer than two, or where nothing tells of chance."""
    if len(losses) < 2:
        return None, None
    size = known_by(reference, weights)
    if reference.metric == "accuracy":
        wrong, right = share_of(losses, weights), share_of(1 - losses, weights)
        low = probability.share_least(wrong * size, size, ENDS)
        return low, 1 - probability.share_least(right * size, size, ENDS)
    mean = fsum((weights * losses).tolist())
    deviation = max(float(losses.std(ddof=1)), reference.spread)
    if not deviation:
        return None, None
    df = max(2.0, len(losses) / reference.inflation - 1)
    off_by = probability.t_quantile(ENDS, df) * deviation / sqrt(size)
    highest = 1.0 if reference.metric in BOUNDED else np.inf
    return max(0.0, mean - off_by), min(mean + off_by, highest)


class Beside(NamedTuple):
    """The answers beside the baseline rule: which is better, and by losses how surely.

    Attributes:
        mean, bound: the rule's mean loss, and what the answers' must exceed to be called worse.
        margin: by how much they surely do, in the unit of the metric; negative where they do not.
    """

    rule: Rule = ""
    mean: float | None = None
    bound: float | None = None
    margin: float | None = None


def beside_rule(
    reference: Losses, losses: Floats, of_rule: Floats, weights: Floats, alpha: float, tested: bool
) -> Beside:
    """What the rule would have done on the same rows.

    Args:
        of_rule: its losses, shape (n,); NaN where it has none.
    """
    known = np.isfinite(of_rule)
    if not known.any():
        return Beside()
    shares = weights[known] / weights[known].sum()
    mean = fsum((shares * of_rule[known]).tolist())
    if not tested or known.sum() < 2:
        return Beside(mean=mean)
    capped = np.minimum(losses[known], reference.cap)
    off = capped - np.minimum(of_rule[known], reference.cap)
    middle = float(shares @ off)
    # As if there had been one row more on which the other was better by as much as can be.
    other = -reference.cap if middle > 0 else reference.cap
    deviation = with_one_more(float(off.std(ddof=1)), len(off), middle, other)
    df = max(2.0, float(known.sum()) / reference.inflation - 1)
    size = known_by(reference, shares)
    # Nor do rows among which there is none of the few that would tip the scales show that there
    # are none.
    seldom = (reference.cap + abs(middle)) * most_unseen(size, alpha)
    off_by = max(probability.t_quantile(alpha, df) * deviation / sqrt(size), seldom)
    ruled = fsum((shares * np.minimum(of_rule[known], reference.cap)).tolist())
    least = in_unit(reference.metric, max(ruled + middle - off_by, 0.0))
    rule: Rule = "better" if middle + off_by < 0 else "unclear"
    return Beside(
        rule="worse" if middle - off_by > 0 else rule,
        mean=mean,
        bound=mean + off_by,
        margin=least - in_unit(reference.metric, ruled),
    )
