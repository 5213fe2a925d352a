"""Labels that came before their predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.drift_monitor.quality import Label
from shared.postgres import Database, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A label whose prediction was not heard of yet."""

    prediction: str
    model: str
    label: Label


class WaitingTable:
    """One row per prediction and model: the label that counts."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def waiting(self, ids: Sequence[str]) -> dict[tuple[str, str], Waiting]:
        rows = await self.database.fetch(
            "select * from waiting_label where prediction = any($1::text[])", list(ids)
        )
        return {(row["prediction"], row["model"]): _waiting(row) for row in rows}

    async def take_waiting(self, ids: Sequence[str]) -> list[Waiting]:
        rows = await self.database.fetch(
            "delete from waiting_label where prediction = any($1::text[]) returning *", list(ids)
        )
        return [_waiting(row) for row in rows]

    async def wait_for(self, labels: Sequence[Waiting]) -> None:
        await self.database.executemany(
            "insert into waiting_label (prediction, model, value, revision, observed_at, event) "
            "values ($1, $2, $3, $4, $5, $6) on conflict (prediction, model) do update "
            "set value = excluded.value, revision = excluded.revision, "
            "observed_at = excluded.observed_at, event = excluded.event",
            [
                (
                    waiting.prediction,
                    waiting.model,
                    *label_columns(waiting.label),
                )
                for waiting in labels
            ],
        )

    async def count_waiting(self) -> int:
        return int(await self.database.fetchval("select count(*) from waiting_label"))


def label_columns(label: Label | None) -> tuple[Any, ...]:
    if label is None:
        return None, None, None, None
    return label.value, label.revision, label.observed_at, label.event


def _waiting(row: Row) -> Waiting:
    label = Label(
        value=row["value"],
        revision=row["revision"],
        observed_at=row["observed_at"],
        event=uuid_of(row["event"]),
    )
    return Waiting(prediction=row["prediction"], model=row["model"], label=label)


def uuid_of(value: Any) -> UUID:
    # asyncpg's own class compares with UUID but is no instance that json writes alike.
    return UUID(str(value))
