"""Alarms about data that stand, and which champions are older than their data allows."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.drift_monitor.data_quality import Alarm, Kind
from services.drift_monitor.memory import Key
from shared.events import ModelName
from shared.postgres import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """A champion that lacks data which has been published for too long.

    Attributes:
        lacking: the oldest version of its dataset that it has not learned from.
    """

    model: ModelName
    version: int
    dataset: str
    lacking: int
    published_at: datetime


class AlarmTable:
    """One row per alarm that stands."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def alarms(self, key: Key) -> dict[Kind, Alarm]:
        """What stands about the data of a version; its age is not among it."""
        rows = await self.database.fetch(
            'select kind, "window", detail, clean from data_alarm '
            "where model = $1 and version = $2 and kind <> 'stale'",
            *key,
        )
        return {
            row["kind"]: Alarm(
                kind=row["kind"], window=row["window"], detail=row["detail"], clean=row["clean"]
            )
            for row in rows
        }

    async def save_alarm(self, key: Key, alarm: Alarm, now: datetime) -> None:
        await self.database.execute(
            'insert into data_alarm (model, version, kind, "window", raised_at, detail, clean) '
            "values ($1, $2, $3, $4, $5, $6, $7) on conflict (model, version, kind) "
            "do update set detail = excluded.detail, clean = excluded.clean",
            *key,
            alarm.kind,
            alarm.window,
            now,
            alarm.detail,
            alarm.clean,
        )

    async def drop_alarm(self, key: Key, kind: str) -> None:
        await self.database.execute(
            "delete from data_alarm where model = $1 and version = $2 and kind = $3", *key, kind
        )

    async def stale_now(self, now: datetime, models: Collection[str] | None = None) -> list[Stale]:
        """Champions that lack data for longer than they may."""
        rows = await self.database.fetch(_STALE, now, models and list(models))
        return [
            Stale(
                model=ModelName(row["model"]),
                version=row["version"],
                dataset=row["dataset"],
                lacking=row["lacking"],
                published_at=row["at"],
            )
            for row in rows
        ]

    async def stale_said(self, models: Collection[str] | None = None) -> set[Key]:
        """Model and version of the alarms about age that stand."""
        rows = await self.database.fetch(
            "select model, version from data_alarm where kind = 'stale' "
            "and ($1::text[] is null or model = any($1))",
            models and list(models),
        )
        return {(row["model"], row["version"]) for row in rows}

    async def raise_stale(self, key: Key, detail: str, now: datetime) -> None:
        await self.database.execute(
            "insert into data_alarm (model, version, kind, raised_at, detail) "
            "values ($1, $2, 'stale', $3, $4)",
            *key,
            now,
            detail,
        )


_STALE: Final = """
    select v.model, v.version, v.dataset, p.version as lacking, p.at
    from model m join version v on v.model = m.model and v.version = m.champion
    cross join lateral (
        select version, at from published
        where dataset = v.dataset and version > v.dataset_version order by version limit 1
    ) p
    where v.freshness is not null and p.at <= $1::timestamptz - v.freshness
        and ($2::text[] is null or m.model = any($2))
    order by v.model
"""
"""The oldest version that is lacking, not the newest: where data comes every hour, the newest is
never old however long the champion has stood still."""
