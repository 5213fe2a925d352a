"""HTTP: drift, quality and windows of a model; reports to be drawn and fetched."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from services.drift_monitor.store import Asked, PostgresStore, Reading, Reporting
from services.drift_monitor.store.reading import NEWEST
from services.drift_monitor.windows import Watched
from shared.access import Principal, Role, act
from shared.artifacts import ArtifactStore
from shared.errors import Conflict, Fault, InvalidInput, NotFound
from shared.events import Digest, Json
from shared.http import allow, page
from shared.idempotency import once
from shared.ids import uuid7
from shared.jobs import Jobs
from shared.postgres import Cause

Looking = Annotated[
    Principal,
    Depends(allow(Role.VIEWER, Role.DATA_SCIENTIST, Role.APPROVER, Role.OPERATOR, Role.AUDITOR)),
]
MAY_ASK: Final = frozenset({Role.DATA_SCIENTIST, Role.OPERATOR})
Requester = Annotated[Principal, Depends(allow(*MAY_ASK))]
Limit = Annotated[int, Query(ge=1, le=1000)]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1)]
SHOWN_VERSIONS = 20


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
    artifacts: ArtifactStore,
) -> APIRouter:
    """The routes of the monitor."""
    routes = APIRouter(prefix="/v1")
    routes.include_router(_watching(store, reading))
    routes.include_router(_drawing(store, reading, reporting, jobs))
    routes.include_router(_fetching(store, reporting, artifacts))
    return routes


def _watching(store: PostgresStore, reading: Reading) -> APIRouter:
    routes = APIRouter()

    @routes.get("/models/{model}/drift")
    async def drift(model: str, principal: Looking) -> Json:
        versions = await _versions(store, model, principal)
        standing = await store.standing(model)
        shown = []
        for version in versions:
            newest = await reading.windows(model, version=version.version, limit=1)
            last = await reading.last_closed(model, version.version)
            shown.append(_state(version, standing.champion, newest, last))
        return {
            "model": model,
            "champion": standing.champion,
            "retraining_asked_at": standing.asked_at,
            "versions": shown,
        }

    @routes.get("/models/{model}/quality")
    async def quality(
        model: str,
        principal: Looking,
        version: Version = None,
        limit: Limit = 100,
        cursor: str = "",
    ) -> Json:
        await _versions(store, model, principal)
        found = await reading.windows(
            model, version=version, before=_place(cursor), limit=limit, labelled=True
        )
        items = [{name: window[name] for name in _QUALITY} for window in found]
        waiting = await reading.waiting_labels(model)
        return {"model": model, "labels_waiting": waiting, **page(items, _next(found, limit))}

    @routes.get("/models/{model}/windows")
    async def windows(
        model: str,
        principal: Looking,
        version: Version = None,
        limit: Limit = 100,
        cursor: str = "",
    ) -> Json:
        await _versions(store, model, principal)
        found = await reading.windows(model, version=version, before=_place(cursor), limit=limit)
        return page(found, _next(found, limit))

    return routes


def _drawing(store: PostgresStore, reading: Reading, reporting: Reporting, jobs: Jobs) -> APIRouter:
    routes = APIRouter()

    @routes.post("/models/{model}/reports", status_code=202)
    async def report(
        model: str, request: Request, principal: Requester, wanted: Wanted | None = None
    ) -> Response:
        await _versions(store, model, principal)
        act(principal, await store.owner(model), MAY_ASK)

        async def action() -> tuple[int, Json]:
            window = await _window_to_draw(reading, _text(model), wanted or Wanted())
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


def _fetching(store: PostgresStore, reporting: Reporting, artifacts: ArtifactStore) -> APIRouter:
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
        body = await artifacts.aget(Digest(found["artifact"]))
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


_QUALITY = (
    "version",
    "window",
    "rows",
    "labels",
    "completeness",
    "started_at",
    "ended_at",
    "quality",
)


def _state(version: Watched, champion: int | None, newest: list[Json], last: Json | None) -> Json:
    is_open = bool(newest) and newest[0]["closed_at"] is None
    return {
        "version": version.version,
        "is_champion": version.version == champion,
        "drift": version.watch.drift,
        "is_degraded": version.watch.is_degraded,
        "metric": version.metric,
        "window_rows": version.policy.window,
        "open_window": {"window": newest[0]["window"], "rows": newest[0]["rows"]}
        if is_open
        else None,
        "last_window": last,
    }


async def _versions(store: PostgresStore, model: str, principal: Principal) -> list[Watched]:
    found = await store.newest_versions(_text(model), SHOWN_VERSIONS)
    if not found or not principal.may_see(await store.owner(model)):
        raise NotFound(f"No version of {model} is watched.")
    return found


async def _window_to_draw(reading: Reading, model: str, wanted: Wanted) -> Json:
    if wanted.window is None:
        found = await reading.last_closed(model, wanted.version)
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


async def _report(
    store: PostgresStore, reporting: Reporting, report: UUID, principal: Principal
) -> Json:
    found = await reporting.find(report)
    if found is None or not principal.may_see(await store.owner(found["model"])):
        raise NotFound(f"There is no report {report}.")
    return found


def _text(value: str) -> str:
    if "\0" in value:
        fault = Fault("/path/model", "control character", "use the model's name")
        raise InvalidInput("Names hold no control characters.", [fault])
    return value


def _next(found: list[Json], limit: int) -> str | None:
    return f"{found[-1]['version']}.{found[-1]['window']}" if len(found) == limit else None


def _place(cursor: str) -> tuple[int, int]:
    if not cursor:
        return NEWEST
    version, _, window = cursor.partition(".")
    if all(part.isascii() and part.isdigit() and len(part) < 10 for part in (version, window)):
        return int(version), int(window)
    fault = Fault("/query/cursor", "not a cursor", "leave it out to begin anew")
    raise InvalidInput("This cursor was not given by this list.", [fault])
