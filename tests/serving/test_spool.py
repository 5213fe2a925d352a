"""What waits for the broker waits on disk: in order, bounded, the same however often it is sent."""

from __future__ import annotations

import errno
import gc
import os
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from services.serving.store.disk import DiskRefused, open_database
from services.serving.store.records import MARK, next_record, packed, record_at
from services.serving.store.spool import _TABLES, Spool
from shared import clock
from shared.broker import Message
from shared.errors import Saturated, StoreUnavailable


def a_message(text: str) -> Message:
    return Message(topic="t", key=b"k", value=text.encode())


class Hands:
    """A clock that moves when it is told to."""

    def __init__(self, at: float = 1_000_000.0) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(self.at, tz=UTC)


def opened(folder: Path, cap: int = 100_000, now: Callable[[], datetime] = clock.now) -> Spool:
    return Spool(folder / "spool.db", cap_bytes=cap, now=now, kept=timedelta(hours=16))


def reopened(spool: Spool) -> Spool:
    spool.close()
    return Spool(spool._path, cap_bytes=spool._cap, now=spool._now, kept=timedelta(hours=16))


def texts(spool: Spool) -> list[str]:
    """The rows of all batches, in order, after sealing everything."""
    while spool.seal(most_rows=10):
        pass
    return [row.decode() for batch in spool.batches(10**6) for row in batch.rows]


def told_gaps(spool: Spool) -> int:
    return sum(batch.gaps for batch in spool.batches(10**6))


def segments(spool: Spool) -> list[Path]:
    return [segment.path for segment in spool._journal.segments]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    found = opened(tmp_path)
    yield found
    found.close()


# --- messages ---------------------------------------------------------------------------------


def test_messages_leave_in_the_order_in_which_they_came(spool: Spool) -> None:
    for text in "abc":
        spool.keep_messages([a_message(text)])

    assert [o.message.value for o in spool.outgoing(10)] == [b"a", b"b", b"c"]


def test_what_is_acknowledged_is_forgotten_and_makes_room(spool: Spool) -> None:
    spool.keep_messages([a_message("abc"), a_message("d")])

    spool.forget(spool.outgoing(1))

    assert [o.message.value for o in spool.outgoing(10)] == [b"d"]
    assert spool.size_bytes == 1


def test_the_replicas_own_events_have_room_of_their_own(tmp_path: Path) -> None:
    spool = opened(tmp_path, cap=1_000)
    spool.keep_messages([a_message("x" * 1_000)])

    spool.keep_messages([a_message("own")], own=True)

    with pytest.raises(Saturated):
        spool.keep_messages([a_message("feedback")])
    spool.close()


def test_a_newer_message_of_a_slot_takes_the_place_of_the_one_that_waits(spool: Spool) -> None:
    spool.keep_messages([a_message("old")], slot="announced")
    in_flight = spool.outgoing(1)

    spool.keep_messages([a_message("newer")], slot="announced")
    spool.forget(in_flight)

    assert [o.message.value for o in spool.outgoing(10)] == [b"newer"]
    assert spool.size_bytes == len("newer")


# --- rows and batches -------------------------------------------------------------------------


def test_rows_leave_in_the_order_in_which_they_came(spool: Spool) -> None:
    spool.keep_rows([b"a", b"b"])
    spool.keep_rows([b"c"])

    assert texts(spool) == ["a", "b", "c"]


def test_a_batch_is_fixed_before_it_is_sent(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.keep_rows([b"1", b"2", b"3"])
    first.seal(most_rows=2)
    before = first.batches(10)

    again = reopened(first)
    again.keep_rows([b"4"])

    assert again.batches(10) == before
    assert again.waiting_rows == 2
    again.close()


def test_what_is_acknowledged_is_not_sent_again_after_a_restart(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.keep_rows([b"1", b"2", b"3"])
    first.seal(most_rows=2)
    first.forget([], first.batches(1))

    again = reopened(first)

    assert texts(again) == ["3"]
    again.close()


def test_numbers_are_never_given_twice_even_after_the_disk_is_lost(tmp_path: Path) -> None:
    hands = Hands(1_000.0)
    first = Spool(tmp_path / "a.db", cap_bytes=1, now=hands)
    given = [first.next_number("batch") for _ in range(3)]
    first.close()
    hands.at = 2_000.0
    second = Spool(tmp_path / "b.db", cap_bytes=1, now=hands)
    again = Spool(tmp_path / "a.db", cap_bytes=1, now=hands)

    assert given == [1_000_000, 1_000_001, 1_000_002]
    assert second.next_number("batch") == again.next_number("batch") == 2_000_000
    second.close()
    again.close()


def test_a_batch_stays_small_enough_for_one_event(tmp_path: Path) -> None:
    spool = opened(tmp_path, cap=10**7)
    spool.keep_rows([b"x" * 50_000] * 5)

    spool.seal(most_rows=100)

    assert spool.waiting_rows == 3
    spool.close()


def test_rows_of_one_answer_may_fill_many_batches_and_more_than_a_chunk(tmp_path: Path) -> None:
    spool = opened(tmp_path, cap=10**8)
    rows = [f"{number:0500d}".encode() for number in range(3_000)]
    spool.keep_rows(rows)
    spool.keep_rows([b"last"])

    assert texts(reopened(spool)) == [*[row.decode() for row in rows], "last"]


def test_rows_beyond_the_cap_are_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    spool = opened(tmp_path, cap=100)
    spool.keep_rows([b"12345678"])

    with pytest.raises(Saturated):
        spool.keep_rows([b"1", b"x" * 90])

    assert spool.waiting_rows == 1
    spool.close()


def test_the_cap_holds_whatever_comes_and_goes(tmp_path: Path) -> None:
    spool = opened(tmp_path, cap=50_000)
    refused = 0
    for number in range(3_000):
        try:
            spool.keep_rows([b"x" * 100])
        except Saturated:
            refused += 1
        if number % 100 == 99:
            spool.seal(most_rows=50)
            spool.forget([], spool.batches(1))
        assert sum(path.stat().st_size for path in segments(spool)) <= 50_000

    assert refused > 0
    spool.close()


def test_files_are_deleted_only_after_all_that_they_hold_is_acknowledged(tmp_path: Path) -> None:
    spool = opened(tmp_path, cap=16_000)  # a segment has a thousand bytes
    for number in range(40):
        spool.keep_rows([f"{number:0100d}".encode()])
    while spool.seal(most_rows=10):
        pass
    files = [len(segments(spool))]
    for batch in spool.batches(4):
        spool.forget([], [batch])
        files.append(len(segments(spool)))

    spool.tidy()

    assert files == [5, 4, 3, 2, 1]
    assert (segments(spool), spool.size_bytes) == ([], 0)
    spool.close()


# --- damage -----------------------------------------------------------------------------------


def test_a_torn_end_was_never_answered_and_is_no_gap(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.keep_rows([b"whole"])
    path = segments(spool)[0]
    with path.open("ab") as file:
        file.write(packed([b"never answered"], spool._journal.next)[:-3])

    again = reopened(spool)
    again.keep_rows([b"later"])

    assert (texts(again), told_gaps(again)) == (["whole", "later"], 0)
    again.close()


@pytest.mark.parametrize("at", [0, 2, 5, 9, 14, 25, 30, 33])
def test_a_damaged_record_is_skipped_and_its_rows_are_counted(tmp_path: Path, at: int) -> None:
    spool = opened(tmp_path)
    spool.keep_rows([b"first"])
    begin = segments(spool)[0].stat().st_size
    spool.keep_rows([b"lost", b"lost too"])
    spool.keep_rows([b"third"])
    damage(segments(spool)[0], begin + at)

    again = reopened(spool)

    assert (texts(again), told_gaps(again), again.gaps) == (["first", "third"], 2, 2)
    again.close()


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def test_damage_at_the_end_is_counted_too(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.keep_rows([b"first"])
    spool.keep_rows([b"lost", b"lost too"])
    damage(segments(spool)[0], segments(spool)[0].stat().st_size - 1)

    again = reopened(spool)
    again.keep_rows([b"later"])

    assert (texts(again), told_gaps(again)) == (["first", "later"], 2)
    again.close()


def test_files_that_somebody_deleted_are_counted(tmp_path: Path) -> None:
    spool = opened(tmp_path, cap=16_000)
    for number in range(40):
        spool.keep_rows([f"{number:0100d}".encode()])
    middle = segments(spool)[2]
    spool.close()
    middle.unlink()

    again = opened(tmp_path, cap=16_000)

    kept = [int(text) for text in texts(again)]
    assert kept == sorted(kept)
    assert len(kept) + told_gaps(again) == 40
    assert 0 < told_gaps(again) < 10
    again.close()


def test_rows_of_a_sealed_batch_that_are_damaged_later_are_counted_once(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.keep_rows([b"first"])
    begin = segments(spool)[0].stat().st_size
    spool.keep_rows([b"lost"])
    spool.seal(most_rows=10)
    damage(segments(spool)[0], begin + 30)

    again = reopened(reopened(spool))

    assert (texts(again), told_gaps(again), again.gaps) == (["first"], 1, 1)
    again.close()


def test_without_its_database_the_journal_is_told_from_its_beginning(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.keep_rows([b"1"])
    spool.close()
    (tmp_path / "spool.db").write_bytes(b"this is no database" * 100)

    again = opened(tmp_path)
    again.keep_rows([b"2"])

    assert (tmp_path / "spool.damaged").exists()
    assert texts(again) == ["1", "2"]
    again.close()


def test_without_its_totals_nothing_is_lost_or_told_twice(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.keep_rows([b"1"])
    spool.note_unkept(5)
    texts(spool)
    spool.forget([], spool.batches(10))
    spool.keep_rows([b"2"])
    spool.close()
    (tmp_path / "spool" / "totals").unlink()

    again = opened(tmp_path)
    again.note_unkept(2)

    assert (texts(again), told_gaps(again)) == (["2"], 2)
    again.close()


def test_another_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool._connection.execute("pragma user_version = 99")
    spool.close()

    with pytest.raises(DiskRefused, match="format 99"):
        opened(tmp_path)


def test_rows_of_an_earlier_release_are_told(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "spool.db", _TABLES, synchronous="normal")
    old = orjson.dumps([["load"], {"id": "p-1"}])
    connection.execute("insert into waiting (value) values (?)", (old,))
    connection.close()

    spool = reopened(opened(tmp_path))

    assert texts(spool) == ['["load"]\n{"id":"p-1"}']
    spool.close()


# --- a full disk ------------------------------------------------------------------------------


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """No file of this process grows beyond so many bytes: what a full disk does to a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(most: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def keep_for_ever(spool: Spool) -> None:
    for _ in range(1_000):
        spool.keep_rows([b"x" * 700])


def test_a_full_disk_is_a_full_spool_and_leaves_whole_records(
    tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    spool = opened(tmp_path, cap=10**9)
    small_files(100_000)
    with pytest.raises(Saturated):
        keep_for_ever(spool)
    kept = spool.waiting_rows
    small_files(resource.RLIM_INFINITY)
    spool.keep_rows([b"later"])

    again = reopened(spool)

    found = texts(again)
    assert 0 < kept < 1_000
    assert (len(found), found[-1], told_gaps(again)) == (kept + 1, "later", 0)
    again.close()


def test_a_batch_that_the_disk_does_not_take_goes_on_waiting(spool: Spool) -> None:
    spool.keep_rows([b"1"])
    spool._connection.execute("pragma query_only = 1")
    with pytest.raises(StoreUnavailable):
        spool.seal(most_rows=1)

    spool._connection.execute("pragma query_only = 0")

    assert texts(spool) == ["1"]


def test_what_had_no_room_is_counted_and_told_by_the_next_batch(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.note_unkept(3)

    again = reopened(spool)
    again.seal(most_rows=10)
    again.note_unkept(2)

    assert again.seal(most_rows=10)
    assert not again.seal(most_rows=10)
    assert [batch.gaps for batch in again.batches(10)] == [3, 2]
    again.close()


# --- age --------------------------------------------------------------------------------------


def test_rows_that_waited_too_long_are_given_up_and_counted(tmp_path: Path) -> None:
    hands = Hands()
    spool = opened(tmp_path, now=hands)
    spool.keep_rows([b"old", b"old too"])
    spool.seal(most_rows=1)
    hands.at += 15.5 * 3600
    spool.keep_rows([b"young"])
    hands.at += 3600

    spool.tidy()

    assert (texts(spool), told_gaps(spool), spool.gaps) == (["young"], 2, 2)
    again = reopened(spool)
    assert (texts(again), told_gaps(again)) == (["young"], 2)
    again.close()


def test_gaps_that_a_given_up_batch_was_to_tell_are_told_by_the_next(tmp_path: Path) -> None:
    hands = Hands()
    spool = opened(tmp_path, now=hands)
    spool.note_unkept(5)
    spool.keep_rows([b"old"])
    spool.seal(most_rows=1)
    hands.at += 17 * 3600

    spool.tidy()
    spool.seal(most_rows=1)

    assert told_gaps(spool) == 6
    spool.close()


def test_rows_whose_log_is_required_are_never_given_up(tmp_path: Path) -> None:
    hands = Hands()
    spool = opened(tmp_path, now=hands)
    spool.keep_rows([b"may go"])
    spool.keep_rows([b"must stay"], is_required=True)
    for path in segments(spool):
        os.utime(path, (0, 0))

    spool = reopened(spool)
    spool.tidy()

    assert (texts(spool), told_gaps(spool)) == (["must stay"], 1)
    spool.close()


# --- syncing, records, speed ------------------------------------------------------------------


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_syncing_keeps_everything_and_lets_go_of_its_handles(tmp_path: Path) -> None:
    spool = opened(tmp_path, cap=16_000)
    handles = []
    for number in range(40):
        spool.keep_rows([f"{number:0100d}".encode()])
        spool.sync()
        handles.append(open_files())

    assert len(set(handles)) == 1
    assert len(texts(spool)) == 40
    spool.close()


def test_each_answer_can_be_synced_before_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    spool = Spool(tmp_path / "spool.db", cap_bytes=10**6, now=clock.now, sync_seconds=0)

    spool.keep_rows([b"1"])
    spool.keep_rows([b"2"])

    assert len(synced) == 2
    spool.close()


def test_a_record_is_found_behind_any_bytes() -> None:
    record = packed([b"a", b"", b"bc"], 7)

    found, offset = next_record(b"\x00" + MARK + b"rubbish" + record, 0)

    assert found is not None
    assert (found.first, list(found.rows), offset) == (7, [b"a", b"", b"bc"], 12)
    assert record_at(record[:-1], 0) is None
    assert next_record(b"nothing", 0) == (None, 7)


def test_keeping_a_row_is_one_quick_write(tmp_path: Path) -> None:
    spool = opened(tmp_path, cap=10**8)
    row = b"x" * 400
    best = min(timed(lambda: spool.keep_rows([row]), 500) for _ in range(5))

    assert best < 200e-6
    spool.close()


def timed(work: Callable[[], None], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times


def test_a_disk_that_fails_refuses_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(tmp_path)
    spool.keep_rows([b"1"])
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", _failing)
        with pytest.raises(Saturated):
            spool.keep_rows([b"2"])

    spool.keep_rows([b"3"])

    assert (texts(spool), told_gaps(spool)) == (["1", "3"], 0)
    spool.close()


def _failing(_file: int, _data: bytes) -> int:
    raise OSError(errno.EIO, "the disk fails")


def test_a_spool_that_is_let_go_closes_its_database(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", cap_bytes=10**6, now=clock.now)
    connection = spool._connection

    del spool
    gc.collect()

    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("select 1")
