"""A service as a process: its doors open, its parts run, and all of it ends in order."""

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared import faults, telemetry
from shared.errors import Unavailable
from shared.settings import ServiceSettings

Part = Callable[[], Awaitable[None]]
DRAIN_SECONDS: Final = 10
S = TypeVar("S", bound=ServiceSettings)


def start(kind: type[S], serve: Callable[[S], Awaitable[None]]) -> None:
    """Read the settings, then run the service until it is told to stop.

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
    asyncio.run(_serve(serve(settings)))


async def _serve(service: Awaitable[None]) -> None:
    await service


async def run(
    settings: ServiceSettings,
    app: FastAPI,
    parts: Sequence[Part],
    *,
    prepare: Part | None = None,
    finish: Part | None = None,
) -> None:
    """Open the doors at once, prepare with patience, then run the parts until SIGTERM or SIGINT.

    A part that ends by an error ends the process, so that whoever supervises it starts it anew.

    Args:
        prepare: brings the database up to date; tried again while something is unavailable.
        finish: the last thing that is done, at most `DRAIN_SECONDS` after the signal.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    servers = [
        _server(app, settings.host, settings.port),
        _server(_admin(), settings.admin_host, settings.admin_port),
    ]
    doors = [asyncio.create_task(server.serve()) for server in servers]
    inside = asyncio.create_task(_inside(parts, prepare))
    waiting = asyncio.create_task(stop.wait())
    ended, _ = await asyncio.wait({inside, waiting, *doors}, return_when=asyncio.FIRST_COMPLETED)
    app.state.stopping = True
    telemetry.log("stopping", asked=stop.is_set())
    for server in servers:
        server.should_exit = True
    await asyncio.wait(doors, timeout=DRAIN_SECONDS)
    inside.cancel()
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(inside, return_exceptions=True)
    if finish is not None:
        await asyncio.wait_for(finish(), DRAIN_SECONDS)
    for task in ended:
        if task is not waiting and not task.cancelled() and (error := task.exception()):
            raise error


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


def _server(app: Any, host: str, port: int) -> "_Server":
    return _Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
    )


class _Server(uvicorn.Server):
    """One of several servers in a process: signals are the process's business, not its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave the signal handlers as they are."""
        yield


def _admin() -> Starlette:
    async def metrics(_: Request) -> Response:
        return Response(
            telemetry.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    return Starlette(routes=[Route("/metrics", metrics)])
