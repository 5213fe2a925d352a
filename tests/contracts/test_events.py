"""Events, topics, schemas and recorded examples agree with each other."""

import json

import jsonschema
import pytest

from shared import codec, topics
from shared.events import ALL, BY_TYPE, Event
from tests.support import schemas

KINDS = pytest.mark.parametrize("kind", ALL, ids=lambda k: k.TYPE)


@KINDS
def test_every_event_has_its_schema_committed(kind: type[Event]) -> None:
    committed = (schemas.SCHEMAS / f"{kind.TYPE}.json").read_text(encoding="utf-8")

    assert committed == schemas.schema_text(kind), "run: make schemas"


@KINDS
def test_every_event_has_a_recorded_example_that_parses_and_fits_its_schema(
    kind: type[Event],
) -> None:
    recorded = (schemas.EXAMPLES / f"{kind.TYPE}.json").read_bytes()

    heard = codec.decode(recorded)

    assert type(heard.event) is kind
    jsonschema.validate(json.loads(recorded)["data"], codec.json_schema(kind))


@KINDS
def test_an_event_survives_the_wire_unchanged(kind: type[Event]) -> None:
    said = schemas.example_of(kind)

    assert codec.decode(codec.encode(said)) == said


def test_every_recorded_example_is_of_a_type_still_known() -> None:
    recorded = {path.stem for path in schemas.EXAMPLES.glob("*.json")}

    assert recorded <= set(BY_TYPE) | set(codec.UPCASTERS)


def test_every_event_type_is_said_on_exactly_one_kind_of_topic() -> None:
    facts = [topic for topic in topics.ALL if ".dead-letters." not in topic.name]
    said = [kind.TYPE for topic in facts for kind in topic.types]

    assert sorted(said) == sorted(set(said))
    assert set(said) | {"tidewheel.event.parked.v1"} == set(BY_TYPE)


def test_every_topic_of_facts_has_one_service_as_writer() -> None:
    doors = {topics.OFFERS.name, topics.FEEDBACK.name, topics.REQUESTS.name}

    writers = {t.name: t.writer for t in topics.ALL if t.name not in doors}

    assert set(writers.values()) <= set(topics.SERVICES)


def test_the_asyncapi_document_is_up_to_date() -> None:
    assert schemas.ASYNCAPI.read_text(encoding="utf-8") == schemas.asyncapi_text(), (
        "run: make schemas"
    )
