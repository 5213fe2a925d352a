"""The log: every fact once, in an order that readers can rely on; the stream; the outcomes."""

import asyncio
import json
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.events import (
    ApprovalRequested,
    Digest,
    Event,
    Heard,
    ModelName,
    ModelPromoted,
    ModelRegistered,
    ReplicaAnnounced,
    RolloutAdvanced,
    RolloutId,
    RolloutProposed,
    TrainingFailed,
    TrainingSkipped,
    WindowAwaited,
)
from shared.ids import uuid7
from tests.registry.builders import MOMENT, a_training, heard, some_rows
from tests.registry.conftest import House
from tests.support.schemas import example_of

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


def a_skip(version: int = 1) -> TrainingSkipped:
    return TrainingSkipped(
        model=ModelName("pump"),
        dataset=a_training().dataset,
        dataset_version=version,
        trigger="dataset",
        reason="no_material_change",
        detail="3 new rows, 20 needed",
    )


def a_promotion(**changes: Any) -> ModelPromoted:
    facts: dict[str, Any] = {
        "model": ModelName("pump"),
        "rollout": RolloutId(uuid7()),
        "version": 1,
        "manifest": Digest("5" * 64),
        "previous": None,
        "dataset_version": 1,
        "generation": 2,
        "evaluation": uuid7(),
        "evidence": {},
    }
    return ModelPromoted(**(facts | changes))


def a_registration(**changes: Any) -> ModelRegistered:
    training = a_training()
    facts: dict[str, Any] = {
        field.name: getattr(training, field.name)
        for field in fields(ModelRegistered)
        if hasattr(training, field.name)
    }
    return ModelRegistered(**(facts | {"version": 1, "spec": {}} | changes))


async def test_a_fact_heard_twice_is_kept_once(house: House) -> None:
    fact = heard(a_skip())

    await house.react(fact)
    await house.react(fact)

    items = (await house.get("/v1/events"))["items"]
    assert [item["id"] for item in items] == [str(fact.id)]
    assert items[0]["data"]["detail"] == "3 new rows, 20 needed"


async def test_text_with_a_nul_can_be_kept(house: House) -> None:
    await house.react(heard(replace(a_skip(), detail="a\x00b\\u0000c")))

    (item,) = (await house.get("/v1/events"))["items"]
    assert item["data"]["detail"].startswith("a\ufffdb")


async def test_events_are_filtered_by_subject_and_short_type(fed: House) -> None:
    await fed.react(heard(a_skip()))

    skipped = await fed.get("/v1/events", type="training.skipped,model.defined", subject="pump")
    published = await fed.get("/v1/events", type="tidewheel.dataset.published.v1")

    assert [e["type"].split(".")[2] for e in skipped["items"]] == ["defined", "skipped"]
    assert [e["subject"] for e in published["items"]] == ["pumps"]


async def test_the_newest_page_is_the_end_of_the_log_without_what_nobody_asks_for(
    fed: House,
) -> None:
    announced = ReplicaAnnounced(replica="0", replica_sequence=1, url="http://x", models=0)
    for fact in (a_skip(1), a_skip(2), a_skip(3)):
        await fed.react(heard(fact))
        await fed.react(heard(announced))

    page = await fed.get("/v1/events", newest=True, without="replica.announced", limit=2)

    assert [item["data"]["dataset_version"] for item in page["items"]] == [2, 3]
    assert page["next"] is None


async def test_a_reader_that_asks_for_what_is_behind_misses_nothing(house: House) -> None:
    """Writers commit in any order; what a reader has seen must have nothing below it to come."""
    seen: list[str] = []
    position, written = 0, 60

    async def write(number: int) -> None:
        for _ in range(written // 6):
            await house.react(heard(a_skip(number + 1)))

    async def read() -> None:
        nonlocal position
        while len(seen) < written:
            for fact in await house.store.log.page(position, 5):
                position = fact.seq
                seen.append(str(fact.event_id))
            await asyncio.sleep(0)

    async with asyncio.timeout(60):
        await asyncio.gather(read(), *(write(number) for number in range(6)))

    assert len(seen) == len(set(seen)) == written


async def test_a_cascade_is_told_in_order_with_its_outcome(fed: House) -> None:
    receipt = (await fed.publish("pumps", some_rows(60))).json()
    cascade = UUID(receipt["cascade"])
    await fed.react(heard(a_skip(2), correlation=cascade))

    story = await fed.get(f"/v1/cascades/{cascade}")

    assert {event["correlation"] for event in story["events"]} == {str(cascade)}
    assert len(story["events"]) == 2
    (outcome,) = story["outcomes"]
    assert (outcome["model"], outcome["outcome"]) == ("pump", "withheld")
    assert story["ended"] is True


async def _frames(house: House, cascade: UUID, last: str | None, count: int) -> list[Any]:
    """The first events of a stream; the client of the tests has it whole only when it ends."""
    headers = {"Last-Event-ID": last} if last else {}
    app: Any = house.client._transport.app  # type: ignore[attr-defined] # over ASGI
    found: list[Any] = []
    enough = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        for block in message.get("body", b"").decode().split("\n\n"):
            if block.startswith("id: "):
                first, second = block.splitlines()
                found.append((first[4:], json.loads(second.removeprefix("data: "))))
        if len(found) >= count:
            enough.set()

    scope = {
        "type": "http", "method": "GET", "path": f"/v1/cascades/{cascade}/events",
        "query_string": b"", "scheme": "http", "server": ("registry", 80), "http_version": "1.1",
        "headers": [(b"authorization", b"Bearer tw_admin")]
        + [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    async with asyncio.timeout(20):
        await app(scope, receive, send)
    return found


async def test_a_cascade_is_streamed_as_it_happens_and_goes_on_after_a_break(fed: House) -> None:
    receipt = (await fed.publish("pumps", some_rows(60))).json()
    cascade = UUID(receipt["cascade"])
    watching = asyncio.create_task(_frames(fed, cascade, None, 2))
    await fed.react(heard(a_skip(2), correlation=cascade))

    first, second = await watching
    rest = await _frames(fed, cascade, first[0], 1)

    assert first[1]["id"] == receipt["event_id"]
    assert second[1]["type"] == "tidewheel.training.skipped.v1"
    assert rest == [second]


async def test_a_published_version_concerns_the_models_defined_before(fed: House) -> None:
    items = (await fed.get("/v1/outcomes", dataset="pumps"))["items"]

    assert [(one["model"], one["outcome"], one["terminal"]) for one in items] == [
        ("pump", "in_progress", False)
    ]


async def test_a_promotion_heard_before_the_registration_counts_all_the_same(fed: House) -> None:
    await fed.react(heard(a_promotion(version=7)))
    await fed.react(heard(a_registration(version=7)))

    (outcome,) = (await fed.get("/v1/outcomes", model="pump"))["items"]

    assert outcome["outcome"] == "promoted"


async def test_a_rollout_that_waits_goes_on_and_waits_again_tells_its_last_state(
    fed: House,
) -> None:
    await fed.react(heard(a_registration()))
    facts: list[Any] = [
        example_of(RolloutProposed).event,
        replace(_example(WindowAwaited), reason="window"),
        replace(_example(RolloutAdvanced), stage="canary", weight=0.25),
        replace(_example(WindowAwaited), reason="freeze year-end", opens_at=None),
    ]
    for hour, fact in enumerate(facts):
        about = replace(fact, model=ModelName("pump"), version=1)
        await fed.react(heard(about, at=MOMENT + timedelta(hours=hour)))

    (outcome,) = (await fed.get("/v1/outcomes", model="pump"))["items"]

    assert (outcome["outcome"], outcome["detail"]) == (
        "waiting",
        "freeze year-end: opens at an event",
    )


def _example(kind: type[Event]) -> Any:
    return example_of(kind).event


async def test_what_waits_tells_its_age(fed: House) -> None:
    await fed.react(heard(a_registration()))
    await fed.react(
        heard(
            ApprovalRequested(
                model=ModelName("pump"),
                rollout=RolloutId(uuid7()),
                version=1,
                manifest=Digest("5" * 64),
            ),
            at=MOMENT - timedelta(hours=1),
        )
    )

    (outcome,) = (await fed.get("/v1/outcomes", outcome="waiting"))["items"]

    assert outcome["age_seconds"] > 3000
    assert outcome["terminal"] is True


async def test_signs_of_life_are_forgotten_and_facts_are_not(house: House) -> None:
    announced = ReplicaAnnounced(replica="0", replica_sequence=1, url="http://x", models=0)
    failed = TrainingFailed(
        model=ModelName("pump"), run=a_training().run, dataset=a_training().dataset,
        dataset_version=1, attempts=3, reason="crashed", detail="killed",
    )  # fmt: skip
    facts: list[Heard[Event]] = [heard(announced), heard(failed)]
    for fact in facts:
        await house.react(fact)

    await house.store.log.forget(MOMENT + timedelta(hours=2))

    types = [item["type"] for item in (await house.get("/v1/events"))["items"]]
    assert types == ["tidewheel.training.failed.v1"]
