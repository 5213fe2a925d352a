"""The doors for explanations: whose they are, what they cost others, and what bad input gets."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor

from local.paths import CHECKOUT
from services.serving.handlers.explaining import MOST_ROWS, MOST_WAITING
from services.trainer.fitting.backgrounds import build_background
from shared.artifacts import ArtifactStore
from shared.background import BACKGROUND_FILE
from shared.events import Digest
from shared.manifest import File
from tests.serving.building import (
    A_ROW,
    FLOW,
    NAMES,
    Replica,
    Version,
    a_classifier,
    a_desired,
    a_manifest,
    a_replica,
    a_version,
    logged_rows,
    settings_for,
)


def with_background(store: ArtifactStore, number: int, **changes: Any) -> Version:
    """A version that knows what was usual in training."""
    chance = np.random.default_rng(7)
    values = {name: chance.normal(size=200) for name in NAMES}
    columns = a_manifest(store.put(b"x"), 1).columns
    data = build_background(columns, values, seed=1)
    before = a_version(store, number, **changes)
    files = dict(before.manifest.files)
    files[BACKGROUND_FILE] = File(digest=store.put(data), size_bytes=len(data))
    return a_version(store, number, **(changes | {"files": files}))


async def explained(replica: Replica, *rows: Any, path: str = "explain") -> httpx.Response:
    body = {"rows": list(rows) or [A_ROW]}
    return await replica.client.post(f"/v1/models/{FLOW}/{path}", json=body)


async def test_a_row_that_a_version_cannot_answer_is_explained_by_the_rung_that_does(
    replica: Replica, store: ArtifactStore
) -> None:
    version = with_background(store, 2)
    await replica.want(a_desired(4, version))

    response = await explained(replica, {**A_ROW, "lag": None})

    assert response.status_code == 200, response.text
    assert response.json()["explanations"][0]["rung"] == "baseline"


async def test_figures_and_words_go_from_the_largest_to_the_smallest(
    replica: Replica, store: ArtifactStore
) -> None:
    version = with_background(store, 2)
    await replica.want(a_desired(4, version))

    response = await explained(replica, {**A_ROW, "load": 2.0})

    (found,) = response.json()["explanations"]
    why = found["explanation"]
    assert {name: found[name] for name in ("version", "digest", "rung", "generation")} == {
        "version": 2,
        "digest": version.digest,
        "rung": "champion",
        "generation": 4,
    }
    assert found["answer"] == pytest.approx(14.0)
    assert (why["method"], why["exact"], why["scale"]) == ("linear", True, "answer")
    assert why["compared_with"] == "training rows"
    total = why["base"] + sum(feature["contribution"] for feature in why["features"])
    assert total == pytest.approx(why["output"], abs=1e-9)
    sizes = [abs(feature["contribution"]) for feature in why["features"]]
    assert why["features"][0]["name"] == "load"
    assert sizes == sorted(sizes, reverse=True)
    assert why["words"][1].startswith("load 2 (usually -")
    assert " raised the answer by " in why["words"][1]
    assert 0.95 < why["features"][0]["reference"]["quantile"] < 1


async def test_what_is_only_explained_is_no_prediction(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1)))

    await explained(replica)

    assert logged_rows(replica) == []


async def test_predictions_are_explained_by_the_version_that_answered(
    replica: Replica, store: ArtifactStore
) -> None:
    champion, challenger = a_version(store, 1), a_version(store, 2)
    await replica.want(a_desired(1, champion, challenger=challenger))
    rows = [{**A_ROW, "pump": f"p{i}"} for i in range(30)]

    response = await explained(replica, *rows, path="predict?explain=true")

    answers = response.json()["predictions"]
    assert {answer["version"] for answer in answers} == {1, 2}
    for answer in answers:
        assert answer["explanation"]["output"] == pytest.approx(answer["answer"], abs=1e-9)
        assert answer["explanation"]["compared_with"] == "ranges of training"
    assert len(logged_rows(replica)) == 30


async def test_the_answered_class_is_the_explained_one(
    replica: Replica, store: ArtifactStore
) -> None:
    version = a_version(
        store,
        1,
        estimator=a_classifier(),
        task="classification",
        classes=("dry", "wet"),
        metric="log_loss",
    )
    await replica.want(a_desired(1, version))

    response = await explained(
        replica, {**A_ROW, "load": -2.5}, {**A_ROW, "load": 2.5}, path="predict?explain=true"
    )

    dry, wet = response.json()["predictions"]
    assert [one["explanation"]["class"] for one in (dry, wet)] == ["dry", "wet"]
    for one in (dry, wet):
        share = one["probabilities"][one["answer"]]
        why = one["explanation"]
        assert why["output"] == pytest.approx(np.log(share / (1 - share)), abs=1e-9)
        assert why["features"][0]["contribution"] > 0
        assert f"raised the log-odds of {one['answer']} by" in why["words"][1]


async def test_a_version_can_be_chosen(replica: Replica, store: ArtifactStore) -> None:
    await replica.want(a_desired(1, a_version(store, 2), previous=a_version(store, 1)))

    chosen = await explained(replica, path="versions/1/explain")
    unknown = await explained(replica, path="versions/9/explain")

    assert chosen.json()["explanations"][0]["version"] == 1
    assert unknown.status_code == 404


async def test_the_rule_explains_itself(replica: Replica) -> None:
    rule = {"rule": "column", "column": "lag", "otherwise": 3.0}
    await replica.want(a_desired(1, rule=rule))

    response = await explained(replica, {"lag": 0.25}, {"other": "x"})

    first, second = response.json()["explanations"]
    assert (first["rung"], first["answer"], first["version"]) == ("baseline", 0.25, None)
    assert first["explanation"]["words"] == ["the baseline rule answers with lag, which is 0.25"]
    assert second["explanation"]["words"] == ["lag is missing, so the baseline rule answers 3"]
    assert first["explanation"]["rule"] == rule


@pytest.mark.parametrize(
    ("body", "path", "status"),
    [
        ({"rows": [{**A_ROW, "load": "x"}]}, "explain", 422),
        ({"rows": [{"load": 1.0}]}, "explain", 422),
        ({"rows": []}, "explain", 422),
        ({"rows": [dict(A_ROW)] * (MOST_ROWS + 1)}, "explain", 413),
        ({"rows": [dict(A_ROW)]}, "predict?explain=perhaps", 422),
        ({"rows": [dict(A_ROW)]}, "predict?explain=false", 200),
        ({"rows": [dict(A_ROW)]}, "predict?other=explain", 200),
    ],
    ids=["type", "missing", "none", "many", "perhaps", "false", "other"],
)
async def test_bad_input_is_refused_at_its_place(
    replica: Replica, store: ArtifactStore, body: Any, path: str, status: int
) -> None:
    await replica.want(a_desired(1, a_version(store, 1)))

    response = await replica.client.post(f"/v1/models/{FLOW}/{path}", json=body)

    assert response.status_code == status, response.text
    assert "explanation" not in response.text or status != 200


async def test_many_predictions_are_answered_without_their_explanations(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1)))

    response = await explained(replica, *[A_ROW] * (MOST_ROWS + 1), path="predict?explain=true")

    answers = response.json()["predictions"]
    assert len(answers) == MOST_ROWS + 1
    assert {answer["explanation"] for answer in answers} == {None}
    assert "100 rows" in answers[0]["not_explained"]


async def test_a_version_that_cannot_be_opened_is_answered_for_by_the_rung_below(
    replica: Replica, store: ArtifactStore
) -> None:
    champion = a_version(store, 2)
    await replica.want(a_desired(1, champion, previous=a_version(store, 1)))
    replica.serving.disk.place_of(champion.file).write_bytes(b"damaged")

    response = await explained(replica)

    assert response.json()["explanations"][0]["version"] == 1


async def test_a_version_answers_without_what_only_explains_it(
    replica: Replica, store: ArtifactStore
) -> None:
    nowhere = File(digest=Digest("1" * 64), size_bytes=9)
    files = a_version(store, 1).manifest.files
    version = a_version(store, 1, files={**files, BACKGROUND_FILE: nowhere})

    await replica.want(a_desired(1, version))

    (answer,) = await replica.answers()
    (found,) = (await explained(replica)).json()["explanations"]
    assert (answer["rung"], answer["version"]) == ("champion", 1)
    assert found["explanation"]["compared_with"] == "ranges of training"


async def test_predictions_do_not_wait_for_explanations(
    tmp_path: Path, store: ArtifactStore
) -> None:
    async with a_replica(settings_for(tmp_path, answer_seconds=0.3)) as replica:
        version = a_version(store, 1)
        await replica.want(a_desired(1, version))
        explanations = replica.serving.explanations
        going, over = threading.Event(), threading.Event()

        def occupied() -> None:
            going.set()
            over.wait(20)

        explanations._thread.submit(occupied)
        await asyncio.to_thread(going.wait, 20)
        waiting = asyncio.create_task(explained(replica))
        (alone,) = await replica.answers()
        response = await explained(replica, path="predict?explain=true")
        (beside,) = response.json()["predictions"]
        over.set()

        assert alone["answer"] == beside["answer"]
        assert beside["explanation"] is None
        assert "try again" in beside["not_explained"]
        assert (await waiting).status_code == 200


async def test_a_full_queue_is_said(replica: Replica, store: ArtifactStore) -> None:
    await replica.want(a_desired(1, a_version(store, 1)))
    replica.serving.explanations._waiting = MOST_WAITING

    response = await explained(replica)

    assert (response.status_code, response.json()["code"]) == (503, "saturated")


async def test_a_forest_behind_a_background_is_explained_exactly(
    replica: Replica, store: ArtifactStore
) -> None:
    chance = np.random.default_rng(7)
    X = chance.normal(size=(300, len(NAMES)))
    forest = RandomForestRegressor(20, max_depth=8, random_state=0).fit(X, X[:, 0] * X[:, 1])
    await replica.want(a_desired(1, with_background(store, 1, estimator=forest)))

    response = await explained(replica, A_ROW, {**A_ROW, "lag": None})

    first, second = (one["explanation"] for one in response.json()["explanations"])
    for why in (first, second):
        total = why["base"] + sum(feature["contribution"] for feature in why["features"])
        assert why["method"] == "tree"
        assert total == pytest.approx(why["output"], abs=1e-9)
    missing = next(f for f in second["features"] if f["name"] == "lag")
    assert missing["words"].startswith("lag is missing, as in 0 % of the training rows, and ")


def test_serving_starts_without_what_explains() -> None:
    code = (
        "import sys, services.serving.app\n"
        "assert not {'sklearn', 'numpy', 'skops'} & set(sys.modules), 'imported too early'"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr[-1000:]
