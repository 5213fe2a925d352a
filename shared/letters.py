"""A record of the broker as a consumer sees it: what it is, and what is to be done about it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from shared import codec
from shared.errors import InvalidEvent, UnknownType, Unprocessable
from shared.events import BY_TYPE, Event, Heard
from shared.reactions import Reaction
from shared.topics import BY_NAME, Topic

LARGEST_SEQUENCE: Final = 2**63 - 1


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
    """When the broker got it, as a Unix time."""


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
        """The event's id, where it was read."""
        return self.heard.id if self.heard else None

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
            type=plain(str(attributes.get("type", "")))[:200],
            subject=plain(str(attributes.get("subject", subject)))[:1000],
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
        subject = heard.event.subject if heard else str(attributes.get("subject", ""))
        if record.key is None or record.key != subject.encode("utf-8", "replace"):
            raise InvalidEvent(f"the key is {record.key!r}, the event is about {subject!r}")
        if "\x00" in subject:
            raise InvalidEvent("the subject holds a NUL character")
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


def plain(text: str) -> str:
    """A text without what a database refuses in one."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
