"""How good the answers of a window were, as known at a moment: figure, interval, state."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.quality.bounds import Rule, beside_rule, interval, reach
from services.drift_monitor.quality.delays import SETTLED, Delays
from services.drift_monitor.quality.estimating import Gap, gap
from services.drift_monitor.quality.units import in_unit, tolerated, tolerated_losses
from shared.figures import shown
from shared.reference import LEAST_LOSSES, Losses
from shared.scores import Scores
from shared.sketch import Counts

Floats = NDArray[np.float64]
State = Literal["provisional", "final", "censored"]

ALPHA: Final = 5e-4
"""Probability of calling a window worse that is not, all its looks together."""
STEPS: Final = (0.5, 0.8, 1.0)
"""A window is looked at when so much of it has labels, and once more when no more are to come."""
LOOKS: Final = len(STEPS) + 1
"""Each has its part of `ALPHA`."""
BANDS: Final = 5
"""Of scores, each with about as many held-out rows; labels are weighted band by band."""
LEAST_COVERED: Final = 0.2
"""Share of labels in a band below which it is not known what the others would say."""
LEAST_IN_BAND: Final = 20
"""Rows of a window below which a band joins its neighbour."""
BY_CHANCE: Final = 3.0
"""Standard errors by which the labels of a window may stay below what is expected of them."""
OVERDUE: Final = 2
"""Times the age at which labels are there: what has not come then is not waited for."""
LEAST_OVERDUE: Final = 3600.0
"""Seconds; however quickly labels come, whoever sends them may be away for a while."""


def step_of(labels: int, rows: int) -> int:
    """How many of `STEPS` a window has reached."""
    return sum(labels >= step * rows for step in STEPS) if rows else 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labelled:
    """The labelled rows of a window, in any order.

    Attributes:
        losses: shape (n,).
        rule: losses of the baseline rule on the same rows, shape (n,); NaN where it has none.
        cells: of the scores, shape (n,); -1 where there is none.
    """

    losses: Floats
    rule: Floats
    cells: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        losses: Sequence[float],
        rule: Sequence[float | None] = (),
        cells: Sequence[int | None] = (),
    ) -> "Labelled":
        """Of rows as they are kept."""
        count = len(losses)
        return cls(
            losses=np.array(losses, dtype=np.float64),
            rule=np.array(rule or [None] * count, dtype=np.float64),
            cells=np.array([-1 if c is None else c for c in cells or [None] * count], np.int64),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is measured: a window, and how many labels it should have.

    Attributes:
        rows: answers in the window.
        per_cell: the same per cell of the score, missing ones last; None where nobody knows.
        youngest, oldest: ages of its answers in seconds.
        delays: of labels of the model; None while too few are known.
    """

    rows: int
    per_cell: Counts | None = None
    youngest: float = 0.0
    oldest: float = 0.0
    delays: Delays | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The quality of a window as known at a moment.

    Attributes:
        value: the metric over the labelled rows, weighted by how many of their like have labels.
        low, high: its 95 % interval; None for fewer than two labels.
        reference: the same over the held-out rows.
        bound: what the value, single losses capped, must exceed to be called worse; None when
            nothing can be said.
        margin: by how much it does; negative where it does not.
        is_worse: whether it is positive.
        is_fine: whether the value lies within the tolerance.
        state: `censored` where some scores have too few labels for the value to be told at all.
        completeness, expected: share of rows with a label, and the share there should be.
        baseline, rule: the same metric of the baseline rule, and which of both is better.
        rule_margin: by how much single losses, capped, are surely above the rule's on the same
            rows, in the unit of the metric; negative where they are not.
        gap: losses beside what scores let expect; None where scores tell nothing.
    """

    value: float
    reference: float
    labels: int
    bound: float | None
    is_worse: bool
    is_fine: bool
    detail: str
    margin: float | None = None
    low: float | None = None
    high: float | None = None
    state: State = "provisional"
    completeness: float = 1.0
    expected: float | None = None
    baseline: float | None = None
    rule: Rule = ""
    rule_bound: float | None = None
    rule_margin: float | None = None
    gap: Gap | None = None


def measure(
    reference: Losses,
    labelled: Labelled,
    scope: Scope,
    *,
    tolerance: float,
    scores: Scores | None = None,
    alpha: float = ALPHA / LOOKS,
) -> Measured:
    """Compare the losses of a window with those of the held-out rows, and with the rule's.

    Capped losses are compared with capped ones. What a window is at least and what the held-out
    rows are at most are bounds of their own, each by how many rows there are: of mistakes exact
    ones, otherwise Student's, widened by how alike neighbouring losses are in the reference.

    Source: Zou and Donner (2008), Statistics in Medicine 27, for the difference of two bounds.

    Args:
        reference: of the version's held-out rows.
        labelled: at least one row.
        tolerance: relative worsening that is not worth a word.
        scores: what scores meant; without them all labels weigh the same.
        alpha: probability of calling a window worse that is not.
    """
    weights, is_covered = weigh(scores, scope, labelled)
    metric, losses = reference.metric, labelled.losses
    mean = fsum((weights * losses).tolist())
    before = in_unit(metric, reference.mean)
    limit = tolerated_losses(metric, reference.capped_mean, tolerance)
    low, high = interval(reference, losses, weights)
    tested = is_covered and reference.rows >= LEAST_LOSSES and len(losses) > 1
    capped = np.minimum(losses, reference.cap)
    capped_mean = fsum((weights * capped).tolist())
    off = reach(reference, capped, weights, limit, alpha) if tested else 0.0
    bound = in_unit(metric, limit + off)
    margin = in_unit(metric, capped_mean) - bound
    is_worse = tested and margin > 0
    value, limit = in_unit(metric, mean), tolerated(before, tolerance)
    beside = beside_rule(reference, losses, labelled.rule, weights, alpha, tested)
    found_gap = None
    if scores is not None and tested:
        found_gap = gap(reference, scores, labelled.cells, losses, weights, alpha=alpha)
    return Measured(
        value=value,
        low=None if low is None else in_unit(metric, low),
        high=None if high is None else in_unit(metric, high),
        reference=before,
        labels=len(losses),
        bound=bound if tested else None,
        margin=margin if tested else None,
        is_worse=is_worse,
        is_fine=is_covered and not is_worse and value <= limit,
        state=_state(scope, len(losses), is_covered),
        completeness=len(losses) / max(scope.rows, 1),
        expected=expected_share(scope),
        baseline=None if beside.mean is None else in_unit(metric, beside.mean),
        rule=beside.rule,
        rule_bound=None if beside.bound is None else in_unit(metric, beside.bound),
        rule_margin=beside.margin,
        gap=found_gap,
        detail=_detail(
            reference, mean, capped_mean, len(losses), is_worse, tested, tolerance, alpha
        ),
    )


# --- weights --------------------------------------------------------------------------------


def weigh(scores: Scores | None, scope: Scope, labelled: Labelled) -> tuple[Floats, bool]:
    """The weight of each labelled row, all together 1; whether every band has enough labels.

    A label stands for the rows of its band of scores: where fewer of them have labels, each weighs
    more.
    """
    count = len(labelled.losses)
    even = np.full(count, 1 / count)
    if scores is None or scope.per_cell is None:
        return even, True
    bands = bands_of(scores, scope.per_cell)
    size = len(scores.rows)
    rows = np.bincount(bands, weights=scope.per_cell[: size + 1], minlength=bands.max() + 1)
    own = bands[np.where((labelled.cells >= 0) & (labelled.cells < size), labelled.cells, size)]
    labels = np.bincount(own, minlength=len(rows)).astype(np.float64)
    is_covered = bool(np.all(labels[rows > 0] >= LEAST_COVERED * rows[rows > 0]))
    if not rows[own].sum():
        return even, is_covered
    # Rows of a band without any label are spread over the others; then it is censored anyway.
    weights = rows[own] / labels[own]
    return weights / weights.sum(), is_covered


def bands_of(scores: Scores, per_cell: Counts) -> NDArray[np.int64]:
    """The band of each cell of the score, and of missing scores last.

    Bands have about as many held-out rows each. One that hardly anything of the window falls into
    is joined with its neighbour: of three rows nothing is known by two labels.
    """
    held_out = np.array([*scores.rows, 0], dtype=np.float64)
    middles = (np.cumsum(held_out) - held_out / 2) / held_out.sum()
    wanted = np.minimum((middles * BANDS).astype(np.int64), BANDS - 1)
    rows = np.bincount(wanted, weights=per_cell[: len(wanted)], minlength=BANDS)
    joined, band, gathered = np.zeros(BANDS, dtype=np.int64), 0, 0.0
    for place in range(BANDS):
        joined[place] = band
        gathered += rows[place]
        if gathered >= LEAST_IN_BAND and rows[place + 1 :].sum() >= LEAST_IN_BAND:
            band, gathered = band + 1, 0.0
    bands: NDArray[np.int64] = joined[wanted]
    return bands


# --- state ----------------------------------------------------------------------------------


def expected_share(scope: Scope) -> float | None:
    """Share of the window's rows that should have a label by now; None while nobody knows."""
    if scope.delays is None:
        return None
    return scope.delays.expected(scope.youngest, scope.oldest)


def is_settled(scope: Scope, labels: int) -> bool:
    """Whether no more labels are to be waited for."""
    if labels >= scope.rows:
        return True
    if scope.delays is None:
        return False
    if scope.youngest >= max(OVERDUE * scope.delays.settled, LEAST_OVERDUE):
        return True
    is_old = scope.delays.at(scope.youngest) >= SETTLED * scope.delays.level
    share = scope.delays.expected(scope.youngest, scope.oldest)
    by_chance = BY_CHANCE * sqrt(scope.rows * share * (1 - share))
    return is_old and labels >= share * scope.rows - by_chance


def _state(scope: Scope, labels: int, is_covered: bool) -> State:
    if not is_covered:
        return "censored"
    return "final" if is_settled(scope, labels) else "provisional"


# --- words ----------------------------------------------------------------------------------


def _detail(
    reference: Losses,
    mean: float,
    capped_mean: float,
    labels: int,
    is_worse: bool,
    tested: bool,
    tolerance: float,
    alpha: float,
) -> str:
    if not tested:
        return f"not judged: {reference.rows} held-out and {labels} labelled rows"
    words = "worse than" if is_worse else "not shown worse than"
    told = f"{shown(reference.metric)} {in_unit(reference.metric, mean):.4g} over {labels} labels"
    before = in_unit(reference.metric, reference.mean)
    if is_worse and mean <= tolerated_losses(reference.metric, reference.mean, tolerance):
        # A few large losses of the held-out rows hide what most have become.
        capped, before = (
            in_unit(reference.metric, one) for one in (capped_mean, reference.capped_mean)
        )
        told = f"{told}; {capped:.4g} with the largest losses capped"
    return f"{told}, {words} {before:.4g} by more than {tolerance:.0%}; alpha {alpha:.2g}"
