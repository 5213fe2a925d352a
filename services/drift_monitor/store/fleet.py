"""What all models share: the budget of retrainings, and the brakes."""

from datetime import datetime, timedelta
from typing import Final

from services.drift_monitor.brake import FLEET, HOUR, Brake, Crowd, Fleet, scope_of
from services.drift_monitor.course import About
from shared.events import BrakeLifted, BrakeSet, DatasetName, Json
from shared.postgres import Database

WATCHED_FOR: Final = timedelta(days=7)
"""A model that closed no window for so long is not counted among the watched ones."""
_SOURCE: Final = scope_of(DatasetName(""))
_COUNTS: Final = """
    select count(*) as watched, count(confirmed_at) as confirmed,
        count(*) filter (where dataset = $2) as of_source,
        count(confirmed_at) filter (where dataset = $2) as of_source_confirmed
    from course where seen_at > $1
"""


class FleetTable:
    """Tokens, and brakes that are set or were; every method joins the open transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def lock_fleet(self) -> None:
        """Nobody else spends from the budget or sets a brake until the commit.

        It is taken after the locks of models, never before, so that nobody waits in a circle.
        """
        await self.database.execute("select pg_advisory_xact_lock(7437, 1)")

    async def fleet(self, dataset: str, now: datetime, span: timedelta) -> Fleet:
        """What a decision about a model with this source needs to know of the others."""
        counts = await self.database.fetchrow(_COUNTS, now - WATCHED_FOR, dataset)
        assert counts is not None  # noqa: S101 - an aggregate always has its one row
        recent = await self.database.fetch(
            "select model, dataset from course where confirmed_at > $1 "
            "order by confirmed_at, model",
            now - span,
        )
        taken = await self.database.fetch(
            "select owner, taken_at from token where taken_at > $1", now - HOUR
        )
        waiting = await self.database.fetch(
            "select owner, count(*) as models from course where refused = 'budget' "
            "and confirmed_at is not null and seen_at > $1 group by owner",
            now - WATCHED_FOR,
        )
        return Fleet(
            all_models=Crowd(
                scope=FLEET,
                watched=counts["watched"],
                confirmed=counts["confirmed"],
                recent=tuple(row["model"] for row in recent),
            ),
            source=Crowd(
                scope=scope_of(DatasetName(dataset)),
                watched=counts["of_source"],
                confirmed=counts["of_source_confirmed"],
                recent=tuple(row["model"] for row in recent if row["dataset"] == dataset),
            ),
            brakes=await self.brakes(),
            taken=[(row["owner"], row["taken_at"]) for row in taken],
            waiting={row["owner"]: row["models"] for row in waiting},
        )

    async def take_token(self, about: About) -> None:
        # By the earlier clock: one that has jumped would give everybody their tokens back.
        await self.database.execute(
            "delete from token where taken_at < least($1, now() - $2::interval)",
            about.now - 24 * HOUR,
            24 * HOUR,
        )
        await self.database.execute(
            "insert into token (model, owner, taken_at) values ($1, $2, $3)",
            about.model,
            about.owner,
            about.now,
        )

    # --- brakes ---------------------------------------------------------------------------------

    async def brakes(self) -> list[Brake]:
        """Those that are set."""
        rows = await self.database.fetch(
            "select scope, set_at, until from brake where lifted_at is null order by scope"
        )
        return [Brake(**dict(row)) for row in rows]

    async def set_brake(self, brake: Brake, said: BrakeSet) -> None:
        await self.database.execute(
            "insert into brake (scope, set_at, until, detail, confirmed, watched) "
            "values ($1, $2, $3, $4, $5, $6)",
            brake.scope,
            brake.set_at,
            brake.until,
            said.detail,
            said.confirmed,
            said.watched,
        )

    async def lift_brake(self, said: BrakeLifted, now: datetime) -> None:
        """Lift it; those that it held are due from then on.

        Their courses are not written: whoever has locked one of those models may be waiting for
        the lock of the fleet, which is held here.
        """
        await self.database.execute(
            "update brake set lifted_at = $2, lifted_by = $3, reason = $4 "
            "where scope = $1 and lifted_at is null",
            said.scope,
            now,
            said.by,
            said.reason,
        )

    async def crowd(self, scope: str, now: datetime) -> Crowd:
        """The models of a brake."""
        fleet = await self.fleet(scope.removeprefix(_SOURCE), now, timedelta(0))
        return fleet.all_models if scope == FLEET else fleet.source

    async def held(self) -> int:
        """How many models a brake keeps from being retrained."""
        return int(await self.database.fetchval("select count(*) from course where phase = 'held'"))

    async def every_brake(self, limit: int) -> list[Json]:
        """For people: those that are set first, then the newest."""
        rows = await self.database.fetch(
            "select * from brake order by lifted_at is not null, set_at desc limit $1", limit
        )
        return [dict(row) for row in rows]

    async def owners_in(self, scope: str) -> list[str]:
        """The teams whose models a brake of this scope would hold."""
        rows = await self.database.fetch(
            "select distinct owner from course where $1 = 'fleet' or 'dataset/' || dataset = $1",
            scope,
        )
        return [row["owner"] for row in rows]
