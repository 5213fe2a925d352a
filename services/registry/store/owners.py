"""Which team each model and each dataset belongs to, and what a team may see of the log."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.events import BY_TYPE, FreezeDeclared
from shared.postgres import Database

_CLAIM: Final = """
    insert into dataset_owner as o (dataset, owner, claimed_at) values ($1, $2, $3)
    on conflict (dataset) do update set owner = excluded.owner, claimed_at = excluded.claimed_at
    where (excluded.claimed_at, excluded.owner) < (o.claimed_at, o.owner)
"""
_DATASET: Final = """
    select coalesce(
        (select owner from dataset_owner where dataset = $1),
        (select '' from dataset_version where dataset = $1 limit 1)
    )
"""


def _types_about(key: str) -> str:
    """The types of all events that are about a model, or about a dataset, as an array of SQL."""
    return "{" + ",".join(name for name, kind in BY_TYPE.items() if key == kind.KEY) + "}"


OWNED_MODEL: Final = "exists (select 1 from model o where o.name = %s and o.owner = any($%d))"
OWNED_DATASET: Final = (
    "exists (select 1 from dataset_owner o where o.dataset = %s and o.owner = any($%d))"
)


OWNED_FREEZE: Final = f"""exists (
    select 1 from event_log f where f.subject = event_log.subject
        and f.type = '{FreezeDeclared.TYPE}' and (f.data -> 'models' = '[]' or exists (
            select 1 from model o where f.data -> 'models' ? o.name and o.owner = any($%d))))
"""  # noqa: S608 - put together from constants
"""A freeze, and its end, are for those whose models it stops."""


def owned_fact(number: int) -> str:
    """The condition under which a row of the log is about something of the teams in `$number`.

    What is about neither model nor dataset is for those who see all teams; a freeze is for
    everybody whom it stops.
    """
    model, dataset = OWNED_MODEL % ("subject", number), OWNED_DATASET % ("subject", number)
    return (
        f"((type = any('{_types_about('model')}') and {model})"
        f" or (type = any('{_types_about('dataset')}') and {dataset})"
        f" or (data ? 'freeze' and {OWNED_FREEZE % number}))"
    )


@dataclass(frozen=True, slots=True)
class Owners:
    """Whose things are whose."""

    database: Database

    async def lock(self, dataset: str) -> None:
        """Hold the dataset's name until the transaction ends, so that one team claims it."""
        await self.database.execute(
            "select pg_advisory_xact_lock(hashtextextended('owner ' || $1, 0))", dataset
        )

    async def model(self, model: str) -> str | None:
        """The team of a model; None when it was never defined."""
        found: str | None = await self.database.fetchval(
            "select owner from model where name = $1", model
        )
        return found

    async def dataset(self, dataset: str) -> str | None:
        """The team of a dataset; empty when it is nobody's, None when nobody ever named it."""
        found: str | None = await self.database.fetchval(_DATASET, dataset)
        return found

    async def claim(self, dataset: str, owner: str, at: datetime) -> None:
        """Remember that a team has named a dataset; an earlier claim stays."""
        if owner:
            await self.database.execute(_CLAIM, dataset, owner, at)
