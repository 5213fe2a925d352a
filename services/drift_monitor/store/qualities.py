"""What labels have said about windows, and the running tests on losses."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import orjson

from services.drift_monitor.quality import Detector, Estimated, Measured
from services.drift_monitor.quality.delays import Counts
from services.drift_monitor.store.sketches import Place
from services.drift_monitor.store.versions import Key
from shared.postgres import Database, Row

BEGINNING: Final = datetime.fromisoformat("0001-01-02T00:00:00+00:00")
"""Before every prediction."""
NEW: Final = Detector()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A window, and what was said about its quality so far.

    Attributes:
        per_cell: rows per cell of the score, missing ones last; None where nobody knows.
        steps: looks that were taken.
        revision: of what was said last; 0 while nothing was.
        state: of what was said last.
        settled: whether it was measured when no more labels were to be waited for.
        season: empty where windows have none.
    """

    number: int
    rows: int
    per_cell: Counts | None
    begun_at: datetime
    ended_at: datetime
    is_closed: bool
    labels: int
    steps: int
    revision: int
    state: str | None
    settled: bool
    season: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The running test of a version.

    Attributes:
        fed_to: predictions up to this moment were fed, or are as soon as their labels come.
        rule: what was last said about the version beside its baseline rule.
    """

    fed_to: datetime
    detector: Detector = NEW
    rule: str = ""


class QualityTable:
    """One row per window, and one per version."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def looks(self, places: Collection[Place]) -> dict[Place, Look]:
        """Windows as they were saved; without those that are not known."""
        if not places:
            return {}
        wanted = sorted(places)
        rows = await self.database.fetch(
            _LOOK,
            [model for model, _, _ in wanted],
            [version for _, version, _ in wanted],
            [number for _, _, number in wanted],
        )
        return {(row["model"], row["version"], row["number"]): _look(row) for row in rows}

    async def save_quality(
        self, place: Place, steps: int, found: Measured, *, settled: bool
    ) -> int:
        """Write down what was found of a window; the number of this revision."""
        quality = orjson.loads(orjson.dumps(found))
        return int(
            await self.database.fetchval(
                "insert into window_quality (model, version, number, steps, revision, state, "
                "quality, settled) values ($1, $2, $3, $4, 1, $5, $6, $7) "
                "on conflict (model, version, number) do update set steps = excluded.steps, "
                "state = excluded.state, quality = excluded.quality, settled = excluded.settled, "
                "revision = window_quality.revision + 1 returning revision",
                *place,
                steps,
                found.state,
                quality,
                settled,
            )
        )

    async def mark_settled(self, place: Place) -> None:
        """Nothing more is to be said of a window unless a label changes."""
        await self.database.execute(
            "update window_quality set settled = true "
            "where model = $1 and version = $2 and number = $3",
            *place,
        )

    async def save_estimate(self, place: Place, found: Estimated | None, per_cell: Counts) -> None:
        """Write down what a closed window is estimated at, and its rows per cell of the score."""
        await self.database.execute(
            "insert into window_quality (model, version, number, estimate, per_cell) "
            "values ($1, $2, $3, $4, $5) on conflict (model, version, number) "
            "do update set estimate = excluded.estimate, per_cell = excluded.per_cell",
            *place,
            orjson.loads(orjson.dumps(found)) if found else None,
            per_cell.tolist(),
        )

    async def rows_until(self, place: Place, at: datetime) -> int:
        """Rows of a window whose predictions were made until a moment."""
        return int(
            await self.database.fetchval(
                'select count(*) from prediction where model = $1 and version = $2 and "window" = '
                "$3 and predicted_at <= $4",
                *place,
                at,
            )
        )

    # --- running tests ----------------------------------------------------------------------------

    async def running(self, keys: Iterable[Key]) -> dict[Key, Running]:
        """The running tests of these versions, as far as they have begun."""
        wanted = sorted(set(keys))
        rows = await self.database.fetch(
            "select d.* from detector d join unnest($1::text[], $2::int[]) as k (model, version) "
            "using (model, version)",
            [model for model, _ in wanted],
            [version for _, version in wanted],
        )
        return {(row["model"], row["version"]): _running(row) for row in rows}

    async def save_running(self, found: Mapping[Key, Running]) -> None:
        """Write down where running tests stand, in the transaction of the labels they were fed."""
        keys = sorted(found)
        if not keys:
            return
        await self.database.executemany(
            "insert into detector (model, version, fed_to, bets, labels, level, rule) "
            "values ($1, $2, $3, $4, $5, $6, $7) on conflict (model, version) do update "
            "set fed_to = excluded.fed_to, bets = excluded.bets, labels = excluded.labels, "
            "level = excluded.level, rule = excluded.rule",
            [(*key, *_state(found[key])) for key in keys],
        )

    async def with_alarm(self, keys: Iterable[Key]) -> set[Key]:
        """Those of the versions whose running test has raised an alarm that stands."""
        wanted = sorted(set(keys))
        rows = await self.database.fetch(
            "select model, version from version "
            "join unnest($1::text[], $2::int[]) as k (model, version) using (model, version) "
            "where (watch->>'detector')::boolean",
            [model for model, _ in wanted],
            [version for _, version in wanted],
        )
        return {(row["model"], row["version"]) for row in rows}

    async def change_rule(self, key: Key, rule: str) -> bool:
        """Note how a version does beside its baseline rule; whether that is news."""
        changed = await self.database.execute(
            "insert into detector (model, version, fed_to, bets, labels, level, rule) "
            "values ($1, $2, $3, $4, 0, 0, $5) on conflict (model, version) do update "
            "set rule = excluded.rule where detector.rule <> excluded.rule",
            *key,
            BEGINNING,
            list(NEW.bets),
            rule,
        )
        return changed > 0


_LOOK: Final = """
    select w.model, w.version, w.number, w.season, w.rows, w.started_at, w.ended_at,
        w.closed_at is not null as is_closed, coalesce(q.labels, 0) as labels,
        coalesce(q.steps, 0) as steps, coalesce(q.revision, 0) as revision,
        coalesce(q.settled, false) as settled, q.state, q.per_cell
    from window_sketch w left join window_quality q using (model, version, number)
    join unnest($1::text[], $2::int[], $3::int[]) as k (model, version, number)
        using (model, version, number)
"""


def _look(row: Row) -> Look:
    return Look(
        number=row["number"],
        rows=row["rows"],
        per_cell=None if row["per_cell"] is None else np.array(row["per_cell"], dtype=np.int64),
        begun_at=row["started_at"],
        ended_at=row["ended_at"],
        is_closed=row["is_closed"],
        labels=row["labels"],
        steps=row["steps"],
        revision=row["revision"],
        state=row["state"],
        settled=row["settled"],
        season=row["season"],
    )


def _running(row: Row) -> Running:
    detector = Detector(bets=tuple(row["bets"]), labels=row["labels"], level=row["level"])
    return Running(fed_to=row["fed_to"], detector=detector, rule=row["rule"])


def _state(found: Running) -> tuple[Any, ...]:
    detector = found.detector
    return found.fed_to, list(detector.bets), detector.labels, detector.level, found.rule
