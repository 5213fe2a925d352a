"""What the answers look like beside the outcomes: calibration, lift, residuals, error over time.

Everything is summed up in bins of as many rows each, so a picture has the same size for a hundred
rows and for a million, and no single row can be read from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from shared.pictures import Line, Picture, Point, Role, around, steps
from shared.plain_text import moment, plain

Floats = NDArray[np.float64]

_BINS: Final = 10
_MOMENTS: Final = 30
_CELLS: Final = 30
_LEAST_PER_BIN: Final = 5
_Z: Final = 1.959963984540054
_UNIT: Final = (0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One predictor on the held-out rows.

    Attributes:
        name: as people call it, such as `champion (version 3)`.
        answers: numbers for regression; else the probability of what `Outlook.of` names.
        outcomes: what was observed: the number, or 1 where that came true and 0 where not.
        losses: of every row.
    """

    name: str
    role: Role
    answers: Floats
    outcomes: Floats
    losses: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Everybody on the same rows, in the order of time where rows have times.

    Attributes:
        sides: candidate first.
        of: for classification, the event whose probability was answered.
        loss: name of the losses.
        times: microseconds since 1970, or None.
    """

    kind: Literal["regression", "binary", "classes"]
    sides: tuple[Side, ...]
    of: str
    loss: str
    times: NDArray[np.int64] | None

    @property
    def models(self) -> tuple[Side, ...]:
        """Candidate and champion; a rule has no residuals worth a picture."""
        return tuple(side for side in self.sides if side.role != "baseline")


def pictures_of(outlook: Outlook) -> tuple[Picture, ...]:
    """The pictures of a card, candidate and champion on the same axes."""
    if not len(outlook.sides[0].answers):
        return ()
    shown = [*_residuals(outlook)] if outlook.kind == "regression" else [*_calibration(outlook)]
    if outlook.kind == "binary":
        shown += _lift(outlook)
    return (*shown, *_over_time(outlook))


def _bins(values: Floats, most: int) -> list[NDArray[np.intp]]:
    """Rows by value, in groups of about as many rows."""
    order = np.argsort(values, kind="stable")
    groups = max(1, min(most, len(values) // _LEAST_PER_BIN))
    return np.array_split(order, groups)


def _calibration(outlook: Outlook) -> list[Picture]:
    return [
        Picture(
            title=side.name,
            says=f"Calibration: how often {plain(outlook.of)} came true where this probability was "
            "answered, with 95 % intervals; dotted: answers that mean what they say.",
            x_title="probability answered",
            y_title="share observed",
            lines=(_calibrated(side),),
            x_range=_UNIT,
            y_range=_UNIT,
            guide="diagonal",
        )
        for side in outlook.models
    ]


def _calibrated(side: Side) -> Line:
    groups = _bins(side.answers, _BINS)
    points = tuple(
        (float(side.answers[rows].mean()), float(side.outcomes[rows].mean())) for rows in groups
    )
    band = tuple(_wilson(side.outcomes[rows]) for rows in groups)
    return Line(name=side.name, role=side.role, points=points, band=band, dots=True)


def _wilson(outcomes: Floats) -> Point:
    """Interval of a share. Source: Wilson (1927), J. Am. Stat. Assoc. 22(158)."""
    n, share = len(outcomes), float(outcomes.mean())
    spread = _Z * _Z / n
    root = _Z * float(np.sqrt(share * (1 - share) / n + spread / (4 * n)))
    middle = share + spread / 2
    return max(0.0, (middle - root) / (1 + spread)), min(1.0, (middle + root) / (1 + spread))


def _lift(outlook: Outlook) -> list[Picture]:
    if not 0 < outlook.sides[0].outcomes.mean() < 1:
        return []
    lines = tuple(
        Line(name=side.name, role=side.role, points=_lifted(side)) for side in outlook.models
    )
    heights = [y for line in lines for _, y in line.points]
    return [
        Picture(
            title="Lift",
            says=f"How much more often {plain(outlook.of)} came true among the rows with the "
            "highest probability than among all; dotted: rows drawn blindly.",
            x_title="share of rows taken, highest first",
            y_title="times as often",
            lines=lines,
            x_range=_UNIT,
            y_range=(0.0, around([*heights, 1.0])[1]),
            guide=1.0,
        )
    ]


def _lifted(side: Side) -> tuple[Point, ...]:
    """Rows with the same answer cannot be told apart: between such groups it is a straight line."""
    order = np.argsort(-side.answers, kind="stable")
    answers, hits = side.answers[order], np.cumsum(side.outcomes[order])
    ends = np.flatnonzero(np.r_[answers[1:] != answers[:-1], True])
    taken = np.linspace(0.05, 1.0, 20)
    found = np.interp(taken * len(order), np.r_[0, ends + 1], np.r_[0.0, hits[ends]])
    lift = found / (taken * len(order)) / side.outcomes.mean()
    return tuple(zip(taken.tolist(), lift.tolist(), strict=True))


def _residuals(outlook: Outlook) -> list[Picture]:
    lines = [_residual(side) for side in outlook.models]
    answers = [x for line in lines for x, _ in line.points]
    ends = [y for line in lines for band in line.band for y in band]
    panels = [
        Picture(
            title=line.name,
            says="Residuals: outcome minus answer, by the answer; the middle of each group of rows "
            "and the range of the inner 80 %; dotted: no error.",
            x_title="answer",
            y_title="outcome minus answer",
            lines=(line,),
            x_range=around(answers),
            y_range=around([*ends, 0.0]),
            guide=0.0,
        )
        for line in lines
    ]
    return [*panels, _spread(outlook)]


def _residual(side: Side) -> Line:
    residuals = side.outcomes - side.answers
    groups = _bins(side.answers, _BINS * 2)
    quantiles = [np.quantile(residuals[rows], (0.1, 0.5, 0.9)) for rows in groups]
    return Line(
        name=side.name,
        role=side.role,
        points=tuple(
            (float(np.median(side.answers[rows])), float(found[1]))
            for rows, found in zip(groups, quantiles, strict=True)
        ),
        band=tuple((float(found[0]), float(found[2])) for found in quantiles),
        dots=True,
    )


def _spread(outlook: Outlook) -> Picture:
    residuals = [side.outcomes - side.answers for side in outlook.models]
    low, high = np.quantile(np.concatenate(residuals), (0.005, 0.995))
    edges = np.linspace(*around([float(low), float(high)]), _CELLS + 1)
    lines = tuple(
        Line(name=side.name, role=side.role, points=_shares(found, edges))
        for side, found in zip(outlook.models, residuals, strict=True)
    )
    return Picture(
        title="How errors are spread",
        says="Share of the rows by outcome minus answer; beyond the ends there is 1 % of them.",
        x_title="outcome minus answer",
        y_title="share of rows",
        lines=lines,
        x_range=(float(edges[0]), float(edges[-1])),
        y_range=around([y for line in lines for _, y in line.points], least=0.0),
    )


def _shares(residuals: Floats, edges: Floats) -> tuple[Point, ...]:
    counts, _ = np.histogram(residuals, edges)
    return steps(edges.tolist(), (counts / len(residuals)).tolist())


def _over_time(outlook: Outlook) -> list[Picture]:
    times = outlook.times
    if times is None or len(times) < 2 * _LEAST_PER_BIN or times.min() == times.max():
        return []
    groups = _bins(times.astype(np.float64), _MOMENTS)
    places = [float(np.mean(times[rows].astype(np.float64))) for rows in groups]
    lines = tuple(
        Line(
            name=side.name,
            role=side.role,
            points=tuple(
                (place, float(side.losses[rows].mean()))
                for place, rows in zip(places, groups, strict=True)
            ),
        )
        for side in outlook.sides
    )
    return [
        Picture(
            title="Error over time",
            says=f"{outlook.loss} of neighbouring held-out rows; lower is better.",
            x_title="time of the row (UTC)",
            y_title=outlook.loss,
            lines=lines,
            x_range=(places[0], places[-1]),
            y_range=around([y for line in lines for _, y in line.points], least=0.0),
            x_names=_moments(places),
        )
    ]


def _moments(places: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """Three names that do not overlap: days, or moments where all is one day."""
    low, high = places[0], places[-1]
    inner = [low + (high - low) * part for part in (0.12, 0.5, 0.88)]
    named = [(place, moment(round(place))) for place in inner]
    days = [name[:10] for _, name in named]
    one_day = len(set(days)) < len(days)
    return tuple((place, name[5:] if one_day else name[:10]) for place, name in named)


def period_of(times: NDArray[np.int64] | None) -> str | None:
    """First and last moment of the rows."""
    if times is None or not len(times):
        return None
    return f"{moment(int(times.min()))} to {moment(int(times.max()))} (UTC)"
