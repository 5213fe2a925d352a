"""Events to bytes and back: CloudEvents 1.0 on Kafka, validated at the edge.

Structured mode is written, binary and structured are read. Source: CloudEvents 1.0.2 and its
Kafka protocol binding, section 3.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic import TypeAdapter, ValidationError

from shared.errors import InvalidEvent, UnknownType
from shared.events import BY_TYPE, Event, Heard
from shared.ids import derived

CONTENT_TYPE: Final = "application/cloudevents+json"
MAX_EVENT_BYTES: Final = 256_000
"""A larger event is refused where it is said; its large parts belong into a blob."""

LONGEST_ATTRIBUTE: Final = 1_000
"""Characters."""

Headers = Sequence[tuple[str, bytes]]
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTERS: Final[Mapping[str, tuple[str, Upcaster]]] = {}
"""Older wire type to the next one and the pure function that brings its data there."""


_ADAPTERS: Final[dict[str, TypeAdapter[Event]]] = {}


def _adapter(kind: type[Event]) -> TypeAdapter[Event]:
    """Made at first use: building all of them would slow every start."""
    if kind.TYPE not in _ADAPTERS:
        _ADAPTERS[kind.TYPE] = TypeAdapter(kind)
    return _ADAPTERS[kind.TYPE]


def encode(heard: Heard[Event]) -> bytes:
    """One event in structured mode.

    Raises:
        InvalidEvent: the event is larger than `MAX_EVENT_BYTES` or holds a non-finite number.
    """
    event = heard.event
    data = _adapter(type(event)).dump_python(event, mode="json")
    try:
        # The standard library refuses non-finite numbers; orjson would write them as null.
        text = json.dumps(
            _attributes(heard) | {"data": data},
            allow_nan=False,
            ensure_ascii=False,
            separators=(",", ":"),
        )
    except ValueError as error:
        raise InvalidEvent(f"{event.TYPE} holds a number that is not finite") from error
    body = text.encode()
    if len(body) > MAX_EVENT_BYTES:
        raise InvalidEvent(
            f"{event.TYPE} has {len(body)} bytes, {MAX_EVENT_BYTES} are allowed; "
            "put its large parts into a blob"
        )
    return body


def _attributes(heard: Heard[Event]) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(heard.id),
        "source": heard.source,
        "type": heard.event.TYPE,
        "subject": heard.event.subject,
        "time": heard.time.isoformat(),
        "datacontenttype": "application/json",
        "correlationid": str(heard.correlation),
    }
    optional = {
        "causationid": str(heard.causation) if heard.causation else None,
        "sequence": str(heard.sequence) if heard.sequence is not None else None,
        "traceparent": heard.traceparent,
        "signature": heard.signature,
    }
    return attributes | {name: value for name, value in optional.items() if value is not None}


def decode(value: bytes | None, headers: Headers = ()) -> Heard[Event]:
    """One record of Kafka, in either mode.

    Raises:
        UnknownType: the type, or its version, is not known here.
        InvalidEvent: anything else about it is wrong; the message says what.
    """
    return interpret(*read_attributes(value, headers))


def interpret(attributes: Mapping[str, Any], data: dict[str, Any]) -> Heard[Event]:
    """What `read_attributes` found, validated; raises like `decode`."""
    event_type = str(attributes.get("type", ""))
    while event_type in UPCASTERS:
        event_type, upcast = UPCASTERS[event_type]
        data = upcast(data)
    kind = BY_TYPE.get(event_type)
    if kind is None:
        raise UnknownType(event_type)
    try:
        event = _adapter(kind).validate_json(orjson.dumps(data))
        return _heard(event, attributes)
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise InvalidEvent(f"{event_type}: {_first_line(error)}") from error


def read_attributes(value: bytes | None, headers: Headers) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attributes and the data of a record, nothing validated beyond its form.

    Raises:
        InvalidEvent: it is no CloudEvent in either mode.
    """
    named = {name.lower(): text.decode("utf-8", "replace") for name, text in headers}
    if value is None:
        raise InvalidEvent("the record has no value; tombstones mean nothing here")
    body = _json(value)
    if named.get("content-type", "").lower().startswith("application/cloudevents") or (
        "ce_type" not in named and "specversion" in body
    ):
        data = body.pop("data", {})
        attributes = body
    else:
        attributes = {name[3:]: text for name, text in named.items() if name.startswith("ce_")}
        data = body
    if attributes.get("specversion") != "1.0" or not isinstance(data, dict):
        raise InvalidEvent("the record is no CloudEvent 1.0 with a JSON object as data")
    return attributes, data


def _json(value: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise InvalidEvent(f"the value is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidEvent("the value is not a JSON object")
    return body


def _heard(event: Event, attributes: Mapping[str, Any]) -> Heard[Event]:
    source = str(attributes["source"])
    event_id = _uuid(str(attributes["id"]), source)
    if attributes.get("subject", event.subject) != event.subject:
        raise InvalidEvent(f"subject {attributes['subject']!r} is not {event.subject!r}")
    time = datetime.fromisoformat(str(attributes["time"])) if "time" in attributes else EPOCH
    if time.tzinfo is None:
        raise ValueError("the time lacks its offset from UTC")
    sequence = attributes.get("sequence")
    causation = attributes.get("causationid")
    correlation = attributes.get("correlationid")
    return Heard(
        event=event,
        id=event_id,
        source=source,
        time=time,
        correlation=UUID(correlation) if correlation else event_id,
        causation=UUID(causation) if causation else None,
        sequence=int(sequence) if sequence is not None else None,
        traceparent=_short(attributes.get("traceparent")),
        signature=_short(attributes.get("signature")),
    )


def _short(value: Any) -> str | None:
    """An attribute that is passed on as it came, and so has to be of a form that can be."""
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > LONGEST_ATTRIBUTE or not value.isprintable():
        raise ValueError(f"an attribute is no text of at most {LONGEST_ATTRIBUTE} characters")
    return value


EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _uuid(text: str, source: str) -> UUID:
    """Outsiders may use any id; (source, id) is what is unique, so that is what is kept."""
    try:
        return UUID(text)
    except ValueError:
        return derived(None, source, text)


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"/{'/'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error) or type(error).__name__


def changed_fields(event: Event) -> dict[str, Any]:
    """The data of an event as plain JSON, without the fields that have their defaults."""
    found: dict[str, Any] = _adapter(type(event)).dump_python(
        event, mode="json", exclude_defaults=True
    )
    return found


def json_schema(kind: type[Event]) -> dict[str, Any]:
    """The JSON Schema of the data of one kind of event."""
    return _adapter(kind).json_schema()
