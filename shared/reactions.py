"""What a service does about what it hears, as one typed table."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from shared.events import Event, EventParked, Heard
from shared.topics import DEAD_LETTERS, Topic, topic_of

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class Reaction:
    """One row of the table; made by `on`, which checks that the two fit together.

    Attributes:
        kind: the type of event.
        react: what is done about it; what it returns is said in the same transaction.
        together: up to so many events of one partition may share one transaction.
    """

    kind: type[Event]
    react: Callable[[Heard[Any]], Awaitable[Iterable[Event]]]
    together: int = 1


def on(
    kind: type[E], react: Callable[[Heard[E]], Awaitable[Iterable[Event]]], *, together: int = 1
) -> Reaction:
    """React to `kind` with `react`; a function for another type is an error of types."""
    return Reaction(kind, react, together)


def topics_heard(reactions: Iterable[Reaction], service: str = "") -> tuple[Topic, ...]:
    """The topics that a table needs, without repeats, in a stable order.

    Who reacts to dead letters hears those of every service.
    """
    found = {topic.name: topic for r in reactions for topic in _topics_of(r.kind, service)}
    return tuple(found[name] for name in sorted(found))


def _topics_of(kind: type[Event], service: str) -> Iterable[Topic]:
    return DEAD_LETTERS.values() if kind is EventParked else (topic_of(kind, service),)
