"""Champions with their newest windows, as metrics tell of them."""

from dataclasses import dataclass
from typing import Final

from services.drift_monitor.vitals import Standing
from shared.postgres import Database

_STANDINGS: Final = """
    select m.model, v.metric, v.registered_at, (v.policy ->> 'window')::int as window_rows,
        extract(epoch from v.close_after)::float8 as close_after,
        coalesce((v.policy ->> 'shift')::float8, 0) as shift,
        coalesce((v.policy ->> 'tolerance')::float8, 0) as tolerance,
        closed.severity, closed.alpha, coalesce(closed.features, '[]') as features,
        closed.closed_at, closed.seconds as closed_seconds,
        opened.rows as open_rows, opened.seconds as open_seconds,
        measured.quality, estimated.estimate,
        array(select kind from data_alarm a where a.model = m.model and a.version = v.version)
            as alarms
    from model m join version v on v.model = m.model and v.version = m.champion
    left join lateral (
        select severity, alpha, features, closed_at,
            extract(epoch from ended_at - coalesce(begun_at, started_at))::float8 as seconds
        from window_sketch w
        where w.model = v.model and w.version = v.version and closed_at is not null
        order by number desc limit 1
    ) closed on true
    left join lateral (
        select rows,
            extract(epoch from ended_at - coalesce(begun_at, started_at))::float8 as seconds
        from window_sketch w
        where w.model = v.model and w.version = v.version and closed_at is null
        order by number desc limit 1
    ) opened on true
    left join lateral (
        select quality from window_quality q
        where q.model = v.model and q.version = v.version and quality is not null
        order by number desc limit 1
    ) measured on true
    left join lateral (
        select estimate from window_quality q
        where q.model = v.model and q.version = v.version and estimate is not null
        order by number desc limit 1
    ) estimated on true
"""


@dataclass(frozen=True, slots=True)
class VitalsTable:
    """Reads what others write."""

    database: Database

    async def standings(self) -> list[Standing]:
        """One of each champion."""
        rows = await self.database.fetch(_STANDINGS)
        return [Standing(**dict(row)) for row in rows]
