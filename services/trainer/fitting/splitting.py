"""Which rows are fitted, which choose between candidates, and which judge the result."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.trainer.fitting.reading import MICROSECONDS, CannotTrain, Table
from shared.holdout import Hashes, content_hashes, is_held_out, row_hashes
from shared.spec import Data

Indices = NDArray[np.int64]
VALIDATION_SHARE = 0.2
"""Of the training rows; they choose between candidates and are fitted on afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Row numbers, each in the order of time where there is one.

    Attributes:
        times: microseconds since 1970 per row of the table, where the specification names a column.
        embargoed: rows between training and hold-out that belong to neither, because their outcome
            was not known yet when the hold-out begins.
        inner, validation: the training rows parted once more.
        left_out: rows that are not learned from and judge nobody.
        train_with, inner_with: training and inner rows as they would be with those.
    """

    train: Indices
    held_out: Indices
    inner: Indices
    validation: Indices
    hashes: Hashes
    times: NDArray[np.int64] | None
    embargoed: int
    left_out: Indices
    train_with: Indices
    inner_with: Indices


def split_rows(table: Table, data: Data, left_out: NDArray[np.bool_] | None = None) -> Split:
    """Part the rows as the specification says; the same rows are parted alike in every version.

    Rows that are left out are taken from the parts that they fall into, so that leaving some out
    moves no other row from one part to another. Only where they are most of the held-out rows, the
    others are parted anew.

    Args:
        left_out: shape (rows,).

    Raises:
        CannotTrain: there are too few rows, or moments are missing.
    """
    out = np.zeros(table.rows, dtype=bool) if left_out is None else left_out
    content, times = content_hashes(table.values), _times(table, data)
    whole = _parted(np.arange(table.rows), content, times, data)
    kept = [rows[~out[rows]] for rows in whole]
    if len(kept[1]) < len(whole[1]) / 2:
        kept = list(_parted(np.flatnonzero(~out), content, times, data))
    train, held_out, inner, validation = kept
    for name, rows, least in (("training", train, 2), ("held-out", held_out, 1)):
        if len(rows) < least:
            raise CannotTrain(f"{len(rows)} {name} rows of {table.rows}; publish more rows")
    if not len(inner) or not len(validation):
        inner = validation = train
    return Split(
        train=train,
        held_out=held_out,
        inner=inner,
        validation=validation,
        hashes=row_hashes(content),
        times=times,
        embargoed=table.rows - len(train) - len(held_out) - int(out.sum()),
        left_out=_in_order(np.flatnonzero(out), times),
        train_with=_with(train, whole[0][out[whole[0]]], times, _first(times, held_out)),
        inner_with=_with(inner, whole[2][out[whole[2]]], times, _first(times, validation)),
    )


def _parted(
    rows: Indices, content: Hashes, times: NDArray[np.int64] | None, data: Data
) -> tuple[Indices, Indices, Indices, Indices]:
    """Training, held-out, inner and validation rows among these."""
    if data.split_kind == "time" and times is not None:
        train, held_out = _by_time(rows, times, data.holdout, data)
        inner, validation = _by_time(train, times, VALIDATION_SHARE, data)
        return train, held_out, inner, validation
    chosen = is_held_out(content[rows], data.holdout)
    train, held_out = rows[~chosen], rows[chosen]
    inner, validation = _by_rank(train, content)
    return (
        _in_order(train, times),
        _in_order(held_out, times),
        _in_order(inner, times),
        _in_order(validation, times),
    )


def _first(times: NDArray[np.int64] | None, rows: Indices) -> int | None:
    """The earliest moment among rows."""
    return None if times is None or not len(rows) else int(times[rows].min())


def _with(
    rows: Indices, others: Indices, times: NDArray[np.int64] | None, before: int | None
) -> Indices:
    """These rows and others, as far as those lie before the rows that judge."""
    if times is not None and before is not None:
        others = others[times[others] < before]
    return _in_order(np.sort(np.concatenate([rows, others])), times)


def _times(table: Table, data: Data) -> NDArray[np.int64] | None:
    if data.time is None:
        return None
    values = table.values.get(data.time)
    kind = table.kinds.get(data.time)
    if values is None or kind not in ("time", "integer", "number"):
        raise CannotTrain(f"the dataset has no column {data.time!r} with moments")
    missing = np.flatnonzero(~np.isfinite(values))
    if len(missing):
        raise CannotTrain(
            f"{len(missing)} rows have no moment in {data.time!r}, the first is row "
            f"{missing[0] + 1}"
        )
    scale = 1 if kind == "time" else MICROSECONDS  # plain numbers are seconds
    return np.asarray(np.round(values * scale), dtype=np.int64)


def _by_time(
    rows: Indices, times: NDArray[np.int64], share: float, data: Data
) -> tuple[Indices, Indices]:
    """The last stretch judges; rows of one moment stay together.

    Rows that lie before it by less than the label delay are left out.
    """
    ordered = _in_order(rows, times)
    moments = times[ordered]
    if not len(ordered):
        return ordered, ordered
    begins = moments[len(ordered) - max(1, round(share * len(ordered)))]
    delay = round(data.label_delay.total_seconds() * MICROSECONDS)
    return ordered[moments < begins - max(delay - 1, 0)], ordered[moments >= begins]


def _by_rank(train: Indices, content: Hashes) -> tuple[Indices, Indices]:
    """An exact share of the training rows, by the order of their hashes."""
    ranked = train[np.argsort(content[train], kind="stable")]
    count = max(1, round(VALIDATION_SHARE * len(train)))
    return np.sort(ranked[count:]), np.sort(ranked[:count])


def _in_order(rows: Indices, times: NDArray[np.int64] | None) -> Indices:
    if times is None:
        return rows
    ordered: Indices = rows[np.argsort(times[rows], kind="stable")]
    return ordered


def taken(values: NDArray[Any], rows: Indices) -> NDArray[Any]:
    """The values of these rows."""
    found: NDArray[Any] = values[rows]
    return found
