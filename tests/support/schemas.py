"""Writes the event schemas, the AsyncAPI document, and an example of every event type.

`make schemas` runs it. Examples that exist are left alone: what was released once must parse for
ever.
"""

import json
import types
import typing
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints
from uuid import UUID

from shared import codec, topics
from shared.events import BY_TYPE, Event, Heard

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "docs/reference/events"
EXAMPLES = ROOT / "tests/contracts/examples"
ASYNCAPI = ROOT / "docs/reference/asyncapi.json"
MOMENT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
ID = UUID("01a1fd48-59b0-769e-b765-01211d7eaf48")


def example_of(kind: type[Event]) -> Heard[Event]:
    """An event of this kind with every field filled in, the same at every call."""
    topic = topics.topic_of(kind, "trainer")
    return Heard(
        event=_filled(kind),
        id=ID,
        source=f"//tidewheel/{topic.writer.split()[0]}",
        time=MOMENT,
        correlation=ID,
        causation=ID,
        sequence=1 if topic.sequenced else None,
    )


def _filled(kind: Any) -> Any:
    hints = get_type_hints(kind)
    return kind(**{field.name: _value(hints[field.name], field.name) for field in fields(kind)})


def _value(hint: Any, name: str) -> Any:
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _value(next(a for a in get_args(hint) if a is not type(None)), name)
    if origin is Literal:
        return get_args(hint)[0]
    if origin is tuple:
        inner = get_args(hint)
        count = 1 if inner[-1] is Ellipsis else len(inner)
        return tuple(_value(inner[0 if inner[-1] is Ellipsis else i], name) for i in range(count))
    if origin is not None and origin not in (list,):
        return {"a": _value(get_args(hint)[1], name)} if get_args(hint)[1] is not Any else {"a": 1}
    if hasattr(hint, "__supertype__"):
        return _value(hint.__supertype__, name)
    return _plain(hint, name)


def _plain(hint: Any, name: str) -> Any:
    known: dict[Any, Any] = {
        bool: True,
        int: 3,
        float: 0.25,
        UUID: ID,
        datetime: MOMENT,
        str: "5" * 64 if name in {"digest", "manifest", "split", "profile"} else f"a-{name}",
    }
    return known[hint] if hint in known else _filled(hint)


def schema_text(kind: type[Event]) -> str:
    """The committed form of a schema."""
    return json.dumps(codec.json_schema(kind), indent=2, sort_keys=True) + "\n"


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.1 for the whole system: channels, who sends, who receives."""
    channels = {topic.name: _channel(topic) for topic in topics.ALL}
    operations: dict[str, Any] = {}
    for topic in topics.ALL:
        reference = {"$ref": f"#/channels/{topic.name.replace('/', '~1')}"}
        writer = topic.writer.split()[0]
        operations[f"{writer}-sends-{topic.name}"] = {"action": "send", "channel": reference}
        for reader in topic.readers:
            operations[f"{reader}-receives-{topic.name}"] = {
                "action": "receive",
                "channel": reference,
            }
    return {
        "asyncapi": "3.1.0",
        "info": {"title": "Tidewheel", "version": "1"},
        "channels": channels,
        "operations": operations,
        "components": {"schemas": {name: codec.json_schema(k) for name, k in BY_TYPE.items()}},
    }


def _channel(topic: topics.Topic) -> dict[str, Any]:
    return {
        "address": topic.name,
        "messages": {
            kind.TYPE: {
                "name": kind.TYPE,
                "contentType": codec.CONTENT_TYPE,
                "summary": (kind.__doc__ or "").strip(),
                "payload": {"$ref": f"#/components/schemas/{kind.TYPE}"},
            }
            for kind in topic.types
        },
        "bindings": {"kafka": {"topic": topic.name, "partitions": topic.partitions}},
    }


def asyncapi_text() -> str:
    """The committed form of the document."""
    return json.dumps(asyncapi(), indent=1, sort_keys=True) + "\n"


def main() -> None:
    """Write everything."""
    SCHEMAS.mkdir(parents=True, exist_ok=True)
    EXAMPLES.mkdir(parents=True, exist_ok=True)
    for name, kind in BY_TYPE.items():
        (SCHEMAS / f"{name}.json").write_text(schema_text(kind), encoding="utf-8")
        example = EXAMPLES / f"{name}.json"
        if not example.exists():
            example.write_bytes(codec.encode(example_of(kind)) + b"\n")
    ASYNCAPI.write_text(asyncapi_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
