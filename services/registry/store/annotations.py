"""What was said of periods of datasets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from services.registry.domain.annotations import Annotation
from shared.events import AnnotationProposed, DatasetAnnotated, Heard
from shared.postgres import Database, Row

_KEEP: Final = """
    insert into annotation (annotation, dataset, state, tag, "column", starts_at, ends_at, models,
        share, author, by, reason, said, evidence, written_at, changed_at, event_id, approved_by)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, $16, $17)
    on conflict (annotation) do update set state = excluded.state, by = excluded.by,
        said = excluded.said, changed_at = excluded.changed_at, event_id = excluded.event_id,
        approved_by = excluded.approved_by
"""
_TIMES: Final = """
    select distinct d.spec -> 'data' ->> 'time' as time
    from model m join definition d on d.model = m.name and d.number = m.definition
    where m.dataset = $1 and d.spec -> 'data' ->> 'time' is not null order by 1
"""


@dataclass(frozen=True, slots=True)
class Annotations:
    """Every method joins the open transaction."""

    database: Database

    async def keep(self, known: Annotation, heard: Heard[DatasetAnnotated]) -> None:
        """Keep an annotation in the state that was just said."""
        await self.database.execute(
            _KEEP,
            known.annotation,
            known.dataset,
            known.state,
            known.tag,
            known.column,
            known.starts_at,
            known.ends_at,
            list(known.models),
            known.share,
            known.author,
            known.by,
            known.reason,
            known.said,
            [str(one) for one in known.evidence],
            heard.time,
            heard.id,
            known.approved_by,
        )

    async def find(self, dataset: str, annotation: UUID) -> Annotation | None:
        """One of a dataset's, locked until the transaction ends."""
        row = await self.database.fetchrow(
            "select * from annotation where dataset = $1 and annotation = $2 for update",
            dataset,
            annotation,
        )
        return _annotation(row) if row else None

    async def of(
        self,
        dataset: str,
        *,
        states: Sequence[str] = (),
        before: UUID | None = None,
        limit: int = 1000,
    ) -> list[Annotation]:
        """Newest first; only in these states, if any are named."""
        rows = await self.database.fetch(
            "select * from annotation where dataset = $1 and ($2::text[] = '{}' or "
            "state = any($2)) and ($3::uuid is null or annotation < $3) "
            "order by annotation desc limit $4",
            dataset,
            list(states),
            before,
            limit,
        )
        return [_annotation(row) for row in rows]

    async def times(self, dataset: str) -> list[str]:
        """The columns that models of this dataset call the row's moment."""
        return [row["time"] for row in await self.database.fetch(_TIMES, dataset)]

    async def strangers(self, dataset: str, models: Sequence[str]) -> list[str]:
        """Those of these models that do not learn from the dataset."""
        rows = await self.database.fetch(
            "select name from model where dataset = $1 and name = any($2::text[])",
            dataset,
            list(models),
        )
        known = {row["name"] for row in rows}
        return [model for model in models if model not in known]

    async def proposals(self, dataset: str, limit: int) -> list[dict[str, Any]]:
        """What the monitor proposed and nobody took up, newest first."""
        rows = await self.database.fetch(
            "select event_id, time, data from event_log where type = $1 "
            "and data ->> 'dataset' = $2 and not exists (select 1 from annotation a "
            "where a.dataset = $2 and a.evidence ? event_log.event_id::text) "
            "order by seq desc limit $3",
            AnnotationProposed.TYPE,
            dataset,
            limit,
        )
        return [{**row["data"], "proposal": row["event_id"], "time": row["time"]} for row in rows]

    async def proposal(self, dataset: str, event_id: UUID) -> dict[str, Any] | None:
        """One proposal of the monitor."""
        row = await self.database.fetchrow(
            "select data from event_log where coalesce(key, event_id) = $1 and type = $2 "
            "and data ->> 'dataset' = $3",
            event_id,
            AnnotationProposed.TYPE,
            dataset,
        )
        return dict(row["data"]) if row else None


def _annotation(row: Row) -> Annotation:
    plain = {name: row[name] for name in Annotation.__slots__}
    return Annotation(
        **{
            **plain,
            "models": tuple(row["models"]),
            "evidence": tuple(UUID(one) for one in row["evidence"]),
        }
    )
