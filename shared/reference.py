"""What a version's rows and answers looked like when it was made, and how much they vary by chance.

Features come from the training rows, answers and losses from the held-out rows. How far windows
differ by chance is in its calibration (`shared.calibration`); where that cannot be known the
profile says so. Where windows have a season, each season is a reference of its own.

Source: Newey and West (1987), Econometrica 55, for the long-run variance of losses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from shared.calibration import Factors, Mode, Scale
from shared.errors import Unprocessable
from shared.losses import ON_PROBABILITIES, Answered, Label
from shared.manifest import Column
from shared.probability import share_least, t_quantile
from shared.reference_parts import (
    Part,
    part_of,
    plain_basis,
    plain_part,
    read_basis,
    read_part,
)
from shared.scores import THRESHOLD, Scores, score_cells, scores_profile
from shared.seasons import SPANS, Season, season_of
from shared.sketch import (
    CategoryCells,
    Cells,
    Counts,
    Layout,
    NumberCells,
    category_cells,
    number_cells,
)
from shared.together import Together, basis_of

FORMAT: Final = "tidewheel/reference/v2"
FORMER: Final = "tidewheel/reference/v1"
"""Still read: such a profile knows nothing of how numbers move together."""
ANSWER: Final = "(answer)"
SCORE: Final = "(score)"
"""Names of the model's own outputs among the features; no column may have brackets like these
and a meaning of its own at the same place, because outputs come last."""

BOUNDED: Final = frozenset({"accuracy", "brier"})
"""Their losses are between 0 and 1 as they are."""
LEAST_UNIT: Final = 1e-12
ENDS: Final = 0.025
LEAST_LOSSES: Final = 30
SAMPLE_ROWS: Final = 500
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """How wrong the answers to the held-out rows were.

    Attributes:
        metric: whose row losses these are; `accuracy` (0/1) where the metric cannot be computed
            from a logged prediction.
        cap: single losses count as no more than this, so that one of them decides nothing; those
            that are bounded by themselves count as they are.
        inflation: variance of a mean of neighbouring losses over that of independent ones.
        unit: the loss that counts as 1 where losses are taken between 0 and 1; 0 in profiles from
            before they were.
        bounded_mean, bounded_high: mean of such losses and the upper end of its 95 % interval.
    """

    metric: str
    rows: int
    mean: float
    cap: float
    capped_mean: float
    capped_deviation: float
    inflation: float
    unit: float = 0.0
    bounded_mean: float = 0.0
    bounded_high: float = 1.0

    @property
    def size(self) -> float:
        """Independent rows that know as much."""
        return self.rows / self.inflation

    @property
    def spread(self) -> float:
        """Deviation of capped losses, had there been one row more with a loss at the cap.

        Rows without a mistake do not show that there are none.
        """
        return with_one_more(self.capped_deviation, self.rows, self.capped_mean, self.cap)

    @property
    def unseen(self) -> float:
        """The part of the variance that the one row more has brought."""
        return with_one_more(0.0, self.rows, self.capped_mean, self.cap) ** 2


def with_one_more(deviation: float, rows: int, mean: float, at: float) -> float:
    """The deviation of so many values with this mean and one more; 0 of no values."""
    if rows < 1:
        return 0.0
    added = (at - mean) ** 2 / (rows + 1)
    return float(((deviation**2 + added) * rows / (rows + 1)) ** 0.5)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Reference:
    """The profile of one version, as the monitor reads it.

    Attributes:
        layout: the columns in their order, then the answer, then for two classes the score.
        counts: of the reference, one row of counts per feature.
        mode: how chance is known; `insufficient` where it is not.
        reason: why windows cannot be tested statistically; empty when they can.
        sample: up to 500 training rows for reports, in the order of the columns.
        scores: what the cells of the last feature meant; None where nothing is known of them.
        together: how numbers move together; None where nobody kept it.
        blocks: rows of counts of the newest blocks of window size, in the order of time.
        span: moments of the first and the last training row, where they are known.
        season: what the rows of a window have in common; `seasons` are the references for that.
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
    scores: Scores | None = None
    mode: Mode = "block"
    together: Together | None = None
    blocks: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    span: tuple[datetime, datetime] | None = None
    season: Season | None = None
    seasons: Mapping[str, "Reference"] = field(default_factory=dict)

    def of_season(self, key: str) -> "Reference":
        """What windows of this season are compared with; without a season, all rows."""
        if not key or self.season is None:
            return self
        found = self.seasons.get(key)
        why = f"no training row lies in the season {key}"
        return found or replace(self, scales=(), mode="insufficient", calibrated=False, reason=why)

    def scale_for(self, window: int) -> Scale | None:
        """The calibration for windows of this many rows; None when the reference is too short."""
        if self.mode == "independent":
            if window > self.rows:
                return None
            # A feature with fewer rows than the window is not known well enough to be tested.
            enough = [int(counts.sum()) >= window for counts in self.counts]
            factors = tuple(Factors() if known else None for known in enough)
            return Scale(length=window, blocks=0, factors=factors)
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
    season: Season | None = None,
    times: NDArray[np.int64] | None = None,
    holdout_times: NDArray[np.int64] | None = None,
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
        season: what the rows of a window have in common; needs `times`.
        times: microseconds since 1970 of the training rows, in their order; where they are known.
        holdout_times: of the held-out rows.
    """
    features = [_cells_of(column, train[column.name]) for column in columns]
    values = [train[column.name] for column in columns]
    for cell, answered in _outputs(holdout_answers, classes):
        features.append(cell)
        values.append(answered)
    layout = Layout(features=tuple(features))
    places = [cell.places(v) for cell, v in zip(features, values, strict=True)]
    rows = len(values[0]) if columns else 0
    counts = [np.bincount(p, minlength=c.size) for p, c in zip(places, features, strict=True)]
    basis = basis_of(layout, np.concatenate(counts), places, len(columns)) if counts else None
    layout = replace(layout, basis=basis)
    whole = part_of(layout, places, window, is_ordered=time_ordered)
    parts = _season_parts(layout, places, window, len(columns), season, times, holdout_times)
    losses = _watched_losses(
        metric, classes, holdout_losses, holdout_answers.values, holdout_targets
    )
    scores = _scores(
        features[-1] if features else None,
        values[-1] if values else None,
        _losses_of(metric, classes, holdout_losses, holdout_answers.values, holdout_targets),
        holdout_targets,
        classes,
    )
    return orjson.dumps(
        {
            "format": FORMAT,
            "features": [_plain_cells(cell) for cell in features],
            "basis": plain_basis(basis),
            **plain_part(whole),
            "rows": rows,
            "rows_held_out": len(holdout_targets),
            "time_ordered": time_ordered,
            "span": [int(times[0]), int(times[-1])] if times is not None and len(times) else None,
            "season": season,
            "seasons": {key: plain_part(part) for key, part in parts.items()},
            "losses": asdict(losses),
            "scores": asdict(scores) if scores else None,
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
        if plain["format"] not in (FORMAT, FORMER):
            raise Unprocessable(f"a profile of format {plain['format']!r} is not known here")
        layout = Layout(
            features=tuple(_read_cells(cell) for cell in plain["features"]),
            basis=read_basis(plain.get("basis")),
        )
        known = Reference(
            layout=layout,
            counts=(),
            rows=int(plain["rows"]),
            rows_held_out=int(plain["rows_held_out"]),
            time_ordered=bool(plain["time_ordered"]),
            calibrated=bool(plain["calibrated"]),
            reason=str(plain["reason"]),
            scales=(),
            losses=_read_losses(plain["losses"]),
            sample=tuple(tuple(row) for row in plain["sample"]),
            scores=_read_scores(plain.get("scores")),
            span=_read_span(plain.get("span")),
            season=plain.get("season"),
        )
        seasons = {
            key: _with_part(known, read_part(part, layout))
            for key, part in plain.get("seasons", {}).items()
        }
        return replace(_with_part(known, read_part(plain, layout)), seasons=seasons)
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
        return [(score_cells(ANSWER, values), values)]
    found: list[tuple[Cells, NDArray[Any]]] = [
        (category_cells(ANSWER, answers.values, classes), answers.values)
    ]
    if len(classes) == 2 and answers.probabilities is not None:
        scores = np.ascontiguousarray(answers.probabilities[:, 1], dtype=np.float64)
        found.append((score_cells(SCORE, scores, [THRESHOLD]), scores))
    return found


def _plain_cells(cell: Cells) -> dict[str, Any]:
    if isinstance(cell, NumberCells):
        return {"name": cell.name, "edges": list(cell.edges)}
    return {"name": cell.name, "levels": list(cell.levels)}


def _read_cells(plain: Mapping[str, Any]) -> Cells:
    if "edges" in plain:
        return NumberCells(name=plain["name"], edges=tuple(plain["edges"]))
    return CategoryCells(name=plain["name"], levels=tuple(plain["levels"]))


def _scores(
    cell: Cells | None,
    values: NDArray[Any] | None,
    losses: Floats,
    targets: NDArray[Any],
    classes: Sequence[Label],
) -> Scores | None:
    if values is None or not isinstance(cell, NumberCells) or cell.name not in (ANSWER, SCORE):
        return None
    hits = None
    if cell.name == SCORE:
        hits = np.array([target == classes[1] for target in targets.tolist()], dtype=np.bool_)
    return scores_profile(cell, values, losses, hits)


def _read_scores(plain: Mapping[str, Any] | None) -> Scores | None:
    return Scores(**{name: tuple(found) for name, found in plain.items()}) if plain else None


def _with_part(known: Reference, part: Part) -> Reference:
    calibration = part.calibration
    return replace(
        known,
        counts=part.counts,
        rows=part.rows,
        calibrated=calibration.mode != "insufficient",
        mode=calibration.mode,
        reason=calibration.reason,
        scales=calibration.scales,
        together=part.together,
        blocks=part.blocks,
    )


def _season_parts(
    layout: Layout,
    places: Sequence[Counts],
    window: int,
    columns: int,
    season: Season | None,
    times: NDArray[np.int64] | None,
    holdout_times: NDArray[np.int64] | None,
) -> dict[str, Part]:
    if season is None or times is None or not len(times):
        return {}
    refusal = ""
    if _moment(int(times[-1])) - _moment(int(times[0])) < SPANS[season]:
        refusal = f"the training rows span less than one {season.replace('_', ' ')} cycle"
    keys = _season_keys(season, times)
    held = _season_keys(season, holdout_times) if holdout_times is not None else np.zeros(0, "U4")
    found = {}
    for key in sorted(set(keys.tolist())):
        # Outputs come from the held-out rows; without their moments they belong to no season.
        chosen = [
            place[keys == key]
            if i < columns
            else place[held == key]
            if len(held) == len(place)
            else place[:0]
            for i, place in enumerate(places)
        ]
        found[key] = part_of(layout, chosen, window, is_ordered=True, refusal=refusal)
    return found


def _season_keys(season: Season, times: NDArray[np.int64]) -> NDArray[np.str_]:
    hour = 3_600_000_000
    known, place = np.unique(times // hour, return_inverse=True)
    return np.array([season_of(season, _moment(int(n) * hour)) for n in known])[place]


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, tz=UTC)


def _read_span(plain: Sequence[int] | None) -> tuple[datetime, datetime] | None:
    return (_moment(plain[0]), _moment(plain[1])) if plain else None


def _sample(values: Sequence[NDArray[Any]], rows: int, seed: int) -> list[list[Any]]:
    chance = np.random.default_rng(seed)
    chosen = np.sort(chance.choice(rows, size=min(rows, SAMPLE_ROWS), replace=False))
    return [list(row) for row in zip(*(v[chosen].tolist() for v in values), strict=True)]


# --- losses ---------------------------------------------------------------------------------


def _watched_losses(
    metric: str,
    classes: Sequence[Label],
    losses: NDArray[np.float64],
    answers: NDArray[Any],
    targets: NDArray[Any],
) -> Losses:
    found = _losses_of(metric, classes, losses, answers, targets)
    return losses_profile(watched_metric(metric, classes), found)


def _losses_of(
    metric: str,
    classes: Sequence[Label],
    losses: NDArray[np.float64],
    answers: NDArray[Any],
    targets: NDArray[Any],
) -> Floats:
    if watched_metric(metric, classes) == metric:
        return np.asarray(losses, dtype=np.float64)
    pairs = zip(np.asarray(answers).tolist(), np.asarray(targets).tolist(), strict=True)
    return np.array([answer != target for answer, target in pairs], dtype=np.float64)


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
    # Of losses that are 0 or 1 a cap would leave nothing where mistakes are rare.
    cap = 1.0 if metric in BOUNDED else _cap_of(finite, mean)
    capped = np.minimum(finite, cap)
    inflation = long_run_inflation(capped)
    unit = cap
    bounded = np.minimum(finite / unit, 1.0)
    found = Losses(
        metric=metric,
        rows=len(finite),
        mean=mean,
        cap=cap,
        capped_mean=float(capped.mean()),
        capped_deviation=float(capped.std(ddof=1)) if len(capped) > 1 else 0.0,
        inflation=inflation,
        unit=unit,
        bounded_mean=float(bounded.mean()),
        bounded_high=_upper_end(bounded, inflation),
    )
    return _sure_of_no_more(found)


def _cap_of(losses: Floats, mean: float) -> float:
    """More than 0 where all of them are: otherwise nothing could ever be above it."""
    return max(5 * mean, float(np.quantile(losses, 0.99))) or LEAST_UNIT


def _upper_end(bounded: Floats, inflation: float) -> float:
    """Of the 95 % interval of the mean, as far as these rows show how much they vary."""
    rows = len(bounded) / inflation
    deviation = float(bounded.std(ddof=1)) if len(bounded) > 1 else 1.0
    reach = t_quantile(ENDS, max(rows - 1, 2.0)) * deviation / rows**0.5
    return float(min(1.0, float(bounded.mean()) + reach))


def most_unseen(rows: float, level: float) -> float:
    """The share that so many rows miss altogether with a probability of no less than `level`."""
    return float(1 - level ** (1 / rows))


def _sure_of_no_more(found: Losses) -> Losses:
    """With an upper end that holds where rows are few, or mistakes, or there were none."""
    if found.rows < 1 or found.unit <= 0:
        return found
    size, mean = found.size, found.bounded_mean
    if found.metric == "accuracy":
        high = 1 - share_least(size * (1 - mean), size, ENDS)
    else:
        high = max(found.bounded_high, mean + (1 - mean) * most_unseen(size, ENDS))
    return replace(found, bounded_high=high)


def _read_losses(plain: Mapping[str, Any]) -> Losses:
    """Former releases capped losses that are bounded by themselves, and were sure of few rows.

    Where all losses were 0, so was their cap, and nothing was ever above it.
    """
    found = Losses(**plain)
    if found.metric in BOUNDED and found.rows > 0 and found.cap != 1.0:
        found = replace(
            found,
            cap=1.0,
            capped_mean=found.mean,
            capped_deviation=_uncapped_deviation(found),
            unit=1.0,
            bounded_mean=found.mean,
        )
    if found.rows > 0 and not found.cap:
        found = replace(found, cap=LEAST_UNIT)
    return _sure_of_no_more(found)


def _uncapped_deviation(found: Losses) -> float:
    """No more than that of losses that are 0 or 1, and as the end of their interval tells it."""
    most = float((found.mean * (1 - found.mean)) ** 0.5)
    if found.metric == "accuracy" or found.unit <= 0:
        return most
    reach = (found.bounded_high - found.bounded_mean) * found.size**0.5
    return float(min(most, reach / t_quantile(ENDS, max(found.size - 1, 2.0))))


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
