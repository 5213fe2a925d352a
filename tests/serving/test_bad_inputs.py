"""What is not a request of this model is refused with its place, and never with a 5xx."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.artifacts import ArtifactStore
from shared.manifest import Column
from tests.serving.building import (
    FLOW,
    KEY,
    OTHER_KEY,
    Replica,
    Version,
    a_classifier,
    a_desired,
    a_replica,
    a_version,
    settings_for,
)

PATH = f"/v1/models/{FLOW}/predict"
GOOD = '{"load": 1.0, "hour": 3, "lag": 0.5}'


def rows(text: str) -> bytes:
    return f'{{"rows": [{text}]}}'.encode("utf-8", "surrogatepass")


def with_load(value: str) -> bytes:
    return rows(f'{{"load": {value}, "hour": 3, "lag": 0.5}}')


BODIES: list[tuple[str, bytes, int, str]] = [
    ("empty", b"", 400, ""),
    ("cut", b'{"rows": [', 400, ""),
    ("cut in a string", b'{"rows": [{"lo', 400, ""),
    ("not json", b"load=1", 400, ""),
    ("two documents", b"{} {}", 400, ""),
    ("single quotes", b"{'rows': []}", 400, ""),
    ("trailing comma", rows('{"load": 1,}'), 400, ""),
    ("comment", b'{"rows": [] /* none */}', 400, ""),
    ("invalid utf-8", b'{"rows": "\xff"}', 400, ""),
    ("byte order mark", b"\xef\xbb\xbf{}", 400, ""),
    ("utf-16", '{"rows": []}'.encode("utf-16"), 400, ""),
    ("zero byte", b"\x00", 400, ""),
    ("100,000 nested arrays", b"[" * 100_000 + b"]" * 100_000, 400, ""),
    ("100,000 nested objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, ""),
    ("integer of 5,000 digits", with_load("9" * 5_000), 400, ""),
    ("null", b"null", 422, ""),
    ("a list", b"[]", 422, ""),
    ("a number", b"5", 422, ""),
    ("a text", b'"x"', 422, ""),
    ("nothing in it", b"{}", 422, "/rows"),
    ("both forms", b'{"rows": [{}], "row": {}}', 422, "/rows"),
    ("unknown field beside", b'{"rows": [{}], "role": "admin"}', 422, "/role"),
    ("rows are null", b'{"rows": null}', 422, "/rows"),
    ("rows are an object", b'{"rows": {}}', 422, "/rows"),
    ("rows are a text", b'{"rows": "abc"}', 422, "/rows"),
    ("no rows", b'{"rows": []}', 422, "/rows"),
    ("row is null", b'{"row": null}', 422, "/row"),
    ("a row alone has no load", b'{"row": {"hour": 3, "lag": 0.5}}', 422, "/row/load"),
    ("a row is null", rows("null"), 422, "/rows/0"),
    ("a row is a list", rows("[1, 2, 3]"), 422, "/rows/0"),
    ("a row is a number", rows("7"), 422, "/rows/0"),
    ("second row is no object", rows(f"{GOOD}, 7"), 422, "/rows/1"),
    ("an empty row", rows("{}"), 422, "/rows/0/load"),
    ("feature missing", rows('{"hour": 3, "lag": 0.5}'), 422, "/rows/0/load"),
    ("missing in the second row", rows(GOOD + ', {"load": 1, "lag": 1}'), 422, "/rows/1/hour"),
    ("unknown feature", rows(GOOD[:-1] + ', "rain": 1}'), 422, "/rows/0/rain"),
    ("the target", rows(GOOD[:-1] + ', "flow": 1}'), 422, "/rows/0/flow"),
    ("text for a number", with_load('"5"'), 422, "/rows/0/load"),
    ("boolean for a number", with_load("true"), 422, "/rows/0/load"),
    ("list for a number", with_load("[1]"), 422, "/rows/0/load"),
    ("object for a number", with_load('{"$gt": 0}'), 422, "/rows/0/load"),
    ("empty text for a number", with_load('""'), 422, "/rows/0/load"),
    ("NaN", with_load("NaN"), 422, "/rows/0/load"),
    ("Infinity", with_load("Infinity"), 422, "/rows/0/load"),
    ("-Infinity", with_load("-Infinity"), 422, "/rows/0/load"),
    ("1e400", with_load("1e400"), 422, "/rows/0/load"),
    ("-1e400", with_load("-1e400"), 422, "/rows/0/load"),
    ("2^63", with_load(str(2**63)), 422, "/rows/0/load"),
    ("2^70", with_load(str(2**70)), 422, "/rows/0/load"),
    ("NaN as text", with_load('"NaN"'), 422, "/rows/0/load"),
    ("repeated name", b'{"rows": [{}], "rows": [{}]}', 422, "/rows"),
    ("repeated feature", rows('{"load": 1, "load": 2, "hour": 1, "lag": 1}'), 422, "/load"),
    ("repeated, escaped", rows('{"load": 1, "\\u006coad": 2}'), 422, "/load"),
    ("lone surrogate in a value", with_load('"\\ud800"'), 422, "/rows/0/load"),
    ("lone surrogate as a name", rows(GOOD[:-1] + ', "\\ud800": 1}'), 422, "/rows/0/?"),
    ("lone surrogate in the entity", rows(GOOD[:-1] + ', "pump": "\\udfff"}'), 422, "/rows/0/pump"),
    ("raw surrogate bytes", rows(GOOD[:-1] + ', "pump": "\ud800"}'), 400, ""),
    ("zero in the entity", rows(GOOD[:-1] + ', "pump": "a\\u0000"}'), 422, "/rows/0/pump"),
    ("entity is a list", rows(GOOD[:-1] + ', "pump": []}'), 422, "/rows/0/pump"),
    ("entity is empty", rows(GOOD[:-1] + ', "pump": ""}'), 422, "/rows/0/pump"),
    ("entity is true", rows(GOOD[:-1] + ', "pump": true}'), 422, "/rows/0/pump"),
    ("entity is long", rows(GOOD[:-1] + f', "pump": "{"x" * 5_000}"}}'), 422, "/rows/0/pump"),
    ("category of 1 MB", rows(GOOD[:-1] + f', "kind": "{"x" * 10**6}"}}'), 422, "/rows/0/kind"),
    ("name of 1 MB", rows(f'{{"{"x" * 10**6}": 1}}'), 422, "/rows/0/load"),
    ("10,001 rows", rows(",".join(["{}"] * 10_001)), 413, ""),
    ("3,000 fields", rows(json.dumps({f"f{i}": 1 for i in range(3_000)})), 422, "/rows/0"),
    ("slashes in a name", rows(GOOD[:-1] + ', "a/b~c": 1}'), 422, "/rows/0/a~1b~0c"),
    ("markup in a name", rows(GOOD[:-1] + ', "<script>": 1}'), 422, "/rows/0/<script>"),
    ("prototype", rows(GOOD[:-1] + ', "__proto__": {}}'), 422, "/rows/0/__proto__"),
    ("9 MB", b" " * 9_000_000, 413, ""),
]


def test_there_are_more_than_sixty_of_them() -> None:
    assert len(BODIES) >= 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad-inputs")


@pytest.fixture
async def served(folder: Path) -> AsyncIterator[Replica]:
    settings = settings_for(folder)
    async with a_replica(settings) as found:
        if FLOW not in found.serving.deployments.endpoints:
            await found.want(a_desired(1, a_version(ArtifactStore(settings.artifacts), 1)))
        yield found


async def post(served: Replica, body: bytes, **headers: str) -> httpx.Response:
    kind = {"content-type": "application/json"} | headers
    return await served.client.post(PATH, content=body, headers=kind)


def is_problem(response: httpx.Response) -> bool:
    body = response.json()
    wanted = {"type", "title", "status", "code", "detail", "instance", "request_id", "errors"}
    return (
        response.headers["content-type"] == "application/problem+json"
        and set(body) == wanted
        and body["status"] == response.status_code
    )


@pytest.mark.parametrize(
    ("body", "status", "pointer"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES]
)
async def test_a_body_that_is_wrong_is_refused_with_its_place(
    served: Replica, body: bytes, status: int, pointer: str
) -> None:
    response = await post(served, body)

    assert response.status_code == status, response.text
    assert status == 200 or is_problem(response)
    assert not pointer or pointer in [e["pointer"] for e in response.json()["errors"]]
    assert len(response.content) < 20_000


async def test_nothing_of_a_refused_request_is_logged(served: Replica) -> None:
    before = served.serving.spool.waiting_rows

    await post(served, rows(f"{GOOD}, 7"))

    assert served.serving.spool.waiting_rows == before


async def test_every_fault_is_told_at_once(served: Replica) -> None:
    response = await post(served, rows('{"load": "x", "hour": null, "rain": 1}'))

    found = {error["pointer"]: error for error in response.json()["errors"]}
    assert set(found) == {"/rows/0/load", "/rows/0/lag", "/rows/0/rain"}
    assert found["/rows/0/lag"]["hint"] == "send null if the value is not known"


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": ""},
        {"content-type": "text/plain"},
        {"content-type": "text/csv"},
        {"content-type": "application/x-pickle"},
        {"content-type": "application/vnd.bentoml+pickle"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/json" + "x" * 10_000},
        {"content-encoding": "gzip"},
        {"content-encoding": "br"},
        {"content-encoding": "zstd"},
    ],
    ids=str,
)
async def test_another_form_than_json_is_415(served: Replica, headers: dict[str, str]) -> None:
    response = await post(served, rows(GOOD), **headers)

    assert response.status_code == 415
    assert is_problem(response)


async def test_utf_8_may_be_said(served: Replica) -> None:
    kind = {"content-type": 'Application/JSON; charset="UTF-8"'}

    assert (await post(served, rows(GOOD), **kind)).status_code == 200


@pytest.mark.parametrize(
    "path", ["/v1/models/..%2f..%2fetc%2fpasswd/predict", "/v1/models/%00/predict",
             "/v1/models/%ff%fe/predict", "/v1/models/%0d%0aSet-Cookie:x=1/predict",
             "/v1/models//predict", "/v1/models/" + "x" * 5_000 + "/predict"],
)  # fmt: skip
async def test_what_is_no_name_is_refused_with_its_place(served: Replica, path: str) -> None:
    response = await served.client.post(path, json={"rows": [json.loads(GOOD)]})

    if "//" in path or "%2f" in path:  # no route at all
        assert response.status_code == 404
    else:
        assert response.status_code == 422
        assert [one["pointer"] for one in response.json()["errors"]] == ["/path/model"]
    assert is_problem(response)
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "FOO"])
async def test_other_methods_are_405(served: Replica, method: str) -> None:
    response = await served.client.request(method, PATH)

    assert response.status_code == 405
    assert is_problem(response)


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("", 401),
        ("Bearer", 401),
        ("Basic dTpw", 401),
        (f"Bearer {KEY}x", 401),
        (f"Bearer {OTHER_KEY}", 403),
    ],
)
async def test_who_may_not_predict_is_told_so_before_the_body_is_read(
    served: Replica, authorization: str, status: int
) -> None:
    response = await post(served, b"no json", authorization=authorization)

    assert response.status_code == status
    assert is_problem(response)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["rows", "row", "load", "hour", "lag", "pump", "x"]), inner
        )
    ),
    max_leaves=12,
)


@given(document=anything)
@hypothesis_settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_whatever_comes_the_answer_is_never_a_5xx(served: Replica, document: Any) -> None:
    for sent in (document, {"rows": document}, {"rows": [document]}):
        response = await post(served, json.dumps(sent).encode("utf-8", "replace"))

        assert response.status_code in (200, 400, 422)


async def test_text_columns_take_texts_and_null_alone(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    kinds = (
        Column(name="load", kind="number", minimum=0.0, maximum=1.0),
        Column(name="wet", kind="boolean"),
        Column(name="lag", kind="number", minimum=0.0, maximum=1.0),
    )
    async with a_replica(settings) as replica:
        version = a_version(ArtifactStore(settings.artifacts), 1, columns=kinds)
        await replica.want(a_desired(1, version))

        statuses = {
            value: (await replica.ask({"load": 1, "wet": json.loads(value), "lag": 1})).status_code
            for value in ("true", "false", "null", '"true"', "2", "0.5")
        }

    assert statuses == {"true": 200, "false": 200, "null": 200, '"true"': 422, "2": 422, "0.5": 422}


# --- feedback ---------------------------------------------------------------------------------

AN_ID = "p-" + "0" * 32
ONE = {"prediction_id": AN_ID, "value": 1.5}


def observation(**changes: Any) -> dict[str, Any]:
    return {"model": FLOW, "observations": [ONE | changes]}


FEEDBACK: list[tuple[Any, int, str]] = [
    (None, 422, ""),
    ([], 422, ""),
    ({}, 422, "/model"),
    ({"observations": [ONE]}, 422, "/model"),
    ({"model": "Flow", "observations": [ONE]}, 422, "/model"),
    ({"model": 5, "observations": [ONE]}, 422, "/model"),
    ({"model": "unheard-of", "observations": [ONE]}, 404, ""),
    ({"model": FLOW}, 422, "/observations"),
    ({"model": FLOW, "observations": []}, 422, "/observations"),
    ({"model": FLOW, "observations": [ONE] * 1_001}, 422, "/observations"),
    ({"model": FLOW, "observations": [7]}, 422, "/observations/0"),
    ({"model": FLOW, "observations": [ONE], "tenant": "x"}, 422, "/tenant"),
    (observation(prediction_id=None), 422, "/observations/0/prediction_id"),
    (observation(prediction_id="p-1"), 422, "/observations/0/prediction_id"),
    (observation(prediction_id=AN_ID.upper()), 422, "/observations/0/prediction_id"),
    (observation(value=None), 422, "/observations/0/value"),
    (observation(value=[1]), 422, "/observations/0/value"),
    (observation(value=float("nan")), 422, "/observations/0/value"),
    (observation(value=float("inf")), 422, "/observations/0/value"),
    (observation(value=2**70), 422, "/observations/0/value"),
    (observation(value="wet"), 422, "/observations/0/value"),
    (observation(value=True), 422, "/observations/0/value"),
    (observation(observed_at="9999-01-01T00:00:00Z"), 422, "/observations/0/observed_at"),
    (observation(observed_at="1066-10-14T00:00:00Z"), 422, "/observations/0/observed_at"),
    (observation(observed_at="2026-01-01T00:00:00"), 422, "/observations/0/observed_at"),
    (observation(observed_at="yesterday"), 422, "/observations/0/observed_at"),
    (observation(observed_at=5), 422, "/observations/0/observed_at"),
    (observation(revision=0), 422, "/observations/0/revision"),
    (observation(revision=1.5), 422, "/observations/0/revision"),
    (observation(revision=True), 422, "/observations/0/revision"),
    (observation(comment="x"), 422, "/observations/0/comment"),
    (observation(), 202, ""),
    (observation(value=3, observed_at="2026-01-01T00:00:00+01:00", revision=2), 202, ""),
]


@pytest.mark.parametrize(("document", "status", "pointer"), FEEDBACK)
async def test_outcomes_are_taken_whole_or_refused_with_their_place(
    served: Replica, document: Any, status: int, pointer: str
) -> None:
    before = served.serving.spool.outgoing_messages

    response = await served.client.post(
        "/v1/feedback",
        content=json.dumps(document),
        headers={"content-type": "application/json"},
    )

    assert response.status_code == status, response.text
    assert status == 202 or is_problem(response)
    assert not pointer or pointer in [e["pointer"] for e in response.json()["errors"]]
    assert served.serving.spool.outgoing_messages - before == (status == 202)


CLASSES_AND_OUTCOMES: list[tuple[tuple[str | float | bool, ...], dict[str, int]]] = [
    (("dry", "wet"), {'"wet"': 202, '"never seen"': 202, "1": 422, "0.5": 422, "true": 422}),
    ((0.0, 1.0), {"1": 202, "true": 202, "7.5": 202, '"1"': 422, '"wet"': 422}),
    ((False, True), {"true": 202, "1": 202, "0.0": 202, "2": 422, '"true"': 422}),
]


@pytest.mark.parametrize(("classes", "statuses"), CLASSES_AND_OUTCOMES, ids=str)
async def test_an_outcome_is_of_the_kind_of_the_classes(
    tmp_path: Path, classes: tuple[str | float | bool, ...], statuses: Mapping[str, int]
) -> None:
    async with a_replica(settings_for(tmp_path)) as replica:
        await replica.want(a_desired(1, a_classifying_version(tmp_path, 1, classes)))

        answers = {value: await tell(replica, value) for value in statuses}

    assert {value: answer.status_code for value, answer in answers.items()} == statuses
    for refused in (answer for answer in answers.values() if answer.status_code == 422):
        (error,) = refused.json()["errors"]
        assert error["pointer"] == "/observations/0/value"
        assert "as the classes of this model are" in error["detail"]


async def test_what_could_come_true_for_the_version_before_is_taken(tmp_path: Path) -> None:
    now = a_classifying_version(tmp_path, 2, ("dry", "wet"))
    before = a_classifying_version(tmp_path, 1, (0.0, 1.0))
    async with a_replica(settings_for(tmp_path)) as replica:
        await replica.want(a_desired(1, now, previous=before))

        answers = [await tell(replica, value) for value in ('"wet"', "1")]

    assert [answer.status_code for answer in answers] == [202, 202]


async def test_what_could_come_true_for_a_version_that_is_named_no_longer_is_taken(
    tmp_path: Path,
) -> None:
    third = a_classifying_version(tmp_path, 3, (0.0, 1.0))
    second = a_classifying_version(tmp_path, 2, (0.0, 1.0))
    async with a_replica(settings_for(tmp_path)) as replica:
        await replica.want(a_desired(1, third, previous=second))

        answers = [await tell(replica, value) for value in ('"wet"', "1", "true", "[]", "null")]

    assert [answer.status_code for answer in answers] == [202, 202, 202, 422, 422]


async def test_what_could_come_true_for_a_version_of_another_task_is_taken(tmp_path: Path) -> None:
    before = a_classifying_version(tmp_path, 1, ("dry", "wet"))
    now = a_version(ArtifactStore(settings_for(tmp_path).artifacts), 2)
    async with a_replica(settings_for(tmp_path)) as replica:
        await replica.want(a_desired(1, now, previous=before))

        answers = [await tell(replica, value) for value in ('"wet"', "0.5")]

    assert [answer.status_code for answer in answers] == [202, 202]


async def test_a_regression_takes_numbers_however_many_versions_it_had(tmp_path: Path) -> None:
    now = a_version(ArtifactStore(settings_for(tmp_path).artifacts), 7)
    async with a_replica(settings_for(tmp_path)) as replica:
        await replica.want(a_desired(1, now))

        answers = [await tell(replica, value) for value in ('"wet"', "true", "0.5")]

    assert [answer.status_code for answer in answers] == [422, 422, 202]


def a_classifying_version(
    folder: Path, number: int, classes: tuple[str | float | bool, ...]
) -> Version:
    store = ArtifactStore(settings_for(folder).artifacts)
    return a_version(
        store,
        number,
        estimator=a_classifier(classes),
        task="classification",
        classes=classes,
        metric="log_loss",
    )


async def tell(replica: Replica, value: str) -> httpx.Response:
    return await replica.client.post("/v1/feedback", json=observation(value=json.loads(value)))


async def test_the_same_outcome_again_has_the_same_event_id(served: Replica) -> None:
    for _ in range(2):
        assert (await served.client.post("/v1/feedback", json=observation())).status_code == 202

    first, second = (
        json.loads(o.message.value or b"") for o in served.serving.spool.outgoing(10**6)[-2:]
    )
    assert first["id"] == second["id"]
