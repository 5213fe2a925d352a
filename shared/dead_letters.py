"""The door to a service's dead letters: what is parked, why, and another try."""

from collections.abc import Iterable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from shared.access import Role
from shared.errors import InvalidInput, TidewheelError
from shared.http import Json, allow, page
from shared.letters import LONGEST_SUBJECT
from shared.parking import Parked, list_parked
from shared.postgres import Database
from shared.reactions import Reaction
from shared.retrying import retry_parked
from shared.turned_away import TurnedAway, count_turned_away, list_turned_away

# They hold events of any team, and often of none that can be told.
_READER: Final = allow(Role.VIEWER, Role.OPERATOR, everywhere=True)
_OPERATOR: Final = allow(Role.OPERATOR, everywhere=True)
LARGEST: Final = 2**63 - 1
PLAIN: Final = r"^[^\x00]*$"
"""The database keeps no text with zero characters."""


class Retry(BaseModel):
    """Which subject's parked events are tried again."""

    model_config = ConfigDict(extra="forbid")

    topic: str = Field(max_length=300, pattern=PLAIN)
    subject: str = Field(max_length=LONGEST_SUBJECT, pattern=PLAIN)


def router(database: Database, reactions: Iterable[Reaction]) -> APIRouter:
    """The routes over one service's table of dead letters."""
    found = APIRouter(tags=["dead letters"])
    table = tuple(reactions)

    @found.get("/v1/dead-letters", dependencies=[Depends(_READER)])
    async def dead_letters(
        subject: Annotated[str | None, Query(max_length=LONGEST_SUBJECT, pattern=PLAIN)] = None,
        cursor: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Any:
        rows = await list_parked(database, subject=subject, after=cursor, limit=limit, whole=False)
        last = str(rows[-1].id) if len(rows) == limit else None
        away = await list_turned_away(database, limit=limit)
        return Json(
            {
                **page([_shown(row) for row in rows], last),
                "turned_away": {
                    "totals": await count_turned_away(database),
                    "newest": [_turned_away(one) for one in away],
                },
            }
        )

    @found.post("/v1/dead-letters/retry", dependencies=[Depends(_OPERATOR)])
    async def retry(asked: Retry) -> Any:
        try:
            tried = await retry_parked(database, table, asked.topic, asked.subject)
        except TidewheelError:
            raise
        except Exception as error:  # a reaction failed again; everything stays parked
            raise InvalidInput(
                f"It failed again: {type(error).__name__}: {error}. Everything stays parked.",
                code="still_failing",
            ) from error
        return Json({"topic": asked.topic, "subject": asked.subject, "retried": tried})

    return found


def _turned_away(one: TurnedAway) -> dict[str, Any]:
    """Its bytes are in Kafka, at this position, for as long as the topic keeps them."""
    return {
        "topic": one.topic,
        "partition": one.partition,
        "offset": one.offset,
        "failure": one.failure,
        "reason": one.reason,
        "at": one.at.isoformat(),
    }


def _shown(row: Parked) -> dict[str, Any]:
    return {
        "id": row.id,
        "topic": row.topic,
        "partition": row.partition,
        "offset": row.offset,
        "subject": row.subject,
        "type": row.event,
        "sequence": row.sequence,
        "failure": row.failure,
        "reason": row.reason,
        "parked_at": row.parked_at.isoformat(),
    }
