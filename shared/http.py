"""The HTTP door that every service has alike: keys, problems, health, limits.

Nobody is let in without a key but to the health routes, and a route that does not say who may use
it cannot be built. Errors are RFC 9457 problems.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import uuid4

import orjson
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared import foreign, telemetry
from shared.access import EVERY_TEAM, Keys, Principal, Role, words_of
from shared.errors import (
    Fault,
    InvalidInput,
    NotPermitted,
    Refused,
    StoreUnavailable,
    TooLarge,
    Unauthenticated,
    Unavailable,
    wrong_things,
)
from shared.names import ModelNameText
from shared.settings import ServiceSettings

OPEN_PATHS: Final = frozenset({"/live", "/ready"})
"""The only paths that need no key, in every service."""

CLIENT_PATHS: Final = frozenset(
    {"/ping", "/health", "/version", "/v2/health/live", "/v2/health/ready"}
)
"""Where clients of other protocols look for health without a key; a service may open these too."""

KEY_PREFIX: Final = "tw_"
"""API keys begin with it; anything else is a token."""

COMMON_HEADERS: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""What every answer says."""

Ready = Callable[[], Mapping[str, Any]]
TITLES: Final = {
    400: "The request is wrong",
    401: "Who is asking is not known",
    403: "Not permitted",
    404: "Not found",
    405: "The method is not allowed here",
    406: "Not available in that form",
    409: "Not possible in the present state",
    408: "The request came too slowly",
    413: "Too large",
    414: "The address is too long",
    415: "The media type is not accepted",
    416: "The range cannot be satisfied",
    422: "The input is not valid",
    429: "Too many requests",
    431: "The head of the request is too large",
    500: "An error of ours",
    503: "Not available at the moment",
}


_REQUESTS: Final = count(1)
_PROCESS: Final = uuid4().hex[:20]


def new_request_id() -> str:
    """An id for a request that brings none: this process, and the number of the request."""
    return f"{_PROCESS}{next(_REQUESTS):012x}"


class Json(Response):
    """A JSON response written by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes of the body."""
        return orjson.dumps(content, default=str)


def problem(
    request_id: str,
    path: str,
    status: int,
    code: str,
    detail: str,
    faults: Sequence[Fault] = (),
    *,
    retry_after_seconds: int | None = None,
) -> Response:
    """An RFC 9457 problem."""
    body = {
        "type": f"/problems/{code}",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "code": code,
        "detail": detail,
        "instance": path,
        "request_id": request_id,
        "errors": [
            {"pointer": f.pointer, "detail": f.detail, **({"hint": f.hint} if f.hint else {})}
            for f in faults
        ],
        **foreign.members_for(path, status, detail, faults),
    }
    response = Response(orjson.dumps(body), status, media_type="application/problem+json")
    if status in (429, 503):
        response.headers["Retry-After"] = str(retry_after_seconds or 1)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def problem_of(error: Exception, request_id: str, path: str) -> Response:
    """The problem that an error of ours is answered with."""
    if isinstance(error, Refused):
        return problem(
            request_id,
            path,
            error.status,
            error.code,
            error.detail,
            error.faults,
            retry_after_seconds=error.retry_after_seconds,
        )
    if isinstance(error, Unavailable):
        code = "store_unavailable" if isinstance(error, StoreUnavailable) else "unavailable"
        telemetry.log(
            "request_unavailable",
            level="warning",
            path=path,
            request_id=request_id,
            error=str(error),
        )
        detail = "A part of the system does not answer; nothing was changed. Try again shortly."
        return problem(request_id, path, 503, code, detail)
    telemetry.log("request_failed", level="error", path=path, request_id=request_id, exc_info=error)
    detail = f"This is a bug. The log has its trace under request id {request_id}."
    return problem(request_id, path, 500, "internal_error", detail)


class Tokens(Protocol):
    """Tells by a token who somebody is."""

    async def principal(self, token: str) -> Principal:
        """Whoever shows this token; raises `Unauthenticated` or `NotPermitted`."""


class Door:
    """The outermost layer: request id, key or token, body limit, errors, metrics."""

    def __init__(
        self, app: ASGIApp, keys: Keys, body_limit: int, tokens: Tokens | None = None
    ) -> None:
        self.app = app
        self.keys = keys
        self.tokens = tokens
        self.body_limit = body_limit
        self.unlimited: frozenset[str] = frozenset()
        self.open_paths: frozenset[str] = OPEN_PATHS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever goes wrong is answered as a problem."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        path = scope["path"]
        request_id = _header(scope, b"x-request-id")[:100] or new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id)
        try:
            if path not in self.open_paths:
                scope["state"]["principal"] = await self._principal(scope)
            await self.app(scope, self._limited(scope, receive), answer)
        except Exception as error:
            if answer.status:
                raise
            await problem_of(_unwrapped(error), request_id, path)(scope, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            seconds = time.perf_counter() - started
            telemetry.observe("tidewheel_http_request_duration_seconds", seconds, route=route)
            code = f"{answer.status // 100}xx"
            telemetry.count("tidewheel_http_requests_total", route=route, code_class=code)

    async def _principal(self, scope: Scope) -> Principal:
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, text = (shown[0] if len(shown) == 1 else b"").partition(b" ")
        key = text.strip().decode("latin-1")
        if scheme.lower() != b"bearer" or not key:
            raise Unauthenticated("Send your key as `Authorization: Bearer tw_…`.")
        if self.tokens is not None and not key.startswith(KEY_PREFIX):
            return await self.tokens.principal(key)
        principal = self.keys.principal(key)
        if principal is None:
            raise Unauthenticated(
                "This key is not known, or does not count any more; ask an admin for a new one."
            )
        return principal

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        limit = self.body_limit
        seen = 0
        declared = _header(scope, b"content-length")
        exempt = scope["method"] == "POST" and scope["path"].endswith(tuple(self.unlimited) or "\0")
        if not exempt and declared.isdigit() and int(declared) > limit:
            raise TooLarge(f"The body has {declared} bytes, {limit} are allowed.")

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit and not exempt:
                raise TooLarge(f"The body has more than {limit} bytes.")
            return message

        return counted


class _Answer:
    """Passes an answer on, with the headers that every answer has, and remembers its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._headers = [
            (b"x-request-id", request_id.encode("latin-1", "replace")),
            *COMMON_HEADERS,
        ]
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = {name for name, _ in message.get("headers", ())}
            extra = [(name, text) for name, text in self._headers if name not in given]
            message = {**message, "headers": [*message.get("headers", ()), *extra]}
        await self._send(message)


def _header(scope: Scope, name: bytes) -> str:
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return ""


def _unwrapped(error: BaseException) -> Exception:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, Exception) else RuntimeError(str(error))


class Allowed:
    """A route's word on who may use it; `build` refuses a route without one."""

    def __init__(self, roles: frozenset[Role], *, everywhere: bool = False) -> None:
        self.roles = roles
        self.everywhere = everywhere

    def __call__(self, request: Request) -> Principal:
        """The caller, if it holds one of the roles.

        Raises:
            NotPermitted: it holds none of them.
        """
        principal: Principal = request.state.principal
        if not principal.may(self.roles):
            raise NotPermitted(f"This needs {words_of(self.roles)}.")
        if self.everywhere and not principal.may_in(EVERY_TEAM, self.roles):
            raise NotPermitted(f"This is no team's own; it needs {words_of(self.roles)} in all.")
        return principal


def allow(*roles: Role, everywhere: bool = False) -> Allowed:
    """Who may use a route; without roles, every principal.

    Args:
        everywhere: the roles must be held for all teams: for what belongs to none.
    """
    return Allowed(frozenset(roles) or frozenset(Role), everywhere=everywhere)


class Application(FastAPI):
    """An application with a lane before it, which takes some requests and passes on the others."""

    lane: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await (self.lane or self.behind)(scope, receive, send)

    async def behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request with all layers."""
        await super().__call__(scope, receive, send)


def build(
    service: str,
    settings: ServiceSettings,
    routers: Sequence[APIRouter],
    *,
    ready: Ready,
    unlimited: Sequence[str] = (),
    open_to_clients: bool = False,
    lane: Callable[[ASGIApp, Keys], ASGIApp] | None = None,
) -> Application:
    """The application of one service.

    Args:
        ready: what `/ready` reports; it answers 503 unless its `ready` (without one, the
            bus's `connected`) is true.
        unlimited: ends of POST paths that limit their bodies themselves (uploads).
        open_to_clients: whether `CLIENT_PATHS` need no key either.
        lane: what stands before everything else, given all of it and the keys: it may answer some
            requests itself, as everything else would, and passes on the others.

    Raises:
        RuntimeError: a route does not say who may use it.
    """
    open_paths = OPEN_PATHS | CLIENT_PATHS if open_to_clients else OPEN_PATHS
    app = Application(
        title=f"Tidewheel {service}",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        default_response_class=Json,
    )
    app.state.stopping = False
    app.include_router(_health(app, ready))
    app.include_router(_description(app))
    for router in routers:
        app.include_router(router)
    for route in every_route(app):
        if path_of(route) not in open_paths and allowed_of(route) is None:
            raise RuntimeError(f"{path_of(route)} does not say who may use it; add allow(…)")
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Refused, _ours)
    app.add_exception_handler(Unavailable, _ours)
    keys = Keys(Path(settings.keys_file))
    app.add_middleware(
        _door_with(frozenset(unlimited), open_paths, _tokens(settings, keys)),
        keys=keys,
        body_limit=settings.body_limit_bytes,
    )
    if lane is not None:
        app.lane = lane(app.behind, keys)
    return app


def _tokens(settings: ServiceSettings, people: Keys) -> Tokens | None:
    if not settings.oidc_issuer:
        return None
    # Cryptography and an HTTP client: only installations with an issuer carry them in memory.
    from shared.oidc import open_tokens  # noqa: PLC0415

    return open_tokens(settings, people)


def _door_with(
    unlimited: frozenset[str], open_paths: frozenset[str], tokens: Tokens | None
) -> Callable[..., Door]:
    def make(app: ASGIApp, keys: Keys, body_limit: int) -> Door:
        door = Door(app, keys, body_limit, tokens)
        door.unlimited = unlimited
        door.open_paths = open_paths
        return door

    return make


def every_route(app: FastAPI) -> list[BaseRoute]:
    """All routes, those of included routers too."""
    found: list[BaseRoute] = []
    stack: list[Any] = list(app.router.routes)
    while stack:
        route = stack.pop()
        # An included router is one entry; whatever else cannot be looked into counts as a route
        # and is refused for not saying who may use it.
        included = getattr(route, "original_router", None)
        if included is not None:
            stack.extend(included.routes)
        else:
            found.append(route)
    return found


def path_of(route: BaseRoute) -> str:
    """The path pattern of a route."""
    return str(getattr(route, "path", route))


def allowed_of(route: BaseRoute) -> Allowed | None:
    """What a route says about who may use it."""
    marked = getattr(getattr(route, "app", None), "allowed", None) or getattr(
        getattr(route, "endpoint", None), "allowed", None
    )
    if isinstance(marked, Allowed):
        return marked
    if isinstance(route, APIRoute):
        calls = [dependency.call for dependency in route.dependant.dependencies]
        calls += [dependency.dependency for dependency in route.dependencies]
        return next((call for call in calls if isinstance(call, Allowed)), None)
    return None


def _health(app: FastAPI, ready: Ready) -> APIRouter:
    router = APIRouter()

    @router.get("/live")
    async def live() -> Response:
        return Json({"live": True})

    @router.get("/ready")
    async def is_ready() -> Response:
        state = dict(ready())
        answered = bool(state.get("ready", state.get("connected"))) and not app.state.stopping
        return Json({**state, "ready": answered}, status_code=200 if answered else 503)

    return router


def _description(app: FastAPI) -> APIRouter:
    router = APIRouter(dependencies=[Depends(allow())])

    @router.get("/openapi.json")
    async def description() -> Response:
        return Json(_described(app))

    return router


def _described(app: FastAPI) -> dict[str, Any]:
    """The description of every route; of a plain endpoint what its path tells."""
    found = app.openapi()
    for route in every_route(app):
        if not isinstance(route, APIRoute):
            for method in sorted(getattr(route, "methods", None) or ()):
                plain = found["paths"].setdefault(path_of(route), {})
                plain.setdefault(method.lower(), _plain(path_of(route), method))
    return found


def _plain(path: str, method: str) -> dict[str, Any]:
    """A plain endpoint: the names in its path, and that it takes JSON where it takes anything."""
    text = {"type": "string"}
    named = {"model": TypeAdapter(ModelNameText).json_schema()}
    told: dict[str, Any] = {
        "summary": "A plain endpoint",
        "parameters": [
            {
                "name": part[1:-1],
                "in": "path",
                "required": True,
                "schema": named.get(part[1:-1], text),
            }
            for part in path.split("/")
            if part.startswith("{")
        ],
        "responses": {"200": {"description": "OK"}, "4XX": {"description": "A problem"}},
    }
    if method not in ("GET", "HEAD"):
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": {}}}}
    return told


async def _invalid(request: Request, error: Exception) -> Response:
    faults = []
    if isinstance(error, RequestValidationError):
        faults = [Fault(_pointer(item, error.body), _words(item["msg"])) for item in error.errors()]
    refused = InvalidInput(wrong_things(faults), faults)
    return problem_of(refused, request.state.request_id, request.url.path)


def _words(message: str) -> str:
    """Of our own checks only what they say themselves."""
    return message.removeprefix("Value error, ")


def _pointer(item: Mapping[str, Any], body: Any) -> str:
    """Where in the body, or in what other part of the request, something is wrong."""
    where = [str(part) for part in item["loc"]]
    if where[:1] != ["body"]:
        return "/" + "/".join(where)
    where = [] if item["type"] == "json_invalid" else where[1:]
    if len(where) > 1 and isinstance(body, dict) and where[0] not in body:
        where = where[1:]  # which of several forms was meant, no place in the body
    return "/" + "/".join(where)


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    detail = _ROUTES.get(status) or (str(error.detail) if isinstance(error, HTTPException) else "")
    code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(status, "refused")
    answer = problem(request.state.request_id, request.url.path, status, code, detail)
    if status == 405:
        answer.headers["Allow"] = ", ".join(sorted(_methods(request)))
    return answer


def _methods(request: Request) -> set[str]:
    """What this path may be asked by; each method may be a route of its own."""
    found = [r for r in every_route(request.app) if r.matches(request.scope)[0] is not Match.NONE]
    return {method for route in found for method in getattr(route, "methods", None) or ()}


_ROUTES: Final = {
    404: "There is no such route; GET /openapi.json lists all.",
    405: "This route takes another method; GET /openapi.json lists all.",
}
"""What is said where no function of ours was reached."""


async def _ours(request: Request, error: Exception) -> Response:
    return problem_of(error, request.state.request_id, request.url.path)


Action = Callable[[], Awaitable[Any]]


def page(items: Sequence[Any], cursor: str | None) -> dict[str, Any]:
    """One page of a list; `cursor` leads to the next one, None means this was the last."""
    return {"items": list(items), "next": cursor}
