"""What a version's rows and answers looked like when it was made, and how much they vary by chance.

Features come from the training rows, answers and losses from the held-out rows. Neighbouring rows
resemble each other, so a window may differ from the whole far more than independent rows would:
every statistic is calibrated on blocks of the reference itself, each against all the others, with
variances moderated over the features. Where there are too few blocks the profile says so.

Sources: Smyth (2004), Stat. Appl. Genet. Mol. Biol. 3(1), for the moderated variances; Newey and
West (1987), Econometrica 55, for the long-run variance of losses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from shared import cells, probability
from shared.errors import Unprocessable
from shared.losses import ON_PROBABILITIES, Answered, Label
from shared.manifest import Column
from shared.sketch import (
    CategoryCells,
    Cells,
    Counts,
    Layout,
    NumberCells,
    category_cells,
    number_cells,
)

FORMAT: Final = "tidewheel/reference/v1"
ANSWER: Final = "(answer)"
SCORE: Final = "(score)"
"""Names of the model's own outputs among the features; no column may have brackets like these
and a meaning of its own at the same place, because outputs come last."""

LEAST_BLOCKS: Final = 10
LEAST_LENGTH: Final = 20
LEAST_LOSSES: Final = 30
SAMPLE_ROWS: Final = 500
_FREE: Final = 1e9
"""Degrees of freedom that stand for as many as one likes; JSON knows no infinity."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """By how much the statistics of one feature vary more than for independent rows; 1 is as much.

    Attributes:
        location, scale: factor of the standard error of the rank tests, at least 1.
        location_df, scale_df, shape_df: degrees of freedom of these factors.
        shape: factor of the chi square statistic; `shape_spread` that of its z after it.
        low, high, missing: factor of the variance of the share in the lowest tenth, in the
            highest tenth, and missing.
    """

    location: float = 1.0
    location_df: float = _FREE
    scale: float = 1.0
    scale_df: float = _FREE
    shape: float = 1.0
    shape_spread: float = 1.0
    shape_df: float = _FREE
    low: float = 1.0
    high: float = 1.0
    missing: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The calibration for windows of up to `length` rows; None for a feature with too few."""

    length: int
    blocks: int
    factors: tuple[Factors | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """How wrong the answers to the held-out rows were.

    Attributes:
        metric: whose row losses these are; `accuracy` (0/1) where the metric cannot be computed
            from a logged prediction.
        cap: single losses count as no more than this, so that one of them decides nothing.
        inflation: variance of a mean of neighbouring losses over that of independent ones.
    """

    metric: str
    rows: int
    mean: float
    cap: float
    capped_mean: float
    capped_deviation: float
    inflation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The profile of one version, as the monitor reads it.

    Attributes:
        layout: the columns in their order, then the answer, then for two classes the score.
        counts: of the reference, one row of counts per feature.
        reason: why windows cannot be tested statistically; empty when they can.
        sample: up to 500 training rows for reports, in the order of the columns.
    """

    layout: Layout
    counts: tuple[Counts, ...]
    rows: int
    rows_held_out: int
    time_ordered: bool
    calibrated: bool
    reason: str
    scales: tuple[Scale, ...]
    losses: Losses
    sample: tuple[tuple[Any, ...], ...]

    def scale_for(self, window: int) -> Scale | None:
        """The calibration for windows of this many rows; None when the reference is too short."""
        fitting = [scale for scale in self.scales if scale.length >= window]
        return min(fitting, key=lambda scale: scale.length, default=None)


def build_reference(
    *,
    columns: Sequence[Column],
    train: Mapping[str, NDArray[Any]],
    holdout_answers: Answered,
    holdout_targets: NDArray[Any],
    holdout_losses: NDArray[np.float64],
    metric: str,
    classes: Sequence[Label],
    seed: int,
    time_ordered: bool,
    window: int = 1000,
) -> bytes:
    """The profile of a version, the same bytes for the same input.

    Args:
        columns: features in the order of the matrix.
        train: values of the training rows by column, each of shape (n,), in the order of time
            where there is one: float64 with NaN, or objects with None for text.
        holdout_answers: what the version answered to the held-out rows.
        holdout_targets: what was observed there.
        holdout_losses: row losses of `metric` there (`shared.losses.row_losses`).
        classes: labels in the order of the probabilities; empty for regression.
        seed: of the sample for reports.
        time_ordered: whether neighbours in `train` are neighbours in time.
        window: rows per window of the specification; calibrated exactly.
    """
    features = [_cells_of(column, train[column.name]) for column in columns]
    values = [train[column.name] for column in columns]
    for cell, answered in _outputs(holdout_answers, classes):
        features.append(cell)
        values.append(answered)
    layout = Layout(features=tuple(features))
    places = [cell.places(v) for cell, v in zip(features, values, strict=True)]
    rows = len(values[0]) if columns else 0
    scales = _scales(features, places, window, time_ordered=time_ordered)
    reason = _reason(rows, scales)
    losses = _watched_losses(
        metric, classes, holdout_losses, holdout_answers.values, holdout_targets
    )
    return orjson.dumps(
        {
            "format": FORMAT,
            "features": [_plain_cells(cell) for cell in features],
            "counts": [
                np.bincount(p, minlength=c.size).tolist()
                for c, p in zip(layout.features, places, strict=True)
            ],
            "rows": rows,
            "rows_held_out": len(holdout_targets),
            "time_ordered": time_ordered,
            "calibrated": not reason,
            "reason": reason,
            "scales": [asdict(scale) for scale in scales],
            "losses": asdict(losses),
            "sample": _sample(values[: len(columns)], rows, seed),
        },
        option=orjson.OPT_SORT_KEYS,
    )


def read_reference(data: bytes) -> Reference:
    """A profile from its bytes.

    Raises:
        Unprocessable: the bytes are no profile of this format.
    """
    try:
        plain = orjson.loads(data)
        if plain["format"] != FORMAT:
            raise Unprocessable(f"a profile of format {plain['format']!r} is not known here")
        return Reference(
            layout=Layout(features=tuple(_read_cells(cell) for cell in plain["features"])),
            counts=tuple(np.array(counts, dtype=np.int64) for counts in plain["counts"]),
            rows=int(plain["rows"]),
            rows_held_out=int(plain["rows_held_out"]),
            time_ordered=bool(plain["time_ordered"]),
            calibrated=bool(plain["calibrated"]),
            reason=str(plain["reason"]),
            scales=tuple(_read_scale(scale) for scale in plain["scales"]),
            losses=Losses(**plain["losses"]),
            sample=tuple(tuple(row) for row in plain["sample"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Unprocessable(f"this is no reference profile: {error!r}") from error


def watched_metric(metric: str, classes: Sequence[Label]) -> str:
    """The metric that a logged prediction and its label allow; 0/1 loss where nothing else does."""
    return "accuracy" if metric in ON_PROBABILITIES and len(classes) != 2 else metric


def _cells_of(column: Column, values: NDArray[Any]) -> Cells:
    if column.kind == "text":
        return category_cells(column.name, values, column.categories)
    return number_cells(column.name, values)


def _outputs(answers: Answered, classes: Sequence[Label]) -> list[tuple[Cells, NDArray[Any]]]:
    if not classes:
        values = np.asarray(answers.values, dtype=np.float64)
        return [(number_cells(ANSWER, values), values)]
    found: list[tuple[Cells, NDArray[Any]]] = [
        (category_cells(ANSWER, answers.values, classes), answers.values)
    ]
    if len(classes) == 2 and answers.probabilities is not None:
        scores = np.ascontiguousarray(answers.probabilities[:, 1], dtype=np.float64)
        found.append((number_cells(SCORE, scores), scores))
    return found


def _plain_cells(cell: Cells) -> dict[str, Any]:
    if isinstance(cell, NumberCells):
        return {"name": cell.name, "edges": list(cell.edges)}
    return {"name": cell.name, "levels": list(cell.levels)}


def _read_cells(plain: Mapping[str, Any]) -> Cells:
    if "edges" in plain:
        return NumberCells(name=plain["name"], edges=tuple(plain["edges"]))
    return CategoryCells(name=plain["name"], levels=tuple(plain["levels"]))


def _read_scale(plain: Mapping[str, Any]) -> Scale:
    return Scale(
        length=plain["length"],
        blocks=plain["blocks"],
        factors=tuple(Factors(**found) if found else None for found in plain["factors"]),
    )


def _reason(rows: int, scales: Sequence[Scale]) -> str:
    if scales:
        return ""
    needed = LEAST_BLOCKS * LEAST_LENGTH
    return f"{rows} training rows; {needed} are needed to know how much windows vary by chance"


def _sample(values: Sequence[NDArray[Any]], rows: int, seed: int) -> list[list[Any]]:
    chance = np.random.default_rng(seed)
    chosen = np.sort(chance.choice(rows, size=min(rows, SAMPLE_ROWS), replace=False))
    return [list(row) for row in zip(*(v[chosen].tolist() for v in values), strict=True)]


# --- calibration ----------------------------------------------------------------------------


def _scales(
    features: Sequence[Cells], places: Sequence[Counts], window: int, *, time_ordered: bool
) -> list[Scale]:
    rows = max((len(p) for p in places), default=0)
    lengths = {round(LEAST_LENGTH * 2 ** (k / 2)) for k in range(40)} | {window}
    return [
        _scale(features, places, length)
        if rows // length >= LEAST_BLOCKS
        else Scale(length=length, blocks=0, factors=tuple(Factors() for _ in features))
        for length in sorted(lengths)
        # Rows without an order are taken as independent, so that blocks are not needed.
        if rows // length >= (LEAST_BLOCKS if time_ordered else 2)
    ]


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The statistics of one feature in all blocks of one length."""

    location: Floats
    scale: Floats
    shape: Floats
    shape_factor: float
    low: float
    high: float
    missing: float


def _scale(features: Sequence[Cells], places: Sequence[Counts], length: int) -> Scale:
    found = [
        _blocks(cell, place, length) if len(place) // length >= LEAST_BLOCKS else None
        for cell, place in zip(features, places, strict=True)
    ]
    location = _moderated([None if b is None else b.location for b in found])
    scale = _moderated([None if b is None else b.scale for b in found])
    shape = _moderated([None if b is None else b.shape for b in found])
    factors = [
        None
        if b is None
        else Factors(
            location=location[i][0],
            location_df=location[i][1],
            scale=scale[i][0],
            scale_df=scale[i][1],
            shape=b.shape_factor,
            shape_spread=shape[i][0],
            shape_df=shape[i][1],
            low=b.low,
            high=b.high,
            missing=b.missing,
        )
        for i, b in enumerate(found)
    ]
    blocks = max(len(place) // length for place in places)
    return Scale(length=length, blocks=blocks, factors=tuple(factors))


def _blocks(cell: Cells, places: Counts, length: int) -> _Blocks:
    """Every block of a feature against all the others."""
    number = len(places) // length
    # The oldest rows are left over: what comes next resembles the youngest most.
    kept = places[len(places) - number * length :]
    flat = np.repeat(np.arange(number), length) * cell.size + kept
    counts = np.bincount(flat, minlength=number * cell.size).reshape(number, cell.size)
    present, totals = counts[:, :-1], counts[:, :-1].sum(axis=0)
    numeric = isinstance(cell, NumberCells) and totals.sum() > 0
    scores = cells.normal_scores(totals) if numeric else np.zeros(len(totals))
    shape_factor, shape = _shapes(present, totals, length, merge=numeric)
    gone = np.append(np.zeros(cell.size - 1), 1.0)
    return _Blocks(
        location=cells.rank_z(present, totals, scores),
        scale=cells.rank_z(present, totals, np.square(scores)),
        shape=shape,
        shape_factor=shape_factor,
        low=_share_factor(present, totals, _tenth(totals)) if numeric else shape_factor,
        high=_share_factor(present, totals, _tenth(totals[::-1])[::-1]) if numeric else 1.0,
        missing=_share_factor(counts, counts.sum(axis=0), gone),
    )


def _tenth(totals: Counts) -> Floats:
    """1 for the cells that hold the lowest tenth of the rows."""
    before = np.cumsum(totals) - totals
    return np.asarray(before * 10 < totals.sum(), dtype=np.float64)


def _share_factor(counts: NDArray[np.int64], totals: Counts, chosen: Floats) -> float:
    z = cells.rank_z(counts, totals, chosen)
    return max(1.0, float(np.mean(np.square(z))))


def _shapes(
    counts: NDArray[np.int64], totals: Counts, length: int, *, merge: bool
) -> tuple[float, Floats]:
    groups = cells.groups_of(totals, length, merge=merge)
    df = int(groups.max())
    if df < 1:
        return 1.0, np.zeros(len(counts))
    statistics = cells.chi_square(cells.grouped(counts, groups), cells.grouped(totals, groups))
    factor = max(1.0, float(np.mean(statistics)) / df)
    z = [probability.z_of(probability.chi_square_sf(float(x) / factor, df)) for x in statistics]
    return factor, np.array(z)


def _moderated(z: Sequence[Floats | None]) -> list[tuple[float, float]]:
    """Factor of the standard error and its degrees of freedom, per feature.

    Variances lean towards the one that all features suggest; features that move together do not
    count as several witnesses.
    """
    known = [i for i, found in enumerate(z) if found is not None and np.any(found)]
    answer = [(1.0, _FREE)] * len(z)
    groups: dict[int, list[int]] = {}
    for i in known:
        groups.setdefault(len(z[i]), []).append(i)  # type: ignore[arg-type] # None is not known
    for blocks, members in groups.items():
        together = np.stack([f for i in members if (f := z[i]) is not None])
        variances, df = _leaning(together, blocks - 1.0)
        for i, variance in zip(members, variances, strict=True):
            answer[i] = (float(np.sqrt(max(1.0, variance))), min(df, _FREE))
    return answer


def _leaning(z: Floats, d: float) -> tuple[Floats, float]:
    own = np.mean(np.square(z), axis=1)
    witnesses = _witnesses(z)
    if witnesses < 1.5:
        return own, d
    e = np.log(own) - probability.digamma(d / 2) + np.log(d / 2)
    excess = float(np.var(e, ddof=1)) - probability.trigamma(d / 2)
    prior = 2 * probability.trigamma_inverse(excess) if excess > 0 else np.inf
    offset = probability.digamma(prior / 2) - np.log(prior / 2) if np.isfinite(prior) else 0.0
    common = float(np.exp(np.mean(e) + offset))
    d0 = min(prior, (witnesses - 1) * d)
    return (d0 * common + d * own) / (d0 + d), d0 + d


def _witnesses(z: Floats) -> float:
    """How many independent features tell as much about a variance as these do."""
    norms = np.sqrt(np.sum(np.square(z), axis=1))
    alike = np.square((z @ z.T) / np.outer(norms, norms))
    return float(len(z) ** 2 / np.sum(alike))


# --- losses ---------------------------------------------------------------------------------


def _watched_losses(
    metric: str,
    classes: Sequence[Label],
    losses: NDArray[np.float64],
    answers: NDArray[Any],
    targets: NDArray[Any],
) -> Losses:
    watched = watched_metric(metric, classes)
    if watched != metric:
        pairs = zip(np.asarray(answers).tolist(), np.asarray(targets).tolist(), strict=True)
        losses = np.array([answer != target for answer, target in pairs], dtype=np.float64)
    return losses_profile(watched, losses)


def losses_profile(metric: str, losses: NDArray[np.float64]) -> Losses:
    """Mean, spread and dependence of row losses in the order of time; non-finite ones left out."""
    finite = np.asarray(losses, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return Losses(
            metric=metric,
            rows=0,
            mean=0.0,
            cap=0.0,
            capped_mean=0.0,
            capped_deviation=0.0,
            inflation=1.0,
        )
    mean = float(finite.mean())
    cap = max(5 * mean, float(np.quantile(finite, 0.99)))
    capped = np.minimum(finite, cap)
    return Losses(
        metric=metric,
        rows=len(finite),
        mean=mean,
        cap=cap,
        capped_mean=float(capped.mean()),
        capped_deviation=float(capped.std(ddof=1)) if len(capped) > 1 else 0.0,
        inflation=long_run_inflation(capped),
    )


def long_run_inflation(values: Floats) -> float:
    """Variance of a mean of neighbours over that of independent values; at least 1.

    Bartlett weights; the number of lags grows with the cube root of the rows.
    """
    rows = len(values)
    centred = values - values.mean() if rows else values
    variance = float(centred @ centred)
    if rows < 3 or variance <= 0:
        return 1.0
    lags = min(rows - 1, int(3 * rows ** (1 / 3)))
    weights = 1 - np.arange(1, lags + 1) / (lags + 1)
    together = [float(centred[lag:] @ centred[:-lag]) for lag in range(1, lags + 1)]
    return max(1.0, 1 + 2 * float(weights @ np.array(together)) / variance)
