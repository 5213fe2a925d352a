"""A service that dies again and again: at one event after another, each time as kill -9 does."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.support.house import House, until
from tests.support.waiting import NeverHappened

_LOOK_SECONDS = 0.02


class _NextFault(threading.Thread):
    """Gives every new life of a service the fault point that it is to die at."""

    def __init__(self, house: House, service: str, faults: Sequence[str], starts: int) -> None:
        super().__init__(daemon=True)
        self._house = house
        self._service = service
        self._faults = list(faults)
        self._starts = starts
        self._end = threading.Event()
        self.deaths = 0

    def run(self) -> None:
        while not self._end.wait(_LOOK_SECONDS):
            lives = self._house.services.supervisor.starts(self._service) - self._starts
            if lives > self.deaths:
                self.deaths = lives
                self._give_next()

    def begin(self) -> None:
        """Arm the second fault before the first one can be reached."""
        self._give_next()
        self.start()

    def end(self) -> None:
        self._end.set()
        self.join()

    def _give_next(self) -> None:
        if self._faults:
            fault = self._faults.pop(0)
            self._house.services.configure(self._service, once=True, FAULT=fault)


def _fault(point: str, kind: str, colon: str, nth: str) -> str:
    return f"{point}@tidewheel.{kind}.v1{colon}{nth}"


@contextmanager
def dying(house: House, service: str, point: str, said: Sequence[str]) -> Iterator[None]:
    """While this lasts, the service dies at `point` of each of these events, in their order.

    `a.type:2` is the second event of that type in a life.

    Leaving waits until all the deaths have happened and the service is back.
    """
    faults = [_fault(point, *kind.partition(":")) for kind in said]
    starts = house.arm(service, faults[0])
    lives = _NextFault(house, service, faults[1:], starts)
    lives.begin()
    try:
        yield
        try:
            until(lambda: lives.deaths >= len(said), what=f"{service} to die at {', '.join(said)}")
        except NeverHappened as error:
            raise AssertionError(f"{error}; it died {lives.deaths} times") from None
    finally:
        lives.end()
        house.services.configure(service, once=True)
        house.services.wait_ready(service)
