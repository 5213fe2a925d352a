"""From an empty folder to the table: the whole demo."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from shlex import quote

from local.demo import chapters, verify
from local.demo.data import Series
from local.demo.live import START, Live
from local.demo.log import Log
from local.demo.screen import Screen
from local.demo.stack import DemoStack
from local.demo.world import World
from local.errors import CannotStart
from tidewheel import Client, Failure

_CATCH_UP_SECONDS = 30.0


def tell_story() -> int:
    """Exit code 0 only if every promise held."""
    keep = os.environ.get("KEEP") == "1"
    screen, stack = Screen(), DemoStack()
    try:
        return _told(screen, stack, keep=keep)
    finally:
        if not keep:
            try:
                stack.end()
            except CannotStart as problem:
                screen.line(str(problem))


def _told(screen: Screen, stack: DemoStack, *, keep: bool) -> int:
    screen.chapter(
        "A system of its own", "Kafka, PostgreSQL and six services, fresh, on free ports."
    )
    status = stack.start()
    file = stack.places.context
    with Client(context_file=file) as client, Client(context_file=file) as reader:
        log = Log(reader, screen.event)
        try:
            live = Live(client, Series.read(), screen, START)
            world = World(stack, client, log, live, live.series, screen)
            _promise_ready(world, status)
            for chapter in chapters.ALL:
                _run(world, chapter)
            figures = _verify(world)
        finally:
            log.close()
    screen.outcomes(world.rows, figures)
    held = all(row.held for row in world.rows)
    screen.line(
        f"{'every promise held' if held else 'NOT every promise held'}, "
        f"{screen.seconds:.0f} s in all"
    )
    if keep:
        _say_where(screen, stack)
    return 0 if held else 1


def _promise_ready(world: World, status: dict[str, object]) -> None:
    services = status["services"]
    assert isinstance(services, list)  # noqa: S101 - of our own supervisor
    ready = [one for one in services if one["ready"]]
    memory = sum(one["memory_mb"] for one in services)
    world.promise(
        "Broker, database and six services are ready",
        held=len(ready) == 6,
        evidence=f"up in {status['up_seconds']:.1f} s, the services use {memory:.0f} MB",
    )


def _run(world: World, chapter: Callable[[World], None]) -> None:
    """A chapter that breaks off is a promise that did not hold; the story goes on."""
    try:
        chapter(world)
    except (Failure, CannotStart) as problem:
        world.promise(
            f"The chapter {chapter.__name__.replace('_', ' ')} was told to its end",
            held=False,
            evidence=str(problem),
        )


def _verify(world: World) -> str:
    world.screen.chapter(
        "Was anything lost, was anything doubled?",
        "The broker's whole log against what was accepted, asked and observed.",
    )
    found, told = _settled(world)
    outcomes_held = not any("outcome" in line for line in found.lost + found.doubled)
    world.promise(
        "Every accepted dataset version has exactly one outcome",
        held=outcomes_held and len(world.accepted) == 5,
        evidence=told,
    )
    tally = world.live.tally
    world.promise(
        "Nothing is lost, nothing is doubled",
        held=not found.lost and not found.doubled,
        evidence=f"{found.events} events, {found.rows} predictions for {len(tally.asked)} asked, "
        f"{found.truths} ground truths for {tally.observed} sent, {found.repeats} repeated "
        "deliveries dropped",
    )
    for line in (found.lost + found.doubled)[:10]:
        world.screen.line(f"  {line}")
    return f"events {found.events}   lost {len(found.lost)}   doubled {len(found.doubled)}"


def _settled(world: World) -> tuple[verify.Found, str]:
    """Look again until what was on its way has arrived, or time is up."""
    deadline = time.monotonic() + _CATCH_UP_SECONDS
    while True:
        records = verify.read_log(world.stack.kafka)
        heard = world.log.found(lambda _: True)
        found = verify.check(records, heard, world.live.tally)
        told = verify.check_outcomes(world.accepted, heard, found)
        if not found.lost or time.monotonic() > deadline:
            return found, told


@dataclass(frozen=True, slots=True)
class _Hint:
    what: str
    command: str


def _say_where(screen: Screen, stack: DemoStack) -> None:
    screen.line("\nThe system stays up (KEEP=1):")
    context = f"export TIDEWHEEL_CONTEXT={quote(str(stack.places.context))}"
    folder = f".venv/bin/python -m local --folder {quote(str(stack.places.folder))}"
    for hint in (
        _Hint("look at it", context),
        _Hint("", ".venv/bin/tidewheel status; .venv/bin/tidewheel why water-flow"),
        _Hint("logs", f"{folder} logs"),
        _Hint("end it", f"{folder} clean"),
    ):
        screen.line(f"  {hint.what:<12}{hint.command}")
