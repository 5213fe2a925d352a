"""Several hundred edits of model files: none crashes or hangs what opens and asks it."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from sklearn.ensemble import RandomForestRegressor

from services.trainer.compiling import compile_model
from shared import models, onnx_models
from shared.confined import Confined, Done
from tests.serving import hostile
from tests.serving.hostile import originals
from tests.serving.hostile_models import FAMILIES, WIDTH, fitted

pytestmark = pytest.mark.asyncio(loop_scope="module")

MUTANTS = 36
"""Of each family."""
TOGETHER = 30
COMPILED = ("forest", "extra trees", "boosting", "histogram boosting", "ridge", "logistic")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def confined() -> AsyncIterator[Confined]:
    found = Confined(["tests.serving.hostile"])
    yield found
    await found.close()


async def tried(
    confined: Confined, function: str, files: Mapping[str, bytes], **argument: Any
) -> list[list[Any]]:
    """What becomes of these files, a few per child; a child that dies or hangs fails the test."""
    found: list[list[Any]] = []
    names = [name for name in files if name != "original"]
    for start in range(0, len(names), TOGETHER):
        some = {name: files[name] for name in ("original", *names[start : start + TOGETHER])}
        outcome = await confined.run(
            f"tests.serving.hostile:{function}",
            {"files": some, **argument},
            seconds=60,
            megabytes=800,
        )
        assert isinstance(outcome, Done), (outcome, list(some))
        found += outcome.result
    return found


def seeds_of(family: str, seed: int, rounds: int) -> list[int]:
    """Nine edits in turn, from another place for each run that draws anew."""
    start = random.Random(f"{family} {seed}").randrange(10**6) * 18
    return list(range(start, start + MUTANTS * rounds))


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("family", FAMILIES)
async def test_edits_of_model_files_are_refused_with_a_reason_or_give_answers(
    confined: Confined, family: str, seed: int, rounds: int
) -> None:
    data, _ = originals(family)
    files = {str(one): hostile.skops_mutant(data, one) for one in seeds_of(family, seed, rounds)}
    task = "classification" if hasattr(fitted(family), "classes_") else "regression"

    outcomes = await tried(confined, "try_skops", {"original": data, **files}, task=task)

    said = Counter(what for _, what, _ in outcomes)
    assert sum(said.values()) == len(files)
    assert said["refused"] >= len(files) // 4
    assert all(why for _, what, why in outcomes if what == "refused")


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("family", COMPILED)
async def test_edits_of_compiled_models_are_refused_with_a_reason_or_give_answers(
    confined: Confined, family: str, seed: int, rounds: int
) -> None:
    _, data = originals(family)
    assert data is not None
    files = {str(one): hostile.onnx_mutant(data, one) for one in seeds_of(family, seed, rounds)}
    answers = len(getattr(fitted(family), "classes_", [0]))

    outcomes = await tried(confined, "try_onnx", {"original": data, **files}, answers=answers)

    said = Counter(what for _, what, _ in outcomes)
    assert sum(said.values()) == len(files)
    assert said["refused"] >= len(files) // 3
    assert all(why for _, what, why in outcomes if what == "refused")


async def test_files_that_would_grow_or_nest_without_end_are_refused(confined: Confined) -> None:
    data, _ = originals("forest")
    bombs = hostile.bombs(data)

    outcomes = await tried(
        confined, "try_skops", {"original": data, **bombs}, task="classification"
    )

    assert {name: what for name, what, _ in outcomes} == dict.fromkeys(bombs, "refused")


def cpu_milliseconds(step: Callable[[], Any]) -> float:
    """The least of several, so that a busy machine does not decide."""
    took = []
    for _ in range(7):
        started = time.process_time()
        step()
        took.append(time.process_time() - started)
    return min(took) * 1000


async def test_a_hundred_fully_grown_trees_are_looked_through_in_15_milliseconds() -> None:
    rng = np.random.default_rng(7)
    X = rng.normal(size=(1_000, WIDTH))
    y = X[:, 0] + rng.normal(size=1_000)
    forest = RandomForestRegressor(100, random_state=1).fit(X, y)
    compiled = compile_model(forest, hostile.COLUMNS, "regression", (), X[:50], 7).data
    assert compiled is not None
    signature = onnx_models.Signature(numbers=WIDTH, texts=0, answers=1)

    assert cpu_milliseconds(lambda: models.check_structure(forest)) <= 15
    assert cpu_milliseconds(lambda: onnx_models.check(compiled, signature)) <= 20
