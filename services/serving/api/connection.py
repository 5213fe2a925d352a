"""A connection that hands plain requests to the quick door itself.

An application is asked in a task of its own, by messages. For a plain request that is a third of
all that its answer costs, and nothing of it is needed: its body is whole when it is asked, and its
answer is one piece. Everything else is what uvicorn and `Guarded` do: parsing, limits, keeping
alive, one request after the other, and the end.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from starlette.types import ASGIApp
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from services.serving.api.lane import Plain, QuickDoor
from shared.connections import Guarded

_OK: Final = STATUS_LINE[200]
_CLOSE: Final = b"connection: close\r\n"


class Quick(Guarded):
    """A connection before a quick door."""

    door: QuickDoor
    _plain: Plain | None = None
    """The request whose body is still coming."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Begin a request; one whose head is plain waits for the end of its body instead."""
        self._asked = cycle
        if app is not self.app or self.flow.write_paused:
            super()._start_asgi_task(cycle, app)  # whoever does not read its answers must wait
            return
        scope: Any = cycle.scope
        found = self.door.begin(scope)
        if not isinstance(found, Plain):
            self._pass_on(cycle, found)
        elif found.size > HIGH_WATER_LIMIT:
            self._pass_on(cycle, partial(self.door.answer, found))
        elif cycle.more_body:
            self._plain = found
        else:
            self._ask(cycle, found)

    def _pass_on(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:
        super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        """The request is whole."""
        super().on_message_complete()
        plain, self._plain = self._plain, None
        if plain is not None:
            self._ask(self.cycle, plain)

    def _ask(self, cycle: RequestResponseCycle, plain: Plain) -> None:
        self.door.ask(plain, bytes(cycle.body), partial(self._tell, cycle, plain))

    def _tell(
        self,
        cycle: RequestResponseCycle,
        plain: Plain,
        answer: bytes | None,
        ids: Sequence[str],
    ) -> None:
        """Write the answer; without one the application behind has the request as it came."""
        if cycle.disconnected or self.transport.is_closing():
            return
        if answer is None:
            scope: Any = cycle.scope
            scope["state"]["ids"] = ids
            self._pass_on(cycle, self.door.app)
            return
        cycle.response_started = cycle.response_complete = True
        told = [*cycle.default_headers, *plain.headers(answer)]
        lines = [part for name, text in told for part in (name, b": ", text, b"\r\n")]
        end = b"\r\n" if cycle.keep_alive else _CLOSE + b"\r\n"
        self.transport.write(b"".join((_OK, *lines, end, answer)))
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()


def connections_of(door: ASGIApp | None) -> type[Guarded]:
    """The kind of connection that stands before this door."""
    if not isinstance(door, QuickDoor):
        return Guarded

    class Here(Quick):
        """Before this one."""

    Here.door = door
    return Here
