"""What is remembered of open windows has a bound, whatever becomes of transactions."""

from __future__ import annotations

import gc
from datetime import timedelta

import pytest

from services.drift_monitor.layouts import Grid
from services.drift_monitor.memory import Memory, Slot, Turn
from services.drift_monitor.windows import Plan
from shared.reference import read_reference
from tests.drift_monitor.building import NAMES, a_profile, autoregressive

GRID = Grid.of(read_reference(a_profile(autoregressive(0.3, 1000, 3, seed=1), window=50)).layout)
PLAN = Plan(columns=NAMES, width=4, window=50, close_after=timedelta(hours=1))


def slot(number: int) -> Slot:
    return (f"model-{number}", 1, "")


def begin(memory: Memory, *numbers: int) -> Turn:
    """As a batch does that brings the first rows of windows."""
    turn = memory.begin([slot(number) for number in numbers])
    for number in numbers:
        memory.open(slot(number), PLAN, GRID, None)
    return turn


def test_slots_of_transactions_that_came_to_nothing_are_the_first_to_go() -> None:
    memory = Memory(most=5)
    kept = begin(memory, 0)
    memory.settle(kept, {slot(0): (1, 10)})

    for number in range(1, 100):
        failed = begin(memory, number)
        del failed
        gc.collect(0)
        turn = memory.begin([slot(0)])
        memory.settle(turn, {slot(0): (1, 10 + number)})

    assert len(memory.filling.slots) == 5
    assert slot(0) in memory.filling


def test_slots_of_a_transaction_that_goes_on_stay() -> None:
    memory = Memory(most=3)
    running = begin(memory, 1, 2, 3)

    for number in range(10, 30):
        turn = begin(memory, number)
        memory.settle(turn, {slot(number): (1, 10)})

    assert all(slot(number) in memory.filling for number in (1, 2, 3))
    assert len(memory.filling.slots) <= 4
    memory.settle(running, {slot(1): (1, 10)})


@pytest.mark.parametrize("rows", [1, 30])
def test_a_slot_that_was_dropped_is_not_taken_for_known(rows: int) -> None:
    memory = Memory(most=1)
    failed = begin(memory, 1)
    del failed
    gc.collect(0)
    turn = begin(memory, 2)

    memory.settle(turn, {slot(2): (1, rows)})

    assert (memory.knows(slot(1)), memory.knows(slot(2))) == (False, True)
