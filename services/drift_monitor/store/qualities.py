"""What labels have said about windows, how long they take, and the running tests on losses."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import orjson

from services.drift_monitor.quality import Detector, Estimated, Measured
from services.drift_monitor.quality.delays import EDGES, Counts, Floats, censored, no_delays
from services.drift_monitor.store.sketches import Place
from services.drift_monitor.store.versions import Key
from shared.events import Json
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
    """One row per window, per model, and per version."""

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

    async def unsettled(self, model: str, limit: int) -> list[tuple[int, int]]:
        """Version and number of closed windows that were measured and not for the last time."""
        rows = await self.database.fetch(
            "select q.version, q.number from window_quality q join window_sketch w "
            "using (model, version, number) where q.model = $1 "
            "and not q.settled and w.closed_at is not null and q.labels > 0 "
            "order by q.version desc, q.number desc limit $2",
            model,
            limit,
        )
        return [(row["version"], row["number"]) for row in rows]

    async def labelled_versions(self, model: str) -> list[Key]:
        """Versions of a model that labels have come for."""
        rows = await self.database.fetch(
            "select distinct version from window_quality where model = $1 and labels > 0", model
        )
        return sorted((model, row["version"]) for row in rows)

    async def labelled_models(self) -> list[str]:
        """Models that labels have come for."""
        rows = await self.database.fetch("select model from label_delay order by model")
        return [row["model"] for row in rows]

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

    # --- delays -----------------------------------------------------------------------------------

    async def add_delays(self, came: Mapping[str, Counts]) -> dict[str, float | None]:
        """Count labels of models by their delay; the age at which each model's are there.

        The caller holds the locks of the models.
        """
        known = await self._came(list(came))
        await self.database.executemany(
            "insert into label_delay (model, came) values ($1, $2) "
            "on conflict (model) do update set came = excluded.came",
            [
                (model, (known.get(model, (no_delays(), None))[0] + more).tolist())
                for model, more in sorted(came.items())
            ],
        )
        return {model: known[model][1] if model in known else None for model in came}

    async def _came(self, models: Sequence[str]) -> dict[str, tuple[Counts, float | None]]:
        rows = await self.database.fetch(
            "select model, came, settled from label_delay where model = any($1::text[])",
            list(models),
        )
        return {
            row["model"]: (np.array(row["came"], dtype=np.int64), row["settled"]) for row in rows
        }

    async def settled(self, models: Iterable[str]) -> dict[str, float | None]:
        """The age in seconds at which nearly all labels of a model are there, where it is known."""
        found = await self._came(sorted(set(models)))
        return {model: settled for model, (_, settled) in found.items()}

    async def delays(self, model: str, now: datetime) -> tuple[Counts, Floats]:
        """Labels per step of delay, and predictions without one by the steps of their ages."""
        known = await self._came([model])
        rows = await self.database.fetch(_LEFT, model, now, list(EDGES))
        left = censored([row["step"] for row in rows], [row["left_over"] for row in rows])
        return known.get(model, (no_delays(), None))[0], left

    async def save_settled(self, model: str, settled: float | None) -> None:
        """Write down the age at which nearly all labels of a model are there."""
        await self.database.execute(
            "update label_delay set settled = $2 where model = $1 and settled is distinct from $2",
            model,
            settled,
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
    select w.model, w.version, w.number, w.rows, w.started_at, w.ended_at,
        w.closed_at is not null as is_closed, coalesce(q.labels, 0) as labels,
        coalesce(q.steps, 0) as steps, coalesce(q.revision, 0) as revision,
        coalesce(q.settled, false) as settled, q.state, q.per_cell
    from window_sketch w left join window_quality q using (model, version, number)
    join unnest($1::text[], $2::int[], $3::int[]) as k (model, version, number)
        using (model, version, number)
"""
_LEFT: Final = """
    select step, sum(left_over)::bigint as left_over from (
        select w.rows - coalesce(q.labels, 0) as left_over, width_bucket(
            extract(epoch from $2::timestamptz - w.ended_at)::float8, $3::float8[]) as step
        from window_sketch w left join window_quality q using (model, version, number)
        where w.model = $1 and w.rows > coalesce(q.labels, 0)
    ) as unlabelled group by step
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
    )


def _running(row: Row) -> Running:
    detector = Detector(bets=tuple(row["bets"]), labels=row["labels"], level=row["level"])
    return Running(fed_to=row["fed_to"], detector=detector, rule=row["rule"])


def _state(found: Running) -> tuple[Any, ...]:
    detector = found.detector
    return found.fed_to, list(detector.bets), detector.labels, detector.level, found.rule


def quality_of(row: Row) -> Json:
    """What people see of a window's quality."""
    return {name: row[name] for name in ("quality", "estimate", "state", "revision")}
