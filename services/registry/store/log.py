"""Every fact, in the order in which it was folded, and what the facts claim about outcomes."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from services.registry.store.models import plain
from services.registry.store.owners import OWNED_MODEL, owned_fact
from shared.events import (
    Event,
    EventParked,
    Heard,
    ModelRegistered,
    ReplicaAnnounced,
    ServingMeasured,
)
from shared.outcomes import FIRST_END, Claim, Outcome, State, claim_of
from shared.postgres import Database, Row, Transaction
from shared.topics import dead_letters_of, topic_of

# The lock is taken before the row gets its number and held until the commit, so that numbers
# become visible in their order: a reader that has seen one misses none below it.
_REMEMBER: Final = """
    with turn as materialized (select pg_advisory_xact_lock(7437))
    insert into event_log (event_id, topic, type, subject, sequence, source, correlation,
        causation, time, data, key)
    select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 from turn
    on conflict (coalesce(key, event_id)) do nothing
"""
_CLAIM: Final = """
    insert into claim (event_id, model, dataset, dataset_version, version, state, weight, detail,
        at) values ($1, $2, $3, $4, $9, $5, $6, $7, $8)
    on conflict do nothing
"""
_CLAIM_BY_VERSION: Final = """
    insert into claim (event_id, model, dataset, dataset_version, version, state, weight, detail,
        at)
    select $1, $2, known.dataset, known.dataset_version, $3, $4, $5, $6, $7
    from (select 1) as one left join lateral (
        select dataset, dataset_version from claim
        where model = $2 and version = $3 and dataset is not null limit 1
    ) known on true
    on conflict do nothing
"""
_CLAIM_FOR_ALL: Final = """
    insert into claim (event_id, model, dataset, dataset_version, version, state, weight, detail,
        at)
    select $1, m.name, $2, $3, null, $4, $5, $6, $7 from model m
    where m.dataset = $2 and m.defined_at <= $7
    on conflict do nothing
"""
_PLACE: Final = """
    update claim set dataset = $3, dataset_version = $4
    where model = $1 and version = $2 and dataset is null
"""
_BEST: Final = f"""order by dataset, dataset_version desc, model, weight desc,
    case when weight < {FIRST_END} then at end desc nulls last,
    case when weight < {FIRST_END} then event_id end desc nulls last, at, event_id"""
"""As `shared.outcomes` says it: the newest of equals while the story goes on, else the earliest."""
_OUTCOMES: Final = f"""
    select * from (
        select distinct on (dataset, dataset_version, model) * from claim where %s {_BEST}
    ) best where $5::text is null or state = $5
    order by dataset, dataset_version desc, model limit $4
"""  # noqa: S608 - put together from constants
_OF_CASCADE: Final = f"""
    select distinct on (dataset, dataset_version, model) * from claim
    where (dataset, dataset_version, model) in (
        select c.dataset, c.dataset_version, c.model from claim c
        join event_log e on coalesce(e.key, e.event_id) = c.event_id
        where e.correlation = $1 and c.dataset is not null
    ) and ($2::text[] is null or {OWNED_MODEL % ("model", 2)}) {_BEST}
"""  # noqa: S608 - put together from constants
_MOST_ENDS: Final = 10_000
"""Ends that wait to be told as metrics; they are told every few seconds."""
_BESIDES: Final = 2
"""Refused files and freezes that `why` tells of at most, so that they do not fill it."""
_DECISIONS: Final = f"""
    select * from (
        (select * from event_log where subject = $1 and type = any($3)
            order by seq desc limit $4)
        union all
        (select * from event_log where subject = $2 and type = 'tidewheel.dataset.refused.v1'
            order by seq desc limit {_BESIDES})
        union all
        (select * from event_log where type = 'tidewheel.freeze.declared.v1'
            and (data -> 'models' ? $1 or data -> 'models' = '[]')
            order by seq desc limit {_BESIDES})
    ) all_kinds order by seq desc limit $4
"""  # noqa: S608 - put together from constants
_FORGET: Final = "delete from event_log where type = $1 and time < $2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A row of the log.

    Attributes:
        key: what an outsider's event is told apart by; None where the id itself tells.
    """

    seq: int
    event_id: UUID
    topic: str
    type: str
    subject: str
    sequence: int | None
    source: str
    correlation: UUID
    causation: UUID | None
    time: datetime
    data: Mapping[str, Any]
    key: UUID | None = None


def fact_of(row: Row) -> Fact:
    """A row of the log."""
    return Fact(**dict(row))


def _outcome(row: Row) -> Outcome:
    return Outcome(
        dataset=row["dataset"],
        dataset_version=row["dataset_version"],
        model=row["model"],
        state=State(row["state"]),
        detail=row["detail"],
        at=row["at"],
        event_id=row["event_id"],
    )


@dataclass(slots=True)
class News:
    """Wakes those who wait for the log to grow."""

    _next: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        """Something was added and committed here."""
        current, self._next = self._next, asyncio.Event()
        current.set()

    def ticket(self) -> asyncio.Event:
        """Taken before looking at the log; set when something is added after that."""
        return self._next

    async def wait(self, ticket: asyncio.Event, seconds: float) -> None:
        """Until something is added here, or so long: other replicas add too."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await ticket.wait()


@dataclass(frozen=True, slots=True)
class Log:
    """The event log and the claims."""

    database: Database
    news: News = field(default_factory=News)
    _ends: deque[UUID] = field(default_factory=lambda: deque(maxlen=_MOST_ENDS))

    def take_ends(self) -> list[UUID]:
        """Events that ended a story and were committed here since the last time."""
        return [self._ends.popleft() for _ in range(len(self._ends))]

    async def remember(self, heards: Iterable[Heard[Event]]) -> None:
        """Add facts at the end of the open transaction; those already there stay as they are."""
        async with self.database.transaction() as transaction:
            ends: list[UUID] = []
            for heard in heards:
                _remember(transaction, heard)
                claim = _claim(transaction, heard)
                if claim is not None and claim.weight >= FIRST_END:
                    ends.append(heard.id)
            if ends:
                transaction.after_commit.append(lambda: self._ends.extend(ends))
            if self.news.tell not in transaction.after_commit:
                transaction.after_commit.append(self.news.tell)

    async def page(
        self,
        after: int,
        limit: int,
        *,
        subject: str | None = None,
        types: Sequence[str] | None = None,
        without: Sequence[str] | None = None,
        newest: bool = False,
        owners: Sequence[str] | None = None,
    ) -> list[Fact]:
        """Facts behind a position, in order; the last of them when the newest are asked for."""
        where = ["seq > $1"]
        arguments: list[Any] = [after, limit]
        for column, value in (
            ("subject = $%d", subject),
            ("type = any($%d)", types),
            ("type <> all($%d)", without),
        ):
            if value is not None:
                arguments.append(value if isinstance(value, str) else list(value))
                where.append(column % len(arguments))
        if owners is not None:
            arguments.append(owners)
            where.append(owned_fact(len(arguments)))
        # Put together from constants: one condition per question, so that each finds its index.
        order = "seq desc" if newest else "seq"
        sql = f"select * from event_log where {' and '.join(where)} order by {order} limit $2"  # noqa: S608
        found = [fact_of(row) for row in await self.database.fetch(sql, *arguments)]
        return found[::-1] if newest else found

    async def of_cascade(
        self, cascade: UUID, after: int, limit: int, owners: Sequence[str] | None = None
    ) -> list[Fact]:
        """Facts of one cascade behind a position, in the order in which they were folded."""
        seen = "true" if owners is None else owned_fact(4)
        rows = await self.database.fetch(
            "select * from event_log where correlation = $1 and seq > $2 "  # noqa: S608 - constants
            f"and {seen} order by seq limit $3",
            *(cascade, after, limit, *(() if owners is None else (owners,))),
        )
        return [fact_of(row) for row in rows]

    async def decisions(
        self, model: str, dataset: str, types: Sequence[str], limit: int
    ) -> list[Fact]:
        """The last facts of these types about a model, newest first.

        The last refusals of its data and the last freezes that concern it are among them.
        """
        rows = await self.database.fetch(_DECISIONS, model, dataset, list(types), limit)
        return [fact_of(row) for row in rows]

    async def outcomes(
        self,
        *,
        dataset: str | None,
        model: str | None,
        state: str | None,
        after: tuple[str, int, str],
        limit: int,
        owners: Sequence[str] | None = None,
    ) -> list[Outcome]:
        """Where pairs stand: by dataset, newest version first, by model."""
        where = ["dataset is not null", "(dataset, -dataset_version, model) > ($1, $2, $3)"]
        arguments: list[Any] = [after[0], -after[1], after[2], limit, state]
        for column, value in (("dataset = $%d", dataset), ("model = $%d", model)):
            if value is not None:
                arguments.append(value)
                where.append(column % len(arguments))
        if owners is not None:
            arguments.append(owners)
            where.append(OWNED_MODEL % ("model", len(arguments)))
        sql = _OUTCOMES % " and ".join(where)
        return [_outcome(row) for row in await self.database.fetch(sql, *arguments)]

    async def outcomes_of_cascade(
        self, cascade: UUID, owners: Sequence[str] | None = None
    ) -> list[Outcome]:
        """Where the pairs stand that a cascade touched."""
        rows = await self.database.fetch(_OF_CASCADE, cascade, owners)
        return [_outcome(row) for row in rows]

    async def forget(self, now: datetime) -> int:
        """Drop what says nothing any more: signs of life, and measures as old as their topic."""
        gone = await self.database.execute(_FORGET, ReplicaAnnounced.TYPE, now - timedelta(hours=1))
        measures = now - timedelta(days=30)
        return gone + await self.database.execute(_FORGET, ServingMeasured.TYPE, measures)


def _remember(transaction: Transaction, heard: Heard[Event]) -> None:
    transaction.defer(
        _REMEMBER,
        heard.id,
        _topic_name(heard.event),
        heard.event.TYPE,
        heard.event.subject,
        heard.sequence,
        heard.source,
        heard.correlation,
        heard.causation,
        heard.time,
        plain(heard),
        heard.key,
    )


def _topic_name(event: Event) -> str:
    if isinstance(event, EventParked):
        return dead_letters_of(event.service).name
    return topic_of(type(event)).name


def _claim(transaction: Transaction, heard: Heard[Event]) -> Claim | None:
    claim = claim_of(heard.event)
    if claim is None:
        return None
    said = (claim.state.value, claim.weight, claim.detail[:1000].replace("\0", " "), heard.time)
    if claim.model is None:
        transaction.defer(_CLAIM_FOR_ALL, heard.id, claim.dataset, claim.dataset_version, *said)
    elif claim.version is not None:
        transaction.defer(_CLAIM_BY_VERSION, heard.id, claim.model, claim.version, *said)
    else:
        _claim_pair(transaction, heard, claim, said)
    return claim


def _claim_pair(
    transaction: Transaction, heard: Heard[Event], claim: Claim, said: tuple[object, ...]
) -> None:
    registered = heard.event.version if isinstance(heard.event, ModelRegistered) else None
    pair = (claim.dataset, claim.dataset_version)
    transaction.defer(_CLAIM, heard.id, claim.model, *pair, *said, registered)
    if registered is not None:
        # Facts of a rollout may have come first, on another topic.
        transaction.defer(_PLACE, claim.model, registered, *pair)
