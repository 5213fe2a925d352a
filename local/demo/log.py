"""The event log as it grows: kept, shown, and waited on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from tidewheel import Client, Failure
from tidewheel.narrate import data_of, short_type

Event = Mapping[str, Any]
Wanted = Callable[[Event], bool]

_LOOK_SECONDS = 0.07


def is_a(*kinds: str, **data: object) -> Wanted:
    """Whether an event is of one of these kinds and says these things."""

    def check(event: Event) -> bool:
        said = data_of(event)
        return short_type(event) in kinds and all(said.get(k) == v for k, v in data.items())

    return check


def of_cascade(cascade: str, wanted: Wanted) -> Wanted:
    """The same, within what one trigger brought about."""
    return lambda event: event.get("correlation") == cascade and wanted(event)


class Log:
    """Reads the registry's log in a thread of its own until closed.

    It goes on by itself when the registry was away: nothing is missed, because the place where it
    stopped is part of the question.
    """

    def __init__(self, client: Client, show: Callable[[Event], None]) -> None:
        self._client = client
        self._show = show
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join(timeout=15)

    @property
    def mark(self) -> int:
        """How many events there are; what comes later is `since` this."""
        with self._changed:
            return len(self._events)

    def found(self, wanted: Wanted, since: int = 0) -> list[Event]:
        with self._changed:
            return [event for event in self._events[since:] if wanted(event)]

    def wait(self, wanted: Wanted, *, since: int = 0, seconds: float = 30.0) -> Event | None:
        """The first such event; None when there is none in time."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                for event in self._events[since:]:
                    if wanted(event):
                        return event
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    return None

    def _follow(self) -> None:
        after: Any = None
        while not self._closed.wait(_LOOK_SECONDS):
            try:
                after = self._take(after)
            except Failure:
                # Broker, database or registry are away; that is part of the story.
                continue

    def _take(self, after: Any) -> Any:
        page = self._client.events(after=after, limit=1000)
        for event in page["items"]:
            after = event["position"]
            self._show(event)
            with self._changed:
                self._events.append(event)
                self._changed.notify_all()
        return after
