"""Models and their versions, as the monitor knows them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, TypeVar

import orjson
from pydantic import TypeAdapter

from services.drift_monitor.domain import Policy, Watch, of_before
from services.drift_monitor.layouts import Grid
from services.drift_monitor.memory import Key as Key  # known by this name everywhere
from services.drift_monitor.memory import interned
from services.drift_monitor.windows import Plan, Watched
from shared import telemetry
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
    "model, version, columns::text as columns, width, policy->'window' as rows, season, close_after"
)
_NONE_WAITS: Final = (
    "(not v.behind or not exists (select from prediction p "
    'where p.model = v.model and p.version = v.version and p."window" is null))'
)
LONGEST_REASON: Final = 500
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Who answers for a model, and when a fresh version was last asked for."""

    champion: int | None = None
    asked_at: datetime | None = None


class VersionTable:
    """Who is champion, and how each version stands.

    A row that cannot be read, because a later release has written it or because it is damaged, is
    left out as if nobody had registered the version; that is told once.
    """

    unread: set[tuple[str, Key]]
    """What of which versions could not be read when it was last tried."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.unread = set()

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

    async def plans(self, keys: Iterable[Key], *, behind: bool = False) -> dict[Key, Plan]:
        """How known versions are cut into windows; without those whose cells were not kept.

        Args:
            behind: also of those with rows that are to be counted before newer ones.
        """
        rows = await self.database.fetch(
            f"select {_PLAN_COLUMNS}, layout from version v "  # noqa: S608 - constants only
            "join unnest($1::text[], $2::int[]) as k (model, version) using (model, version) "
            f"where layout is not null and ($3 or {_NONE_WAITS})",
            *_columns(keys),
            behind,
        )
        return {key: plan for key, (plan, _) in self._readable("plan", rows, _planned).items()}

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
        """How versions are cut, and their cells; without those whose cells were not kept.

        Nor of those with rows that are to be counted before newer ones, as `plans`.
        """
        rows = await self.database.fetch(
            f"select {_PLAN_COLUMNS}, layout from version v "  # noqa: S608 - constants only
            "join unnest($1::text[], $2::int[]) as k (model, version) using (model, version) "
            f"where layout is not null and {_NONE_WAITS}",
            *_columns(keys),
        )
        return self._readable("plan", rows, _planned)

    async def versions(self, keys: Iterable[Key]) -> dict[Key, Watched]:
        wanted = sorted(set(keys))
        rows = await self.database.fetch(
            f"select {_WATCHED} from version "  # noqa: S608 - constants only
            "join unnest($1::text[], $2::int[]) as k (model, version) using (model, version)",
            [model for model, _ in wanted],
            [version for _, version in wanted],
        )
        return self._readable("version", rows, _watched)

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
        return list(self._readable("version", rows, _watched).values())

    def _readable(self, what: str, rows: Iterable[Row], read: Callable[[Row], T]) -> dict[Key, T]:
        found: dict[Key, T] = {}
        for row in rows:
            key = (row["model"], row["version"])
            try:
                found[key] = read(row)
            except Exception as error:  # noqa: BLE001 - whatever is in it, it is this row's alone
                self.tell_unread(what, key, error)
            else:
                self.unread.discard((what, key))
        return found

    def tell_unread(self, what: str, key: Key, error: Exception) -> None:
        """Log what of a version cannot be read, the first time."""
        if (what, key) not in self.unread:
            self.unread.add((what, key))
            reason = f"{type(error).__name__}: {error}"
            telemetry.log(
                "version_unreadable", level="error", model=key[0], version=key[1], what=what,
                reason=reason[:LONGEST_REASON],
            )  # fmt: skip

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
        window=int(row["rows"]),
        close_after=row["close_after"],
        season=row["season"],
    )


def _planned(row: Row) -> tuple[Plan, Grid]:
    return _plan(row), Grid.read(row["layout"])


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
