"""What people ask the monitor about."""

from typing import Any, Final

from shared.events import Json
from shared.postgres import Database, Row

_COLUMNS: Final = (
    "w.model, w.version, w.number, w.rows, w.started_at, w.ended_at, w.closed_at, w.severity, "
    "w.mode, w.alpha, w.detail, w.features, coalesce(q.labels, 0) as labels, "
    "coalesce(q.steps, 0) as steps, coalesce(q.revision, 0) as revision, q.state, q.quality, "
    "q.estimate"
)
_TABLES: Final = "window_sketch w left join window_quality q using (model, version, number)"
_WINDOWS: Final = (
    f"select {_COLUMNS} from {_TABLES} where w.model = $1 "  # noqa: S608 - constants only
    "and ($2::int is null or w.version = $2) and (w.version, w.number) < ($3::int, $4::int) "
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
        labelled: bool = False,
    ) -> list[Json]:
        """Windows of a model; only those with labels if asked for."""
        only = "and q.revision > 0 " if labelled else ""
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

    async def last_closed(self, model: str, version: int | None) -> Json | None:
        """The newest window that was compared."""
        row = await self.database.fetchrow(
            f"{_WINDOWS} and w.closed_at is not null "
            "order by w.version desc, w.number desc limit 1",
            model,
            version,
            *NEWEST,
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
