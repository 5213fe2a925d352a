"""What the evaluator remembers: candidates, champions, anchors, verdicts, and the queue of work."""

from datetime import datetime
from typing import Protocol
from uuid import UUID

from services.evaluator.domain import Champion, Standing
from services.evaluator.store.judging import Judging
from services.evaluator.store.rows import (
    Candidate,
    Earlier,
    State,
    registered_from,
    verdicts_in,
)
from shared import codec
from shared.events import (
    BestAsked,
    Digest,
    EvaluationCompleted,
    Event,
    Heard,
    ModelName,
    ModelRegistered,
)
from shared.postgres import Cause
from shared.topics import EVALUATION

__all__ = ["Candidate", "Earlier", "PostgresStore", "State", "Store", "registered_from"]


class Store(Protocol):
    """Every method joins the open transaction."""

    async def add_candidate(self, registered: ModelRegistered, cause: Cause) -> None: ...

    async def queue(self, registered: ModelRegistered, cause: Cause) -> None: ...

    async def set_state(self, model: ModelName, version: int, state: State) -> None: ...

    async def crown(
        self, model: ModelName, version: int | None, manifest: Digest | None
    ) -> None: ...

    async def newest_accepted(self, model: ModelName) -> Candidate | None: ...

    async def standing(self, model: ModelName) -> Standing: ...

    async def anchor(self, model: ModelName) -> Champion | None: ...

    async def set_anchor(
        self, model: ModelName, version: int, manifest: Digest, moment: datetime
    ) -> None: ...

    async def retire_anchor(
        self, model: ModelName, version: int, by: str, reason: str, moment: datetime
    ) -> None: ...

    async def evaluation(self, event_id: UUID) -> EvaluationCompleted | None: ...

    async def owner(self, model: str) -> str | None: ...

    async def newest(self, model: str, limit: int) -> list[ModelRegistered]: ...

    async def queue_best(
        self, model: ModelName, asked: BestAsked, key: str, cause: Cause
    ) -> UUID | None: ...


class PostgresStore(Judging):
    """The store in the evaluator's own database."""

    async def evaluation(self, event_id: UUID) -> EvaluationCompleted | None:
        """One verdict as it was said."""
        heard = await self.said(event_id)
        return heard.event if heard is not None else None

    async def owner(self, model: str) -> str | None:
        """Whose model it is; None for one that has no version."""
        found = await self.database.fetchval(
            "select owner from known_model where model = $1", model
        )
        return None if found is None else str(found)

    async def said(self, event_id: UUID) -> Heard[EvaluationCompleted] | None:
        """One verdict with its envelope."""
        payload = await self.database.fetchval(
            "select payload from said where topic = $1 and event_id = $2",
            EVALUATION.name,
            event_id,
        )
        found = [] if payload is None else verdicts_in([payload])
        return found[0] if found else None

    async def verdicts(
        self, model: str, *, below: int, limit: int
    ) -> list[Heard[EvaluationCompleted]]:
        """What was said of a model's candidates, newest first; anchors' events are passed over."""
        found: list[Heard[EvaluationCompleted]] = []
        while len(found) < limit:
            rows = await self.database.fetch(
                "select payload, sequence from said where topic = $1 and subject = $2 "
                "and sequence < $3 order by sequence desc limit $4",
                EVALUATION.name,
                model,
                below,
                limit,
            )
            if not rows:
                break
            found += verdicts_in([row["payload"] for row in rows])
            below = rows[-1]["sequence"]
        return found[:limit]

    async def after(
        self, place: tuple[str, int], limit: int, model: str | None, owners: list[str] | None
    ) -> list[Heard[Event]]:
        """Everything said about models after a place (model, sequence), by model and sequence.

        Args:
            model: only this one.
            owners: only theirs.
        """
        rows = await self.database.fetch(
            "select payload from said where topic = $1 and (subject, sequence) > ($2, $3) "
            "and ($5::text is null or subject = $5) and ($6::text[] is null or subject in "
            "(select model from known_model where owner = any($6))) "
            "order by subject, sequence limit $4",
            EVALUATION.name,
            *place,
            limit,
            model,
            owners,
        )
        return [codec.decode(row["payload"]) for row in rows]

    async def newest_split(self, model: str) -> str | None:
        """The held-out rows of a model's newest verdict that looked at any."""
        found = await self.database.fetchval(
            "select split from verdict where model = $1 and split is not null "
            "order by judged_at desc limit 1",
            model,
        )
        return None if found is None else str(found)

    async def cards(self, model: str, version: int) -> tuple[Digest, Digest] | None:
        """The newest card of a version, as Markdown and as a page."""
        row = await self.database.fetchrow(
            "select card, card_html from verdict where model = $1 and version = $2 "
            "and card is not null order by judged_at desc limit 1",
            model,
            version,
        )
        return (Digest(row["card"]), Digest(row["card_html"])) if row else None
