"""Models and their versions, as the monitor knows them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

import orjson
from pydantic import TypeAdapter

from services.drift_monitor.domain import Policy, Watch, of_before
from services.drift_monitor.layouts import Grid
from services.drift_monitor.memory import Key as Key  # known by this name everywhere
from services.drift_monitor.memory import interned
from services.drift_monitor.windows import Plan, Watched
from shared.events import Digest, ModelName
from shared.postgres import Database, Row

_WATCHED: Final = (
    "model, version, manifest, reference, columns, classes, baseline, metric, policy, watch, "
    "registered_at"
)
"""Not the cells, which take more to read than all others."""
_POLICY: Final = TypeAdapter(Policy)
_WATCH: Final = TypeAdapter(Watch)
_PLAN_COLUMNS: Final = (
    "model, version, columns::text as columns, width, (policy->>'window')::int as rows, season, "
    "close_after"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Who answers for a model, and when a fresh version was last asked for."""

    champion: int | None = None
    asked_at: datetime | None = None


class VersionTable:
    """Who is champion, and how each version stands."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def standing(self, model: str) -> Standing:
        row = await self.database.fetchrow(
            "select champion, asked_at from model where model = $1", model
        )
        return Standing(champion=row["champion"], asked_at=row["asked_at"]) if row else Standing()

    async def owner(self, model: str) -> str:
        """The team of a model; empty when nobody has said whose it is."""
        found: str | None = await self.database.fetchval(
            "select owner from model where model = $1", model
        )
        return found or ""

    async def own(self, model: str, owner: str) -> None:
        """Note whose a model is from now on."""
        await self.database.execute(
            "insert into model (model, owner) values ($1, $2) "
            "on conflict (model) do update set owner = excluded.owner",
            model,
            owner,
        )

    async def crown(self, model: str, version: int | None, at: datetime) -> None:
        """Note which version answers from a moment on."""
        await self.database.execute(
            "insert into model (model, champion, crowned_at) values ($1, $2, $3) on conflict "
            "(model) do update set champion = excluded.champion, crowned_at = excluded.crowned_at",
            model,
            version,
            at,
        )

    async def note_asked(self, model: str, at: datetime) -> None:
        await self.database.execute(
            "insert into model (model, asked_at) values ($1, $2) "
            "on conflict (model) do update set asked_at = excluded.asked_at",
            model,
            at,
        )

    async def add_version(self, version: Watched) -> None:
        await self.database.execute(
            "insert into version (model, version, manifest, reference, columns, classes, baseline, "
            "metric, policy, watch, registered_at) "
            "values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict do nothing",
            version.model,
            version.version,
            version.manifest,
            version.reference,
            list(version.columns),
            list(version.classes),
            version.baseline,
            version.metric,
            _POLICY.dump_python(version.policy, mode="json"),
            _WATCH.dump_python(version.watch, mode="json"),
            version.registered_at,
        )

    async def plan_version(self, key: Key, plan: Plan, grid: Grid) -> None:
        """Keep how a registered version is cut into windows, and its cells."""
        await self.database.execute(
            "update version set season = $3, close_after = $4, width = $5, layout = $6 "
            "where model = $1 and version = $2",
            *key,
            plan.season,
            plan.close_after,
            plan.width,
            grid.to_bytes(),
        )

    async def note_data(
        self, key: Key, dataset: str, dataset_version: int, freshness: timedelta | None
    ) -> None:
        """Note what a version has learned from, and how long it may lack newer data."""
        await self.database.execute(
            "update version set dataset = $3, dataset_version = $4, freshness = $5 "
            "where model = $1 and version = $2",
            *key,
            dataset,
            dataset_version,
            freshness,
        )

    async def plans(self, keys: Iterable[Key]) -> dict[Key, Plan]:
        """How known versions are cut into windows; without those whose cells were not kept."""
        rows = await self.database.fetch(
            f"select {_PLAN_COLUMNS} from version "  # noqa: S608 - constants only
            "join unnest($1::text[], $2::int[]) as k (model, version) using (model, version) "
            "where width is not null",
            *_columns(keys),
        )
        return {(row["model"], row["version"]): _plan(row) for row in rows}

    async def grids(self, keys: Iterable[Key]) -> dict[Key, Grid]:
        """The cells of versions, without those that were not kept."""
        rows = await self.database.fetch(
            "select model, version, layout from version "
            "join unnest($1::text[], $2::int[]) as k (model, version) using (model, version) "
            "where layout is not null",
            *_columns(keys),
        )
        return {(row["model"], row["version"]): Grid.read(row["layout"]) for row in rows}

    async def planned(self, keys: Iterable[Key]) -> dict[Key, tuple[Plan, Grid]]:
        """How versions are cut, and their cells; without those whose cells were not kept."""
        rows = await self.database.fetch(
            f"select {_PLAN_COLUMNS}, layout from version "  # noqa: S608 - constants only
            "join unnest($1::text[], $2::int[]) as k (model, version) using (model, version) "
            "where layout is not null",
            *_columns(keys),
        )
        return {
            (row["model"], row["version"]): (_plan(row), Grid.read(row["layout"])) for row in rows
        }

    async def versions(self, keys: Iterable[Key]) -> dict[Key, Watched]:
        wanted = sorted(set(keys))
        rows = await self.database.fetch(
            f"select {_WATCHED} from version "  # noqa: S608 - constants only
            "join unnest($1::text[], $2::int[]) as k (model, version) using (model, version)",
            [model for model, _ in wanted],
            [version for _, version in wanted],
        )
        return {(row["model"], row["version"]): _watched(row) for row in rows}

    async def newest_versions(
        self, model: str, limit: int, *, below: int = 2**31 - 1, without: int | None = None
    ) -> list[Watched]:
        """Versions of a model, newest first.

        Args:
            below: only those with lower numbers.
            without: this one is left out.
        """
        rows = await self.database.fetch(
            f"select {_WATCHED} from version "  # noqa: S608 - constants only
            "where model = $1 and version < $3 and version is distinct from $4::int "
            "order by version desc limit $2",
            model,
            limit,
            below,
            without,
        )
        return [_watched(row) for row in rows]

    async def save_watch(self, version: Watched, watch: Watch) -> None:
        await self.database.execute(
            "update version set watch = $3 where model = $1 and version = $2",
            version.model,
            version.version,
            _WATCH.dump_python(watch, mode="json"),
        )


def _columns(keys: Iterable[Key]) -> tuple[list[str], list[int]]:
    known = list(keys)
    return [model for model, _ in known], [version for _, version in known]


@lru_cache(maxsize=4096)
def _names(text: str) -> tuple[str, ...]:
    """Names as the database writes them; most versions share theirs with many others."""
    return interned(tuple(orjson.loads(text)))


def _plan(row: Row) -> Plan:
    return Plan(
        columns=_names(row["columns"]),
        width=row["width"],
        window=row["rows"],
        close_after=row["close_after"],
        season=row["season"],
    )


def _watched(row: Row) -> Watched:
    return Watched(
        model=ModelName(row["model"]),
        version=row["version"],
        manifest=Digest(row["manifest"]),
        reference=Digest(row["reference"]),
        columns=tuple(row["columns"]),
        classes=tuple(row["classes"]),
        baseline=row["baseline"],
        metric=row["metric"],
        policy=_POLICY.validate_python(row["policy"]),
        watch=_WATCH.validate_python(of_before(row["watch"])),
        registered_at=row["registered_at"],
    )
