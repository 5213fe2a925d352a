"""What is too old to matter is dropped, a part at a time: no statement takes long, however much."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

from services.drift_monitor.detection import HISTORY
from services.drift_monitor.store.qualities import BEGINNING
from shared.postgres import Database
from shared.spec_parts import LONGEST

TOGETHER: Final = 10_000
"""Rows that are dropped by one statement."""
WINDOWS_TOGETHER: Final = 2_000
TELEMETRY: Final = ("prediction", "unseen", "outcome")
"""Each row with its model and the moment at which it was heard of."""
SLICE: Final = timedelta(days=1)
"""Rows of so long are looked at by one statement where some of them stay."""


class Span(NamedTuple):
    """What was heard of in it is dropped, but for what models have that keep it for longer."""

    since: datetime
    until: datetime
    spared: Sequence[str] = ()


def spans_of(
    now: datetime, last: datetime | None, horizon: timedelta, longer: Mapping[str, timedelta]
) -> list[Span]:
    """What is dropped now.

    What nobody keeps goes first, so that all that is left has a beginning. What stays because its
    labels are slow is looked at once, and not in every round again.

    Args:
        last: the moment of the last round that dropped by these horizons; None in the first one.
        longer: models that keep their rows for longer than the horizon, and how long.
    """
    ages = sorted({horizon, *longer.values()}, reverse=True)
    spans = [Span(BEGINNING, now - ages[0])]
    for older, age in pairwise(ages):
        spared = sorted(model for model, kept in longer.items() if kept > age)
        since = now - older if last is None else max(now - older, last - age)
        spans += [Span(*ends, spared) for ends in _sliced(since, now - age)]
    return spans


def _sliced(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    while since < until:
        following = min(since + SLICE, until)
        yield since, following
        since = following


class HorizonTable:
    """Every method drops part after part, each in a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def kept_longer(self, horizon: timedelta) -> dict[str, timedelta]:
        """Models whose labels are too slow for a horizon, and how long their rows are kept.

        That is twice the delay that a version has declared, and no less than the age at which its
        labels were found to be there: a running test is fed with losses of that age. Nothing is
        kept for longer than ten years, however slow labels are said to be.
        """
        rows = await self.database.fetch(_KEPT_LONGER, horizon, LONGEST.total_seconds())
        return {row["model"]: timedelta(seconds=row["seconds"]) for row in rows}

    async def forget_telemetry(self, spans: Sequence[Span]) -> None:
        """Drop predictions, shadows' answers and labels that were heard of in these spans."""
        for table in TELEMETRY:
            for span in spans:
                await self._drop(
                    table, "heard_at >= $1 and heard_at < $2 and model <> all($3::text[])", *span
                )

    async def forget_batches(self, before: datetime) -> None:
        """Drop the numbers of batches that were heard of before."""
        await self._drop("batch", "heard_at < $1", before)

    async def forget_told(self, before: datetime) -> None:
        """Drop what was shown to people for long enough: reports, lifted brakes, proposals."""
        await self._drop("report", "requested_at < $1 and state <> 'waiting'", before)
        await self._drop("job", "kind = 'report' and finished_at < $1", before)
        await self._drop("brake", "lifted_at < $1", before)
        await self._drop("proposal", "ends_at < $1", before)

    async def forget_windows(self, before: datetime) -> int:
        """Drop windows that were closed before, with what was found in them; how many.

        Those that a younger one was compared with go with it, not before: every verdict that is
        kept can be computed again.
        """
        dropped, last = 0, (BEGINNING, "", 0, 0)
        while True:
            row = await self.database.fetchrow(_WINDOWS, before, *last, WINDOWS_TOGETHER)
            if row is None or row["closed_at"] is None:
                return dropped
            dropped += row["dropped"]
            last = (row["closed_at"], row["model"], row["version"], row["number"])

    async def _drop(self, table: str, condition: str, *arguments: object) -> None:
        sql = (
            f"delete from {table} where ctid = any(array("  # noqa: S608 - constants only
            f"select ctid from {table} where {condition} limit {TOGETHER}))"
        )
        while await self.database.execute(sql, *arguments) == TOGETHER:
            pass


_KEPT_LONGER: Final = """
    select model, least(extract(epoch from max(kept))::float8, $2::float8) as seconds from (
        select model, 2 * (policy ->> 'label_delay')::interval as kept from version
        union all
        select model, make_interval(secs => least(settled, $2::float8)) + interval '1 day'
        from label_delay where settled is not null
    ) known
    group by model having max(kept) > $1
"""
_WINDOWS: Final = f"""
    with page as (
        select model, version, number, season, closed_at from window_sketch
        where closed_at < $1 and (closed_at, model, version, number) > ($2, $3, $4, $5)
        order by closed_at, model, version, number limit $6
    ), gone as (
        delete from window_sketch w using page p
        where (w.model, w.version, w.number) = (p.model, p.version, p.number)
            and not exists (
                select from (
                    select closed_at from window_sketch n
                    where n.model = p.model and n.version = p.version and n.season = p.season
                        and n.number > p.number
                    order by n.number limit {HISTORY - 1}
                ) following
                where following.closed_at >= $1
            )
        returning w.model, w.version, w.number
    ), without as (
        delete from window_quality q using gone g
        where (q.model, q.version, q.number) = (g.model, g.version, g.number)
    )
    select p.*, (select count(*) from gone) as dropped from page p
    order by closed_at desc, model desc, version desc, number desc limit 1
"""  # noqa: S608 - constants only
