"""Open versions: opened when they are asked, closed when their memory is worth more to others.

Thousands of versions may be known to one process; each costs memory only while it is open. Versions
of the same files share what is open. Nobody waits for what nobody asked for: opening goes on in a
few threads, however many ask, and once per version, however many ask for the same.
"""

import asyncio
import heapq
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from services.serving.domain.versions import Loaded, Opened
from services.serving.handlers.engines import Runtime
from services.serving.store.asking import Asking
from shared import telemetry

CLOSED_TOGETHER: Final = 0.95
"""Closing goes on to this part of what may be open, so that not each opening has to close."""
P = ParamSpec("P")
T = TypeVar("T")


class NotInTime(Exception):
    """A file took longer to open than it may; its thread is left behind."""


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """One open model and the versions that it answers for.

    Attributes:
        asked: questions so far. The one that it was opened for apart, what was asked since it was
            last looked at is used of late.
        busy: one entry per question under way; adding and removing one is a single step.
    """

    key: Hashable
    runtime: Runtime
    users: list["weakref.ref[Loaded]"] = field(default_factory=list)
    asked: int = 0
    seen: int = 1
    busy: list[None] = field(default_factory=list)

    def watched(self, ask: Callable[P, T]) -> Callable[P, T]:
        """The same function; it counts as use, and what is busy is not closed."""

        def asked(*given: P.args, **named: P.kwargs) -> T:
            self.asked += 1
            self.busy.append(None)
            try:
                return ask(*given, **named)
            finally:
                self.busy.pop()

        return asked


class Sessions:
    """What is open in this process, the least recently asked first to be closed."""

    def __init__(self, *, most_bytes: int, openers: int, seconds: float, asking: Asking) -> None:
        """Nothing is open yet.

        Args:
            most_bytes: that open versions may take together, as estimated; one may always be open.
            openers: threads that open versions.
            seconds: that opening one may take.
        """
        self.most_bytes = most_bytes
        self.open_bytes = 0
        self.opened = self.closed = 0
        self._openers_count = openers
        self._openers = self._new_openers()
        self._seconds = seconds
        self._asking = asking
        self._open: OrderedDict[Hashable, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def _new_openers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._openers_count, thread_name_prefix="open")

    def shutdown(self) -> None:
        """Open nothing more."""
        self._openers.shutdown(wait=False, cancel_futures=True)

    def find(self, loaded: Loaded, key: Hashable) -> Opened | None:
        """What another version of the same files has open, if any."""
        session = self._open.get(key)
        return None if session is None else self._join(session, loaded)

    def keep(self, loaded: Loaded, key: Hashable, runtime: Runtime) -> Opened:
        """From now on this version is open; others may be closed for it."""
        session = self._open.get(key)
        if session is None:
            session = self._open[key] = Session(key=key, runtime=runtime)
            self.open_bytes += runtime.size_bytes
            self.opened += 1
            telemetry.count("tidewheel_versions_opened_total")
        opened = self._join(session, loaded)
        self._make_room(session)
        self._measure()
        return opened

    def _join(self, session: Session, loaded: Loaded) -> Opened:
        runtime = session.runtime
        noted = partial(self._asking.noted, loaded.digest)
        opened = Opened(
            engine=runtime.engine,
            say=session.watched(noted(runtime.say)),
            compute=runtime.compute and session.watched(noted(runtime.compute)),
        )
        if all(user() is not loaded for user in session.users):
            session.users.append(weakref.ref(loaded, partial(self._user_gone, session)))
        loaded.opened = opened
        return opened

    # --- closing

    def _make_room(self, newest: Session) -> None:
        if self.open_bytes <= self.most_bytes:
            return
        for _ in range(len(self._open)):
            if self.open_bytes <= CLOSED_TOGETHER * self.most_bytes:
                return
            session = next(iter(self._open.values()))
            if session is newest or session.busy or session.asked != session.seen:
                # Asked since it was last looked at: it goes to the end, as if it came anew.
                session.seen = session.asked
                self._open.move_to_end(session.key)
            else:
                self._close(session)
        self._close_regardless(newest)

    def _close_regardless(self, newest: Session) -> None:
        """All were asked of late: the first ones go nevertheless, but those that are busy."""
        for session in [s for s in self._open.values() if s is not newest and not s.busy]:
            if self.open_bytes <= CLOSED_TOGETHER * self.most_bytes:
                return
            self._close(session)

    def _close(self, session: Session) -> None:
        for user in session.users:
            loaded = user()
            if loaded is not None:
                loaded.opened = None
        self._forget(session)
        self.closed += 1
        telemetry.count("tidewheel_versions_closed_total")

    def _forget(self, session: Session) -> None:
        if self._open.get(session.key) is session:
            del self._open[session.key]
            self.open_bytes -= session.runtime.size_bytes
            session.users.clear()

    def _user_gone(self, session: Session, user: "weakref.ref[Loaded]") -> None:
        """Nobody knows that version any more."""
        if user in session.users:
            session.users.remove(user)
        if not session.users:
            self._forget(session)
            self._measure()

    def drop(self, loaded: Loaded) -> None:
        """Close one version, whatever others do."""
        loaded.opened = None
        for session in [s for s in self._open.values() if any(u() is loaded for u in s.users)]:
            self._close(session)

    def busiest(self, most: int) -> list[Loaded]:
        """Versions that were asked most while they were open."""
        chosen = heapq.nlargest(most, self._open.values(), key=lambda session: session.asked)
        found = [user() for session in chosen for user in session.users[:1]]
        return [loaded for loaded in found if loaded is not None]

    def _measure(self) -> None:
        telemetry.gauge("tidewheel_versions_open", len(self._open))
        telemetry.gauge("tidewheel_versions_open_bytes", self.open_bytes)

    # --- opening

    async def work(self, step: Callable[[], T]) -> T:
        """Do this in one of the threads that open versions.

        Raises:
            NotInTime: it hangs; what it does is left behind, and others go on in new threads.
        """
        working = self._openers.submit(step)
        waiting = asyncio.wrap_future(working)
        done, _ = await asyncio.wait({waiting}, timeout=self._seconds)
        if done:
            return waiting.result()
        if not working.cancel():
            waiting.add_done_callback(_look_away)
            self._openers.shutdown(wait=False)
            self._openers = self._new_openers()
        raise NotInTime(f"it was not opened in {self._seconds:g} s")


def _look_away(late: "asyncio.Future[Any]") -> None:
    if not late.cancelled():
        late.exception()
