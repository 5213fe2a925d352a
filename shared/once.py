"""An event counts once per consumer and topic, however often it is delivered."""

from typing import Final
from uuid import UUID

from shared.postgres import Database

_TAKE: Final = (
    "insert into inbox (consumer, topic, event_id) values ($1, $2, $3) "
    "on conflict do nothing returning event_id"
)


async def is_first(database: Database, consumer: str, topic: str, event_id: UUID) -> bool:
    """Take an id in the open transaction; False when it was taken before."""
    return await database.fetchval(_TAKE, consumer, topic, event_id) is not None
