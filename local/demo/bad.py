"""Files that a producer should not have sent."""

from __future__ import annotations

from pathlib import Path

from local.demo.data import TARGET, Row, write_csv


def without_target(rows: list[Row]) -> list[Row]:
    """Somebody renamed the column that is to be predicted."""
    return [{"flow_l_s" if name == TARGET else name: v for name, v in r.items()} for r in rows]


def broken(rows: list[Row]) -> list[Row]:
    """A logger wrote words into a lag, and a division by zero into the target."""
    made = [dict(row) for row in rows]
    made[-3]["lag_1"] = "sensor off"
    made[-2][TARGET] = "inf"
    made[-1][TARGET] = ""
    return made


def write(file: Path, rows: list[Row]) -> Path:
    return write_csv(file, rows)
