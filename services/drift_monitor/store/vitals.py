"""Champions with their newest windows, as metrics tell of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.drift_monitor.vitals import Coverage, Standing
from shared.postgres import Database

STANDINGS: Final = """
    select m.model, v.metric, v.registered_at, (v.policy ->> 'window')::int as window_rows,
        extract(epoch from v.close_after)::float8 as close_after,
        coalesce((v.policy ->> 'tolerance')::float8, 0) as tolerance,
        closed.severity, found.shifted, found.drifted, found.critical, closed.closed_at,
        closed.seconds as closed_seconds,
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
        select max(sure) as shifted, count(*) filter (where p_value < closed.alpha) as drifted,
            count(*) filter (where p_value < closed.alpha
                and sure > coalesce((v.policy ->> 'shift')::float8, 0)) as critical
        from (
            select p_value, coalesce(greatest(0, low, -high), 0) as sure
            from jsonb_to_recordset(closed.features)
                as f (p_value float8, low float8, high float8)
        ) features
    ) found on true
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


_NEWEST: Final = 5
"""Windows whose labels are looked at together: one may be small or odd."""
_BEFORE: Final = 100
"""Windows that tell how many labels usually come; so long is it noticed that none do."""
_COVERAGES: Final = """
    select m.model, sum(labels) filter (where place <= $2)::float8
            / sum(rows) filter (where place <= $2) as ratio,
        sum(labels)::float8 / sum(rows) as expected
    from model m join label_delay d on d.model = m.model and d.settled is not null
    cross join lateral (
        select w.rows, coalesce(q.labels, 0) as labels, w.place
        from (
            select number, rows, row_number() over (order by number desc) as place
            from window_sketch
            where model = m.model and version = m.champion and closed_at is not null
                and rows > 0 and ended_at < $1::timestamptz - make_interval(secs => d.settled)
            order by number desc limit $3
        ) w
        left join window_quality q
            on q.model = m.model and q.version = m.champion and q.number = w.number
    ) windows
    group by m.model
"""


@dataclass(frozen=True, slots=True)
class VitalsTable:
    """Reads what others write."""

    database: Database

    async def coverages(self, now: datetime) -> list[Coverage]:
        """Of champions whose delays of labels are known, from windows that should have theirs."""
        rows = await self.database.fetch(_COVERAGES, now, _NEWEST, _BEFORE)
        return [Coverage(**dict(row)) for row in rows]

    async def standings(self) -> list[Standing]:
        """One of each champion."""
        rows = await self.database.fetch(STANDINGS)
        return [Standing(**dict(row)) for row in rows]
