"""Champions with their newest windows, as metrics tell of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.drift_monitor.detection.finding import NO_SHARES, SHARE_PER_SHIFT
from services.drift_monitor.memory import Key
from services.drift_monitor.vitals import Coverage, Standing
from shared.postgres import Database

TELLING: Final = """
    select w.* from (
        (select number from window_sketch where model = v.model and version = v.version
            and closed_at is not null and judge_at is null
            order by closed_at desc, number desc limit 1)
        union
        select (s.value -> 'newest' ->> -1)::int from jsonb_each(v.watch -> 'series') s
        where s.value ->> 'drift' is not null
    ) newest cross join lateral (
        select * from window_sketch o where o.model = v.model and o.version = v.version
            and o.number = newest.number offset 0
    ) w order by case w.severity when 'critical' then 2 when 'warning' then 1 else 0 end desc,
        w.closed_at desc, w.number desc limit 1
"""
"""Of a version `v` the window that tells how it stands: of those that its drifted seasons and all
windows together have closed last the worst. What comes once a day is drifted until it comes again,
whatever others have shown since. They are looked up one by one, however many a version may have."""
_SEASONS: Final = 168
"""Windows that may be open beside each other: the hours of a week."""
_CLOSED_LAST: Final = f"""
    order by number desc limit case when v.season is null then 1 else {_SEASONS} end
) newest
order by case when v.season is not null then (
    select closed_at from window_sketch w
    where w.model = v.model and w.version = v.version and w.number = newest.number
) end desc nulls last, number desc limit 1
"""  # noqa: S608 - constants only
"""Windows follow each other by their numbers, but where seasons fill them beside each other."""
_TOLERATED: Final = f"""
    coalesce((v.policy ->> 'shift')::float8, 0)
        * case when test in ({", ".join(f"'{test}'" for test in sorted(NO_SHARES))}) then 1
            else {SHARE_PER_SHIFT} end
"""
"""What is tolerated of the effect of a test, as `severity_of` says."""
STANDINGS: Final = f"""
    select m.model, v.metric, v.registered_at, m.crowned_at,
        (v.policy ->> 'window')::int as window_rows,
        extract(epoch from v.close_after)::float8 as close_after,
        coalesce((v.policy ->> 'tolerance')::float8, 0) as tolerance,
        coalesce((v.watch ->> 'detector')::boolean, false) as is_alarmed,
        coalesce(jsonb_path_exists(v.watch, '$.series.*.is_degraded ? (@ == true)')
            or (v.watch ->> 'is_degraded')::boolean and not (v.watch ->> 'detector')::boolean,
            false) as is_degraded,
        told.severity, coalesce(told.mode <> 'insufficient', false) as is_judged,
        found.shifted, found.drifted, found.critical, closed.closed_at,
        closed.seconds as closed_seconds,
        opened.rows as open_rows, opened.seconds as open_seconds, opened.ended_at as open_at,
        opened.begun_at as open_since,
        measured.quality, estimated.estimate,
        array(select kind from data_alarm a where a.model = m.model and a.version = v.version)
            as alarms
    from model m join version v on v.model = m.model and v.version = m.champion
    left join lateral (
        select closed_at,
            extract(epoch from ended_at - coalesce(begun_at, started_at))::float8 as seconds
        from window_sketch w
        where w.model = v.model and w.version = v.version and closed_at is not null
            and judge_at is null
        order by closed_at desc, number desc limit 1
    ) closed on true
    left join lateral ({TELLING}) told on true
    left join lateral (
        select max(sure) filter (where test = 'location') as shifted,
            count(*) filter (where is_drift) as drifted,
            count(*) filter (where is_drift and sure > {_TOLERATED}) as critical
        from (
            select test, p_value <= coalesce(told.alpha, 0) as is_drift,
                coalesce(greatest(0, low, -high), 0) as sure
            from jsonb_to_recordset(told.features)
                as f (test text, p_value float8, low float8, high float8)
        ) features
    ) found on true
    left join lateral (
        select rows, ended_at, case when not exists (
                select from window_sketch u
                where u.model = v.model and u.version = v.version and u.judge_at is not null
            ) then coalesce(begun_at, started_at) end as begun_at,
            extract(epoch from ended_at - coalesce(begun_at, started_at))::float8 as seconds
        from window_sketch w
        where w.model = v.model and w.version = v.version and closed_at is null
        order by number desc limit 1
    ) opened on true
    left join lateral (
        select quality from (
            select number, quality from window_quality q
            where q.model = v.model and q.version = v.version and quality is not null
                and state is distinct from 'censored'
            {_CLOSED_LAST}
    ) measured on true
    left join lateral (
        select estimate from (
            select number, estimate from window_quality q
            where q.model = v.model and q.version = v.version and estimate is not null
            {_CLOSED_LAST}
    ) estimated on true
"""  # noqa: S608 - constants only


_NEWEST: Final = 5
"""Windows whose labels are looked at together: one may be small or odd."""
_BEFORE: Final = 100
"""Windows that tell how many labels usually come; so long is it noticed that none do."""
_SHARE: Final = """
    cross join lateral (
        select sum(coalesce(q.labels, 0))::float8 / sum(w.rows) as share
        from (
            select number, rows from window_sketch
            where model = k.model and version = k.version and rows > 0
                and closed_at < $1::timestamptz - make_interval(secs => d.settled)
            order by closed_at desc limit $2
        ) w
        left join window_quality q
            on q.model = k.model and q.version = k.version and q.number = w.number
    ) labelled
    where share is not null
"""
COVERAGES: Final = f"""
    select k.model, k.version, share as ratio
    from (select model, champion as version from model where champion is not null) k
    join label_delay d on d.model = k.model and d.settled is not null
    {_SHARE}
"""  # noqa: S608 - constants only
USUAL: Final = f"""
    select k.model, k.version, share
    from unnest($3::text[], $4::int[]) as k (model, version)
    join label_delay d on d.model = k.model and d.settled is not null
    {_SHARE}
"""  # noqa: S608 - constants only
TOGETHER: Final = 500
"""Models whose many windows are read by one statement."""


@dataclass(frozen=True, slots=True)
class VitalsTable:
    """Reads what others write."""

    database: Database

    async def coverages(self, now: datetime) -> list[Coverage]:
        """Of champions whose delays of labels are known, from windows that should have theirs."""
        rows = await self.database.fetch(COVERAGES, now, _NEWEST)
        return [Coverage(**dict(row)) for row in rows]

    async def usual(self, keys: Sequence[Key], now: datetime) -> dict[Key, float]:
        """The same over many windows, the newest among them, of some models and versions."""
        found: dict[Key, float] = {}
        for first in range(0, len(keys), TOGETHER):
            some = keys[first : first + TOGETHER]
            names, versions = [name for name, _ in some], [version for _, version in some]
            rows = await self.database.fetch(USUAL, now, _BEFORE, names, versions)
            found |= {(row["model"], row["version"]): row["share"] for row in rows}
        return found

    async def standings(self) -> list[Standing]:
        """One of each champion."""
        rows = await self.database.fetch(STANDINGS)
        return [Standing(**dict(row)) for row in rows]
