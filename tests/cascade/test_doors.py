"""Every route of every service asks for a key; a wrong request is a problem, never a 5xx."""

import re

import httpx
import pytest

from shared.http import OPEN_PATHS
from shared.topics import SERVICES
from tests.support.house import House

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


def routes_of(house: House, service: str) -> list[tuple[str, str]]:
    paths = house.get(service, "/openapi.json")["paths"]
    return [
        (method.upper(), re.sub(r"\{[^}]+\}", "x", path))
        for path, methods in paths.items()
        for method in methods
        if path not in OPEN_PATHS
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_no_route_answers_without_a_key(house: House, service: str) -> None:
    routes = routes_of(house, service)
    assert len(routes) >= 2

    for method, path in routes:
        answer = httpx.request(method, house.services.url(service) + path, json={})
        assert answer.status_code == 401, (method, path)
        assert answer.json()["code"] == "unauthenticated"


@pytest.mark.parametrize("service", SERVICES)
def test_nonsense_is_answered_with_a_problem(house: House, service: str) -> None:
    for method, path in routes_of(house, service):
        for body in (b"", b"{", b"[]", b'{"x": NaN}', b"\xff\xfe", b'{"rows": 3}'):
            answer = house.ask(
                service,
                method,
                path,
                content=body,
                headers={"Content-Type": "application/json", "Accept": "application/json"},
            )
            assert answer.status_code < 500, (method, path, body, answer.text)
            if answer.status_code >= 400:
                assert answer.headers["content-type"].startswith("application/problem+json")
                assert answer.json()["request_id"]


@pytest.mark.parametrize("service", SERVICES)
def test_metrics_are_told_on_the_admin_door_only(house: House, service: str) -> None:
    metrics = httpx.get(house.services.admin_url(service) + "/metrics")
    public = house.ask(service, "GET", "/metrics")

    assert metrics.status_code == 200
    assert "tidewheel_http_requests_total" in metrics.text
    assert public.status_code == 404
