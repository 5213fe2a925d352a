"""Candidates are also shown on the rows that they were spared; nothing depends on it."""

from __future__ import annotations

from typing import Any

import numpy as np

from services.evaluator.scoring import score
from tests.evaluator.building import Version, World, a_version, an_argument


def spared(champion: Version | None = None, **changes: Any) -> dict[str, Any]:
    """A verdict on usual rows, with forty unusual ones that were left out."""
    world = World.drawn()
    held = world.held_out()
    rows = held.taken(np.arange(40))
    unusual = {"y": rows.y + 5.0, "row_hashes": rows.row_hashes + np.uint64(500)} | changes
    fields = {name: getattr(rows, name) for name in type(rows).__slots__}
    left_out = type(rows)(**fields | unusual)
    argument = dict(an_argument(a_version(world), champion or a_version(world, slope=2.0)))
    argument["candidate"] = {**argument["candidate"], "left_out": left_out.to_bytes()}
    return score(argument)


def test_the_losses_on_what_was_left_out_are_told_and_the_verdict_is_as_without() -> None:
    world = World.drawn()
    without = score(an_argument(a_version(world), a_version(world, slope=2.0)))

    found = spared()

    (figures,) = found["left_out"]
    assert (figures["metric"], figures["rows"], figures["champion_rows"]) == ("mae", 40, 40)
    assert figures["candidate"] > 4.0
    assert figures["baseline"] is not None
    assert found["verdict"] == without["verdict"]
    assert found["evidence"] == without["evidence"]
    assert without["left_out"] == []


def test_a_champion_is_shown_only_on_rows_that_it_does_not_know() -> None:
    world = World.drawn()
    rows = world.held_out().taken(np.arange(40))
    known = rows.row_hashes[:30] + np.uint64(500)
    knowing = a_version(world, slope=2.0, holdout=world.held_out(train_hashes=np.sort(known)))

    (figures,) = spared(knowing)["left_out"]

    assert (figures["rows"], figures["champion_rows"]) == (40, 10)


def test_rows_that_cannot_be_read_are_a_missing_figure_and_no_reason() -> None:
    world = World.drawn()
    argument = dict(an_argument(a_version(world), a_version(world, slope=2.0)))
    argument["candidate"] = {**argument["candidate"], "left_out": b"nothing"}

    found = score(argument)

    assert found["left_out"] == []
    assert found["verdict"]["accepted"]
