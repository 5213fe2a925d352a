"""Desired states, positions and artifacts of one replica.

Two states are kept of each model: the newest one heard and the last one that could be applied, so
that a restart answers as before even when the newest one is of no use.

The artifacts may be shared with other replicas of this machine: they lie under their digests, and
each appears there in one step.
"""

import contextlib
import fcntl
import os
import sqlite3
import sys
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Final, cast

import orjson

from services.serving.store.asking import Asking
from shared import codec, telemetry
from shared.artifacts import digest_of, digest_of_file
from shared.clock import Clock
from shared.errors import ArtifactCorrupt, NotFound, StoreUnavailable, TidewheelError
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
create table if not exists recent (
    model text primary key,
    place integer not null
) strict;
"""
_NOTE_RECENT: Final = (
    "insert or replace into recent (model, place) "
    "values (?, cast(julianday('now') * 86400000 as integer) - ?)"
)
MOST_RECENT: Final = 32
"""Models that are remembered as asked of late."""
LEFT_BEHIND_SECONDS: Final = 3600.0
"""A fetch that has gone on for so long has been left by a process that died."""


class DiskRefused(TidewheelError):
    """The folder cannot be used; the service does not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """The states that are kept of one model."""

    wanted: Heard[DeploymentDesired]
    applied: Heard[DeploymentDesired] | None


@dataclass(slots=True, kw_only=True)
class Known:
    """A model as it is known while nobody asks it; there may be very many.

    Attributes:
        generation: of the newest desired state.
        answering: of the state by which it is answered; None while that has to be brought yet.
        is_applied: whether the newest state was brought into effect whole.
    """

    owner: str
    generation: int
    answering: int | None
    is_applied: bool = False


class Disk:
    """The folder of one replica, held alone for as long as the process lives."""

    def __init__(self, folder: Path, artifacts: Path | None = None) -> None:
        """Take the folder.

        Args:
            artifacts: another folder for them, which other replicas may use too.

        Raises:
            DiskRefused: another process uses it, or it is of another format.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _held_alone(folder / "lock")
        self._hung = folder / "hung"
        self.artifacts = artifacts or folder / "artifacts"
        self.artifacts.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_left_behind(self.artifacts)
        # Not synced to the disk one by one: what a power cut takes comes again from the broker,
        # because the positions, written later, are taken first.
        self.asking = Asking(folder)
        self._state = open_database(folder / "state.db", _TABLES, synchronous="normal")
        closed_with(self, self._state)

    def close(self) -> None:
        """Let go of the folder, in order."""
        self.asking.clear()
        self._state.close()
        os.close(self._lock)

    # --- desired states

    def known(self) -> Iterator[tuple[ModelName, Known]]:
        """Every model, as far as it has to be known before somebody asks it."""
        for model, generation, wanted, applied in self._state.execute(
            "select model, generation, wanted, applied from desired"
        ):
            try:
                owner = str(orjson.loads(wanted)["data"].get("owner", ""))
                before = None if applied is None else int(_generation_in(applied))
            except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
                telemetry.log("state_not_read", level="error", model=model, reason=str(error))
                continue
            known = Known(
                owner=sys.intern(owner),
                generation=generation,
                answering=generation if before is None else before,
                is_applied=before == generation,
            )
            yield ModelName(model), known

    def remembered(self, model: ModelName) -> Remembered | None:
        """A model's states; what this code cannot read comes again from the broker."""
        row = self._state.execute(
            "select wanted, applied from desired where model = ?", (model,)
        ).fetchone()
        wanted = None if row is None else _read(row[0])
        if wanted is None:
            return None
        applied = None if row[1] is None else _read(row[1])
        return Remembered(wanted=wanted, applied=applied)

    def answering(self, model: ModelName) -> Heard[DeploymentDesired] | None:
        """The state by which a model is answered: the last one applied, else the newest."""
        row = self._state.execute(
            "select coalesce(applied, wanted) from desired where model = ?", (model,)
        ).fetchone()
        return None if row is None else _read(row[0])

    def states(self) -> Iterator[bytes]:
        """Every state that is kept, as it is written; for a thread, on a connection of its own."""
        connection = sqlite3.connect(self.folder / "state.db")
        try:
            for states in connection.execute("select wanted, applied from desired"):
                yield from (state for state in states if state is not None)
        finally:
            connection.close()

    def recent(self) -> list[ModelName]:
        """The models that were asked or changed last, the latest first."""
        rows = self._state.execute(
            "select model from recent order by place desc limit ?", (MOST_RECENT,)
        )
        return [ModelName(model) for (model,) in rows.fetchall()]

    def keep_recent(self, models: Sequence[ModelName]) -> None:
        """Keep them, the latest first.

        Raises:
            StoreUnavailable: the disk does not take it; nothing else depends on it.
        """
        with transaction(self._state):
            self._state.execute("delete from recent")
            self._state.executemany(
                _NOTE_RECENT, [(model, i) for i, model in enumerate(models[:MOST_RECENT])]
            )

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
            self._state.execute(_NOTE_RECENT, (heard.event.model, 0))

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
        return self.artifacts / digest

    def read(self, digest: Digest) -> bytes:
        """The bytes of an artifact that is here, checked; a damaged one is removed.

        Raises:
            NotFound: it is not here.
            ArtifactCorrupt: it was damaged.
        """
        try:
            return read_whole(self.artifacts, digest)
        except ArtifactCorrupt:
            telemetry.log("artifact_damaged", level="error", digest=digest)
            self.place_of(digest).unlink(missing_ok=True)
            raise

    def touch(self, digests: Iterable[Digest]) -> None:
        """These were used, which keeps them from being swept."""
        for digest in digests:
            with contextlib.suppress(OSError):
                os.utime(self.place_of(digest))

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
        for place in self.artifacts.iterdir():
            if place.name not in keep and _changed_at(place) < oldest:
                place.unlink(missing_ok=True)
                (self._hung / place.name).unlink(missing_ok=True)
                swept.append(Digest(place.name))
        return swept


def read_whole(artifacts: Path, digest: Digest) -> bytes:
    """The bytes of an artifact in this folder, checked.

    Raises:
        NotFound: it is not there.
        ArtifactCorrupt: these are other bytes.
    """
    try:
        data = (artifacts / digest).read_bytes()
    except OSError as error:
        raise NotFound(f"{digest} cannot be read here: {error}") from error
    found = digest_of(data)
    if found != digest:
        raise ArtifactCorrupt(digest, found)
    return data


def _remove_left_behind(artifacts: Path) -> None:
    """Other replicas may be fetching at this moment; what is old has been left."""
    oldest = time.time() - LEFT_BEHIND_SECONDS  # noqa: TID251 - compared with the file system's time
    for leftover in artifacts.glob(".fetch-*"):
        if _changed_at(leftover) < oldest:
            leftover.unlink(missing_ok=True)


def _changed_at(place: Path) -> float:
    """When a file was written or used last; a file that has gone is as new as can be."""
    try:
        return place.stat().st_mtime
    except OSError:
        return inf


def _generation_in(state: bytes) -> int:
    generation: int = orjson.loads(state)["data"]["generation"]
    return generation


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


_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def open_database(path: Path, tables: str, *, synchronous: str) -> sqlite3.Connection:
    """A database of this folder. A damaged one is set aside: the log brings its content back.

    A full disk is no damage: what is in the database can be read all the same.

    Raises:
        DiskRefused: it has another format, or cannot be opened.
    """
    try:
        return _opened(path, tables, synchronous)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF not in _DAMAGED:
            telemetry.log("disk_not_writable", level="error", path=str(path), reason=str(error))
            return _opened_alone(path, tables, synchronous)
        telemetry.log("database_set_aside", level="error", path=str(path), reason=str(error))
        path.replace(path.with_suffix(".damaged"))
        for rest in ("-wal", "-shm"):
            path.with_name(path.name + rest).unlink(missing_ok=True)
        return _opened(path, tables, synchronous)


def closed_with(owner: object, connection: sqlite3.Connection) -> None:
    """Close the connection with its owner at the latest: Python 3.13 warns of an open one."""
    weakref.finalize(owner, connection.close).atexit = False


def _opened_alone(path: Path, tables: str, synchronous: str) -> sqlite3.Connection:
    """Without the file that several connections share, for which there is no room."""
    try:
        return _opened(path, tables, synchronous, locking="exclusive")
    except sqlite3.DatabaseError as error:
        raise DiskRefused(f"{path} cannot be opened: {error}") from error


def _opened(
    path: Path, tables: str, synchronous: str, *, locking: str = "normal"
) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"pragma locking_mode = {locking}")
        connection.execute("pragma journal_mode = wal")
        connection.execute(f"pragma synchronous = {synchronous}")
        found = connection.execute("pragma user_version").fetchone()[0]
        _check_format(path, found)
        connection.executescript(tables)
        if found != DISK_FORMAT:
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
