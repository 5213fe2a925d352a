"""What runs in the child: gate, kinds, statistics. The only module that imports polars here.

The whole file is never in memory unless it is small; large ones are streamed twice, once to learn
the kinds and once for the statistics.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import polars as pl

from services.registry.profiling.footer import faults_of_footer
from services.registry.profiling.kinds import Typed, kinds_of_text, typed_columns
from services.registry.profiling.limits import Limits
from services.registry.profiling.lines import faults_of_names, lines_of
from services.registry.profiling.measures import measured
from services.registry.profiling.profile import Profile
from shared.events import Reason

_SMALL_BYTES: Final = 8_000_000
"""A CSV file up to this size is parsed once and kept; its strings may take several times that."""


def examine(argument: dict[str, Any]) -> dict[str, Any]:
    """The profile of a file, or everything that is wrong with it.

    Args:
        argument: `path`, `format`, `limits`.
    """
    path, limits = Path(argument["path"]), Limits(**argument["limits"])
    look = _csv if argument["format"] == "csv" else _parquet
    try:
        outcome = look(path, limits)
    except (pl.exceptions.PolarsError, OSError, UnicodeError) as error:
        outcome = [_unreadable(argument["format"], str(error), path)]
    if isinstance(outcome, Profile):
        return {"profile": outcome.to_bytes()}
    return {"faults": [asdict(reason) for reason in outcome]}


def _unreadable(name: str, said: str, path: Path) -> Reason:
    if "CSV malformed" in said:
        detail = "rows cannot be told apart by the quotation marks"
        return Reason(pointer="", detail=detail, hint="quote a field that holds a quotation mark")
    first = said.strip().replace(str(path), "the file").splitlines()[0:1]
    detail = f"the file cannot be read as {'CSV' if name == 'csv' else 'Parquet'}"
    return Reason(pointer="", detail=f"{detail}: {first[0][:200]}" if first else detail)


def _csv(path: Path, limits: Limits) -> Profile | Sequence[Reason]:
    lines = lines_of(path, limits)
    faults = [*lines.faults, *_too_many_cells(lines.rows, len(lines.names), limits)]
    if faults:
        return faults
    texts = pl.scan_csv(path, infer_schema=False, glob=False)
    is_small = path.stat().st_size <= _SMALL_BYTES
    if is_small:
        texts = texts.collect().lazy()
    kinds = kinds_of_text(texts, lines.names, lines.rows, is_small=is_small)
    if isinstance(kinds, Reason):
        return [kinds]
    return measured(texts, kinds, rows=lines.rows, name="csv", is_small=is_small)


def _parquet(path: Path, limits: Limits) -> Profile | Sequence[Reason]:
    faults = list(faults_of_footer(path))
    if faults:
        return faults
    scan = pl.scan_parquet(path, glob=False)
    schema = scan.collect_schema()
    faults = list(faults_of_names(schema.names(), limits))
    if faults:
        return faults
    rows = int(scan.select(pl.len()).collect().item())
    faults = [*_too_many_cells(rows, len(schema), limits)]
    if not rows:
        faults.append(Reason(pointer="", detail="there is no row"))
    columns = typed_columns(schema)
    faults.extend(column for column in columns if isinstance(column, Reason))
    if faults:
        return faults
    typed = [column for column in columns if isinstance(column, Typed)]
    return _too_large(scan, typed, rows, limits) or measured(
        scan, typed, rows=rows, name="parquet", is_small=_is_small(rows, len(typed))
    )


def _is_small(rows: int, columns: int) -> bool:
    return rows * columns <= 1_000_000


def _too_many_cells(rows: int, columns: int, limits: Limits) -> Iterator[Reason]:
    if rows * columns > limits.cells:
        detail = f"{rows} rows x {columns} columns are more than {limits.cells} cells"
        yield Reason(pointer="", detail=detail, hint="publish it in parts, as several datasets")


def _too_large(
    scan: pl.LazyFrame, columns: Sequence[Typed], rows: int, limits: Limits
) -> Sequence[Reason]:
    """A footer's own sizes are no evidence; text is added up as it is decoded."""
    texts = [column.name for column in columns if column.kind == "text"]
    size = rows * 8 * (len(columns) - len(texts))
    if texts:
        lengths = [pl.col(name).cast(pl.String).str.len_bytes().sum() for name in texts]
        # Before lengths are added up they must be read as strings: the sum is over numbers.
        sums = scan.select(lengths).collect(engine="streaming").row(0)
        size += sum(int(length or 0) for length in sums)
    if size <= limits.decoded_bytes:
        return ()
    detail = f"decoded, it has {size} bytes, {limits.decoded_bytes} are allowed"
    return [Reason(pointer="", detail=detail)]
