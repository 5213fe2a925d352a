"""Reports: asked for, drawn elsewhere, fetched."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from services.drift_monitor.api.common import Looking, admit, champion_of
from services.drift_monitor.reports import with_words
from services.drift_monitor.store import Asked, PostgresStore, Reading, Reporting
from shared.access import Principal, Role, act
from shared.errors import Conflict, Fault, InvalidInput, NotFound
from shared.events import Digest, Json
from shared.http import allow
from shared.idempotency import once
from shared.ids import uuid7
from shared.jobs import Jobs
from shared.names import ModelNameText
from shared.postgres import Cause

MAY_ASK: Final = frozenset({Role.DATA_SCIENTIST, Role.OPERATOR})
_FORGOTTEN: Final = (
    "No row of window {window} of version {version} is kept any more, so there is nothing to draw; "
    "what was found in it is told with the window."
)
Opened = Callable[[Digest], Awaitable[bytes]]
Requester = Annotated[Principal, Depends(allow(*MAY_ASK))]


class Wanted(BaseModel):
    """Which window is to be drawn; by default the newest one that was compared."""

    model_config = ConfigDict(extra="forbid")

    version: int | None = Field(default=None, ge=1, le=2**31 - 1)
    window: int | None = Field(default=None, ge=1, le=2**31 - 1)


def router(
    store: PostgresStore,
    reading: Reading,
    reporting: Reporting,
    jobs: Jobs,
    opened: Opened,
) -> APIRouter:
    """The routes of reports.

    Args:
        opened: a finished report as HTML, by its digest.
    """
    routes = APIRouter()
    routes.include_router(_drawing(store, reading, reporting, jobs))
    routes.include_router(_fetching(store, reporting, opened))
    return routes


def _drawing(store: PostgresStore, reading: Reading, reporting: Reporting, jobs: Jobs) -> APIRouter:
    routes = APIRouter()

    @routes.post("/models/{model}/reports", status_code=202)
    async def report(
        model: ModelNameText, request: Request, principal: Requester, wanted: Wanted | None = None
    ) -> Response:
        await admit(store, model, principal)
        act(principal, await store.owner(model), MAY_ASK)

        async def action() -> tuple[int, Json]:
            window = await _window_to_draw(store, reading, model, wanted or Wanted())
            if not await store.has_rows((model, window["version"]), window["window"]):
                raise Conflict(_FORGOTTEN.format(**window))
            asked = Asked(
                id=uuid7(),
                model=model,
                version=window["version"],
                window=window["window"],
                by=principal.name,
            )
            await reporting.add(asked)
            payload = {
                "report": str(asked.id),
                "model": model,
                "version": asked.version,
                "window": asked.window,
            }
            await jobs.add(f"report/{asked.id}", str(asked.id), payload, Cause.outside())
            return 202, {**payload, "state": "waiting", "status_url": f"/v1/reports/{asked.id}"}

        return await once(request, reading.database, principal, action)

    return routes


def _fetching(store: PostgresStore, reporting: Reporting, opened: Opened) -> APIRouter:
    routes = APIRouter()

    @routes.get("/reports/{report}")
    async def state(report: UUID, principal: Looking) -> Json:
        return await _report(store, reporting, report, principal)

    @routes.get("/reports/{report}/html")
    async def html(report: UUID, principal: Looking) -> Response:
        found = await _report(store, reporting, report, principal)
        if found["state"] != "done":
            raise Conflict(
                f"This report is {found['state']}; its state is at /v1/reports/{report}."
            )
        body = with_words(await opened(Digest(found["artifact"])), found["summary"] or {})
        # It is drawn from names and values that others chose: never in an origin of ours.
        name = f"report-{found['model']}-v{found['version']}-w{found['window']}.html"
        headers = {
            "Content-Disposition": f'attachment; filename="{name}"',
            "Content-Security-Policy": "sandbox allow-scripts; default-src 'none'; "
            "script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
            "img-src data: blob:; font-src data:",
            "X-Content-Type-Options": "nosniff",
        }
        return Response(body, media_type="text/html; charset=utf-8", headers=headers)

    return routes


async def _window_to_draw(
    store: PostgresStore, reading: Reading, model: str, wanted: Wanted
) -> Json:
    if wanted.window is None:
        found = await _newest(store, reading, model, wanted.version)
        if found is None:
            raise Conflict("No window of this model is full yet; ask again when one is.")
        return found
    if wanted.version is None:
        fault = Fault("/version", "missing", "windows are numbered per version: name it too")
        raise InvalidInput("A window needs its version.", [fault])
    found = await reading.window(model, wanted.version, wanted.window)
    if found is None:
        raise NotFound(f"Version {wanted.version} of {model} has no window {wanted.window}.")
    if found["closed_at"] is None:
        raise Conflict(f"Window {wanted.window} has {found['rows']} rows; ask when it is full.")
    return found


async def _newest(
    store: PostgresStore, reading: Reading, model: str, version: int | None
) -> Json | None:
    """Of the version that was named, else of the champion, else of whichever was compared last."""
    if version is not None:
        return await reading.last_closed(model, version)
    champion = await champion_of(store, model)
    found = await reading.last_closed(model, champion.version) if champion else None
    return found or await reading.last_of_any(model)


async def _report(
    store: PostgresStore, reporting: Reporting, report: UUID, principal: Principal
) -> Json:
    found = await reporting.find(report)
    if found is None or not principal.may_see(await store.owner(found["model"])):
        raise NotFound(f"There is no report {report}.")
    return found
