"""Sketches of windows, and what was found in them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import orjson

from services.drift_monitor.detection import Comparison
from services.drift_monitor.memory import Key, Slot
from services.drift_monitor.windows import Open, Window
from shared.events import Digest, Json, ModelName
from shared.postgres import Database, Row

Place = tuple[str, int, int]
"""Model, version, number of a window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the windows of a version are.

    Attributes:
        newest: number of the newest window, 0 when there is none.
        opened: windows that are being filled, by season.
    """

    newest: int
    opened: dict[str, Open] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A window as it is saved.

    Attributes:
        sketch: as bytes.
    """

    key: Key
    window: Open
    sketch: bytes
    is_closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A window as it is kept, with the verdict about it.

    Attributes:
        counts: its sketch as bytes.
        digest: of the sketch, as it was said.
        alpha: None while it was not compared.
    """

    season: str
    rows: int
    counts: bytes
    digest: Digest | None
    severity: str | None
    mode: str | None
    alpha: float | None
    detail: str | None
    features: list[Json] | None


class SketchTable:
    """One row per window; one per version and season is open."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def progress(
        self, keys: Collection[Key], seasons: Collection[str]
    ) -> dict[Key, Progress]:
        """Of versions that are known: the newest window, and those open in these seasons."""
        rows = await self.database.fetch(
            "select v.model, v.version, v.newest, w.season, w.number, w.rows, w.begun_at, "
            "w.started_at, w.ended_at, w.absent "
            "from unnest($1::text[], $2::int[]) as k (model, version) "
            "join version v using (model, version) "
            # One look-up each, whatever the planner knows of a table that changes all the time.
            "left join lateral (select * from window_sketch o where o.model = v.model "
            "and o.version = v.version and o.closed_at is null and o.season = any($3::text[]) "
            "offset 0) w on true",
            *_columns(keys),
            list(seasons),
        )
        found: dict[Key, Progress] = {}
        for row in rows:
            key = (row["model"], row["version"])
            progress = found.setdefault(key, Progress(newest=row["newest"]))
            if row["number"] is not None:
                progress.opened[row["season"]] = _open(row)
        return found

    async def sketches(self, places: Collection[Place]) -> dict[Place, bytes]:
        """What is saved of these windows."""
        rows = await self.database.fetch(
            "select model, version, number, counts from window_sketch "
            "join unnest($1::text[], $2::int[], $3::int[]) as k (model, version, number) "
            "using (model, version, number)",
            [model for model, _, _ in places],
            [version for _, version, _ in places],
            [number for _, _, number in places],
        )
        return {(row["model"], row["version"], row["number"]): row["counts"] for row in rows}

    async def closed(self, places: Collection[Place]) -> set[Place]:
        """Those of the windows that are closed; of the others nothing is said yet."""
        if not places:
            return set()
        rows = await self.database.fetch(
            "select model, version, number from window_sketch "
            "join unnest($1::text[], $2::int[], $3::int[]) as k (model, version, number) "
            "using (model, version, number) where closed_at is not null",
            [model for model, _, _ in places],
            [version for _, version, _ in places],
            [number for _, _, number in places],
        )
        return {(row["model"], row["version"], row["number"]) for row in rows}

    async def every_open(self, limit: int) -> list[tuple[Key, Open, bytes]]:
        """The open windows, those that were begun last first."""
        rows = await self.database.fetch(
            "select model, version, season, number, rows, begun_at, started_at, ended_at, absent, "
            "counts from window_sketch where closed_at is null order by opened_at desc limit $1",
            limit,
        )
        return [((row["model"], row["version"]), _open(row), row["counts"]) for row in rows]

    async def save_windows(self, filled: Sequence[Filled], now: datetime) -> dict[Place, Window]:
        """Save windows as they are now; those that are closed."""
        if not filled:
            return {}
        rows = await self.database.fetch(
            _SAVE, *(list(column) for column in zip(*map(_row_of, filled), strict=True)), now
        )
        return {
            (row["model"], row["version"], row["number"]): _window(row)
            for row in rows
            if row["closed_at"] is not None
        }

    async def old_windows(
        self, now: datetime, least: int, *, after: Slot = ("", 0, ""), limit: int = 200
    ) -> list[Slot]:
        """Windows with enough rows that are too old to stay open, in order.

        Args:
            after: the last one that was asked for before; the next ones follow it.
        """
        rows = await self.database.fetch(OLD, now, least, *after, limit)
        return [(row["model"], row["version"], row["season"]) for row in rows]

    async def is_old(self, slot: Slot, now: datetime, least: int) -> bool:
        """Whether the open window of a slot has enough rows and is too old to stay open."""
        found: bool = await self.database.fetchval(
            "select exists (select from window_sketch w join version v using (model, version) "
            "where w.model = $3 and w.version = $4 and w.season = $5 and w.closed_at is null "
            "and w.opened_at <= $1::timestamptz - v.close_after and w.rows >= $2)",
            now,
            least,
            *slot,
        )
        return found

    async def judged(self, place: Place) -> Judged | None:
        """A window with what was said of it."""
        row = await self.database.fetchrow(
            "select season, rows, counts, digest, severity, mode, alpha, detail, features "
            "from window_sketch where model = $1 and version = $2 and number = $3",
            *place,
        )
        return Judged(**dict(row)) if row else None

    async def sketches_before(self, place: Place, season: str, most: int) -> dict[int, bytes]:
        """Sketches of the closed windows before one, of its season, by number, the newest first."""
        rows = await self.database.fetch(_BEFORE, *place[:2], season, place[2], most)
        return {row["number"]: row["counts"] for row in rows}

    async def save_comparison(self, window: Window, found: Comparison, digest: Digest) -> None:
        """Write down the verdict and the digest of its sketch, and have critical drift drawn."""
        await self.database.execute(
            "update window_sketch set severity = $4, mode = $5, alpha = $6, detail = $7, "
            "features = $8, digest = $9, judge_at = null "
            "where model = $1 and version = $2 and number = $3",
            window.model,
            window.version,
            window.number,
            found.severity,
            found.mode,
            found.alpha,
            found.detail,
            orjson.loads(orjson.dumps(found.features)),
            digest,
        )
        if found.severity == "critical":
            await self.database.execute(_ALARM, window.model, window.version, window.number)


_ALARM: Final = """
    insert into alarm_report as a (model, version, "window", due_at) values ($1, $2, $3, now())
    on conflict (model, version) do update set "window" = excluded."window",
        due_at = coalesce(a.due_at, greatest(now(), a.ordered_at + interval '1 day'))
    where a."window" <> excluded."window"
"""
"""A report of it is due, of a version that had one not sooner than a day after that. Windows come
here as they are closed: one of a slow season has a smaller number than what was drawn before."""
_BEFORE: Final = """
    select number, counts from window_sketch where model = $1 and version = $2 and season = $3
        and number < $4 and closed_at is not null and (alpha is not null or mode is null)
    order by number desc limit $5
"""
OLD: Final = """
    select w.model, w.version, w.season from window_sketch w join version v using (model, version)
    where w.closed_at is null and v.close_after is not null
        and w.opened_at <= $1::timestamptz - v.close_after and w.rows >= $2
        and (w.model, w.version, w.season) > ($3, $4, $5)
    order by w.model, w.version, w.season limit $6
"""
_PLAIN_COLUMNS: Final = (
    "w.model, w.version, w.number, w.season, w.rows, w.started_at, w.ended_at, w.closed_at, "
    "w.absent"
)
_SAVE: Final = f"""
    with filled as (
        select * from unnest($1::text[], $2::int[], $3::int[], $4::text[], $5::int[], $6::bytea[],
            $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::text[], $11::boolean[])
            as r (model, version, number, season, rows, counts, begun_at, started_at,
            ended_at, absent, is_closed)
    ), newest as (
        update version v set newest = k.newest
        from (select model, version, max(number) as newest from filled group by 1, 2) k
        where v.model = k.model and v.version = k.version and v.newest < k.newest
    )
    insert into window_sketch as w (model, version, number, season, rows, counts, begun_at,
        started_at, ended_at, absent, closed_at, opened_at)
    select model, version, number, season, rows, counts, begun_at, started_at, ended_at,
        absent::jsonb, case when is_closed then $12::timestamptz end, $12::timestamptz
    from filled
    on conflict (model, version, number) do update set rows = excluded.rows,
        counts = excluded.counts, started_at = excluded.started_at, ended_at = excluded.ended_at,
        absent = excluded.absent, closed_at = excluded.closed_at
    returning {_PLAIN_COLUMNS}
"""  # noqa: S608 - constants only


def _columns(keys: Iterable[Key]) -> tuple[list[str], list[int]]:
    known = list(keys)
    return [model for model, _ in known], [version for _, version in known]


def _row_of(filled: Filled) -> tuple[object, ...]:
    window = filled.window
    return (
        *filled.key,
        window.number,
        window.season,
        window.rows,
        filled.sketch,
        window.begun_at,
        window.started_at,
        window.ended_at,
        orjson.dumps(dict(window.absent)).decode(),
        filled.is_closed,
    )


def _open(row: Row) -> Open:
    return Open(
        number=row["number"],
        season=row["season"],
        rows=row["rows"],
        begun_at=row["begun_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        absent=row["absent"],
    )


def _window(row: Row) -> Window:
    return Window(
        model=ModelName(row["model"]),
        version=row["version"],
        number=row["number"],
        season=row["season"],
        rows=row["rows"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        is_closed=row["closed_at"] is not None,
        absent=row["absent"],
    )
