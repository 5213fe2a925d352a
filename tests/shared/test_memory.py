"""The bus in one process carries a cascade over several services."""

from __future__ import annotations

from shared.events import (
    DatasetOffered,
    DatasetPublished,
    Event,
    EventParked,
    Heard,
    ModelName,
    TrainingSkipped,
)
from shared.memory import MemoryBus
from shared.reactions import on
from shared.topics import DEAD_LETTERS
from tests.support.bus_kit import a_version, an_offer


async def publish(heard: Heard[DatasetOffered]) -> list[Event]:
    return [a_version(heard.event.dataset, 1)]


async def skip(heard: Heard[DatasetPublished]) -> list[Event]:
    event = heard.event
    return [
        TrainingSkipped(
            model=ModelName("m"),
            dataset=event.dataset,
            dataset_version=event.version,
            trigger="dataset",
            reason="nothing_new",
            detail="",
        )
    ]


async def test_one_offer_goes_through_all_services_in_one_cascade() -> None:
    bus = MemoryBus()
    bus.join("registry", [on(DatasetOffered, publish)])
    bus.join("trainer", [on(DatasetPublished, skip)])

    (offer,) = bus.say("producers", [an_offer("a", 1)])
    await bus.settle()

    assert [type(one.event) for one in bus.said] == [
        DatasetOffered,
        DatasetPublished,
        TrainingSkipped,
    ]
    assert {one.correlation for one in bus.said} == {offer.correlation}
    assert [one.causation for one in bus.said[1:]] == [one.id for one in bus.said[:2]]


async def test_what_is_parked_is_announced_on_the_services_dead_letter_topic() -> None:
    async def fail(_: Heard[DatasetPublished]) -> list[Event]:
        raise ValueError("a bug")

    bus = MemoryBus()
    bus.join("trainer", [on(DatasetPublished, fail)])
    bus.say("registry", [a_version("a", 1)])
    await bus.settle()

    parked = [one.event for one in bus.said if isinstance(one.event, EventParked)]
    assert [(one.parked_subject, one.failure) for one in parked] == [("a", "ValueError")]
    assert len(bus.log[DEAD_LETTERS["trainer"].name]) == 1


async def test_an_announcement_that_cannot_be_heard_is_not_announced_again() -> None:
    async def fail(_: Heard[Event]) -> list[Event]:
        raise ValueError("a bug")

    bus = MemoryBus()
    registry = bus.join("registry", [on(EventParked, fail)])
    bus.join("trainer", [on(DatasetPublished, fail)])

    bus.say("registry", [a_version("a", 1)])
    await bus.settle()

    assert [letter.type for letter, _ in registry.parked] == [EventParked.TYPE]
    assert len([one for one in bus.said if isinstance(one.event, EventParked)]) == 1
