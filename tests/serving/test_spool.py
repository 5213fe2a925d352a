"""What waits for the broker waits on disk: in order, bounded, the same however often it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.serving.store.disk import DiskRefused
from services.serving.store.spool import Spool
from shared import clock
from shared.broker import Message
from shared.errors import Saturated, StoreUnavailable


def a_message(text: str) -> Message:
    return Message(topic="t", key=b"k", value=text.encode())


def joined(number: int, rows: list[bytes]) -> Message:
    return Message(topic="t", key=str(number).encode(), value=b"|".join(rows))


def keep_for_ever(spool: Spool) -> None:
    for _ in range(1_000):
        spool.keep_rows([b"x" * 4_000])


def opened(folder: Path, cap: int = 100_000) -> Spool:
    return Spool(folder / "spool.db", cap_bytes=cap, now=clock.now)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    found = opened(tmp_path)
    yield found
    found.close()


def test_messages_leave_in_the_order_in_which_they_came(spool: Spool) -> None:
    for text in "abc":
        spool.keep_messages([a_message(text)])

    assert [o.message.value for o in spool.outgoing(10)] == [b"a", b"b", b"c"]


def test_what_is_acknowledged_is_forgotten_and_makes_room(spool: Spool) -> None:
    spool.keep_messages([a_message("abc"), a_message("d")])

    spool.forget(spool.outgoing(1))

    assert [o.message.value for o in spool.outgoing(10)] == [b"d"]
    assert spool.size_bytes == 1


def test_a_batch_is_fixed_before_it_is_sent(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.keep_rows([b"1", b"2", b"3"])
    first.seal(joined, most_rows=2)
    before = first.outgoing(10)
    first.close()

    again = opened(tmp_path)
    again.keep_rows([b"4"])

    assert again.outgoing(10) == before
    assert again.waiting_rows == 2
    again.close()


def test_numbers_are_never_given_twice_even_after_the_disk_is_lost(tmp_path: Path) -> None:
    moments = iter([1_000.0, 2_000.0])

    def later() -> object:
        return clock.now().fromtimestamp(next(moments), tz=clock.now().tzinfo)

    first = Spool(tmp_path / "a.db", cap_bytes=1, now=later)  # type: ignore[arg-type]
    given = [first.next_number("batch") for _ in range(3)]
    first.close()
    second = Spool(tmp_path / "b.db", cap_bytes=1, now=later)  # type: ignore[arg-type]

    assert given == [1_000_000, 1_000_001, 1_000_002]
    assert second.next_number("batch") == 2_000_000
    second.close()


def test_rows_beyond_the_cap_are_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    spool = opened(tmp_path, cap=10)
    spool.keep_rows([b"12345678"])

    with pytest.raises(Saturated):
        spool.keep_rows([b"1", b"12345"])

    assert (spool.waiting_rows, spool.size_bytes) == (1, 8)
    spool.close()


def test_the_replicas_own_events_have_room_of_their_own(tmp_path: Path) -> None:
    spool = opened(tmp_path, cap=1_000)
    spool.keep_rows([b"x" * 1_000])

    spool.keep_messages([a_message("own")], own=True)

    with pytest.raises(Saturated):
        spool.keep_messages([a_message("feedback")])
    spool.close()


def test_a_full_file_system_is_a_full_spool(tmp_path: Path) -> None:
    spool = opened(tmp_path, cap=10**9)
    spool._connection.execute("pragma max_page_count = 12")

    with pytest.raises(Saturated):
        keep_for_ever(spool)

    assert spool.size_bytes == spool._sizes("waiting")[1]
    spool.close()


def test_a_file_system_that_is_full_stops_nobody_for_good(tmp_path: Path) -> None:
    spool = opened(tmp_path, cap=10**9)
    spool._connection.execute("pragma max_page_count = 12")
    with pytest.raises(Saturated):
        keep_for_ever(spool)
    with pytest.raises(StoreUnavailable):
        spool.seal(lambda _, rows: a_message("x" * 60_000 + str(rows)), most_rows=1)
    waiting = spool.waiting_rows

    spool._connection.execute("pragma max_page_count = 1000000")
    while spool.seal(joined, most_rows=10):
        pass

    kept = b"|".join(o.message.value or b"" for o in spool.outgoing(1_000))
    assert kept.count(b"|") + 1 == waiting
    spool.close()


def test_a_newer_message_of_a_slot_takes_the_place_of_the_one_that_waits(spool: Spool) -> None:
    spool.keep_messages([a_message("old")], slot="announced")
    in_flight = spool.outgoing(1)

    spool.keep_messages([a_message("newer")], slot="announced")
    spool.forget(in_flight)

    assert [o.message.value for o in spool.outgoing(10)] == [b"newer"]
    assert spool.size_bytes == len("newer")


def test_a_batch_stays_small_enough_for_one_event(tmp_path: Path) -> None:
    spool = opened(tmp_path, cap=10**7)
    spool.keep_rows([b"x" * 50_000] * 5)

    spool.seal(joined, most_rows=100)

    assert spool.waiting_rows == 3
    spool.close()


def test_checkpoints_keep_everything(spool: Spool) -> None:
    spool.keep_rows([b"1", b"2"])

    spool.checkpoint()

    assert spool.seal(joined, most_rows=10)
    assert spool.outgoing(1)[0].message.value == b"1|2"


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"this is no database" * 100)

    spool = opened(tmp_path)
    spool.keep_rows([b"1"])

    assert (tmp_path / "spool.damaged").exists()
    assert spool.waiting_rows == 1
    spool.close()


def test_another_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool._connection.execute("pragma user_version = 99")
    spool.close()

    with pytest.raises(DiskRefused, match="format 99"):
        opened(tmp_path)
