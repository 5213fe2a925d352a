"""Every route of every running service, and what each role is answered there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from shared.access import Role
from shared.http import CLIENT_PATHS, OPEN_PATHS
from shared.topics import SERVICES
from tests.support.house import House

TABLE = Path(__file__).parents[1] / "contracts" / "routes.txt"


@dataclass(frozen=True, order=True)
class Route:
    """A route as its service describes it, with its names in braces."""

    service: str
    method: str
    path: str

    def at(self, names: Mapping[str, object]) -> str:
        """Its path about these things; `x` where nothing is named."""
        return re.sub(r"\{([^}]+)\}", lambda found: str(names.get(found[1], "x")), self.path)


def every_route(house: House) -> list[Route]:
    """All routes that need a credential, from the descriptions that the services give."""
    found = []
    for service in SERVICES:
        paths = house.get(service, "/openapi.json")["paths"]
        found += [
            Route(service, method.upper(), path)
            for path, methods in paths.items()
            for method in methods
            if path not in OPEN_PATHS | CLIENT_PATHS
        ]
    return sorted(found)


def rows_of(house: House, keys: Mapping[Role, str]) -> list[str]:
    """The table as it is: who is not answered 403, asking about nothing that exists."""
    rows = []
    for route in every_route(house):
        roles = [role for role, key in keys.items() if _may(house, route, key)]
        rows.append(row_of(route, roles))
    return rows


def row_of(route: Route, roles: Iterable[Role]) -> str:
    names = sorted(roles)
    told = "anybody" if len(names) == len(Role) else ", ".join(names)
    return f"{route.service} {route.method} {route.path} | {told}"


def _may(house: House, route: Route, key: str) -> bool:
    answer = ask(house, route, key, route.at({}), {})
    assert answer.status_code not in (401, 405), (route, answer.text)
    return answer.status_code != 403


def ask(
    house: House, route: Route, key: str | None, path: str, body: object = None
) -> httpx.Response:
    """One request with this key, or with none."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    address = house.services.url(route.service) + path
    content = {} if route.method == "GET" else {"json": {} if body is None else body}
    return httpx.request(route.method, address, headers=headers, timeout=20, **content)  # type: ignore[arg-type]


def table() -> list[str]:
    """The rows that are checked in."""
    lines = TABLE.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]
