"""What people ask the monitor about."""

from typing import Any, Final

from services.drift_monitor.store.vitals import TELLING
from shared.events import Json
from shared.postgres import Database, Row

_COLUMNS: Final = (
    "w.model, w.version, w.number, w.season, w.rows, w.started_at, w.ended_at, w.closed_at, "
    "w.judge_at, w.severity, w.mode, w.alpha, w.detail, w.features, "
    "coalesce(q.labels, 0) as labels, "
    "coalesce(q.steps, 0) as steps, coalesce(q.revision, 0) as revision, q.state, q.quality, "
    "q.estimate"
)
_TABLES: Final = "window_sketch w left join window_quality q using (model, version, number)"
_WINDOWS: Final = (
    f"select {_COLUMNS} from {_TABLES} where w.model = $1 "  # noqa: S608 - constants only
    "and ($2::int is null or w.version = $2) and (w.version, w.number) < ($3::int, $4::int) "
)
_TELLING: Final = (
    f"select {_COLUMNS} from version v cross join lateral ({TELLING}) w "  # noqa: S608 - constants only
    "left join window_quality q on q.model = w.model and q.version = w.version "
    "and q.number = w.number where v.model = $1 and v.version = $2"
)
NEWEST: Final = (2**31 - 1, 2**31 - 1)


class Reading:
    """Lists and states, newest first."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def windows(
        self,
        model: str,
        *,
        version: int | None = None,
        before: tuple[int, int] = NEWEST,
        limit: int = 100,
        measured: bool = False,
    ) -> list[Json]:
        """Windows of a model; only those with labels or an estimate if asked for."""
        only = "and (q.revision > 0 or q.estimate is not null) " if measured else ""
        rows = await self.database.fetch(
            f"{_WINDOWS} {only} order by w.version desc, w.number desc limit $5",
            model,
            version,
            *before,
            limit,
        )
        return [_plain(row) for row in rows]

    async def window(self, model: str, version: int, number: int) -> Json | None:
        """One window."""
        row = await self.database.fetchrow(
            f"select {_COLUMNS} from {_TABLES} "  # noqa: S608 - constants only
            "where w.model = $1 and w.version = $2 and w.number = $3",
            model,
            version,
            number,
        )
        return _plain(row) if row else None

    async def last_closed(self, model: str, version: int) -> Json | None:
        """The window that was compared last; that may be one that was opened before others."""
        return next(iter(await self.closed(model, version, 1)), None)

    async def last_of_any(self, model: str) -> Json | None:
        """The same, whichever version it is of."""
        row = await self.database.fetchrow(
            f"select {_COLUMNS} from {_TABLES} "  # noqa: S608 - constants only
            "where w.model = $1 and w.closed_at is not null and w.judge_at is null "
            "order by w.closed_at desc, w.version desc, w.number desc limit 1",
            model,
        )
        return _plain(row) if row else None

    async def telling(self, model: str, version: int) -> Json | None:
        """The window that shows the drift of a version; without drift the one closed last."""
        row = await self.database.fetchrow(_TELLING, model, version)
        return _plain(row) if row else None

    async def closed(
        self, model: str, version: int, limit: int, season: str | None = None
    ) -> list[Json]:
        """Windows that were compared, those closed last first; of one season if it is given."""
        chosen, order = ("", "w.closed_at desc, w.number desc")
        if season is not None:
            # In one season the order of closing is that of the numbers.
            chosen, order = "and w.season = $4 ", "w.number desc"
        rows = await self.database.fetch(
            f"select {_COLUMNS} from {_TABLES} "  # noqa: S608 - constants only
            "where w.model = $1 and w.version = $2 and w.closed_at is not null "
            f"and w.judge_at is null {chosen}order by {order} limit $3",
            model,
            version,
            limit,
            *([] if season is None else [season]),
        )
        return [_plain(row) for row in rows]

    async def filling(self, model: str, version: int) -> Json | None:
        """The open window that got a row last."""
        row = await self.database.fetchrow(
            f"select {_COLUMNS} from {_TABLES} "  # noqa: S608 - constants only
            "where w.model = $1 and w.version = $2 and w.closed_at is null "
            "order by w.ended_at desc, w.number desc limit 1",
            model,
            version,
        )
        return _plain(row) if row else None

    async def waiting_labels(self, model: str) -> int:
        """Labels of a model whose predictions were not heard of."""
        found: Any = await self.database.fetchval(
            "select count(*) from waiting_label where model = $1", model
        )
        return int(found)


def _plain(row: Row) -> Json:
    found = {name: row[name] for name in row.keys() if name != "number"}  # noqa: SIM118 - a record
    return {**found, "window": row["number"], "completeness": row["labels"] / max(row["rows"], 1)}
