"""The chain as the client computes it, and the words of the client."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.events import ALL, Event
from tests.support.schemas import example_of
from tidewheel import bars, moments, narrate
from tidewheel.auditing import GENESIS, Chain
from tidewheel.errors import Failure
from tidewheel.exits import Exit

Line = dict[str, Any]


def a_stream(length: int = 120, every: int = 20) -> list[Line]:
    """Anchors, rows and the service's verdict, as they are streamed."""
    head, rows = GENESIS, []
    for number in range(1, length + 1):
        row = f'[{number}, "fact {number}"]'
        head = hashlib.sha256(head + row.encode()).digest()
        rows.append({"kind": "row", "position": number, "row": row, "chain": head.hex()})
    told = [*rows[every - 1 :: every], rows[-1]]
    anchors = [{"kind": "anchor", "position": r["position"], "chain": r["chain"]} for r in told]
    return [*anchors, *rows, {"kind": "verdict", "whole": True, "rows": length}]


def checked(lines: list[Line], *known: tuple[int, str]) -> Chain:
    chain = Chain(known)
    for line in lines:
        chain.feed(line)
    return chain


def rows_of(lines: list[Line]) -> list[int]:
    return [place for place, line in enumerate(lines) if line["kind"] == "row"]


def test_a_stream_that_nobody_touched_is_whole() -> None:
    chain = checked(a_stream())

    assert chain.is_whole
    assert (chain.rows, chain.anchors, chain.position) == (120, 6, 120)


def _drop(lines: list[Line], at: int, _: random.Random) -> None:
    del lines[at]


def _alter(lines: list[Line], at: int, chance: random.Random) -> None:
    row = lines[at]["row"]
    place = chance.randrange(len(row))
    lines[at] |= {"row": row[:place] + "~" + row[place + 1 :]}


def _relink(lines: list[Line], at: int, chance: random.Random) -> None:
    lines[at] |= {"chain": f"{chance.getrandbits(256):064x}"}


def _double(lines: list[Line], at: int, _: random.Random) -> None:
    lines.insert(at, dict(lines[at]))


def _swap(lines: list[Line], at: int, _: random.Random) -> None:
    other = at + 1 if lines[at + 1]["kind"] == "row" else at - 1
    lines[at], lines[other] = lines[other], lines[at]


def _cut(lines: list[Line], at: int, _: random.Random) -> None:
    del lines[at:-1]


@pytest.mark.parametrize("tamper", [_drop, _alter, _relink, _double, _swap, _cut])
def test_tampering_is_found_wherever_it_is(
    tamper: Callable[[list[Line], int, random.Random], None], seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(100):
        lines = a_stream()
        tamper(lines, chance.choice(rows_of(lines)), chance)

        assert not checked(lines).is_whole


def test_a_service_that_lies_with_a_consistent_chain_is_found_by_a_noted_head() -> None:
    honest, forged = checked(a_stream()), checked(a_stream(119, 500))

    assert forged.is_whole
    assert not checked(a_stream(119, 500), (honest.position, honest.head.hex())).is_whole


def test_a_row_shown_at_another_place_than_its_own_is_found() -> None:
    lines = [line for line in a_stream() if line["kind"] != "anchor"]
    lines[-2] |= {"position": 121}

    assert "names another position" in " ".join(checked(lines).faults)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.TYPE)
def test_every_event_type_has_its_line(kind: type[Event]) -> None:
    told = narrate.told({"type": kind.TYPE, "data": asdict(example_of(kind).event)})

    assert told


@pytest.mark.parametrize(
    ("reason", "end"),
    [("stale_verdict", None), ("champion_changed", None), ("cap_reached", Exit.ROLLED_BACK)],
)
def test_a_version_that_is_judged_again_has_not_come_to_its_end(
    reason: str, end: Exit | None
) -> None:
    event = {"type": "tidewheel.rollout.aborted.v1", "data": {"reason": reason}}

    assert narrate.ends_with(event) is end


def test_a_bar_shows_the_interval_against_zero_and_the_margin() -> None:
    assert bars.bar(0.2, 0.1, 0.3, margin=0.1, width=21) == "·┊···│····─────●────·"


def test_a_bar_without_an_estimate_is_none() -> None:
    assert bars.bar(None, 0.1, 0.2) == ""


@pytest.mark.parametrize(
    ("ends", "first", "last"), [((None, 0.3), "─", "·"), ((0.1, None), "·", "─")]
)
def test_an_open_end_runs_to_the_edge(ends: Any, first: str, last: str) -> None:
    told = bars.bar(0.2, *ends, width=25)

    assert (told[0], told[-1]) == (first, last)
    assert len(told) == 25


def test_moments_are_given_from_now_on_or_in_full() -> None:
    now = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)

    assert moments.read("2h", now) == "2026-11-21T11:00:00+00:00"
    assert moments.read("2026-12-20T08:00:00+01:00").startswith("2026-12-20T")
    with pytest.raises(Failure, match="is no moment"):
        moments.read("tomorrow")
