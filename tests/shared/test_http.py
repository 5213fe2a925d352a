"""The door: keys, problems, limits, and that no route is open by accident."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.routing import Route
from structlog.testing import capture_logs

from shared import http
from shared.access import Principal, Role, hash_of
from shared.errors import Fault, InvalidInput, StoreUnavailable
from shared.http import allow
from shared.settings import ServiceSettings

VIEWER, ADMIN = "tw_viewer", "tw_admin"


class _Body(BaseModel):
    rows: list[int]


def a_router() -> APIRouter:
    router = APIRouter()

    @router.get("/v1/things")
    async def things(principal: Annotated[Principal, Depends(allow(Role.VIEWER))]) -> Any:
        return http.Json({"seen_by": principal.name})

    @router.post("/v1/things", dependencies=[Depends(allow(Role.OPERATOR))])
    async def add(body: _Body) -> Any:
        return http.Json({"rows": body.rows})

    @router.post("/v1/raw", dependencies=[Depends(allow(Role.VIEWER))])
    async def raw(request: Request) -> Any:
        return http.Json({"bytes": len(await request.body())})

    @router.get("/v1/refused", dependencies=[Depends(allow())])
    async def refused() -> Any:
        raise InvalidInput("Two things are wrong.", [Fault("/a", "x"), Fault("/b", "y", "z")])

    @router.get("/v1/dead", dependencies=[Depends(allow())])
    async def dead() -> Any:
        raise StoreUnavailable("gone")

    @router.get("/v1/bug", dependencies=[Depends(allow())])
    async def bug() -> Any:
        raise ZeroDivisionError

    return router


def settings_with_keys(folder: Path) -> ServiceSettings:
    keys = folder / "keys.json"
    entries = [
        {"id": "k1", "hash": hash_of(VIEWER), "roles": ["viewer"], "principal": "vera"},
        {"id": "k2", "hash": hash_of(ADMIN), "roles": ["admin"], "principal": "ada"},
    ]
    keys.write_text(json.dumps({"keys": entries}))
    return ServiceSettings(
        kafka="127.0.0.1:1",
        artifacts=f"file://{folder}",
        port=0,
        admin_port=0,
        keys_file=str(keys),
        body_limit_bytes=1000,
    )


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = http.build(
        "test", settings_with_keys(tmp_path), [a_router()], ready=lambda: {"ready": True}
    )
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as found:
        yield found


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic x"}, bearer("tw_other")])
async def test_without_a_known_key_nothing_is_answered(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await client.get("/v1/things", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unauthenticated"


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/nowhere", "/v1/raw"])
async def test_unknown_and_hidden_paths_ask_for_a_key_first(
    client: httpx.AsyncClient, path: str
) -> None:
    assert (await client.get(path)).status_code == 401


@pytest.mark.parametrize("path", sorted(http.OPEN_PATHS))
async def test_health_needs_no_key(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


async def test_a_role_opens_its_routes_and_no_others(client: httpx.AsyncClient) -> None:
    seen = await client.get("/v1/things", headers=bearer(VIEWER))
    added = await client.post("/v1/things", headers=bearer(VIEWER), json={"rows": [1]})

    assert seen.json() == {"seen_by": "vera"}
    assert (added.status_code, added.json()["code"]) == (403, "not_permitted")


async def test_an_admin_may_do_everything(client: httpx.AsyncClient) -> None:
    added = await client.post("/v1/things", headers=bearer(ADMIN), json={"rows": [1]})

    assert added.json() == {"rows": [1]}


async def test_a_wrong_path_and_a_wrong_method_are_told_where_the_right_ones_are(
    client: httpx.AsyncClient,
) -> None:
    missing = await client.get("/v1/nothing", headers=bearer("tw_admin"))
    method = await client.delete("/v1/things", headers=bearer("tw_admin"))

    assert (missing.status_code, method.status_code) == (404, 405)
    assert all("/openapi.json" in said.json()["detail"] for said in (missing, method))
    assert method.headers["allow"] == "GET, POST"


async def test_a_wrong_body_is_a_problem_with_pointers(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/things", headers=bearer(ADMIN), json={"rows": ["x", 1, "y"]})

    assert answer.status_code == 422
    assert [e["pointer"] for e in answer.json()["errors"]] == ["/rows/0", "/rows/2"]


async def test_every_fault_is_told_at_once(client: httpx.AsyncClient) -> None:
    problem = (await client.get("/v1/refused", headers=bearer(VIEWER))).json()

    assert problem["errors"] == [
        {"pointer": "/a", "detail": "x"},
        {"pointer": "/b", "detail": "y", "hint": "z"},
    ]


@pytest.mark.parametrize(("path", "status"), [("/v1/dead", 503), ("/v1/bug", 500)])
async def test_failures_of_ours_name_the_request_and_nothing_else(
    client: httpx.AsyncClient, path: str, status: int
) -> None:
    with capture_logs() as lines:
        answer = await client.get(path, headers=bearer(VIEWER) | {"X-Request-Id": "r-1"})

    assert answer.status_code == status
    assert [line["request_id"] for line in lines] == ["r-1"]
    assert answer.json()["request_id"] == "r-1"
    assert "Traceback" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_a_body_over_the_limit_is_refused_declared_or_not(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 500

    declared = await client.post("/v1/raw", headers=bearer(VIEWER), content=b"x" * 1001)
    streamed = await client.post("/v1/raw", headers=bearer(VIEWER), content=pieces())

    assert declared.status_code == 413
    assert streamed.status_code == 413


def test_a_route_that_does_not_say_who_may_use_it_cannot_be_built(tmp_path: Path) -> None:
    router = APIRouter()

    @router.get("/v1/open")
    async def careless() -> Any:
        return http.Json({})

    with pytest.raises(RuntimeError, match="does not say who may use it"):
        http.build("test", settings_with_keys(tmp_path), [router], ready=dict)


@pytest.mark.parametrize(
    "shown",
    [
        [],
        ["Bearer"],
        ["Bearer "],
        ["Basic dmVyYTp4"],
        [f"Bearer {VIEWER}x"],
        [f"Bearer {VIEWER[:-1]}"],
        [f"Bearer {VIEWER}", f"Bearer {ADMIN}"],
        ["Bearer eyJhbGciOiJub25lIn0.e30."],
        ["Bearer \xe9"],
        [VIEWER],
    ],
    ids=str,
)
async def test_whoever_shows_no_good_key_is_told_to_show_one(
    client: httpx.AsyncClient, shown: list[str]
) -> None:
    headers = [(b"authorization", text.encode("latin-1")) for text in shown]

    answer = await client.get("/v1/things", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["code"] == "unauthenticated"


async def test_plain_endpoints_are_described_too(tmp_path: Path) -> None:
    class Plain:
        allowed = allow(Role.VIEWER)

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await http.Json({})(scope, receive, send)

    router = a_router()
    router.routes.append(Route("/v1/plain", Plain(), methods=["POST"]))
    app = http.build("registry", settings_with_keys(tmp_path), [router], ready=dict)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        described = (await client.get("/openapi.json", headers=bearer(VIEWER))).json()["paths"]

    assert set(described["/v1/plain"]) == {"post"}
    assert {"/v1/things", "/openapi.json", "/live"} <= set(described)


async def test_the_body_of_a_stranger_is_not_read(tmp_path: Path) -> None:
    app = http.build("registry", settings_with_keys(tmp_path), [a_router()], ready=dict)
    told: list[dict[str, Any]] = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        told.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/raw",
        "headers": [(b"content-length", b"999999999")],
    }
    await app(scope, receive, send)

    assert told[0]["status"] == 401
