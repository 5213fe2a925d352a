"""How long labels of a model take to come, as far as is known."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from services.drift_monitor.quality.delays import (
    EDGES,
    Counts,
    Floats,
    before,
    censored,
    fitted,
    no_delays,
)
from shared.postgres import Database, Row

FEW_WINDOWS: Final = 200
"""So many are read each time; of more only once labels or age have grown by `GROWTH`, which is as
much as what is known of delays may change meanwhile."""
GROWTH: Final = 0.02


class DelayTable:
    """One row per model that labels have come for."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def add_delays(self, came: Mapping[str, Counts]) -> None:
        """Count labels of models by their delay.

        The models are looked at soon: labels may have settled a window. The caller holds their
        locks.
        """
        known = await self._came(list(came))
        models = sorted(came)
        counts = [came[model] + known.get(model, 0) for model in models]
        # As texts: the driver looks at every number of an array at length.
        await self.database.execute(
            "insert into label_delay (model, came) "
            "select model, came::int[] from unnest($1::text[], $2::text[]) as d (model, came) "
            "on conflict (model) do update set came = excluded.came, "
            "due_at = least(label_delay.due_at, label_delay.not_before)",
            models,
            [f"{{{','.join(map(str, one.tolist()))}}}" for one in counts],
        )

    async def _came(self, models: Sequence[str]) -> dict[str, Counts]:
        rows = await self.database.fetch(
            "select model, came from label_delay where model = any($1::text[])", list(models)
        )
        return {row["model"]: np.array(row["came"], dtype=np.int64) for row in rows}

    async def settled(self, models: Iterable[str]) -> dict[str, float | None]:
        """The age in seconds at which nearly all labels of a model are there, where it is known."""
        rows = await self.database.fetch(
            "select model, settled from label_delay where model = any($1::text[])",
            sorted(set(models)),
        )
        return {row["model"]: row["settled"] for row in rows}

    async def delays(
        self, model: str, now: datetime, *, keep: bool = False
    ) -> tuple[Counts, Floats]:
        """Labels per step of delay, and predictions without one by the steps of their ages.

        Both are of windows that are kept: as many labels as these have, with the delays of all
        that ever came, of which older ones so count less and less.

        Args:
            keep: what was counted is written down for the next time; the caller holds the lock.
        """
        known = await self.database.fetchrow(
            "select came, left_over, left_at, left_until, left_labels from label_delay "
            "where model = $1",
            model,
        )
        came = no_delays() if known is None else np.array(known["came"], dtype=np.int64)
        if known is not None and _holds(known, int(came.sum()), now):
            return came, np.array(known["left_over"], dtype=np.float64)
        rows = await self.database.fetch(_LEFT, model, now, list(EDGES))
        left = censored([row["step"] for row in rows], [row["left_over"] for row in rows])
        ever = int(came.sum())
        came = fitted(came, sum(row["labels"] for row in rows))
        if keep and came.sum() < ever * (1 - GROWTH):
            await self._keep_came(model, came)
        if keep and sum(row["windows"] for row in rows) > FEW_WINDOWS:
            await self._keep_left(model, left, int(came.sum()), rows, now)
        return came, left

    async def delays_then(self, model: str, then: datetime) -> tuple[Counts, Floats]:
        """As `delays`, as it was known at an earlier moment.

        What has come since is taken from what has come by now, which is exact while no window has
        been forgotten. Delays of forgotten windows count less and less; how much less those that
        came since count for that is told by labels that are kept, as nearly as can be.
        """
        firsts = await self.database.fetch(_FIRSTS, model, then, list(EDGES))
        earlier, since = no_delays(), no_delays()
        later: dict[tuple[int, int], int] = {}
        for row in firsts:
            if row["step"] is None:
                later[row["version"], row["window"]] = row["later"]
            else:
                earlier[row["step"]] += row["earlier"]
                since[row["step"]] += row["later"]
        came = before((await self._came([model])).get(model, no_delays()), earlier, since)
        windows = await self.database.fetch(_FULL_THEN, model, then, list(EDGES))
        since_then = [later.get((row["version"], row["number"]), 0) for row in windows]
        pairs = list(zip(windows, since_then, strict=True))
        left = [max(row["rows"] - row["labels"] + more, 0) for row, more in pairs]
        labels = sum(max(row["labels"] - more, 0) for row, more in pairs)
        return fitted(came, labels), censored([row["step"] for row in windows], left)

    async def _keep_came(self, model: str, came: Counts) -> None:
        await self.database.execute(
            "update label_delay set came = $2 where model = $1", model, came.tolist()
        )

    async def _keep_left(
        self, model: str, left: Floats, labels: int, rows: Sequence[Row], now: datetime
    ) -> None:
        opened = [row["opened_at"] for row in rows if row["opened_at"] is not None]
        age: timedelta = now - min(opened, default=now)
        await self.database.execute(
            "update label_delay set left_over = $2, left_at = $3, left_until = $4, "
            "left_labels = $5 where model = $1",
            model,
            left.tolist(),
            now,
            now + max(age, timedelta(0)) * GROWTH,
            int(labels * (1 + GROWTH)) + 1,
        )

    async def save_settled(self, model: str, settled: float | None) -> None:
        """Write down the age at which nearly all labels of a model are there."""
        await self.database.execute(
            "update label_delay set settled = $2 where model = $1 and settled is distinct from $2",
            model,
            settled,
        )


_FIRSTS: Final = """
    select version, "window", step, count(*) filter (where is_later) as later,
        count(*) filter (where not is_later) as earlier
    from (
        select version, "window", min(known_at) > $2 as is_later,
            cardinality($3::float8[]) - width_bucket(
                -greatest(extract(epoch from min(known_at) - at), 0)::float8, array(
                select -edge from unnest($3::float8[]) as edge order by edge desc)) as step
        from outcome where model = $1 group by place, version, "window", at
    ) as firsts group by grouping sets ((version, "window"), (step))
"""
"""First labels of windows, and by the steps of their delays; as in `counted`, an edge is the end
of its step."""
_FULL_THEN: Final = """
    select w.version, w.number, w.rows, coalesce(q.labels, 0) as labels, width_bucket(
        extract(epoch from $2::timestamptz - w.ended_at)::float8, $3::float8[]) as step
    from window_sketch w left join window_quality q using (model, version, number)
    where w.model = $1 and w.ended_at <= $2
"""
_LEFT: Final = """
    select step, sum(left_over)::bigint as left_over, sum(labels)::bigint as labels,
        count(*) as windows, min(opened_at) filter (where left_over > 0) as opened_at
    from (
        select greatest(w.rows - coalesce(q.labels, 0), 0) as left_over,
            coalesce(q.labels, 0) as labels, w.opened_at, width_bucket(
            extract(epoch from $2::timestamptz - w.ended_at)::float8, $3::float8[]) as step
        from window_sketch w left join window_quality q using (model, version, number)
        where w.model = $1
    ) as windows group by step
"""


def _holds(known: Row, labels: int, now: datetime) -> bool:
    """Whether what was counted of unlabelled predictions is fresh enough."""
    if known["left_over"] is None:
        return False
    return bool(known["left_at"] <= now < known["left_until"] and labels < known["left_labels"])
