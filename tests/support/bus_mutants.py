"""Buses with one rule broken each; the checks of the contract have to notice every one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.broker import Publisher
from shared.events import Event, Heard
from shared.inbox import Inbox
from shared.letters import Letter
from shared.outbox import Relay
from shared.partitions import Worker
from shared.postgres import Cause, Sign, Transaction
from shared.topics import topic_of


class RelayWithCursor(Relay):
    """Remembers the last id instead of deleting what was acknowledged."""

    _last = 0

    async def _next(self, connection: Any) -> list[Any]:
        rows = await connection.fetch(
            "select o.id, s.topic, s.subject, s.payload from outbox o join said s using (event_id) "
            "where o.id > $1 order by o.id limit 500",
            self._last,
        )
        return list(rows)

    async def _forget(self, _connection: Any, rows: list[Any]) -> None:
        self._last = rows[-1]["id"]


class WorkerThatAcknowledgesFirst(Worker):
    """Lets the offset pass an event as soon as it is queued."""

    @property
    def position(self) -> int | None:
        return self._queue[-1].record.offset + 1 if self._queue else self._done


class InboxWithoutMemory(Inbox):
    """Takes every event for a new one."""

    async def _admit(self, letters: Sequence[Letter]) -> list[Letter]:
        return list(letters)


class TransactionThatPublishesAtOnce(Transaction):
    """Sends what is said while the transaction may still be rolled back."""

    publisher: Publisher

    async def say_each(
        self,
        said: Sequence[tuple[Cause, Event]],
        *,
        step: str = "",
        base: Any = None,
        sign: Sign | None = None,
    ) -> list[Heard[Event]]:
        spoken = await super().say_each(said, step=step, base=base, sign=sign)
        await self.publisher.send(
            [(topic_of(type(heard.event), self.service), heard) for heard in spoken]
        )
        return spoken
