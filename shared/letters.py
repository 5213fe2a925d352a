"""A record of the broker as a consumer sees it: what it is, and what is to be done about it."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import orjson

from shared import clock, codec
from shared.errors import InvalidEvent, UnknownType, Unprocessable
from shared.events import BY_TYPE, Event, Heard
from shared.ids import derived
from shared.reactions import Reaction
from shared.topics import BY_NAME, Topic

LARGEST_SEQUENCE: Final = 2**63 - 1
LONGEST_SUBJECT: Final = 500
"""Characters: what is longer could not be looked for in an index, whatever its letters are."""
LONGEST_TYPE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The bytes as they lie on the broker; the topic is named without prefix."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    sent_at: float | None = None
    """As a Unix time; where the broker does not stamp records, whatever their writer says."""
    came_at: datetime | None = None
    """When the broker got it, by the broker's clock; None where it does not stamp records."""

    @property
    def size_bytes(self) -> int:
        """Of all that its writer chose."""
        named = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + named


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A record, read.

    Attributes:
        type: what it says it is, also when that is not known here.
        subject: from its envelope; from the key where there is no envelope.
        sequence: its place in its subject; None where it has none or none can be read.
        heard: the event; None when nobody here reacts to it, or it cannot be read.
        reaction: what is done about it; None when nothing is.
        failure: why it cannot be an event of this topic.
    """

    record: Record
    topic: Topic
    type: str = ""
    subject: str = ""
    sequence: int | None = None
    heard: Heard[Event] | None = None
    reaction: Reaction | None = None
    failure: Unprocessable | None = None

    @property
    def id(self) -> UUID | None:
        """What tells the event apart from others, where it was read."""
        return self.heard.told_apart_by if self.heard else None

    @property
    def is_junk(self) -> bool:
        """Whether it is an outsider's and no event at all."""
        return self.failure is not None and self.topic.outsiders

    @property
    def metric_type(self) -> str:
        """The type as a label: what strangers invent must not make new time series."""
        return self.type if self.type in BY_TYPE else "unknown"


class Reader:
    """Reads records for one table of reactions."""

    def __init__(self, reactions: Iterable[Reaction]) -> None:
        self._reactions: Mapping[str, Reaction] = {r.kind.TYPE: r for r in reactions}

    def read(self, record: Record) -> Letter:
        """Never raises: what is wrong with a record is part of the letter."""
        topic = BY_NAME[record.topic]
        subject = plain((record.key or b"").decode("utf-8", "replace"))
        attributes: dict[str, Any] = {}
        try:
            attributes, data = codec.read_attributes(record.value, record.headers)
            return self._read(record, topic, attributes, data)
        except Unprocessable as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - one record must not end the partition's worker
            failure = InvalidEvent(f"it cannot be read: {type(error).__name__}: {error}")
        return Letter(
            record=record,
            topic=topic,
            type=plain(str(attributes.get("type", "")))[:LONGEST_TYPE],
            subject=plain(str(attributes.get("subject", subject)))[:LONGEST_SUBJECT],
            sequence=_sequence_or_none(topic, attributes),
            failure=failure,
        )

    def _read(
        self, record: Record, topic: Topic, attributes: dict[str, Any], data: dict[str, Any]
    ) -> Letter:
        event_type = current_type(str(attributes.get("type", "")))
        kind = BY_TYPE.get(event_type)
        if kind is None:
            raise UnknownType(event_type)
        if kind not in topic.types:
            raise InvalidEvent(f"{event_type} is not said on {topic.name}")
        sequence = _sequence(topic, attributes)
        reaction = self._reactions.get(event_type)
        heard = codec.interpret(attributes, data) if reaction else None
        if heard is not None and topic.outsiders:
            _check_size(record)
            heard = _from_outside(record, topic, heard, attributes, data)
        subject = heard.event.subject if heard else str(attributes.get("subject", ""))
        if record.key is None or record.key != subject.encode("utf-8", "replace"):
            raise InvalidEvent(f"the key is {record.key!r}, the event is about {subject!r}")
        if "\x00" in subject or len(subject) > LONGEST_SUBJECT:
            raise InvalidEvent(f"the subject holds NUL or more than {LONGEST_SUBJECT} characters")
        return Letter(
            record=record,
            topic=topic,
            type=event_type,
            subject=subject,
            sequence=sequence,
            heard=heard,
            reaction=reaction,
        )


def current_type(event_type: str) -> str:
    """The type that an old version becomes after upcasting."""
    while event_type in codec.UPCASTERS:
        event_type, _ = codec.UPCASTERS[event_type]
    return event_type


def _check_size(record: Record) -> None:
    if record.size_bytes > codec.MAX_EVENT_BYTES:
        raise InvalidEvent(
            f"the record has {record.size_bytes} bytes, {codec.MAX_EVENT_BYTES} are allowed"
        )


def _from_outside(
    record: Record,
    topic: Topic,
    heard: Heard[Event],
    attributes: Mapping[str, Any],
    data: Mapping[str, Any],
) -> Heard[Event]:
    """With what nobody outside can choose; without a time of its own that is when it came."""
    came_at = record.came_at or clock.now()
    # A request without a time is as old as can be: its signature is over what it carries.
    is_timed = topic.signed or "time" in attributes
    return replace(
        heard,
        key=_key_of(topic, heard, data),
        came_at=came_at,
        time=heard.time if is_timed else came_at,
    )


def _key_of(topic: Topic, heard: Heard[Event], data: Mapping[str, Any]) -> UUID:
    """Another for every content: who is first with an id keeps nobody else's event out.

    Delivered again, or sent again by a patient producer, an event has its key again.
    """
    said: list[object] = [heard.event.TYPE, heard.source, data]
    if topic.signed:
        said += [heard.time.isoformat(), heard.signature]
    digest = hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return derived(None, "outside", topic.name, heard.id, digest)


def _sequence(topic: Topic, attributes: Mapping[str, Any]) -> int | None:
    if not topic.sequenced:
        return None
    text = str(attributes.get("sequence", ""))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:20]) <= LARGEST_SEQUENCE):
        raise InvalidEvent(f"sequence {text[:40]!r} is no position from 1")
    return int(text)


def _sequence_or_none(topic: Topic, attributes: Mapping[str, Any]) -> int | None:
    try:
        return _sequence(topic, attributes)
    except InvalidEvent:
        return None


LOG_APPEND_TIME: Final = 1
"""Kafka's number for stamps of the broker; 0 are those of whoever wrote a record."""


def stamped(seconds: float | None, kind: int | None) -> datetime | None:
    """When the broker got a record that has this stamp of this kind; None where nobody knows."""
    if seconds is None or kind != LOG_APPEND_TIME:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def plain(text: str) -> str:
    """A text without what a database refuses in one."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
