"""What is known of datasets: how many rows they have, and which periods are abnormal."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import orjson

from services.drift_monitor.course import About
from services.drift_monitor.periods import Tag, verdict_of
from services.drift_monitor.store.waiting import uuid_of
from shared import codec
from shared.events import (
    AnnotationProposed,
    DatasetAnnotated,
    DatasetPublished,
    Heard,
    WindowEvaluated,
)
from shared.postgres import Database
from shared.topics import MONITORING

_MOST_EVIDENCE: Final = 20
_SINCE: Final = """
    select case
        when base is not null then greatest(newest - base, 0)
        when newer is not null then greatest(newer - $3, 0)
    end from (select
        (select rows from published where dataset = $1 and version = $2) as base,
        (select rows from published where dataset = $1 order by version desc limit 1) as newest,
        (select rows from published where dataset = $1 and version > $2
            order by version desc limit 1) as newer
    ) known
"""


class PeriodTable:
    """Versions of datasets, annotations and proposals; every method joins the open transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def note_published(self, heard: Heard[DatasetPublished]) -> None:
        await self.database.execute(
            "insert into published (dataset, version, rows, at) values ($1, $2, $3, $4) "
            "on conflict do nothing",
            heard.event.dataset,
            heard.event.version,
            heard.event.rows,
            heard.time,
        )

    async def rows_since(self, dataset: str, version: int, learned: int) -> int | None:
        """Rows that a dataset has more than it had in this version; None where nobody can know.

        Args:
            learned: rows that a model has made of this version; they are taken for all of its rows
                where it was published before the monitor listened.
        """
        found: int | None = await self.database.fetchval(_SINCE, dataset, version, learned)
        return found

    async def note_annotation(self, said: DatasetAnnotated) -> None:
        await self.database.execute(
            "insert into annotation (annotation, dataset, state, tag, starts_at, ends_at, models, "
            "author) values ($1, $2, $3, $4, $5, $6, $7, $8) "
            "on conflict (annotation) do update set state = excluded.state",
            said.annotation,
            said.dataset,
            said.state,
            said.tag,
            said.starts_at,
            said.ends_at,
            list(said.models),
            said.author,
        )

    async def annotated_now(self, about: About) -> str:
        """In words: what people say of this moment, if it is abnormal and passes."""
        row = await self.database.fetchrow(
            "select * from annotation where dataset = $1 and state = 'active' "
            "and tag in ('transient', 'corrupt', 'held_out') and starts_at <= $2 and ends_at > $2 "
            "and (models = '{}' or $3 = any(models)) order by annotation desc limit 1",
            about.dataset,
            about.now,
            about.model,
        )
        if row is None:
            return ""
        return f"{row['author']} calls the data {row['tag']} until {row['ends_at']:%Y-%m-%d %H:%M}"

    async def told_periods(self, dataset: str, tag: Tag) -> list[tuple[datetime, datetime]]:
        """Periods of a dataset that were proposed with this tag, or annotated by people."""
        rows = await self.database.fetch(
            "select starts_at, ends_at from proposal where dataset = $1 and tag = $2 "
            "union all select starts_at, ends_at from annotation where dataset = $1 "
            "and state in ('active', 'proposed')",
            dataset,
            tag,
        )
        return [(row["starts_at"], row["ends_at"]) for row in rows]

    async def note_proposal(self, said: AnnotationProposed) -> None:
        await self.database.execute(
            "insert into proposal (dataset, tag, starts_at, ends_at, model) "
            "values ($1, $2, $3, $4, $5) on conflict do nothing",
            said.dataset,
            said.tag,
            said.starts_at,
            said.ends_at,
            said.model,
        )

    async def evidence(self, about: About, windows: Sequence[int]) -> list[UUID]:
        """Ids of the verdicts about these windows, as far as they were said."""
        ids = {verdict_of(about.model, about.version, window): window for window in windows}
        rows = await self.database.fetch(
            "select event_id from said where event_id = any($1::uuid[])", list(ids)
        )
        said = {ids[one]: one for one in (uuid_of(row["event_id"]) for row in rows)}
        if missing := set(windows) - said.keys():
            said |= await self._said_before(about, missing)
        return [said[window] for window in sorted(said)][:_MOST_EVIDENCE]

    async def _said_before(self, about: About, windows: Collection[int]) -> dict[int, UUID]:
        """Verdicts that an older release said, under ids that are no function of the window."""
        rows = await self.database.fetch(
            "select payload from said where topic = $1 and subject = $2 "
            "order by sequence desc limit 1000",
            MONITORING.name,
            about.model,
        )
        kind = orjson.dumps(WindowEvaluated.TYPE)
        payloads = [bytes(row["payload"]) for row in rows]
        heards = [codec.decode(payload) for payload in payloads if kind in payload]
        return {
            heard.event.window: heard.id
            for heard in heards
            if isinstance(heard.event, WindowEvaluated)
            and heard.event.version == about.version
            and heard.event.window in windows
        }
