"""What belongs to another team answers as if it were not there, and its names are taken."""

from typing import Any

import httpx
import pytest
import pytest_asyncio

from services.registry.domain.teams import team_of
from shared.access import Principal, Role
from shared.errors import Conflict, InvalidInput, NotPermitted
from tests.registry.builders import a_spec, a_training, heard, some_rows
from tests.registry.conftest import House

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

OURS, FOREIGN = "viewer@rotating", "viewer@elsewhere"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer tw_{key}"}


async def asked(house: House, key: str, path: str, **query: Any) -> httpx.Response:
    return await house.client.get(path, params=query or None, headers=bearer(key))


async def publish(house: House, key: str, dataset: str, path: str = "") -> httpx.Response:
    return await house.client.post(
        f"/v1/datasets/{dataset}/versions{path}",
        content=some_rows(40).encode(),
        headers=bearer(key) | {"Content-Type": "text/csv"},
    )


async def define(house: House, key: str, **changes: Any) -> httpx.Response:
    return await house.client.post("/v1/models", json=a_spec(**changes), headers=bearer(key))


@pytest_asyncio.fixture(loop_scope="module", name="house")
async def _settled(fed: House) -> House:
    """One model of the team `rotating` with a version, and its dataset."""
    known = await fed.store.models.definition("pump")
    assert known is not None
    await fed.react(heard(a_training(spec_digest=known.spec_digest, code_digest=known.code_digest)))
    return fed


def _paths(cascade: str) -> dict[str, str]:
    """A path about something of `rotating`, and the same about nothing at all."""
    nothing = "00000000-0000-0000-0000-000000000000"
    return {
        "/v1/models/pump": "/v1/models/none",
        "/v1/models/pump/versions": "/v1/models/none/versions",
        "/v1/models/pump/versions/1": "/v1/models/none/versions/1",
        "/v1/models/pump/versions/99": "/v1/models/none/versions/99",
        "/v1/models/pump/why": "/v1/models/none/why",
        "/v1/models/pump/production": "/v1/models/none/production",
        "/v1/datasets/pumps": "/v1/datasets/none",
        "/v1/datasets/pumps/versions": "/v1/datasets/none/versions",
        "/v1/datasets/pumps/versions/1": "/v1/datasets/none/versions/1",
        "/v1/datasets/pumps/versions/1/data": "/v1/datasets/none/versions/1/data",
        "/v1/datasets/pumps/compare?old=1&new=1": "/v1/datasets/none/compare?old=1&new=1",
        f"/v1/cascades/{cascade}": f"/v1/cascades/{nothing}",
    }


async def test_a_foreign_thing_answers_like_none_at_all(house: House) -> None:
    cascade = (await house.get("/v1/models/pump"))["cascade"]

    for path, nothing in _paths(cascade).items():
        ours, foreign, none = (
            await asked(house, OURS, path),
            await asked(house, FOREIGN, path),
            await asked(house, FOREIGN, nothing),
        )
        assert ours.status_code == (404 if "/99" in path else 200), (path, ours.text)
        assert (foreign.status_code, none.status_code) == (404, 404), path
        differing = {"instance", "request_id"}
        bodies = [
            {name: value for name, value in answer.json().items() if name not in differing}
            for answer in (foreign, none)
        ]
        assert bodies[0] == bodies[1], path
        assert dict(foreign.headers).keys() == dict(none.headers).keys(), path


async def test_lists_show_what_is_ones_own_and_nothing_else(house: House) -> None:
    for path in ("/v1/models", "/v1/datasets", "/v1/events", "/v1/outcomes"):
        everything = (await asked(house, "viewer", path, limit=1000)).json()["items"]
        ours = (await asked(house, OURS, path, limit=1000)).json()["items"]
        foreign = (await asked(house, FOREIGN, path, limit=1000)).json()["items"]

        assert foreign == [], path
        assert ours == everything, path
        assert ours, path


async def test_pages_are_full_whatever_lies_between(house: House) -> None:
    for number in range(6):
        owner = ("rotating", "elsewhere")[number % 2]
        answer = await define(
            house,
            "admin",
            name=f"m{number}",
            owner=owner,
            data={"dataset": f"d{number}", "target": "y"},
        )
        assert answer.status_code == 201, answer.text

    first = (await asked(house, FOREIGN, "/v1/models", limit=2)).json()
    second = (await asked(house, FOREIGN, "/v1/models", limit=2, cursor=first["next"])).json()

    assert [model["model"] for model in first["items"]] == ["m1", "m3"]
    assert [model["model"] for model in second["items"]] == ["m5"]


async def test_a_taken_name_is_taken_for_others(house: House) -> None:
    model = await define(house, "data_scientist@elsewhere", owner="elsewhere")
    dataset = await publish(house, "producer@elsewhere", "pumps")

    for answer in (model, dataset):
        assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")
        assert "rotating" not in answer.text


async def test_nobody_defines_a_model_for_a_team_without_a_role_in_it(house: House) -> None:
    for key in ("data_scientist@elsewhere", "viewer@rotating", "producer@rotating"):
        answer = await define(house, key, name="other", data={"dataset": "new", "target": "y"})
        assert answer.status_code == 403, key

    given_away = await define(house, "data_scientist@rotating", owner="elsewhere")
    assert given_away.status_code == 403


async def test_a_model_reads_no_dataset_that_its_author_may_not(house: House) -> None:
    answer = await define(house, "data_scientist@elsewhere", name="thief", owner="elsewhere")

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/data/dataset"


async def test_a_dataset_belongs_to_the_team_that_published_it_first(house: House) -> None:
    first = await publish(house, "producer@rotating", "fans")
    second = await publish(house, "producer@elsewhere", "fans")

    assert (first.status_code, second.status_code) == (201, 409)
    assert (await asked(house, OURS, "/v1/datasets/fans")).status_code == 200
    assert (await asked(house, FOREIGN, "/v1/datasets/fans")).status_code == 404
    said = (await house.said("dataset.published"))[-1]
    assert said["data"]["owner"] == "rotating"


async def test_a_name_that_a_model_waits_for_belongs_to_its_team(house: House) -> None:
    spec = {"name": "early", "data": {"dataset": "coming", "target": "y"}}
    assert (await define(house, "data_scientist@rotating", **spec)).status_code == 201

    assert (await publish(house, "producer@elsewhere", "coming")).status_code == 409
    assert (await publish(house, "producer@rotating", "coming")).status_code == 201


async def test_what_is_published_for_nobody_waits_for_a_team(house: House) -> None:
    assert (await publish(house, "producer", "loose")).status_code == 201
    assert (await asked(house, OURS, "/v1/datasets/loose")).status_code == 404
    assert (await publish(house, "producer@rotating", "loose")).status_code == 409

    claimed = await house.client.post(
        "/v1/datasets/loose/versions?owner=rotating",
        content=some_rows(41).encode(),
        headers=bearer("producer") | {"Content-Type": "text/csv"},
    )

    assert claimed.status_code == 201, claimed.text
    assert (await asked(house, OURS, "/v1/datasets/loose")).status_code == 200
    other = await publish(house, "producer", "loose", "?owner=elsewhere")
    assert (other.status_code, other.json()["code"]) == (409, "owned")


BOTH = Principal(
    name="vera",
    key="k",
    grants={"a": frozenset({Role.PRODUCER}), "b": frozenset({Role.PRODUCER, Role.VIEWER})},
)
READER = Principal(name="vera", key="k", grants={"a": frozenset({Role.VIEWER})})


@pytest.mark.parametrize(
    ("principal", "owner", "wish", "expected"),
    [
        (BOTH, None, "a", "a"),
        (BOTH, "b", None, "b"),
        (BOTH, None, None, InvalidInput),
        (BOTH, None, "c", NotPermitted),
        (BOTH, "", None, NotPermitted),
        (BOTH, "a", "b", Conflict),
        (READER, "a", None, NotPermitted),
        (READER, None, "a", NotPermitted),
    ],
)
async def test_whose_a_dataset_is(
    principal: Principal, owner: str | None, wish: str | None, expected: Any
) -> None:
    if isinstance(expected, str):
        assert team_of("d", owner, principal, wish) == expected
    else:
        with pytest.raises(expected):
            team_of("d", owner, principal, wish)
