"""Publications, promotions and what has applied them: how fresh models are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.registry.freshness import Passage, Pending, Standing, read_objective
from shared.events import DeploymentRolledBack, ModelPromoted, ServingApplied
from shared.postgres import Database

_MODELS: Final = """
    select m.name, m.owner, m.dataset, m.defined_at,
        d.spec -> 'monitor' ->> 'freshness' as objective
    from model m join definition d on d.model = m.name and d.number = m.definition
    where ($1::text is null or m.name = $1) and ($2::text[] is null or m.owner = any($2))
        and m.name > $3
    order by m.name limit $4
"""
# A promotion serves a dataset version from the first replica that applied its generation, or a
# later one; where none has been heard of, the deployer's word counts. Both are running minima from
# the newest down, so that a fleet is read once.
_PASSAGES: Final = f"""
    with fed as ({_MODELS}), steps as (
        select f.name, f.dataset, e.type, e.time, (e.data ->> 'version')::int as version,
            (e.data ->> 'generation')::int as generation
        from fed f join event_log e on e.subject = f.name and e.time >= $5
            and e.type in ('{ModelPromoted.TYPE}', '{ServingApplied.TYPE}')
    ), promotions as (
        select *, min(time) filter (where type = '{ServingApplied.TYPE}')
            over (partition by name order by generation desc) as applied_at
        from steps
    ), served as (
        select p.name, v.dataset_version as version, min(coalesce(p.applied_at, p.time)) as at
        from promotions p
        join model_version v on v.model = p.name and v.version = p.version
            and v.dataset = p.dataset
        where p.type = '{ModelPromoted.TYPE}' group by 1, 2
    )
    select * from (
        select f.name as model, p.version, p.published_at, f.defined_at,
            min(s.at) over (partition by f.name order by p.version desc) as served_at
        from fed f
        join dataset_version p on p.dataset = f.dataset
        left join served s on s.name = f.name and s.version = p.version
    ) as passages where published_at >= greatest(defined_at, $5)
"""  # noqa: S608 - put together from constants
_IN_ORDER: Final = _PASSAGES + " order by version desc limit $6"
_OVERALL: Final = f"""
    select count(served_at) as served, count(*) - count(served_at) as waiting,
        percentile_cont(array[0.5, 0.95, 0.99]) within group (
            order by case when served_at is not null
                then greatest(0, extract(epoch from served_at - published_at)) end
        ) as seconds
    from ({_PASSAGES}) as passages
"""  # noqa: S608 - put together from constants
_STANDINGS: Final = f"""
    select f.name, f.owner, f.dataset, f.objective, n.newest, served.version as served,
        (select min(greatest(p.published_at, f.defined_at)) from dataset_version p
            where p.dataset = f.dataset and p.version > coalesce(served.version, 0)
        ) as waiting_since
    from ({_MODELS}) f
    left join lateral (
        select max(version) as newest from dataset_version where dataset = f.dataset
    ) n on true
    left join lateral (
        select v.dataset_version as version
        from (
            select coalesce(data ->> 'version', data ->> 'to_version')::int as version from (
                (select data, time, sequence from event_log
                    where subject = f.name and type = '{ModelPromoted.TYPE}'
                    order by time desc, sequence desc limit 1)
                union all
                (select data, time, sequence from event_log
                    where subject = f.name and type = '{DeploymentRolledBack.TYPE}'
                    order by time desc, sequence desc limit 1)
            ) crownings order by time desc, sequence desc limit 1
        ) champion
        join model_version v on v.model = f.name and v.version = champion.version
            and v.dataset = f.dataset
    ) served on true
    order by f.name
"""  # noqa: S608 - put together from constants
# `materialized` and `offset` keep the two questions apart: together they look at every claim.
_PENDING: Final = """
    with ended as materialized (
        select m.name, m.dataset, m.definition, coalesce((
            select dataset_version from claim
            where dataset = m.dataset and model = m.name and weight >= 1000
            order by dataset_version desc limit 1
        ), 0) as newest
        from model m
    )
    select distinct on (e.name, open.dataset_version)
        e.name as model, open.state, open.weight, open.at, d.spec
    from ended e
    cross join lateral (
        select dataset_version, state, weight, at, event_id from claim
        where dataset = e.dataset and model = e.name and dataset_version > e.newest
        offset 0
    ) open
    join definition d on d.model = e.name and d.number = e.definition
    order by e.name, open.dataset_version, open.weight desc, open.at desc, open.event_id desc
"""
_ENDED: Final = """
    select c.state, extract(epoch from c.at - v.published_at)::float8 as seconds
    from claim c
    join dataset_version v on v.dataset = c.dataset and v.version = c.dataset_version
    where c.event_id = any($1)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overall:
    """How many publications were served and wait, and the quantiles of the served, in seconds."""

    served: int
    waiting: int
    seconds: Sequence[float] | None


@dataclass(frozen=True, slots=True)
class Freshness:
    """Reads the log as the story of the data."""

    database: Database

    async def passages(self, model: str, since: datetime, limit: int) -> list[Passage]:
        """Dataset versions published since then, for one model, newest first."""
        rows = await self.database.fetch(_IN_ORDER, model, None, "", 1, since, limit)
        return [
            Passage(
                version=row["version"],
                published_at=row["published_at"],
                served_at=row["served_at"],
            )
            for row in rows
        ]

    async def overall(
        self, owners: Sequence[str] | None, since: datetime, model: str | None = None
    ) -> Overall:
        """Over all models of these teams, of all teams where none are named; or over one model."""
        row = await self.database.fetchrow(_OVERALL, model, owners, "", None, since)
        assert row is not None  # noqa: S101 - an aggregate has one row
        return Overall(**dict(row))

    async def standings(
        self,
        *,
        model: str | None = None,
        owners: Sequence[str] | None = None,
        after: str = "",
        limit: int | None = None,
    ) -> list[Standing]:
        """What models answer from and what waits, by name."""
        rows = await self.database.fetch(_STANDINGS, model, owners, after, limit)
        return [_standing(dict(row)) for row in rows]

    async def pending(self) -> list[Pending]:
        """Stories that have not ended, of data newer than the newest that has."""
        return [Pending(**dict(row)) for row in await self.database.fetch(_PENDING)]

    async def ended(self, events: Sequence[UUID]) -> list[tuple[str, float]]:
        """How stories ended that these events ended, and how long they took."""
        rows = await self.database.fetch(_ENDED, list(events))
        return [(row["state"], row["seconds"]) for row in rows]


def _standing(row: dict[str, Any]) -> Standing:
    return Standing(
        model=row["name"],
        owner=row["owner"],
        dataset=row["dataset"],
        newest=row["newest"],
        served=row["served"],
        waiting_since=row["waiting_since"],
        objective=read_objective(row["objective"]),
    )
