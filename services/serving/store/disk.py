"""Desired states, positions and artifacts of one replica.

Two states are kept of each model: the newest one heard and the last one that could be applied, so
that a restart answers as before even when the newest one is of no use.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from services.serving.store.asking import Asking
from shared import codec, telemetry
from shared.artifacts import digest_of_file
from shared.clock import Clock
from shared.errors import StoreUnavailable, TidewheelError
from shared.events import DeploymentDesired, Digest, Event, Heard, ModelName

DISK_FORMAT: Final = 1
"""Of the whole folder. A folder of another format is not touched."""

_TABLES: Final = """
create table if not exists desired (
    model text primary key,
    generation integer not null,
    wanted blob not null,
    applied blob
) strict;
create table if not exists positions (
    topic text not null,
    partition integer not null,
    position integer not null,
    primary key (topic, partition)
) strict;
"""


class DiskRefused(TidewheelError):
    """The folder cannot be used; the service does not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """The states that are kept of one model."""

    wanted: Heard[DeploymentDesired]
    applied: Heard[DeploymentDesired] | None


class Disk:
    """The folder of one replica, held alone for as long as the process lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _held_alone(folder / "lock")
        self._hung = folder / "hung"
        self._artifacts = folder / "artifacts"
        self._artifacts.mkdir(exist_ok=True, mode=0o700)
        for leftover in self._artifacts.glob(".fetch-*"):
            leftover.unlink(missing_ok=True)
        # Not synced to the disk one by one: what a power cut takes comes again from the broker,
        # because the positions, written later, are taken first.
        self.asking = Asking(folder)
        self._state = open_database(folder / "state.db", _TABLES, synchronous="normal")

    def close(self) -> None:
        """Let go of the folder, in order."""
        self.asking.clear()
        self._state.close()
        os.close(self._lock)

    # --- desired states

    def remembered(self) -> dict[ModelName, Remembered]:
        """Every model's states; what this code cannot read comes again from the broker."""
        found: dict[ModelName, Remembered] = {}
        for model, wanted, applied in self._state.execute(
            "select model, wanted, applied from desired order by model"
        ):
            state = _read(wanted)
            if state is not None:
                kept = None if applied is None else _read(applied)
                found[ModelName(model)] = Remembered(wanted=state, applied=kept)
        return found

    def keep_wanted(self, heard: Heard[DeploymentDesired]) -> bool:
        """Keep a desired state if it is newer than the one that is kept; whether it was."""
        event: Heard[Event] = cast("Heard[Event]", heard)
        with transaction(self._state):
            changed = self._state.execute(
                "insert into desired (model, generation, wanted) values (?, ?, ?) "
                "on conflict (model) do update set generation = excluded.generation, "
                "wanted = excluded.wanted where excluded.generation > desired.generation",
                (heard.event.model, heard.event.generation, codec.encode(event)),
            )
        return changed.rowcount > 0

    def keep_applied(self, heard: Heard[DeploymentDesired]) -> None:
        """Keep the state by which the model is answered from now on."""
        event: Heard[Event] = cast("Heard[Event]", heard)
        with transaction(self._state):
            self._state.execute(
                "update desired set applied = ? where model = ?",
                (codec.encode(event), heard.event.model),
            )

    # --- positions

    def positions(self, topic: str) -> dict[int, int]:
        """The next offset of each partition."""
        rows = self._state.execute(
            "select partition, position from positions where topic = ?", (topic,)
        )
        return dict(rows.fetchall())

    def keep_positions(self, topic: str, positions: Mapping[int, int]) -> None:
        """Keep where to go on; after what was heard up to there is kept itself."""
        with transaction(self._state):
            self._state.executemany(
                "insert or replace into positions (topic, partition, position) values (?, ?, ?)",
                [(topic, partition, position) for partition, position in positions.items()],
            )

    # --- artifacts

    def place_of(self, digest: Digest) -> Path:
        """Where an artifact lies, or would."""
        return self._artifacts / digest

    def has(self, digest: Digest) -> bool:
        """Whether an artifact is here and whole; a damaged one is removed.

        Being asked for counts as use, which keeps it from being swept.
        """
        place = self.place_of(digest)
        try:
            if digest_of_file(place) == digest:
                os.utime(place)
                return True
        except FileNotFoundError:
            return False
        telemetry.log("artifact_damaged", level="error", digest=digest)
        place.unlink(missing_ok=True)
        return False

    def mark_hung(self, digest: Digest) -> None:
        """Remember across the end of this process that a version held it up."""
        self._hung.mkdir(exist_ok=True, mode=0o700)
        (self._hung / digest).touch()

    def has_hung(self, digest: Digest) -> bool:
        """Whether a version once held up the process; forgotten when it is swept."""
        return (self._hung / digest).exists()

    def sweep(self, named: Iterable[Digest], *, kept_hours: float, now: Clock) -> list[Digest]:
        """Remove artifacts that nobody names and nobody used for so long."""
        keep = frozenset(named)
        oldest = now().timestamp() - kept_hours * 3600
        swept = []
        for place in self._artifacts.iterdir():
            if place.name not in keep and place.stat().st_mtime < oldest:
                place.unlink(missing_ok=True)
                (self._hung / place.name).unlink(missing_ok=True)
                swept.append(Digest(place.name))
        return swept


def _read(value: bytes) -> Heard[DeploymentDesired] | None:
    try:
        heard = codec.decode(value)
    except TidewheelError as error:
        telemetry.log("state_not_read", level="error", reason=str(error))
        return None
    return (
        cast("Heard[DeploymentDesired]", heard)
        if isinstance(heard.event, DeploymentDesired)
        else None
    )


def _held_alone(place: Path) -> int:
    handle = os.open(place, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise DiskRefused(
            f"another process uses {place.parent}; give each replica a folder of its own"
        ) from error
    return handle


# --- databases of this folder -----------------------------------------------------------------


def open_database(path: Path, tables: str, *, synchronous: str) -> sqlite3.Connection:
    """A database of this folder. A damaged one is set aside: the log brings its content back.

    Raises:
        DiskRefused: it has another format.
    """
    try:
        return _opened(path, tables, synchronous)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and "unable to open" in str(error):
            raise DiskRefused(f"{path} cannot be opened: {error}") from error
        telemetry.log("database_set_aside", level="error", path=str(path), reason=str(error))
        path.replace(path.with_suffix(".damaged"))
        for rest in ("-wal", "-shm"):
            path.with_name(path.name + rest).unlink(missing_ok=True)
        return _opened(path, tables, synchronous)


def _opened(path: Path, tables: str, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("pragma journal_mode = wal")
        connection.execute(f"pragma synchronous = {synchronous}")
        _check_format(path, connection.execute("pragma user_version").fetchone()[0])
        connection.executescript(tables)
        connection.execute(f"pragma user_version = {DISK_FORMAT}")
        connection.execute("pragma quick_check(1)")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_format(path: Path, found: int) -> None:
    if found not in (0, DISK_FORMAT):
        raise DiskRefused(
            f"{path} has the format {found}, this version knows {DISK_FORMAT}; "
            "give it an empty folder, or start the version that wrote it"
        )


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing.

    Raises:
        StoreUnavailable: the file system is full or broken; nothing was kept.
    """
    try:
        connection.execute("begin immediate")
        yield
        connection.execute("commit")
    except BaseException as error:
        if connection.in_transaction:  # a full disk ends the transaction by itself
            connection.execute("rollback")
        if isinstance(error, sqlite3.OperationalError):
            raise StoreUnavailable(f"this replica's disk does not take it: {error}") from error
        raise
