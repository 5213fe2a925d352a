"""The answers of one version to a whole file. `answer` is called in a confined child."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from services.trainer.fitting.reading import Table, read_table
from shared import baselines
from shared.errors import Unprocessable
from shared.manifest import Manifest, read_manifest
from shared.models import Answers, load, predict
from shared.tabular import rows_of, stacked
from shared.usable import is_usable

AT_ONCE: Final = 20_000
"""Rows between two words about the progress."""
INFINITE: Final = "a value is infinite"
INCOMPLETE: Final = "a value is missing that the version needs"
UNUSABLE: Final = "the version's answer is not finite or outside the bounds"
Rung = Literal["version", "baseline", "none"]


def answer(argument: Mapping[str, Any]) -> dict[str, Any]:
    """Write the answers into a file, a row for every row of the dataset, in its order.

    Args:
        argument: `manifest` (bytes); paths of `data`, `model`, `output` and `progress`; `format`
            and `columns` (pairs of name and kind) of the data.

    Returns:
        `rows`; `refused`, those without an answer; `by_rule`, those that the rule answered.

    Raises:
        Unprocessable: the file or the version cannot be used at all.
    """
    manifest = read_manifest(argument["manifest"])
    table = read_table(argument["data"], argument["format"], dict(argument["columns"]))
    estimator = load(Path(argument["model"]).read_bytes())
    answered = Answered(manifest)
    for rows in parts_of(table.rows):
        answered.take(_matrix(manifest, table, rows), estimator)
        Path(argument["progress"]).write_text(str(rows.stop))
    frame = answered.frame(_entities(manifest, table))
    if argument["format"] == "csv":
        frame.write_csv(argument["output"])
    else:
        frame.write_parquet(argument["output"])
    rungs = answered.rungs
    by_rule, refused = rungs.count("baseline"), rungs.count("none")
    return {"rows": table.rows, "refused": refused, "by_rule": by_rule}


def parts_of(rows: int) -> Iterator[slice]:
    """The rows in order, some at once."""
    for start in range(0, rows, AT_ONCE):
        yield slice(start, min(start + AT_ONCE, rows))


class Answered:
    """Grows by the answers to one part after the other."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.values: list[Any] = []
        self.shares: list[NDArray[np.float64]] = []
        self.rungs: list[Rung] = []
        self.reasons: list[str | None] = []

    def take(self, X: NDArray[Any], estimator: Any) -> None:
        """The answers to these rows, shape (n, features): the version's, else the rule's."""
        values: list[Any] = [None] * len(X)
        rungs: list[Rung] = ["none"] * len(X)
        reasons: list[str | None] = [INFINITE] * len(X)
        shares = np.full((len(X), len(self.manifest.classes)), np.nan)
        able = np.flatnonzero(~_infinite(X))
        asked, said = _said(estimator, X, able, self.manifest.task)
        for place, row in enumerate(asked.tolist()):
            value = _plain(said.values[place])
            share = None if said.probabilities is None else said.probabilities[place]
            if is_usable(value, None if share is None else share.tolist(), self.manifest):
                values[row], rungs[row], reasons[row] = value, "version", None
                if share is not None:
                    shares[row] = share
            else:
                reasons[row] = UNUSABLE
        for row in np.setdiff1d(able, asked).tolist():
            reasons[row] = INCOMPLETE
        left = [row for row in able.tolist() if rungs[row] == "none"]
        for row, asked_row in zip(left, rows_of(self.manifest.columns, X[left]), strict=True):
            values[row], rungs[row] = (
                baselines.answer(self.manifest.baseline, asked_row),
                "baseline",
            )
        self.values += values
        self.rungs += rungs
        self.reasons += reasons
        self.shares.append(shares)

    def frame(self, entities: Mapping[str, Any]) -> pl.DataFrame:
        """A row per row: its number, its entity, the answer, who gave it, and else why not."""
        shares = np.concatenate(self.shares) if self.shares else np.empty((0, 0))
        columns: dict[str, Any] = {
            "row": np.arange(1, len(self.values) + 1),
            **entities,
            "answer": pl.Series(self.values, strict=False),
            "rung": pl.Series(self.rungs, dtype=pl.String),
            "reason": pl.Series(self.reasons, dtype=pl.String),
        }
        for place, label in enumerate(self.manifest.classes):
            columns[f"probability_{label}"] = pl.Series(shares[:, place]).fill_nan(None)
        return pl.DataFrame(columns)


def _said(
    estimator: Any, X: NDArray[Any], able: NDArray[np.intp], task: Any
) -> tuple[NDArray[np.intp], Answers]:
    """Which rows the version answered, and what; where some lack values, those that do not."""
    whole = able[~_missing(X[able]).any(axis=1)] if len(able) else able
    try:
        return able, _asked(estimator, X, able, task)
    except Unprocessable:
        if len(whole) == len(able):
            raise
    return whole, _asked(estimator, X, whole, task)


def _asked(estimator: Any, X: NDArray[Any], rows: NDArray[np.intp], task: Any) -> Answers:
    return predict(estimator, X[rows], task) if len(rows) else Answers(np.empty(0), None)


def _matrix(manifest: Manifest, table: Table, rows: slice) -> NDArray[Any]:
    values = {column.name: table.values[column.name][rows] for column in manifest.columns}
    return stacked(manifest.columns, values, rows.stop - rows.start)


def _entities(manifest: Manifest, table: Table) -> dict[str, Any]:
    """The entity of each row, where the dataset has it and it is no column of the answers."""
    name = manifest.entity
    if name is None or name not in table.values or name in ("row", "answer", "rung", "reason"):
        return {}
    if table.kinds[name] == "integer":
        return {name: pl.Series(table.values[name]).fill_nan(None).cast(pl.Int64)}
    return {name: pl.Series(table.values[name].tolist(), strict=False)}


def _infinite(X: NDArray[Any]) -> NDArray[np.bool_]:
    if X.dtype == np.float64:
        found: NDArray[np.bool_] = np.isinf(X).any(axis=1)
        return found
    return np.array([any(value in (np.inf, -np.inf) for value in row) for row in X.tolist()], bool)


def _missing(X: NDArray[Any]) -> NDArray[np.bool_]:
    if X.dtype == np.float64:
        found: NDArray[np.bool_] = np.isnan(X)
        return found
    plain: Sequence[Sequence[Any]] = X.tolist()
    return np.array([[v is None or v != v for v in row] for row in plain], bool)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
