"""A service as a process: its doors open, its parts run, and all of it ends in order and in time.

Told to stop it first says that it is not ready and goes on answering, then closes its doors and
finishes what is in flight, then ends its parts. Whatever hangs on the way, it is gone in the end:
what is left undone is what kill -9 would have left undone, too.
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal, TypeVar

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared import faults, telemetry
from shared.connections import Doorway, Guarded, guarded_by
from shared.errors import Unavailable
from shared.settings import ServiceSettings

Part = Callable[[], Awaitable[None]]
STOP_SECONDS: Final = 9.5
"""From the signal to the end of the process, whatever hangs."""
DOORS_SECONDS: Final = 3
"""What is in flight may take so long once the doors close."""
FINISH_SECONDS: Final = 5.0
THREADS_SECONDS: Final = 0.5
"""Threads that do not end are waited for so long once everything else has ended."""
Loop = Literal["auto", "asyncio"]
S = TypeVar("S", bound=ServiceSettings)


def start(
    kind: type[S],
    serve: Callable[[S], Awaitable[None]],
    *,
    loop: Loop = "asyncio",
    share: Callable[[S], S] | None = None,
) -> None:
    """Read the settings, then run the service until it is told to stop.

    Args:
        loop: `auto` for uvloop where it is installed: a request costs half as much with it.
        share: called before anything runs; it may fork, and returns each process's own settings.

    Raises:
        SystemExit: 78 when a setting is missing or wrong; the message names each.
    """
    prefix = str(kind.model_config.get("env_prefix", ""))
    service = prefix.removeprefix("TIDEWHEEL_").strip("_").lower()
    telemetry.configure(service)
    try:
        settings = kind()
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            name = f"{prefix}{'_'.join(str(part) for part in fault['loc'])}".upper()
            telemetry.log("setting_wrong", level="error", setting=name, problem=fault["msg"])
        raise SystemExit(78) from None
    telemetry.configure(service, settings.log_level)
    try:
        faults.install(settings.fault, settings.environment)
    except faults.FaultRefused as error:
        telemetry.log("setting_wrong", level="error", setting=f"{prefix}FAULT", problem=str(error))
        raise SystemExit(78) from None
    if share is not None:
        settings = share(settings)
    last_resort = LastResort()
    try:
        factory = uvicorn.Config(app="", loop=loop).get_loop_factory()
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_serve(serve(settings), last_resort))
    finally:
        last_resort.disarm()


async def _serve(service: Awaitable[None], last_resort: "LastResort") -> None:
    """Python waits for its threads before it ends, and one may hang in a library or a file."""
    try:
        await service
    except BaseException:
        last_resort.arm(THREADS_SECONDS, 1)
        raise
    last_resort.arm(THREADS_SECONDS, 0)


class LastResort:
    """Ends the process from a thread of its own, should nothing else do so in time."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def arm(self, seconds: float, code: int) -> None:
        """In so many seconds, with this exit code; instead of what was armed before."""
        self.disarm()
        self._timer = threading.Timer(seconds, _leave, [code])
        self._timer.daemon = True
        self._timer.start()

    def disarm(self) -> None:
        """All went well."""
        if self._timer is not None:
            self._timer.cancel()


def _leave(code: int) -> None:
    telemetry.log("stop_cut_short", level="warning", code=code)
    os._exit(code)


async def run(
    settings: ServiceSettings,
    app: FastAPI,
    parts: Sequence[Part],
    *,
    prepare: Part | None = None,
    finish: Part | None = None,
    door: socket.socket | None = None,
    ready: Part | None = None,
    connection: type[Guarded] = Guarded,
) -> None:
    """Open the doors at once, prepare with patience, then run the parts until SIGTERM or SIGINT.

    A part that ends by an error ends the process, so that whoever supervises it starts it anew.

    Args:
        prepare: brings the database up to date; tried again while something is unavailable.
        finish: the last thing that is done, for at most `FINISH_SECONDS`.
        door: a socket that other processes answer on as well; then this one does so only after
            `ready` has returned, because until then the others do it better.
        connection: the kind of connection that the public door has.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    doorway = _doorway(settings)
    servers = [
        _server(app, settings.host, settings.port, doorway, connection),
        _server(_admin(), settings.admin_host, settings.admin_port, _doorway(settings)),
    ]
    public = servers[0].serve() if door is None else _late(servers[0], door, ready)
    doors = [asyncio.create_task(one) for one in (public, servers[1].serve())]
    inside = asyncio.create_task(_inside(parts, prepare))
    waiting = asyncio.create_task(stop.wait())
    ended, _ = await asyncio.wait({inside, waiting, *doors}, return_when=asyncio.FIRST_COMPLETED)
    last_resort = LastResort()
    last_resort.arm(STOP_SECONDS, 1)
    deadline = loop.time() + STOP_SECONDS - 0.5
    app.state.stopping = doorway.is_closing = True
    telemetry.log("stopping", asked=stop.is_set())
    if stop.is_set():
        await asyncio.wait({inside, *doors}, timeout=settings.quiet_seconds)
    for server in servers:
        server.should_exit = True
    await asyncio.wait(doors, timeout=DOORS_SECONDS + 0.5)
    inside.cancel()
    waiting.cancel()
    kept = 0.0 if finish is None else FINISH_SECONDS
    await asyncio.wait({inside}, timeout=max(0.1, deadline - loop.time() - kept))
    if finish is not None:
        await _finished(finish)
    last_resort.disarm()
    for task in ended:
        if task is not waiting and not task.cancelled() and (error := task.exception()):
            raise error


async def _late(server: "_Server", door: socket.socket, ready: Part | None) -> None:
    if ready is not None:
        await ready()
    if not server.should_exit:
        await server.serve(sockets=[door])


async def _finished(finish: Part) -> None:
    try:
        async with asyncio.timeout(FINISH_SECONDS):
            await finish()
    except TimeoutError:
        telemetry.log("not_finished", level="warning", seconds=FINISH_SECONDS)


async def _inside(parts: Sequence[Part], prepare: Part | None) -> None:
    if prepare is not None:
        await patiently(prepare)
    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(_as_coroutine(part))


async def _as_coroutine(part: Part) -> None:
    await part()


async def patiently(step: Part) -> None:
    """Try a step until nothing that it needs is unavailable, 50 ms to 5 s apart."""
    delay = 0.05
    while True:
        try:
            await step()
        except Unavailable as error:
            telemetry.log("waiting", level="warning", reason=str(error))
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311 - spreads retries
            delay = min(delay * 2, 5.0)
        else:
            return


def _doorway(settings: ServiceSettings) -> Doorway:
    return Doorway(
        head_seconds=settings.head_seconds,
        body_seconds=settings.body_seconds,
        body_bytes=settings.body_bytes,
        connections=settings.connections_limit,
    )


def _server(
    app: Any, host: str, port: int, doorway: Doorway, connection: type[Guarded] = Guarded
) -> "_Server":
    return _Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=guarded_by(doorway, connection),
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=DOORS_SECONDS,
        )
    )


class _Server(uvicorn.Server):
    """One of several servers in a process: signals are the process's business, not its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave the signal handlers as they are."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is in flight; shortly before it would be cut off, say so to who waits."""
        asyncio.get_running_loop().call_later(DOORS_SECONDS - 0.25, self._end_connections)
        await super().shutdown(sockets)

    def _end_connections(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, Guarded):
                connection.end()


def _admin() -> Starlette:
    async def metrics(_: Request) -> Response:
        return Response(
            telemetry.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    return Starlette(routes=[Route("/metrics", metrics)])
