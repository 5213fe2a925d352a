"""Every route of every service: who is let in, who is told that there is nothing, and no 5xx."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.access import Role, hash_of
from shared.http import CLIENT_PATHS, OPEN_PATHS
from shared.topics import SERVICES
from shared.vocabulary import told_by
from tests.ops.tools import needs_tools, run
from tests.support.house import House, a_spec, some_rows, until
from tests.support.routes import Route, ask, every_route, row_of, rows_of, table

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

FOREIGN = "tw_everything-in-another-team"
OWN = "tw_everything-in-the-own-team"
ROW = {"a": 0.1, "b": 0.2}
INFERENCE = {
    "inputs": [{"name": n, "shape": [1], "datatype": "FP64", "data": [v]} for n, v in ROW.items()]
}
LATER = (datetime.now(UTC) + timedelta(days=1)).isoformat()  # noqa: TID251 - a moment of a test


@dataclass(frozen=True)
class Things:
    """Names of things that there are, or that there are not."""

    model: str
    names: Mapping[str, object]

    def at(self, route: Route) -> str:
        return route.at(dict(self.names) | {"name": self.model, "model": self.model}) + (
            "?old=1&new=1" if route.path.endswith("/compare") else ""
        )

    def body(self, route: Route) -> Any:
        """A body that only the names could be wrong about."""
        words = {"reason": "a test"}
        asked = {"kind": "rollback", "model": self.model, **words}
        observed = {"prediction_id": "p-" + "0" * 32, "value": 1.0}
        freeze = {"models": [self.model], "ends_at": LATER, **words}
        return {
            "/v1/models/{model}/rollback": words,
            "/v1/rollouts/{rollout}/override": words,
            "/v1/freezes": freeze,
            "/v1/freezes/{freeze}/lift": words,
            "/v1/brakes/release": {"scope": "fleet", **words},
            "/v1/datasets/{name}/annotations": {
                "tag": "transient",
                "starts_at": LATER,
                "ends_at": LATER,
                **words,
            },
            "/v1/datasets/{name}/annotations/{annotation}/approve": words,
            "/v1/datasets/{name}/annotations/{annotation}/decline": words,
            "/v1/datasets/{name}/annotations/{annotation}/lift": words,
            "/v1/models/{model}/anchor/retire": words,
            "/v1/models/{model}/best": {"metric": "mae", **words},
            "/v1/models/{model}/predict": {"rows": [ROW]},
            "/v1/models/{model}/aliases/{alias}/predict": {"rows": [ROW]},
            "/v1/models/{model}/versions/{version}/predict": {"rows": [ROW]},
            "/v1/models/{model}/explain": {"rows": [ROW]},
            "/v1/models/{model}/aliases/{alias}/explain": {"rows": [ROW]},
            "/v1/models/{model}/versions/{version}/explain": {"rows": [ROW]},
            "/v1/models/{model}/invocations": {"dataframe_records": [ROW]},
            "/v2/models/{model}/infer": INFERENCE,
            "/v2/models/{model}/versions/{version}/infer": INFERENCE,
            "/v1/feedback": {"model": self.model, "observations": [observed]},
            "/v1/requests": asked,
            "/v1/backtests": {"model": self.model, "policy": {"gates": []}},
        }.get(route.path, {})


NOTHING = Things(
    model="m-there-is-none",
    names={
        name: uuid4()
        for name in (
            "run",
            "event_id",
            "rollout",
            "report",
            "cascade",
            "freeze",
            "batch",
            "annotation",
        )
    }
    | {"version": 1, "window": 1, "prediction": "p-there-is-none"},
)


@pytest.fixture(scope="module")
def things(house: House) -> Things:
    """A model that answers, and something of every kind that came of it; keys of two teams."""
    admit(house, own="team-test", foreign="another-team")
    name = f"m-{uuid4().hex[:8]}"
    house.publish(name, some_rows(200))
    cascade = house.define(a_spec(name, name))["cascade"]
    answered = house.answered_by(name, 1, ROW)
    (verdict,) = house.heard(name, "evaluation.completed")
    (promoted,) = house.heard(name, "model.promoted")
    for _ in range(25):
        house.predict(name, ROW)
    batch = house.ask("trainer", "POST", f"/v1/models/{name}/batches")
    assert batch.status_code == 202, batch.text
    freeze = house.ask("deployer", "POST", "/v1/freezes", json=_freeze(name))
    assert freeze.status_code == 201, freeze.text
    return Things(
        model=name,
        names={
            "version": 1,
            "window": 1,
            "run": house.get("trainer", "/v1/runs", model=name)["items"][0]["run"],
            "event_id": verdict["id"],
            "rollout": promoted["data"]["rollout"],
            "report": until(lambda: _report(house, name), what="a window to be full"),
            "cascade": cascade,
            "freeze": freeze.json()["freeze"],
            "batch": batch.json()["batch"],
            "prediction": answered["prediction_id"],
            "annotation": uuid4(),
        },
    )


def _freeze(model: str) -> dict[str, Any]:
    return {"models": [model], "ends_at": LATER, "reason": "a test"}


def _report(house: House, model: str) -> Any:
    answer = house.ask("drift_monitor", "POST", f"/v1/models/{model}/reports")
    return answer.json()["report"] if answer.status_code == 202 else None


def admit(house: House, **teams: str) -> None:
    """Add keys with every role in one team to the file of keys, and wait until they count."""
    file = house.services.places.hashed_keys
    known = json.loads(file.read_text())
    added = [
        {
            "id": name,
            "hash": hash_of(key),
            "principal": name,
            "grants": [{"team": team, "roles": list(Role)}],
        }
        for (name, team), key in zip(teams.items(), (OWN, FOREIGN), strict=True)
    ]
    file.write_text(json.dumps(known | {"keys": known["keys"] + added}))
    for service in SERVICES:
        address = house.services.url(service) + "/openapi.json"
        until(
            lambda address=address: (  # type: ignore[misc]
                httpx.get(address, headers={"Authorization": f"Bearer {FOREIGN}"}).status_code
                == 200
            ),
            what=f"{service} to know new keys",
        )


@pytest.mark.parametrize("service", SERVICES)
def test_no_route_answers_without_a_good_key(house: House, service: str) -> None:
    routes = [route for route in every_route(house) if route.service == service]
    assert len(routes) >= 3
    key = house.services.keys["viewer"]
    changed = key[:-1] + ("A" if key[-1] != "A" else "B")
    shown = [None, "Bearer", "Basic dmlld2VyOng=", f"Bearer {changed}", f"bearer {key}x"]

    for route in routes:
        for text in shown:
            headers = {"Authorization": text} if text else {}
            address = house.services.url(service) + route.at({})
            answer = httpx.request(route.method, address, headers=headers, json={})
            assert answer.status_code == 401, (route, text)
            assert answer.json()["code"] == "unauthenticated"
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("service", SERVICES)
def test_only_the_health_of_a_service_is_open(house: House, service: str) -> None:
    assert set(OPEN_PATHS) == {"/live", "/ready"}
    for path in OPEN_PATHS:
        assert httpx.get(house.services.url(service) + path).status_code in (200, 503)
    for path in CLIENT_PATHS:
        status = httpx.get(house.services.url(service) + path).status_code
        assert status in ((200, 503) if service == "serving" else (401,)), path


def test_each_role_may_what_the_table_says_and_no_more(house: House) -> None:
    keys = {role: house.services.keys[role.value] for role in Role}

    found = rows_of(house, keys)

    changes = "\n".join(difflib.unified_diff(table(), found, "the table", "the services", n=0))
    assert found == table(), f"tests/contracts/routes.txt differs:\n{changes}"


def test_a_viewer_changes_nothing() -> None:
    """Roles that only look are named beside no route that changes something."""
    looking = {Role.VIEWER.value, Role.AUDITOR.value, "anybody"}
    harmless = ("/replay", "/backtests")

    for row in table():
        route, _, roles = row.partition(" | ")
        if " POST " in route and not route.endswith(harmless):
            assert not looking & set(roles.split(", ")), row


WHOLE: frozenset[str] = frozenset(
    {"/v1/dead-letters", "/v1/dead-letters/retry", "/v1/audit/head", "/v1/audit/verify"}
)
"""What belongs to the installation and to no team: 403."""
TAKEN = {"/v1/models": 409, "/v1/datasets/{name}/versions": 409}
"""Where names are given, a foreign one is taken."""


def _is_about_something(route: Route) -> bool:
    named = "{" in route.path or route.path in ("/v1/feedback", "/v1/requests", "/v1/backtests")
    is_declared = (route.method, route.path) == ("POST", "/v1/freezes")
    return (named or is_declared) and not route.path.endswith("/cascades/{cascade}/events")


def test_what_another_team_owns_answers_like_nothing(house: House, things: Things) -> None:
    for route in every_route(house):
        if not _is_about_something(route) or (route.path in TAKEN and route.method == "POST"):
            continue
        foreign = ask(house, route, FOREIGN, things.at(route), things.body(route))
        nothing = ask(house, route, FOREIGN, NOTHING.at(route), NOTHING.body(route))

        assert foreign.status_code == 404, (route, foreign.text)
        assert _told(foreign, things) == _told(nothing, NOTHING), route


def test_what_the_own_team_owns_is_there(house: House, things: Things) -> None:
    """The same requests, so that the answers above mean what they seem to."""
    for route in every_route(house):
        if route.method == "GET" and _is_about_something(route):
            answer = ask(house, route, OWN, things.at(route))
            assert answer.status_code in (200, 409), (route, answer.text)
            if answer.status_code == 409:
                assert "report" in route.path, (route, answer.text)


def _told(answer: httpx.Response, things: Things) -> Any:
    """What an answer says, without what the request itself says."""
    text = answer.text.replace(things.model, "NAME")
    for name, value in things.names.items():
        if name not in ("version", "window"):
            text = text.replace(str(value), "ID")
    told = json.loads(text)
    return {name: value for name, value in told.items() if name not in ("instance", "request_id")}


def test_lists_hold_nothing_of_another_team(house: House, things: Things) -> None:
    for route in every_route(house):
        if route.method != "GET" or "{" in route.path or route.path in OPEN_PATHS:
            continue
        foreign = ask(house, route, FOREIGN, route.path)
        if route.path in WHOLE:
            assert foreign.status_code == 403, route
        else:
            assert foreign.status_code == 200, (route, foreign.text)
            assert things.model not in foreign.text, route
            assert things.model in ask(house, route, OWN, route.path).text or (
                route.path not in ("/v1/models", "/v1/datasets", "/v1/events", "/v1/deployments")
            ), route


def test_names_of_another_team_are_taken(house: House, things: Things) -> None:
    headers = {"Authorization": f"Bearer {FOREIGN}"}
    address = house.services.url("registry")

    spec = a_spec(things.model, f"{things.model}-b", owner="another-team")
    model = httpx.post(f"{address}/v1/models", headers=headers, json=spec)
    dataset = httpx.post(
        f"{address}/v1/datasets/{things.model}/versions",
        headers=headers | {"Content-Type": "text/csv"},
        content=some_rows(210),
    )

    assert (model.status_code, model.json()["code"]) == (409, "name_taken")
    assert (dataset.status_code, dataset.json()["code"]) == (409, "name_taken")


def test_a_foreign_cascade_is_silent(house: House, things: Things) -> None:
    address = f"{house.services.url('registry')}/v1/cascades/{things.names['cascade']}/events"

    with _stream(address, OWN) as lines:
        assert any(line.startswith("data:") for line in lines)
    with _stream(address, FOREIGN) as lines:
        assert not any(line.startswith("data:") for line in lines)


@contextmanager
def _stream(address: str, key: str) -> Iterator[list[str]]:
    """The lines of a stream up to its first silence of a second."""
    found: list[str] = []
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.stream("GET", address, headers=headers, timeout=httpx.Timeout(10, read=1)) as answer:
        try:
            for line in answer.iter_lines():
                found.append(line)
                if line.startswith("data:"):
                    break
        except httpx.ReadTimeout:
            found.append("")
    yield found


@pytest.mark.parametrize("service", SERVICES)
def test_nonsense_is_answered_with_a_problem(house: House, service: str) -> None:
    for route in every_route(house):
        if route.service != service:
            continue
        for body in (b"", b"{", b"[]", b'{"x": NaN}', b"\xff\xfe", b'{"rows": 3}'):
            answer = house.ask(
                service,
                route.method,
                route.at({}),
                content=body,
                headers={"Content-Type": "application/json", "Accept": "application/json"},
            )
            assert answer.status_code < 500, (route, body, answer.text)
            if answer.status_code >= 400:
                assert answer.headers["content-type"].startswith("application/problem+json")
                assert answer.json()["request_id"]


NO_NAMES = ("PUMP", "a%00b", "a%0Ab", "-a", "%C3%A9", "a" * 64, "predict")


def test_what_is_no_name_is_refused_alike_by_every_service(house: House) -> None:
    told = set()
    for route in every_route(house):
        found = re.search(r"{(model|name)}", route.path)
        if found is None:
            continue
        things = Things(model="m-there-is-none", names=NOTHING.names)
        for text in NO_NAMES:
            path = things.at(route).replace("m-there-is-none", text)
            answer = house.ask(route.service, route.method, path, json=things.body(route))
            assert answer.status_code == 422, (route, text, answer.text)
            faults = {one["pointer"]: one["detail"] for one in answer.json()["errors"]}
            assert f"/path/{found[1]}" in faults, (route, text, answer.text)
            told.add(faults[f"/path/{found[1]}"])

    assert len(told) == 1, told


def test_descriptions_tell_what_a_name_may_be(house: House) -> None:
    for service in SERVICES:
        for path, methods in house.get(service, "/openapi.json")["paths"].items():
            for described in methods.values():
                for parameter in described.get("parameters", ()):
                    if parameter["in"] == "path" and parameter["name"] in ("model", "name"):
                        assert "a-z0-9" in parameter["schema"].get("pattern", ""), (service, path)


@pytest.mark.parametrize("service", SERVICES)
def test_metrics_are_told_on_the_admin_door_only(house: House, service: str) -> None:
    metrics = httpx.get(house.services.admin_url(service) + "/metrics")
    public = house.ask(service, "GET", "/metrics")

    assert metrics.status_code == 200
    assert "tidewheel_http_requests_total" in metrics.text
    assert public.status_code == 404


@needs_tools
@pytest.mark.parametrize("service", SERVICES)
def test_metrics_of_a_service_at_work_pass_every_lint(house: House, service: str) -> None:
    metrics = httpx.get(house.services.admin_url(service) + "/metrics").text

    done = run("promtool", "check", "metrics", given=metrics)

    assert (done.returncode, done.stderr) == (0, "")
    assert f'service="{service}"' in metrics
    told = {line.split()[2] for line in metrics.splitlines() if line.startswith("# TYPE tidewheel")}
    assert told == set(told_by(service))


def test_a_row_of_the_table_names_roles_in_one_order() -> None:
    route = Route("serving", "GET", "/v1/models")

    assert row_of(route, [Role.VIEWER, Role.ADMIN]) == "serving GET /v1/models | admin, viewer"
    assert row_of(route, Role) == "serving GET /v1/models | anybody"
