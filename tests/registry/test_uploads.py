"""Files come in: versions, receipts, refusals; the same bytes are the same version."""

import asyncio
import io

import httpx
import polars as pl
import pytest

from tests.registry.builders import a_spec, some_rows
from tests.registry.conftest import House

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


async def test_an_upload_is_published_and_its_receipt_leads_somewhere(house: House) -> None:
    answer = await house.publish("plant/pumps", some_rows(40))

    receipt = answer.json()
    assert answer.status_code == 201, answer.text
    assert (receipt["dataset"], receipt["version"], receipt["rows"]) == ("plant/pumps", 1, 40)
    assert receipt["created"] is True
    version = await house.get(receipt["status_url"])
    assert version["digest"] == receipt["digest"]
    assert list(version["columns"].items()) == [
        ("a", "number"), ("b", "number"), ("site", "text"), ("y", "number"),
    ]  # fmt: skip
    assert version["profile"]["rows"] == 40
    cascade = await house.get(receipt["cascade_url"])
    assert [event["id"] for event in cascade["events"]] == [receipt["event_id"]]


async def test_the_same_bytes_again_have_the_first_receipt_and_no_event(house: House) -> None:
    first = (await house.publish("pumps", some_rows(40))).json()
    await house.publish("pumps", some_rows(50))

    again = await house.publish("pumps", some_rows(40))

    assert again.status_code == 200
    assert again.json() == first | {"created": False}
    assert len(await house.said("dataset.published")) == 2


async def test_two_uploads_of_the_same_bytes_at_once_are_one_version(house: House) -> None:
    answers = await asyncio.gather(*(house.publish("pumps", some_rows(40)) for _ in range(4)))

    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.json()["event_id"] for answer in answers}) == 1


async def test_versions_published_at_once_get_numbers_without_gaps(house: House) -> None:
    answers = await asyncio.gather(*(house.publish("pumps", some_rows(n)) for n in range(20, 26)))

    assert sorted(answer.json()["version"] for answer in answers) == [1, 2, 3, 4, 5, 6]


async def test_an_idempotency_key_gives_the_first_answer_and_refuses_another_file(
    house: House,
) -> None:
    key = {"Idempotency-Key": "day-1"}
    first = await house.publish("pumps", some_rows(40), **key)

    again = await house.publish("pumps", some_rows(40), **key)
    other = await house.publish("pumps", some_rows(41), **key)

    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_bad_file_is_refused_with_every_reason_and_an_event(fed: House) -> None:
    bad = "a,b,site\n" + "".join(f"x{i},1.5,north\n" for i in range(9)) + "x,inf,south\n"

    answer = await fed.publish("pumps", bad)

    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == "dataset_refused"
    said = {(error["pointer"], error["detail"]) for error in problem["errors"]}
    assert ("/columns/a", "column 'a' is text, in version 1 it is number") in said
    assert ("/columns/b", "column 'b' is infinite in 1 row, first in row 10") in said
    assert ("/columns/y", "column 'y' is missing; it is the target of model pump") in said
    (refused,) = await fed.said("dataset.refused")
    assert len(refused["data"]["reasons"]) == 3
    assert refused["id"] in problem["detail"]
    assert (await fed.get("/v1/datasets/pumps/versions"))["items"][0]["version"] == 1


async def test_a_refusal_is_repeated_under_its_key_without_a_second_event(fed: House) -> None:
    first = await fed.publish("pumps", "a,b\n1,2\n", **{"Idempotency-Key": "k"})

    again = await fed.publish("pumps", "a,b\n1,2\n", **{"Idempotency-Key": "k"})

    assert first.status_code == again.status_code == 422
    assert again.json()["errors"] == first.json()["errors"]
    assert len(await fed.said("dataset.refused")) == 1


async def test_the_bytes_of_a_refused_file_are_not_kept(fed: House) -> None:
    before = sorted(fed.artifacts.url and _blobs(fed))

    await fed.publish("pumps", "a,b,site,y\n1,2,north,\n")

    assert sorted(_blobs(fed)) == before
    assert not list(fed.intake.uploads.folder.iterdir())


def _blobs(house: House) -> list[str]:
    folder = house.lake.parent / "artifacts"
    return [path.name for path in folder.rglob("*") if path.is_file()]


async def test_one_odd_cell_is_named_by_its_row(fed: House) -> None:
    rows = some_rows(40).replace("\n", "\nNA,1.0,north,2.0\n", 1)

    answer = await fed.publish("pumps", rows)

    (error,) = answer.json()["errors"]
    assert error["detail"].endswith("row 1 holds 'NA'")


async def test_a_target_without_a_value_is_refused_and_its_row_named(fed: House) -> None:
    rows = some_rows(40) + "0.1,0.2,north,\n0.1,0.2,north,nan\n"

    answer = await fed.publish("pumps", rows)

    (error,) = answer.json()["errors"]
    assert "no finite value in 2 rows of 42, first in row 41" in error["detail"]


async def test_parquet_is_recognised_by_its_bytes_whatever_it_is_called(house: House) -> None:
    file = io.BytesIO()
    pl.read_csv(io.StringIO(some_rows(40))).write_parquet(file)

    answer = await house.publish("pumps", file.getvalue())

    version = await house.get(answer.json()["status_url"])
    assert version["format"] == "parquet"
    assert version["columns"] == {"a": "number", "b": "number", "site": "text", "y": "number"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the file is empty"),
        (b"\x80\x04\x95\x00", "a pickle, which is never loaded"),
        (b"\x78\x9c\x00\x00", "as joblib writes"),
        (b"\x1f\x8b\x08\x00", "gzip-compressed"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"PAR1 and nothing else", "has no footer"),
        (b"a,b\n", "there is a header and no row"),
        (b"a,a\n1,2\n", "'a' names 2 columns"),
        (b"a,b\n1,2\n3\n4,5,6\n", "line 3 has 1 fields, the header has 2, and 1 more lines"),
        (b"a;b\n1;2\n", "holds ';'"),
        (b"a,b\n1,\xff\n", "line 2: these bytes are no UTF-8"),
        (b"a,b\n1,2\n3,\x004\n", "line 3: it holds a NUL byte"),
        (b'a,b\n1,"open\n2,3\n', "line 2: it cannot be read"),
        (b"<b>,c\n1,2\n", "column 1 is named '<b>'"),
        (b'a,b\n1,5" pipe\n2,6" pipe\n', "quotation marks"),
    ],
)
async def test_a_file_that_cannot_be_read_says_why(house: House, body: bytes, said: str) -> None:
    answer = await house.publish("pumps", body)

    assert answer.status_code == 422, answer.text
    told = "; ".join(error["detail"] for error in answer.json()["errors"])
    assert said in told or said in answer.text
    assert len(await house.said("dataset.refused")) == 1


async def test_a_file_above_the_limit_is_413_and_leaves_nothing(house: House) -> None:
    answer = await house.publish("pumps", b"a\n" + b"1\n" * 10_000_001)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert not list(house.intake.uploads.folder.iterdir())
    assert await house.said() == []


async def test_another_media_type_or_an_encoding_is_415(house: House) -> None:
    kind = await house.publish("pumps", "a\n1\n", **{"Content-Type": "text/html"})
    coded = await house.publish("pumps", "a\n1\n", **{"Content-Encoding": "gzip"})

    assert kind.status_code == coded.status_code == 415


@pytest.mark.parametrize("name", ["Pumps", "a/b/c/d/e", "..", "pumps/versions", "%00", "a b"])
async def test_what_is_no_name_is_refused(house: House, name: str) -> None:
    answer = await house.publish(name, "a\n1\n")

    assert answer.status_code in (404, 405, 422)


async def test_only_producers_publish(house: House) -> None:
    viewer = {"Authorization": "Bearer tw_viewer"}
    producer = {"Authorization": "Bearer tw_producer"}

    assert (await house.publish("pumps", some_rows(9), **viewer)).status_code == 403
    assert (await house.publish("pumps", some_rows(9), **producer)).status_code == 201


async def test_a_reference_below_a_root_is_copied_and_published(house: House) -> None:
    (house.lake / "day=1").mkdir()
    (house.lake / "day=1" / "pumps.csv").write_text(some_rows(40))

    answer = await _refer(house, {"uri": "lake:day=1/pumps.csv", "format": "csv"})

    assert answer.status_code == 201, answer.text
    assert await house.artifacts.aget(answer.json()["digest"]) == some_rows(40).encode()


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ({"uri": "lake:none.csv"}, "nothing lies at 'lake:none.csv'"),
        ({"uri": "pond:a.csv"}, "'pond' is no configured root"),
        ({"uri": "lake:../secret"}, "is no key"),
        ({"uri": "lake:link.csv"}, "leads out of its root"),
        ({"uri": "file:///etc/passwd"}, "'file' is no configured root"),
        ({"uri": "nothing"}, "is no reference"),
        ({"uri": "lake:here.csv", "digest": "0" * 64}, "not the one offered"),
    ],
)
async def test_a_reference_that_leads_nowhere_is_refused(
    house: House, reference: dict[str, str], said: str
) -> None:
    (house.lake.parent / "secret").write_text("a\n1\n")
    (house.lake / "link.csv").symlink_to(house.lake.parent / "secret")
    (house.lake / "here.csv").write_text("a\n1\n")

    answer = await _refer(house, reference)

    assert answer.status_code == 422
    assert said in answer.json()["errors"][0]["detail"]


@pytest.mark.parametrize("body", [{}, {"uri": 3}, {"uri": "lake:a", "more": 1}, [], "x"])
async def test_a_body_that_is_no_reference_is_a_problem(house: House, body: object) -> None:
    answer = await _refer(house, body)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def _refer(house: House, body: object) -> httpx.Response:
    return await house.client.post("/v1/datasets/pumps/versions", json=body)


async def test_a_column_without_values_keeps_the_kind_it_had(fed: House) -> None:
    rows = "a,b,site,y\n" + ",1.0,,2.0\n" * 5

    answer = await fed.publish("pumps", rows)

    version = await fed.get(answer.json()["status_url"])
    assert version["columns"] == {"a": "number", "b": "number", "site": "text", "y": "number"}


async def test_whole_numbers_do_not_change_a_column_of_numbers(fed: House) -> None:
    answer = await fed.publish("pumps", "a,b,site,y\n1,2,north,3\n2,3,south,4\n")

    version = await fed.get(answer.json()["status_url"])
    assert version["columns"]["a"] == "number"


async def test_a_target_is_only_asked_for_where_a_model_needs_it(house: House) -> None:
    await house.define(a_spec(dataset="others"))

    answer = await house.publish("pumps", "a,b\n1,2\n")

    assert answer.status_code == 201
