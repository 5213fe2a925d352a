"""The quick way in answers, refuses and logs as the careful one does, and all at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from services.serving.api.lane import QuickDoor
from services.serving.app import Serving
from services.serving.handlers.lanes import MOST_ROWS, Waiting
from services.serving.prediction.decoding import decoder_of
from services.serving.prediction.forms import batch_of
from services.serving.prediction.reading import read_json
from services.serving.prediction.rows import Schema, check_rows
from services.serving.settings import Settings
from shared.artifacts import ArtifactStore
from shared.errors import Refused
from shared.manifest import Column
from shared.running import Part
from tests.serving.building import (
    A_ROW,
    FLOW,
    Replica,
    a_desired,
    a_replica,
    a_version,
    logged_rows,
    settings_for,
    until,
)
from tests.serving.test_compiled import a_compiled_version


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """However busy this machine is, a small model is asked on the loop."""
    return settings_for(tmp_path, inline_seconds=0.1)


PATH = f"/v1/models/{FLOW}/predict"
CAREFUL = f"{PATH}?explain=false"


class Counted:
    """How many questions a version was asked, by way of its arrays, and how many rows."""

    def __init__(self, replica: Replica, digest: str) -> None:
        self.rows: list[int] = []
        loaded = replica.serving.deployments._loaded[digest]  # type: ignore[index] # a digest
        assert loaded.opened is not None
        assert loaded.opened.compute is not None
        self._compute = loaded.opened.compute
        loaded.opened = replace(loaded.opened, compute=self._ask)

    def _ask(self, numbers: Any, texts: Any) -> Any:
        self.rows.append(len(numbers if numbers is not None else texts))
        return self._compute(numbers, texts)


async def served(replica: Replica, store: ArtifactStore, **changes: Any) -> Counted:
    version = a_compiled_version(store, 2, **changes)
    await replica.want(a_desired(1, version))
    await replica.client.post(CAREFUL, json={"rows": [example(changes.get("columns"))]})
    return Counted(replica, version.digest)


def example(columns: Sequence[Column] | None) -> Mapping[str, Any]:
    return A_ROW if columns is None else {column.name: None for column in columns}


async def both(replica: Replica, body: bytes) -> tuple[httpx.Response, httpx.Response]:
    headers = {"content-type": "application/json", "x-request-id": "r"}
    quick = await replica.client.post(PATH, content=body, headers=headers)
    careful = await replica.client.post(CAREFUL, content=body, headers=headers)
    return quick, careful


def without_chance(plain: Any) -> Any:
    return [
        {k: v for k, v in one.items() if k not in ("prediction_id", "id", "at")} for one in plain
    ]


def rows_of(*rows: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"rows": list(rows)})


# --- the same answers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        [A_ROW],
        [A_ROW, {"lag": 0, "load": -2.5, "hour": 23, "pump": "p-1"}],
        [{**A_ROW, "pump": 7}, {**A_ROW, "pump": None}],
        [{**A_ROW, "load": 1e300}],
    ],
    ids=["one", "entity", "numbered entity", "huge"],
)
async def test_a_plain_request_is_answered_and_logged_as_on_the_careful_way(
    replica: Replica, store: ArtifactStore, rows: list[Mapping[str, Any]]
) -> None:
    await served(replica, store)
    before = len(logged_rows(replica))

    quick, careful = await both(replica, rows_of(*rows))

    assert quick.status_code == 200, quick.text
    found, expected = quick.json(), careful.json()
    assert without_chance(found["predictions"]) == without_chance(expected["predictions"])
    assert found["model"] == expected["model"]
    assert dict(quick.headers) == dict(careful.headers)
    logged = logged_rows(replica)[before:]
    assert without_chance(logged[: len(rows)]) == without_chance(logged[len(rows) :])
    assert [one["id"] for one in logged[: len(rows)]] == [
        one["prediction_id"] for one in found["predictions"]
    ]


async def test_missing_values_reach_a_model_that_can_do_without(
    replica: Replica, store: ArtifactStore
) -> None:
    X = np.random.default_rng(1).normal(size=(200, 3))
    counted = await served(
        replica, store, estimator=HistGradientBoostingRegressor(max_iter=5).fit(X, X[:, 0])
    )

    quick, careful = await both(replica, rows_of({"load": None, "hour": 1, "lag": 2}))

    assert without_chance(quick.json()["predictions"]) == without_chance(
        careful.json()["predictions"]
    )
    assert counted.rows == [1]


async def test_texts_booleans_and_classes_go_the_quick_way_too(
    replica: Replica, store: ArtifactStore
) -> None:
    columns = (
        Column(name="load", kind="number", minimum=-3.0, maximum=3.0),
        Column(name="is open", kind="boolean"),
        Column(name="site", kind="text", categories=("north", "south")),
    )
    chance = np.random.default_rng(5)
    X = np.empty((120, 3), dtype=object)
    X[:, 0] = chance.normal(size=120)
    X[:, 1] = chance.integers(0, 2, 120).astype(float)
    X[:, 2] = chance.choice(["north", "south"], 120)
    y = np.where(X[:, 0].astype(float) + X[:, 1].astype(float) > 0.5, "wet", "dry")
    encoder = ColumnTransformer(
        [("t", OneHotEncoder(handle_unknown="ignore"), [2])], remainder="passthrough"
    )
    fitted = make_pipeline(encoder, HistGradientBoostingClassifier(max_iter=5)).fit(X, y)
    counted = await served(replica, store, estimator=fitted, columns=columns, rows=X, entity="site")

    rows: list[Mapping[str, Any]] = [
        {"load": 1.5, "is open": True, "site": "north"},
        {"load": None, "is open": None, "site": "elsewhere"},
    ]
    quick, careful = await both(replica, rows_of(*rows))

    assert quick.status_code == 200, quick.text
    assert without_chance(quick.json()["predictions"]) == without_chance(
        careful.json()["predictions"]
    )
    assert counted.rows == [2]
    logged = logged_rows(replica)
    assert without_chance(logged[-4:-2]) == without_chance(logged[-2:])


ODD = [
    b'{"rows":[{"load":1,"hour":2,"lag":3,"load":4}]}',
    b'{"rows":[{"load":1,"hour":2,"lag":3}],"rows":[]}',
    b'{"rows":[{"load":1e999,"hour":2,"lag":3}]}',
    b'{"rows":[{"load":9223372036854775808,"hour":2,"lag":3}]}',
    b'{"rows":[{"load":1,"hour":2,"lag":3,"pump":99999999999999999999}]}',
    b'{"rows":[{"load":NaN,"hour":2,"lag":3}]}',
    b'{"rows":[{"load":true,"hour":2,"lag":3}]}',
    b'{"rows":[{"load":"1","hour":2,"lag":3}]}',
    b'{"rows":[{"load":1,"hour":2}]}',
    b'{"rows":[{"load":1,"hour":2,"lag":3,"more":1}]}',
    b'{"rows":[{"load":1,"hour":2,"lag":3,"pump":""}]}',
    b'{"rows":[{"load":1,"hour":2,"lag":3,"pump":1.5}]}',
    b'{"rows":[{"load":1,"hour":2,"lag":3,"pump":true}]}',
    b'{"rows":[{"load":1,"hour":2,"lag":3,"pump":"\\ud800"}]}',
    b'{"rows":[{"load":1,"hour":2,"lag":3,"pump":"\\u0000"}]}',
    b'{"rows":[{"load":1,"hour":2,"lag":3,"pump":"' + b"x" * 1_001 + b'"}]}',
    b'{"rows":[{"load":1,"hour":2,"lag":3,"pump":"\xff"}]}',
    b'{"rows":[]}',
    b'{"rows":{}}',
    b'{"rows":[[1,2,3]]}',
    b"[]",
    b"null",
    b"",
    b"{",
    b'{"rows":[{"load":1,"hour":2,"lag":3}]} x',
]


@pytest.mark.parametrize("body", ODD)
async def test_what_is_not_plain_is_refused_with_its_place_as_ever(
    replica: Replica, store: ArtifactStore, body: bytes
) -> None:
    counted = await served(replica, store)

    quick, careful = await both(replica, body)

    assert 400 <= quick.status_code < 500
    assert quick.json() == careful.json()
    assert counted.rows == []


@pytest.mark.parametrize("key", ["", "Bearer tw_nobody", "Bearer tw_test-viewer", "Basic eA=="])
async def test_nobody_comes_in_the_quick_way_who_may_not(
    replica: Replica, store: ArtifactStore, key: str
) -> None:
    counted = await served(replica, store)

    replies = [
        await replica.client.post(path, json={"rows": [A_ROW]}, headers={"Authorization": key})
        for path in (PATH, CAREFUL)
    ]

    assert replies[0].status_code == replies[1].status_code in (401, 403)
    assert counted.rows == []


async def test_form_and_alias_and_other_ways_to_ask_are_left_to_the_careful_way(
    replica: Replica, store: ArtifactStore
) -> None:
    counted = await served(replica, store)
    named = {"names": list(A_ROW), "rows": [list(A_ROW.values())]}

    for path, body in (
        (PATH, {"row": A_ROW}),
        (PATH, named),
        (f"/v1/models/{FLOW}/aliases/champion/predict", {"rows": [A_ROW]}),
        (PATH, {"rows": [A_ROW] * (MOST_ROWS + 1)}),
    ):
        assert (await replica.client.post(path, json=body)).status_code == 200

    assert counted.rows == []


# --- together -------------------------------------------------------------------------------


async def test_requests_of_one_moment_are_one_question_and_one_write(
    replica: Replica, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = await served(replica, store)
    spool = replica.serving.spool
    writes: list[int] = []
    keep = type(spool).keep_rows

    def noted(self: Any, rows: Sequence[bytes], **how: Any) -> None:
        writes.append(len(rows))
        keep(self, rows, **how)

    monkeypatch.setattr(type(spool), "keep_rows", noted)

    found = await asyncio.gather(*(replica.answers({**A_ROW, "load": i / 8}) for i in range(16)))

    assert sum(counted.rows) == sum(writes) == 16
    assert max(counted.rows) == max(writes) > 4
    values = [one["answer"] for (one,) in found]
    assert values == sorted(values)
    assert len({one["prediction_id"] for (one,) in found}) == 16


async def test_who_was_deployed_while_a_body_came_answers_it(
    replica: Replica, store: ArtifactStore
) -> None:
    before = await served(replica, store)
    pieces = iter([rows_of(A_ROW)[:5], rows_of(A_ROW)[5:]])

    async def slowly() -> AsyncIterator[bytes]:
        yield next(pieces)
        await replica.want(a_desired(2, a_compiled_version(store, 5)))
        yield next(pieces)

    body = rows_of(A_ROW)
    answer = await replica.client.post(
        PATH,
        content=slowly(),
        headers={"content-type": "application/json", "content-length": str(len(body))},
    )

    assert answer.status_code == 200
    assert answer.json()["predictions"][0]["version"] == 5
    assert before.rows == []


async def test_a_lone_request_waits_for_nobody(replica: Replica, store: ArtifactStore) -> None:
    await served(replica, store)
    lane = replica.serving.lanes.find(FLOW)
    assert lane is not None

    told: list[Waiting] = []
    replica.serving.lanes.ask(lane, Waiting([(1.0, 3.0, 0.5, None)], 0.0, told.append))
    await asyncio.sleep(0)

    assert [one.body is not None for one in told] == [True]


async def test_more_than_one_question_may_take_is_answered_in_turns(
    replica: Replica, store: ArtifactStore
) -> None:
    counted = await served(replica, store)

    found = await asyncio.gather(*(replica.answers(*[A_ROW] * 100) for _ in range(6)))

    assert [len(one) for one in found] == [100] * 6
    assert max(counted.rows, default=0) <= MOST_ROWS


# --- when something is wrong ----------------------------------------------------------------


async def test_when_the_compiled_model_raises_the_careful_way_decides(
    replica: Replica, store: ArtifactStore
) -> None:
    version = a_compiled_version(store, 2)
    await replica.want(a_desired(1, version, previous=a_version(store, 1)))
    await replica.answers()
    loaded = replica.serving.deployments._loaded[version.digest]
    assert loaded.opened is not None

    def fail(*_: Any) -> Any:
        raise RuntimeError("out of order")

    loaded.opened = replace(loaded.opened, say=fail, compute=fail)

    (answer,) = await replica.answers()

    assert (answer["rung"], answer["version"]) == ("previous", 1)
    assert [row["rung"] for row in logged_rows(replica)] == ["champion", "previous"]


async def test_an_answer_beyond_the_bounds_falls_to_the_rung_below(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_compiled_version(store, 2, bounds=(0.0, 11.0))))
    await replica.answers({**A_ROW, "load": -1.0})

    within, beyond = await asyncio.gather(
        replica.answers({**A_ROW, "load": 0.0}), replica.answers({**A_ROW, "load": 3.0})
    )

    assert within[0]["rung"] == "champion"
    assert beyond[0]["rung"] == "baseline"


async def test_a_full_spool_refuses_or_counts_gaps_as_the_model_wants_it(
    store: ArtifactStore, settings: Settings
) -> None:
    async with a_replica(settings.model_copy(update={"spool_bytes": 10_000})) as replica:
        await replica.want(a_desired(1, a_compiled_version(store, 2)))
        best = [await replica.ask() for _ in range(60)]
        gaps = replica.serving.spool.gaps

        required = a_compiled_version(store, 3, lineage="required")
        await replica.want(a_desired(2, required))
        refused = await replica.ask()

    assert {one.status_code for one in best} == {200}
    assert gaps > 0
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")


def with_shadows(serving: Serving) -> list[Part]:
    return [serving.deployments.run, serving.shadows.run]


async def test_shadows_are_asked_about_what_went_the_quick_way(
    store: ArtifactStore, settings: Settings
) -> None:
    async with a_replica(settings, with_shadows) as replica:
        desired = a_desired(1, a_compiled_version(store, 2), shadow=a_compiled_version(store, 3))
        await replica.want(desired)
        await replica.answers()

        found = await asyncio.gather(*(replica.answers({**A_ROW, "pump": "p"}) for _ in range(5)))
        await until(lambda: len(told_by_shadows(replica)) == 6)

        assert {one["prediction_id"] for (one,) in found} < told_by_shadows(replica)


def told_by_shadows(replica: Replica) -> set[str]:
    return {row["shadow_of"] for row in logged_rows(replica) if row["arm"] == "shadow"}


# --- the decoder ----------------------------------------------------------------------------

SCHEMA = Schema(
    columns=(
        Column(name="a", kind="number"),
        Column(name="b c", kind="boolean"),
        Column(name="d", kind="text"),
    ),
    entity="e",
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
)
ROW = st.dictionaries(st.sampled_from(["a", "b c", "d", "e", "f"]), VALUES)
FIT = st.fixed_dictionaries(
    {
        "a": st.one_of(st.none(), st.integers(-(2**62), 2**62), st.floats(-1e9, 1e9)),
        "b c": st.one_of(st.none(), st.booleans()),
        "d": st.one_of(st.none(), st.text(max_size=5)),
    },
    optional={"e": st.one_of(st.none(), st.integers(-(2**62), 2**62), st.text(max_size=5))},
)


def dumped(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)


@given(rows=st.lists(st.one_of(ROW, FIT), min_size=1, max_size=3))
def test_what_the_decoder_takes_the_careful_way_takes_with_the_same_values(
    rows: list[dict[str, Any]],
) -> None:
    decoder = decoder_of(SCHEMA)
    assert decoder is not None
    try:
        body = dumped({"rows": rows})
    except orjson.JSONEncodeError:
        return  # beyond 64 bits

    found = decoder.read(body, 10)

    if found is None:
        return
    batch = batch_of(read_json(body), 10)
    check_rows(batch.rows, SCHEMA)
    for values, row in zip(found, batch.rows, strict=True):
        number = row["a"] if row["a"] is None else float(row["a"])
        assert list(values[:3]) == [number, row["b c"], row["d"]]
        entity = row.get("e")
        assert decoder.entities([values]) == [None if entity is None else str(entity)]


@given(rows=st.lists(FIT, min_size=1, max_size=3))
def test_plain_rows_are_taken_unless_a_text_needs_a_closer_look(rows: list[dict[str, Any]]) -> None:
    decoder = decoder_of(SCHEMA)
    assert decoder is not None
    body = dumped({"rows": rows})
    texts = [str(row[name]) for row in rows for name in ("d", "e") if row.get(name) is not None]
    is_plain = not any(set(text) & set(':\\"') or not text.isprintable() for text in texts)
    is_named = all(row.get("e") != "" for row in rows)

    found = decoder.read(body, 10)

    if is_plain and is_named and b"\\" not in body:
        assert found is not None


@given(data=st.binary(max_size=40))
def test_bytes_that_are_no_request_are_left_alone(data: bytes) -> None:
    decoder = decoder_of(SCHEMA)
    assert decoder is not None

    found = decoder.read(b'{"rows":[{"a":' + data + b',"b c":null,"d":null}]}', 10)

    if found is not None:
        with_care = _carefully(b'{"rows":[{"a":' + data + b',"b c":null,"d":null}]}')
        assert with_care is not None


def _carefully(body: bytes) -> Any:
    try:
        batch = batch_of(read_json(body), 10)
        check_rows(batch.rows, SCHEMA)
    except Refused:
        return None
    return batch


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, closed=False),
        lambda s: replace(s, columns=()),
        lambda s: replace(s, entity="a"),
    ],
    ids=["open", "no columns", "a number names the entity"],
)
def test_some_schemas_have_no_common_case(change: Callable[[Schema], Schema]) -> None:
    assert decoder_of(change(SCHEMA)) is None


def test_models_of_the_same_columns_share_a_decoder() -> None:
    assert decoder_of(SCHEMA) is decoder_of(replace(SCHEMA))


def test_settings_of_the_lane_are_those_of_the_replica(tmp_path: Path) -> None:
    serving = Serving(settings_for(tmp_path, rows_limit=5))

    door = serving.app().lane

    assert isinstance(door, QuickDoor)
    assert door.rows_limit == 5
