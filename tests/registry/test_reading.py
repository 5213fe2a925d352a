"""What is read: lists, bytes, ranges, comparisons, and wrong requests answered as problems."""

import io

import polars as pl
import pytest

from tests.registry.builders import some_rows
from tests.registry.conftest import House

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


async def test_the_bytes_of_a_version_come_back_as_they_were_sent(fed: House) -> None:
    answer = await fed.client.get("/v1/datasets/pumps/versions/1/data")

    assert answer.status_code == 200
    assert answer.text == some_rows(40)
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="pumps-1.csv"'


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("bytes=0-9", 206, 0, 10),
        ("bytes=5-", 206, 5, None),
        ("bytes=-7", 206, -7, None),
        ("bytes=3-999999", 206, 3, None),
        ("bytes=0-1,5-6", 200, 0, None),
        ("lines=1-2", 200, 0, None),
        ("bytes=9-3", 200, 0, None),
        ("bytes=-", 200, 0, None),
    ],
)
async def test_a_range_of_the_bytes(
    fed: House, asked: str, status: int, start: int, end: int | None
) -> None:
    answer = await fed.client.get("/v1/datasets/pumps/versions/1/data", headers={"Range": asked})

    assert (answer.status_code, answer.text) == (status, some_rows(40)[start:end])


async def test_a_range_behind_the_end_is_416(fed: House) -> None:
    path = "/v1/datasets/pumps/versions/1/data"

    answer = await fed.client.get(path, headers={"Range": "bytes=999999-"})

    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")


async def test_a_range_of_other_bytes_than_those_known_is_the_whole_file(fed: House) -> None:
    path = "/v1/datasets/pumps/versions/1/data"

    answer = await fed.client.get(path, headers={"Range": "bytes=0-3", "If-Range": '"other"'})

    assert (answer.status_code, answer.text) == (200, some_rows(40))


async def test_bytes_and_versions_that_are_known_are_not_sent_again(fed: House) -> None:
    for path in ("/v1/datasets/pumps/versions/1/data", "/v1/datasets/pumps/versions/1"):
        first = await fed.client.get(path)

        again = await fed.client.get(path, headers={"If-None-Match": first.headers["ETag"]})

        assert (again.status_code, again.content) == (304, b"")


async def test_versions_are_listed_newest_first_and_stably_under_inserts(house: House) -> None:
    for count in (20, 21, 22):
        await house.publish("pumps", some_rows(count))
    first = await house.get("/v1/datasets/pumps/versions", limit=2)
    await house.publish("pumps", some_rows(23))

    rest = await house.get("/v1/datasets/pumps/versions", limit=2, cursor=first["next"])

    assert [one["version"] for one in first["items"] + rest["items"]] == [3, 2, 1]


async def test_datasets_are_listed_with_their_newest_version(house: House) -> None:
    await house.publish("b/pumps", some_rows(20))
    await house.publish("b/pumps", some_rows(21))
    await house.publish("a", some_rows(20))
    await house.publish("never", b"")

    listed = (await house.get("/v1/datasets"))["items"]

    assert [(one["dataset"], one["version"]) for one in listed] == [("a", 1), ("b/pumps", 2)]
    assert (await house.get("/v1/datasets/b/pumps"))["rows"] == 21


async def test_two_versions_side_by_side(house: House) -> None:
    await house.publish("pumps", some_rows(40))
    await house.publish("pumps", some_rows(60, shift=3.0).replace("site", "place"))

    found = (await house.get("/v1/datasets/pumps/compare", old=1, new=2))["comparison"]

    assert (found["rows_old"], found["rows_new"]) == (40, 60)
    assert (found["added"], found["removed"]) == (["place"], ["site"])
    assert found["shifts"][0]["column"] == "a"
    assert found["shifts"][0]["mean_in_deviations"] > 4


async def test_statistics_of_a_profile_are_those_of_the_file(house: House) -> None:
    frame = pl.read_csv(io.StringIO(some_rows(40)))
    await house.publish("pumps", some_rows(40))

    profile = (await house.get("/v1/datasets/pumps/versions/1"))["profile"]

    column = {one["name"]: one for one in profile["columns"]}
    assert column["a"]["mean"] == pytest.approx(frame["a"].mean())
    assert column["a"]["deviation"] == pytest.approx(frame["a"].std())
    assert column["a"]["maximum"] == frame["a"].max()
    assert column["b"]["distinct"] == frame["b"].n_unique()
    assert column["site"]["top"][0] == ["north", 26 / 40]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/datasets?limit=0",
        "/v1/datasets?limit=x",
        "/v1/datasets?cursor=%00",
        "/v1/datasets/pumps/versions?cursor=x",
        "/v1/datasets/pumps/versions/0",
        "/v1/datasets/pumps/versions/99999999999999",
        "/v1/datasets/pumps/compare",
        "/v1/datasets/pumps/compare?old=1&new=-1",
        "/v1/events?after=-1",
        "/v1/events?after=99999999999999999999",
        "/v1/events?subject=%00",
        "/v1/events?type=%00",
        "/v1/events?cursor=%D9%A1",
        "/v1/outcomes?cursor=a|b",
        "/v1/outcomes?cursor=a|99999999999|b",
        "/v1/outcomes?outcome=great",
    ],
)
async def test_a_wrong_question_is_a_problem(fed: House, path: str) -> None:
    answer = await fed.client.get(path)

    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/datasets/none",
        "/v1/datasets/none/versions",
        "/v1/datasets/pumps/versions/9",
        "/v1/datasets/pumps/versions/9/data",
        "/v1/datasets/pumps/compare?old=1&new=9",
        "/v1/cascades/x",
        "/v1/cascades/01a1fd48-59b0-769e-b765-01211d7eaf48",
    ],
)
async def test_what_is_not_there_is_404(fed: House, path: str) -> None:
    answer = await fed.client.get(path)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/datasets/NO/versions",
        "/v1/datasets/a%0Ab",
        "/v1/datasets/a%0A",
        "/v1/models/NO",
        "/v1/models/a%00b",
    ],
)
async def test_what_is_no_name_is_422_with_its_place(fed: House, path: str) -> None:
    answer = await fed.client.get(path)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert [one["pointer"] for one in answer.json()["errors"]] == ["/path/name"]
    assert answer.json()["errors"][0]["detail"].startswith("a name is 1 to 63 of a-z")
