"""The order of candidates by repeated folds: chance alone does not overtake."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from services.trainer.fitting.building import Builder
from services.trainer.fitting.folding import chosen, preferred, repeats
from services.trainer.fitting.run import fit
from services.trainer.fitting.searching import Rows, Trial
from shared.manifest import Column
from shared.spec import ModelSpec, read_spec
from tests.support.house import a_spec
from tests.trainer.builders import an_argument

MEAN = {"use": "sklearn.dummy.DummyRegressor"}
LINE = {"use": "sklearn.linear_model.LinearRegression"}
RIDGE = {"use": "sklearn.linear_model.Ridge", "with": {"alpha": 1e-3}}
BROKEN = {"use": "sklearn.linear_model.Ridge", "with": {"solver": "none such"}}


def specified(*candidates: dict[str, Any], **train: Any) -> ModelSpec:
    given = {"candidates": list(candidates), "folds": 5, "repeats": 2} | train
    return read_spec(a_spec("demand", "sales", train=given))


def some_rows(seed: int) -> Rows:
    draw = np.random.Generator(np.random.PCG64(seed))
    x = draw.normal(size=(80, 1))
    return Rows(X=x, y=2 * x[:, 0] + draw.normal(size=80))


def the_choice(spec: ModelSpec, rows: Rows, scores: list[float], *, deadline: float = 1.0) -> str:
    trials = [
        Trial(candidate=candidate, parameters={}, score=score, fit_seconds=0.0)
        for candidate, score in zip(spec.train.candidates, scores, strict=True)
    ]
    builder = Builder(allowed=("sklearn",), columns=(Column(name="x", kind="number"),))
    found = chosen(spec, builder, trials, rows, deadline=deadline, monotonic=lambda: 0.5)
    return found.candidate.use


def test_a_candidate_that_is_surely_better_goes_first(seed: int) -> None:
    """The validation rows were lucky for the mean; ten folds are not."""
    spec = specified(MEAN, LINE)

    assert the_choice(spec, some_rows(seed), [0.1, 0.2]) == LINE["use"]


def test_a_candidate_that_is_better_by_chance_alone_seldom_overtakes(seed: int) -> None:
    """The level is .05, so of 20 draws hardly ever more than four do."""
    spec = specified(RIDGE, LINE)

    choices = [the_choice(spec, some_rows(seed + n), [0.2, 0.1]) for n in range(20)]

    assert choices.count(LINE["use"]) <= 4


def test_without_folds_the_validation_rows_decide(seed: int) -> None:
    assert the_choice(specified(MEAN, LINE, folds=1), some_rows(seed), [0.1, 0.2]) == MEAN["use"]


def test_when_no_repeat_can_be_ended_the_validation_rows_decide(seed: int) -> None:
    in_time, rows = specified(MEAN, LINE), some_rows(seed)

    assert the_choice(in_time, rows, [0.1, 0.2], deadline=0.0) == MEAN["use"]
    assert the_choice(specified(BROKEN, LINE), rows, [0.1, 0.2]) == BROKEN["use"]


def test_every_row_is_held_out_once_in_every_repeat() -> None:
    found = list(repeats(specified(MEAN), 23))

    assert len(found) == 2
    for parts in found:
        assert sorted(np.concatenate(parts).tolist()) == list(range(23))
    assert [part.tolist() for part in found[0]] != [part.tolist() for part in found[1]]


def test_the_first_that_is_not_surely_worse_is_preferred() -> None:
    leader = [1.0, 1.1, 0.9, 1.0, 1.05]
    near = [loss + step for loss, step in zip(leader, [0.1, -0.09, 0.1, -0.08, 0.0], strict=True)]
    far = [loss + 1 for loss in leader]

    assert preferred([far, near, leader], 5) == 1
    assert preferred([far, leader, near], 5) == 1
    assert preferred([leader, near, far], 5) == 0


def test_a_run_refits_what_the_folds_put_first() -> None:
    train = {"candidates": [MEAN, LINE], "folds": 4, "repeats": 1}
    told = fit(an_argument(a_spec("demand", "sales", train=train)))

    assert [candidate["chosen"] for candidate in told["candidates"]] == [False, True]


def test_folds_do_not_go_with_a_split_by_time() -> None:
    with pytest.raises(ValidationError, match="judge those before them"):
        read_spec(a_spec("demand", "sales", data={"target": "y", "time": "at"}, train={"folds": 5}))
