"""How many rows of a file lie in some periods. It runs in the child, like all that reads files."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

MICROSECONDS: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = 86_400 * MICROSECONDS


def count(argument: dict[str, Any]) -> dict[str, Any]:
    """Rows in the first period, and in any of them.

    Args:
        argument: `path`, `format`, `column`, `kind` of the column, and `periods`: pairs of
            microseconds since 1970, from the first up to, not with, the second.

    Returns:
        `rows`, `inside`, `together`, and `last`: the last moment, None without any.
    """
    moments = _moments(argument)
    masks = [(moments >= start) & (moments < end) for start, end in argument["periods"]]
    known = moments[np.isfinite(moments)]
    return {
        "rows": len(moments),
        "inside": int(masks[0].sum()),
        "together": int(np.logical_or.reduce(masks).sum()),
        "last": float(known.max()) if len(known) else None,
    }


def _moments(argument: dict[str, Any]) -> NDArray[np.float64]:
    """Microseconds since 1970; NaN where there is none. Plain numbers are seconds."""
    column, kind = argument["column"], argument["kind"]
    if argument["format"] == "csv":
        texts = pl.scan_csv(argument["path"], infer_schema=False, glob=False).select(column)
        series = texts.collect()[column]
        if kind == "time":
            return _of_texts(series.to_list())
    else:
        series = pl.read_parquet(argument["path"], columns=[column])[column]
        if kind == "time" and series.dtype == pl.Date:
            return _floats(series.cast(pl.Int32)) * _DAY
        if kind == "time":
            return _floats(series.dt.epoch("us"))
    return _floats(series) * MICROSECONDS


def _floats(series: pl.Series) -> NDArray[np.float64]:
    found: NDArray[np.float64] = series.cast(pl.Float64, strict=False).to_numpy().astype(np.float64)
    return found


def _of_texts(texts: Sequence[str | None]) -> NDArray[np.float64]:
    """ISO 8601, each with its own offset; without one it is UTC."""
    known: dict[str | None, float] = {None: np.nan, "": np.nan}
    for text in set(texts) - known.keys():
        moment = datetime.fromisoformat(text or "")
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        since = moment - _EPOCH
        known[text] = (since.days * 86_400 + since.seconds) * MICROSECONDS + since.microseconds
    return np.array([known[text] for text in texts], dtype=np.float64)
