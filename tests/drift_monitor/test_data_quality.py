"""Alarms about data: raised by what matters and is no chance, ended by several calm windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.drift_monitor.data_quality import Alarm, Finding, inspect, step
from services.drift_monitor.layouts import Grid
from shared.errors import Unprocessable
from shared.manifest import Column
from shared.reference import Reference, build_reference, read_reference
from shared.sketch import Sketch
from tests.drift_monitor.building import Answered

ROWS = 2_000
WORDS = ["red", "green", "blue"]


def a_reference() -> Reference:
    chance = np.random.default_rng(1)
    numbers = chance.normal(size=ROWS)
    numbers[::50] = np.nan
    words = chance.choice(WORDS, size=ROWS).astype(object)
    losses = np.abs(chance.normal(size=ROWS // 5))
    return read_reference(
        build_reference(
            columns=[Column(name="flow", kind="number"), Column(name="colour", kind="text")],
            train={"flow": numbers, "colour": words},
            holdout_answers=Answered(np.nan_to_num(numbers[: ROWS // 5])),
            holdout_targets=np.nan_to_num(numbers[: ROWS // 5]) + losses,
            holdout_losses=losses,
            metric="mae",
            classes=(),
            seed=1,
            time_ordered=True,
            window=200,
        )
    )


REFERENCE = a_reference()


def a_window(spoilt: dict[str, tuple[Any, int]] | None = None, rows: int = 200) -> Sketch:
    """A window like the reference, but for the first so many values of a column."""
    chance = np.random.default_rng(2)
    columns: dict[str, list[Any]] = {
        "flow": chance.normal(size=rows).clip(-2, 2).tolist(),
        "colour": chance.choice(WORDS, size=rows).tolist(),
    }
    for name, (value, count) in (spoilt or {}).items():
        columns[name][:count] = [value] * count
    return REFERENCE.layout.sketch([*columns.values(), [0.0] * rows])


def bad(sketch: Sketch, **absent: int) -> dict[str, str]:
    return {f.kind: f.detail for f in inspect(REFERENCE, sketch, absent) if f.is_bad}


def test_a_window_like_the_reference_has_no_fault_and_is_calm() -> None:
    findings = inspect(REFERENCE, a_window(), {})

    assert [f.kind for f in findings] == ["schema", "missing", "range", "unseen"]
    assert all(f.is_calm and not f.is_bad for f in findings)


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        ("flow", None, "missing"),
        ("colour", None, "missing"),
        ("flow", 1e6, "range"),
        ("flow", float("-inf"), "range"),
        ("colour", "purple", "unseen"),
    ],
)
def test_a_fault_needs_a_share_that_matters(column: str, value: Any, kind: str) -> None:
    few, many = a_window({column: (value, 8)}), a_window({column: (value, 40)})

    assert kind not in bad(few)
    assert set(bad(many)) == {kind}
    assert column in bad(many)[kind]


def test_a_share_that_chance_explains_is_no_fault() -> None:
    few_rows = a_window({"flow": (1e6, 1)}, rows=20)

    assert bad(few_rows) == {}


@pytest.mark.parametrize(("column", "value"), [("flow", "5"), ("colour", 5.0)])
def test_one_value_of_a_wrong_type_is_a_fault(column: str, value: Any) -> None:
    assert bad(a_window({column: (value, 1)})) == {"schema": f"{column}: 1 of a wrong type"}


def test_a_lost_column_is_a_fault() -> None:
    assert bad(a_window(), flow=200) == {"schema": "flow: 200 rows without it"}


def finding(*, is_bad: bool, is_calm: bool) -> Finding:
    return Finding(kind="range", is_bad=is_bad, is_calm=is_calm, detail="flow")


def test_an_alarm_is_said_once_and_ends_after_several_calm_windows() -> None:
    course = [
        (True, False, "raised"),
        (True, False, None),
        (False, True, None),
        # Neither bad nor calm: the calm windows before it count no longer.
        (False, False, None),
        (False, True, None),
        (False, True, "cleared"),
        (False, True, None),
    ]
    alarm: Alarm | None = None
    said = []

    for window, (is_bad, is_calm, _) in enumerate(course, start=1):
        change = step(alarm, finding(is_bad=is_bad, is_calm=is_calm), window, patience=2)
        alarm = change.alarm
        said.append(change.said)

    assert said == [expected for _, _, expected in course]
    assert alarm is None


def test_cells_are_the_same_after_they_were_written_down() -> None:
    grid = Grid.of(REFERENCE.layout)

    again = Grid.read(grid.to_bytes())

    assert again.sizes == grid.sizes
    assert again.words == grid.words
    assert again.edges.tolist() == grid.edges.tolist()
    assert again.to_bytes() == grid.to_bytes()


def test_bytes_that_are_no_cells_are_refused() -> None:
    with pytest.raises(Unprocessable):
        Grid.read(b"\x00" * 20)
