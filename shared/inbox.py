"""The unit of work: one transaction holds an event's place, its effect, and what is said of it.

The watermark row is moved first, so a second owner of the same event waits there and then sees
that the event is done. Correctness rests on this alone, not on the broker's offsets.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice, takewhile
from typing import Final, Literal

from shared import clock, telemetry
from shared.errors import InvalidEvent, NotReady, OutOfSequence, StoreUnavailable, Unavailable
from shared.events import Event
from shared.letters import Letter, Reader
from shared.parking import Parking
from shared.patience import Patience
from shared.postgres import Cause, Database, Transaction, passes
from shared.reactions import Reaction
from shared.topics import Topic, topic_of

Wait = Callable[[float], Awaitable[None]]
React = Callable[[Transaction, Sequence[Letter]], Awaitable[Sequence[tuple[Cause, Event]]]]

_ADMIT: Final = """
    with heard as (
        select * from unnest($3::text[], $4::bigint[], $5::bigint[]) as h (subject, first, last)
    ), moved as (
        update watermark w set sequence = h.last from heard h
        where w.consumer = $1 and w.topic = $2 and w.subject = h.subject
            and w.sequence = h.first - 1 and not w.parked
        returning w.subject
    ), met as (
        insert into watermark (consumer, topic, subject, sequence)
        select $1, $2, subject, last from heard where first = 1 or $6
        on conflict do nothing returning subject
    )
    select subject from moved union all select subject from met
"""
_MARK: Final = (
    "select sequence, parked from watermark "
    "where consumer = $1 and topic = $2 and subject = $3 for update"
)
_HEARD: Final = """
    insert into inbox (consumer, topic, event_id)
    select $1, $2, h.id from unnest($3::uuid[], $4::uuid[]) as h (id, given)
    where not exists (
        select 1 from inbox i where i.consumer = $1 and i.topic = $2 and i.event_id = h.given
    )
    on conflict do nothing returning event_id
"""
"""Releases before this one kept the ids that outsiders gave, and what they did is done."""
_FORGET: Final = """
    delete from inbox where ctid = any(array(
        select ctid from inbox where topic = $1 and heard_at < now() - $2::interval limit $3
    ))
"""
_FORGET_JUNK: Final = """
    delete from dead_letter where consumer = $1 and topic = $2 and failure = $3
    and parked_at < now() - $4::interval
"""
FORGOTTEN_TOGETHER: Final = 10_000
JUNK_STAYS: Final = timedelta(days=30)
"""No release will ever read what is no event; it must not fill the room of outsiders for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a consumer gives up waiting, and when it gives up parking."""

    ready_tries: int = 10
    ready_seconds: float = 60.0
    """A reaction that is not ready is parked after so many tries or seconds."""
    parked: int = 1_000
    """So many dead letters of our own services' topics stop the consumer: a bad release must not
    drain a topic. Of each outsiders' topic there may be as many besides, and they stop nothing."""
    turned_away: int = 1_000
    """Positions kept of outsiders' records beyond that, the newest of each topic."""
    together: int = 200
    """Events that nobody reacts to, or records that are none, and that may share a transaction."""


Place = Literal["next", "repeat", "behind", "gap"]


def place_of(sequence: int, mark: tuple[int, bool] | None, topic: Topic) -> Place:
    """Where an event stands against its subject's watermark, `(sequence, parked)`."""
    if mark is None:
        return "next" if sequence == 1 or topic.retention is not None else "gap"
    done, parked = mark
    if sequence <= done:
        return "repeat"
    if sequence > done + 1:
        return "gap"
    return "behind" if parked else "next"


class _Repeated(Exception):
    """This event is done already."""


class _Behind(Exception):
    """An earlier event of this subject is parked."""


class _Uneven(Exception):
    """Not all events of the batch stand next in their order; each is taken alone."""


class Inbox:
    """Takes letters for one consumer: each has its effect once, in order, or is parked."""

    def __init__(
        self,
        database: Database,
        consumer: str,
        reactions: Iterable[Reaction],
        *,
        limits: Limits | None = None,
        react: React | None = None,
    ) -> None:
        self._database = database
        self.consumer = consumer
        self.limits = limits or Limits()
        self._react = react or react_in_turn
        reactions = list(reactions)
        self._reader = Reader(reactions)
        for reaction in reactions:
            telemetry.begin("tidewheel_events_processed_total", type=reaction.kind.TYPE)
            topic = topic_of(reaction.kind, database.service)
            if topic.outsiders:
                telemetry.begin("tidewheel_records_turned_away_total", topic=topic.name)
        self._parking = Parking(
            database, consumer, self.limits.parked, turned_away=self.limits.turned_away
        )
        self.read = self._reader.read

    async def take(self, letters: Sequence[Letter], wait: Wait) -> list[Letter]:
        """Finish letters of one partition, in order.

        Args:
            wait: sleeps between tries, and may raise to abandon them.

        Returns:
            The letters that cannot be finished because one before them is missing.
        """
        if all(letter.is_junk for letter in letters):
            await self._set_aside(letters, wait)
            return []
        if len(letters) > 1 and await self._took_together(letters, wait):
            return []
        return [letter for letter in letters if not await self._took(letter, wait)]

    def batch(self, letters: Iterable[Letter]) -> list[Letter]:
        """As many from the front as may share a transaction."""
        chosen = list(islice(takewhile(_is_junk, letters), self.limits.together))
        if chosen:
            return chosen
        reacting, allowed = 0, self.limits.together
        for letter in letters:
            if letter.reaction is not None:
                reacting, allowed = reacting + 1, min(allowed, letter.reaction.together)
            if letter.failure is not None or reacting > allowed:
                break
            chosen.append(letter)
            if len(chosen) >= self.limits.together:
                break
        return chosen or [next(iter(letters))]

    async def forget_old(self, topics: Iterable[Topic]) -> bool:
        """Drop ids that the broker cannot deliver any more, and old records that are no events.

        Returns:
            Whether that was all; the rest takes another call.
        """
        most = 0
        for topic in topics:
            if topic.retention is not None and not topic.sequenced:
                age = topic.retention * 2
                gone = await self._database.execute(_FORGET, topic.name, age, FORGOTTEN_TOGETHER)
                most = max(most, gone)
            if topic.outsiders:
                junk = (self.consumer, topic.name, InvalidEvent.__name__, JUNK_STAYS)
                await self._database.execute(_FORGET_JUNK, *junk)
        return most < FORGOTTEN_TOGETHER

    async def _set_aside(self, letters: Sequence[Letter], wait: Wait) -> None:
        patience = Patience()
        while True:
            try:
                await self._parking.set_aside([(letter, letter.failure) for letter in letters])
            except Exception as error:
                if not _is_passing(error):
                    raise
                await self._pause(letters[0], error, patience, wait)
            else:
                return

    async def _took_together(self, letters: Sequence[Letter], wait: Wait) -> bool:
        patience = Patience()
        while True:
            try:
                await self._unit(letters)
            except _Uneven:
                return False
            except Exception as error:  # noqa: BLE001 - judged again one by one
                if not _is_passing(error):
                    return False
                await self._pause(letters[0], error, patience, wait)
            else:
                return True

    async def _took(self, letter: Letter, wait: Wait) -> bool:
        """Whether the letter is finished: its effect committed, known already, or parked."""
        patience = Patience()
        while True:
            try:
                await self._finish(letter, patience)
            except OutOfSequence as error:
                telemetry.count("tidewheel_sequence_gaps_total", topic=letter.topic.name)
                telemetry.log("sequence_gap", level="error", reason=str(error))
                return False
            except (NotReady, Unavailable) as error:
                await self._pause(letter, error, patience, wait)
            except Exception as error:
                if not passes(error):
                    raise
                await self._pause(letter, error, patience, wait)
            else:
                return True

    async def _finish(self, letter: Letter, patience: Patience) -> None:
        """One try; what no further try could change is parked."""
        try:
            await self._unit([letter])
        except _Repeated:
            _note(letter, "duplicate")
        except _Behind:
            await self._parking.park(letter, None)
        except (OutOfSequence, Unavailable):
            raise
        except NotReady as error:
            limits = self.limits
            if not patience.is_spent(tries=limits.ready_tries - 1, seconds=limits.ready_seconds):
                raise
            await self._parking.park(letter, error)
        except Exception as error:  # the unforeseen counts as unprocessable
            if passes(error):
                raise
            await self._parking.park(letter, error)

    async def _pause(
        self, letter: Letter, error: Exception, patience: Patience, wait: Wait
    ) -> None:
        _note(letter, "retry")
        telemetry.log(
            "event_retried",
            level="warning",
            type=letter.metric_type,
            subject=letter.subject,
            tries=patience.tries + 1,
            reason=f"{type(error).__name__}: {error}",
        )
        await wait(patience.next_seconds())

    async def _unit(self, letters: Sequence[Letter]) -> None:
        """One transaction for all of them, or nothing at all."""
        if all(letter.reaction is None and letter.failure is None for letter in letters):
            await self._admit(letters)
            return
        started = time.monotonic()
        heard = next((letter.heard for letter in letters if letter.heard), None)
        async with self._database.transaction(Cause.of(heard) if heard else None) as transaction:
            fresh = await self._admit(letters)
            for letter in fresh:
                if letter.failure is not None:
                    raise letter.failure
            transaction.hearing.extend(letter.type for letter in fresh)
            said = await self._react(transaction, [one for one in fresh if one.reaction])
            await transaction.say_each(said)
        _count(fresh, time.monotonic() - started)

    async def _admit(self, letters: Sequence[Letter]) -> list[Letter]:
        """Move the watermark past the letters; those that are new."""
        if letters[0].topic.sequenced:
            await self._admit_in_order(letters)
            return list(letters)
        return await self._admit_by_id(letters)

    async def _admit_in_order(self, letters: Sequence[Letter]) -> None:
        placed = [letter for letter in letters if letter.sequence is not None]
        if not placed:
            return
        runs = _runs(placed)
        topic = letters[0].topic
        rows = await self._database.fetch(
            _ADMIT,
            self.consumer,
            topic.name,
            list(runs),
            [first for first, _ in runs.values()],
            [last for _, last in runs.values()],
            topic.retention is not None,
        )
        if len(rows) == len(runs):
            return
        if len(letters) > 1:
            raise _Uneven
        await self._refuse(letters[0])

    async def _refuse(self, letter: Letter) -> None:
        """Say why a letter is not the next one of its subject."""
        row = await self._database.fetchrow(_MARK, self.consumer, letter.topic.name, letter.subject)
        mark = (row["sequence"], row["parked"]) if row else None
        sequence = letter.sequence or 0
        match place_of(sequence, mark, letter.topic):
            case "repeat":
                raise _Repeated
            case "behind":
                raise _Behind
            case "gap":
                expected = mark[0] + 1 if mark else 1
                raise OutOfSequence(letter.topic.name, letter.subject, expected, sequence)
            case "next":
                raise StoreUnavailable("another owner of this event has just let it go")

    async def _admit_by_id(self, letters: Sequence[Letter]) -> list[Letter]:
        named = {letter.id: letter for letter in reversed(letters) if letter.id}
        if not named:
            return [letter for letter in letters if letter.failure]
        rows = await self._database.fetch(
            _HEARD,
            self.consumer,
            letters[0].topic.name,
            list(named),
            [letter.heard.id if letter.heard else None for letter in named.values()],
        )
        new = {row["event_id"] for row in rows}
        fresh: list[Letter] = []
        for letter in letters:
            if letter.id is None or (letter.id in new and named[letter.id] is letter):
                fresh.append(letter)
            else:
                _note(letter, "duplicate")
        return fresh


async def react_in_turn(
    transaction: Transaction, letters: Sequence[Letter]
) -> list[tuple[Cause, Event]]:
    """Run each letter's own reaction; what they return, with its cause."""
    said: list[tuple[Cause, Event]] = []
    for letter in letters:
        if letter.reaction is None or letter.heard is None:
            continue
        transaction.cause = cause = Cause.of(letter.heard)
        with telemetry.bound(event_id=str(letter.heard.id), cascade=str(cause.correlation)):
            events = await letter.reaction.react(letter.heard)
        said.extend((cause, event) for event in events)
    return said


def _runs(letters: Sequence[Letter]) -> dict[str, tuple[int, int]]:
    """First and last sequence per subject, in the order that all consumers lock them in."""
    runs: dict[str, tuple[int, int]] = {}
    for letter in letters:
        sequence = letter.sequence or 0
        first, last = runs.get(letter.subject, (sequence, sequence - 1))
        if sequence != last + 1:
            raise _Uneven
        runs[letter.subject] = (first, sequence)
    return dict(sorted(runs.items()))


def _is_junk(letter: Letter) -> bool:
    return letter.is_junk


def _is_passing(error: Exception) -> bool:
    return isinstance(error, Unavailable) or passes(error)


def _count(letters: Sequence[Letter], seconds: float) -> None:
    reacted = [letter for letter in letters if letter.reaction]
    for letter in reacted:
        _note(letter, "ok")
        telemetry.observe("tidewheel_handler_seconds", seconds / len(reacted), type=letter.type)
        if letter.heard is not None:
            age = (clock.now() - letter.heard.time).total_seconds()
            telemetry.observe("tidewheel_event_age_seconds", max(0.0, age), type=letter.type)


def _note(letter: Letter, result: str) -> None:
    telemetry.count("tidewheel_events_processed_total", type=letter.metric_type, result=result)


__all__ = ["Inbox", "Limits", "Place", "Wait", "place_of", "react_in_turn"]
