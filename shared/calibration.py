"""How far windows of neighbouring rows differ from the whole by chance alone.

Where rows are shown to be independent, chance is known by itself. Neighbours that resemble each
other may make windows differ far more: then every statistic is calibrated on blocks of the
reference, each against all the others, with variances moderated over the features. A reference
whose own blocks raise alarms all the same is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from shared.block_statistics import MOST_BLOCKS, Blocks, blocks_of, shape_factors
from shared.budget import SCALES
from shared.dependence import alarms_in_blocks, most_alarms, seems_independent
from shared.joint import Joint
from shared.moderation import FREE, moderated
from shared.sketch import Counts, Layout
from shared.tails import quantiles
from shared.together import Moved, Together, block_z, waves_apart, waves_tail

LEAST_BLOCKS: Final = 10
"""Of windows by themselves; what varies over fewer is not known, however it is moderated."""
LEAST_MERGED: Final = 20
"""Of windows taken together: their blocks overlap with nothing else that could vouch for them."""
LEAST_LENGTH: Final = 20

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Mode = Literal["independent", "block", "insufficient"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """By how much the statistics of one feature vary more than for independent rows; 1 is as much.

    Attributes:
        location, scale: factor of the standard error of the rank tests, at least 1.
        location_df, scale_df, shape_df, fine_df: degrees of freedom of these factors.
        shape, fine: mean of the chi square statistic over its degrees of freedom, for few and for
            many groups of cells; `…_cells` is the part of these that is left, because groups rise
            and fall together, and `…_spread` the factor of its z after both.
        low, high, missing: factor of the variance of the share in the lowest tenth, in the
            highest tenth, and missing.
    """

    location: float = 1.0
    location_df: float = FREE
    scale: float = 1.0
    scale_df: float = FREE
    shape: float = 1.0
    shape_cells: float = 1.0
    shape_spread: float = 1.0
    shape_df: float = FREE
    fine: float = 1.0
    fine_cells: float = 1.0
    fine_spread: float = 1.0
    fine_df: float = FREE
    low: float = 1.0
    high: float = 1.0
    missing: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The calibration for windows of up to `length` rows; None for a feature with too few.

    Attributes:
        blocks: how many it was learned from; 0 where rows count as independent.
        pairs: factor of the standard error of each pair of numbers; none where it is not known.
        waves: mean distance of the waves over its expectation; `waves_spread` the factor of its z
            after that.
    """

    length: int
    blocks: int
    factors: tuple[Factors | None, ...]
    pairs: tuple[float, ...] = ()
    pairs_df: float = FREE
    waves: float = 1.0
    waves_spread: float = 1.0
    waves_df: float = FREE


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What is known of chance; `reason` says why nothing is."""

    mode: Mode
    reason: str
    scales: tuple[Scale, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The rows that a calibration learns from.

    Attributes:
        places: the cell of every row, per feature, in the order of time; outputs may have fewer
            rows than columns.
        moved, together: how numbers of the newest rows move together; None with fewer than two.
        is_ordered: whether neighbours are neighbours in time.
    """

    layout: Layout
    places: Sequence[Counts]
    moved: Moved | None
    together: Together | None
    is_ordered: bool

    @property
    def rows(self) -> int:
        """How many the longest features have."""
        return max((len(place) for place in self.places), default=0)


def calibrate(source: Source, window: int) -> Calibration:
    """What is known of how windows vary by chance.

    Args:
        window: rows of a full window.
    """
    rows = source.rows
    if seems_independent(source.layout, source.places, window):
        return Calibration(mode="independent", reason="", scales=())
    scales = _scales(source, window)
    if scales:
        return _unless_strange(source, window, scales)
    if not source.is_ordered and rows >= 2 * LEAST_LENGTH:
        # Blocks of rows without an order say nothing that independence would not.
        return Calibration(mode="independent", reason="", scales=())
    needed = LEAST_BLOCKS * LEAST_LENGTH
    why = f"{rows} training rows; {needed} are needed to know how much windows vary by chance"
    return Calibration(mode="insufficient", reason=why, scales=())


def _unless_strange(source: Source, window: int, scales: tuple[Scale, ...]) -> Calibration:
    """Blocks that alarm against each other, by factors without themselves, calibrate nothing."""
    blocks = min(source.rows // window, MOST_BLOCKS)
    if blocks < LEAST_BLOCKS:
        return Calibration(mode="block", reason="", scales=scales)
    alarms = alarms_in_blocks(source.layout, source.places, window, MOST_BLOCKS)
    if alarms <= most_alarms(blocks):
        return Calibration(mode="block", reason="", scales=scales)
    why = (
        f"{alarms} of {blocks} blocks of the training rows differ from the others as a drift would;"
        " they hold no steady state that windows could be compared with"
    )
    return Calibration(mode="insufficient", reason=why, scales=())


def _scales(source: Source, window: int) -> tuple[Scale, ...]:
    lengths = {window * scale for scale in SCALES}
    shorter = window // 2
    while shorter >= LEAST_LENGTH:
        lengths.add(shorter)
        shorter //= 2
    lengths.add(LEAST_LENGTH)
    least = {length: LEAST_MERGED if length > window else LEAST_BLOCKS for length in lengths}
    known = [n for n in sorted(lengths) if source.rows // n >= least[n]]
    found = [_scale(source, length, least[length]) for length in known]
    return _with_joint_of_longer(found)


def _with_joint_of_longer(scales: list[Scale]) -> tuple[Scale, ...]:
    """Shorter windows vary less around chance: factors of longer ones are safe for them."""
    found: list[Scale] = []
    for scale in reversed(scales):
        if not scale.pairs and found:
            last = found[-1]
            scale = replace(  # noqa: PLW2901 - the same scale, completed
                scale,
                pairs=last.pairs,
                pairs_df=last.pairs_df,
                waves=last.waves,
                waves_spread=last.waves_spread,
                waves_df=last.waves_df,
            )
        found.append(scale)
    return tuple(reversed(found))


def _scale(source: Source, length: int, least: int) -> Scale:
    layout = source.layout
    factors: list[Factors | None] = [None] * len(layout.features)
    by_rows: dict[int, list[int]] = {}
    for place, rows_of in enumerate(source.places):
        by_rows.setdefault(len(rows_of), []).append(place)
    found: dict[int, Blocks] = {}
    for rows, members in by_rows.items():
        if rows // length >= least:
            found |= blocks_of(layout, source.places, members, length)
    _fill(factors, found)
    scale = Scale(length=length, blocks=source.rows // length, factors=tuple(factors))
    return _with_joint(scale, source, length, least)


def _fill(factors: list[Factors | None], found: dict[int, Blocks]) -> None:
    members = sorted(found)
    location = moderated([found[i].location for i in members])
    scale = moderated([found[i].scale for i in members])
    shape = shape_factors([found[i].shape for i in members])
    fine = shape_factors([found[i].fine for i in members])
    for place, feature in enumerate(members):
        factors[feature] = Factors(
            location=location[place][0],
            location_df=location[place][1],
            scale=scale[place][0],
            scale_df=scale[place][1],
            shape=shape[place][0],
            shape_cells=shape[place][1],
            shape_spread=shape[place][2],
            shape_df=shape[place][3],
            fine=fine[place][0],
            fine_cells=fine[place][1],
            fine_spread=fine[place][2],
            fine_df=fine[place][3],
            low=found[feature].low,
            high=found[feature].high,
            missing=found[feature].missing,
        )


def _with_joint(scale: Scale, source: Source, length: int, least: int) -> Scale:
    moved, known = source.moved, source.together
    if moved is None or known is None or len(moved.scores) // length < least:
        return scale
    joint, powers = moved.blocks(length, MOST_BLOCKS)
    blocks = len(joint.waves)
    rest = Joint(
        joint.moments.sum(axis=0) - joint.moments,
        joint.pairs.sum(axis=0) - joint.pairs,
        joint.waves.sum(axis=0) - joint.waves,
    )
    others = powers.sum(axis=1, keepdims=True) - powers
    z = block_z((joint, powers), (rest, others), np.array(known.spread))
    pairs = moderated(list(z.T))
    apart = waves_apart(
        joint.waves,
        np.full(blocks, float(length)),
        rest.waves,
        np.full(blocks, float(length * (blocks - 1))),
    )
    eigenvalues = np.array(known.eigenvalues)
    mean = max(1.0, float(apart.mean()) / max(float(eigenvalues.sum()), 1e-12))
    waves = moderated([-quantiles(waves_tail(apart / mean, eigenvalues))])
    return replace(
        scale,
        pairs=tuple(round(factor, 6) for factor, _ in pairs),
        pairs_df=min(df for _, df in pairs),
        waves=mean,
        waves_spread=waves[0][0],
        waves_df=waves[0][1],
    )
