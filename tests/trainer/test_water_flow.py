"""Retraining on a real series with and without the days of its leak, judged on ordinary hours."""

from __future__ import annotations

import csv
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.paths import CHECKOUT
from services.trainer.fitting.run import fit
from shared.manifest import LeftOut, read_manifest
from tests.trainer.test_leaving import NAME

LAGS = (1, 2, 3, 24, 48)
BEGIN, END = datetime(2022, 4, 6, tzinfo=UTC), datetime(2022, 5, 10, tzinfo=UTC)
LEAK = datetime(2022, 4, 26, 22, tzinfo=UTC), datetime(2022, 4, 30, 22, tzinfo=UTC)
"""27 and 28 April, local time, and the two days whose lags still hold the leak: what the monitor
calls worse (`tests/drift_monitor/test_water_flow.py`)."""
KINDS = {
    "at": "time",
    **{f"lag_{n}": "number" for n in LAGS},
    "hour_sin": "number",
    "hour_cos": "number",
    "weekend": "integer",
    "flow": "number",
}


def hours() -> str:
    """The series with its lags; hours with an unknown lag are left out of both trainings."""
    with (CHECKOUT / "local" / "data" / "water-flow.csv").open(newline="") as opened:
        told = list(csv.reader(opened))[1:]
    flows = {datetime.fromisoformat(at).astimezone(UTC): float(flow) for at, flow in told}
    lines = [",".join(KINDS)]
    for at, flow in flows.items():
        lags = [flows.get(at - timedelta(hours=lag)) for lag in LAGS]
        if not BEGIN <= at < END or None in lags:
            continue
        local = at + timedelta(hours=2)
        turn = 2 * math.pi * local.hour / 24
        parts = (at.isoformat(), *lags, math.sin(turn), math.cos(turn), int(local.weekday() >= 5))
        lines.append(",".join(str(part) for part in (*parts, flow)))
    return "\n".join(lines)


def microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def trained(use: str, *, without_leak: bool) -> dict[str, Any]:
    """A run of the trainer's child; the last fifth of the hours, without any leak, judges it."""
    exclusion = {
        "annotation": NAME,
        "tag": "transient",
        "column": "at",
        "starts": microseconds(LEAK[0]),
        "ends": microseconds(LEAK[1]),
    }
    spec = {
        "apiVersion": "tidewheel/v1",
        "name": "flow",
        "owner": "water",
        "task": "regression",
        "data": {"dataset": "flow", "target": "flow", "time": "at"},
        "train": {
            "candidates": [{"use": use}],
            "baseline": {"rule": "last_value", "column": "lag_1"},
        },
    }
    digests = dict.fromkeys(
        ("dataset_digest", "spec_digest", "code_digest", "exclusions_digest"), "0" * 64
    )
    return fit(
        {
            "data": hours().encode(),
            "format": "csv",
            "columns": KINDS,
            "spec": spec,
            "allowed": ["sklearn"],
            "model": "flow",
            "dataset": "flow",
            "dataset_version": 1,
            "exclusions": [exclusion] if without_leak else [],
            "leave_out": ["transient"],
            **digests,
        }
    )


@pytest.mark.parametrize(
    ("use", "gain"),
    [
        ("sklearn.linear_model.LinearRegression", 0.2),
        pytest.param(
            "sklearn.ensemble.HistGradientBoostingRegressor", 0.4, marks=pytest.mark.nightly
        ),
    ],
)
def test_retraining_without_the_leak_is_better_on_ordinary_hours(use: str, gain: float) -> None:
    with_leak = trained(use, without_leak=False)
    without = trained(use, without_leak=True)

    told = read_manifest(without["manifest"]).left_out
    assert isinstance(told, LeftOut)
    assert (told.rows, told.annotations, told.kept) == (76, (NAME,), False)
    assert told.loss_without is not None
    assert told.loss_with is not None
    assert told.loss_without < told.loss_with
    assert without["rows_held_out"] == with_leak["rows_held_out"]
    assert without["metrics"]["mae"] < (1 - gain) * with_leak["metrics"]["mae"]
    assert without["metrics"]["mae"] < without["metrics"]["baseline_mae"]
    assert with_leak["metrics"]["mae"] > with_leak["metrics"]["baseline_mae"]
