"""The chain as a pure thing: whatever is done to a log, it is found."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from services.registry.audit import GENESIS, Anchor, Link, link_of, verify

LENGTH = 300
EVERY = 25
"""Rows between two anchors."""


def chained(rows: list[tuple[int, str]], previous: str = GENESIS) -> list[Link]:
    links = []
    for position, row in rows:
        previous = link_of(previous, row)
        links.append(Link(position=position, row=row, chain=previous))
    return links


def a_log() -> list[Link]:
    """Positions have gaps, as those of a sequence do."""
    return chained([(3 * n + 1, f'[{3 * n + 1}, "fact {n}"]') for n in range(LENGTH)])


def anchors_of(log: list[Link]) -> list[Anchor]:
    told = [*log[EVERY - 1 :: EVERY], log[-1]]
    return [Anchor(position=link.position, chain=link.chain or "") for link in told]


def delete(log: list[Link], at: int, _: random.Random) -> list[Link]:
    return log[:at] + log[at + 1 :]


def alter_row(log: list[Link], at: int, chance: random.Random) -> list[Link]:
    row = log[at].row or ""
    place = chance.randrange(len(row))
    changed = row[:place] + chr(ord(row[place]) ^ 1) + row[place + 1 :]
    return [*log[:at], replace(log[at], row=changed), *log[at + 1 :]]


def alter_link(log: list[Link], at: int, chance: random.Random) -> list[Link]:
    chain = f"{int(log[at].chain or '0', 16) ^ (1 << chance.randrange(256)):064x}"
    return [*log[:at], replace(log[at], chain=chain), *log[at + 1 :]]


def insert(log: list[Link], at: int, _: random.Random) -> list[Link]:
    """With a link that fits the one before it."""
    before = log[at - 1].chain if at else GENESIS
    position = log[at].position - 1
    row = f'[{position}, "never said"]'
    forged = Link(position=position, row=row, chain=link_of(before or "", row))
    return [*log[:at], forged, *log[at:]]


def reorder(log: list[Link], at: int, chance: random.Random) -> list[Link]:
    """Two rows change places, each at the other's position."""
    other = chance.choice([n for n in range(len(log)) if n != at])
    moved = list(log)
    moved[at] = replace(log[other], position=log[at].position)
    moved[other] = replace(log[at], position=log[other].position)
    return moved


def truncate(log: list[Link], at: int, _: random.Random) -> list[Link]:
    return log[:at]


def rewrite(log: list[Link], at: int, _: random.Random) -> list[Link]:
    """Whoever owns the database changes a row and computes everything behind it anew."""
    before = log[at - 1].chain if at else GENESIS
    rows = [(link.position, link.row or "") for link in log[at:]]
    rows[0] = (rows[0][0], f'[{rows[0][0]}, "never said"]')
    return log[:at] + chained(rows, before or "")


TAMPERINGS: list[Callable[[list[Link], int, random.Random], list[Link]]] = [
    delete,
    alter_row,
    alter_link,
    insert,
    reorder,
    truncate,
    rewrite,
]


def test_a_log_that_nobody_touched_is_whole() -> None:
    log = a_log()

    verified = verify(log, anchors_of(log))

    assert verified.is_whole
    assert (verified.rows, verified.anchors) == (LENGTH, LENGTH // EVERY)
    assert verified.head == anchors_of(log)[-1]


def test_an_empty_log_is_whole_and_has_no_head() -> None:
    assert verify([], []).is_whole
    assert verify([], []).head is None


def test_tampering_at_a_thousand_random_places_is_found_a_thousand_times(seed: int) -> None:
    chance = random.Random(seed)
    log = a_log()
    anchors = anchors_of(log)

    missed = []
    for number in range(1_000):
        tamper = TAMPERINGS[number % len(TAMPERINGS)]
        at = chance.randrange(LENGTH)
        if verify(tamper(log, at, chance), anchors).is_whole:
            missed.append((tamper.__name__, at))

    assert missed == []


def test_a_chain_computed_anew_is_found_by_its_anchors_alone() -> None:
    log = a_log()
    forged = rewrite(log, 10, random.Random(0))

    assert verify(forged, []).is_whole
    verified = verify(forged, anchors_of(log))

    assert {fault.what for fault in verified.faults} == {"anchor"}
    assert verified.faults[0].position == log[EVERY - 1].position


def test_what_was_cut_off_is_named_by_the_anchor_that_knew_it() -> None:
    log = a_log()

    verified = verify(log[:-1], anchors_of(log))

    assert [(fault.what, fault.position) for fault in verified.faults] == [
        ("cut", log[-1].position)
    ]


def test_a_fault_is_found_where_it_is_and_only_there() -> None:
    log = a_log()

    verified = verify(alter_row(log, 7, random.Random(1)), anchors_of(log))

    assert [fault.position for fault in verified.faults] == [log[7].position]


@pytest.mark.parametrize(("part", "what"), [("row", "removed"), ("chain", "unlinked")])
def test_half_a_row_is_named(part: str, what: str) -> None:
    log = a_log()
    half = replace(log[4], **{part: None})  # type: ignore[arg-type] # one of two names

    verified = verify([*log[:4], half, *log[5:]], [])

    assert verified.faults[0].what == what


def test_of_very_many_faults_the_first_are_kept_and_all_are_counted() -> None:
    rows = [Link(position=n + 1, row="x", chain="0" * 64) for n in range(500)]

    verified = verify(rows, [])

    assert (len(verified.faults), verified.found) == (100, 500)
