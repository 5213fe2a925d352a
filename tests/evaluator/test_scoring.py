"""What the child does, in this process: real files in, comparisons or a reason out."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import orjson
import pytest

from services.evaluator.domain import seed_of
from services.evaluator.scoring import score
from shared.events import Json
from shared.manifest import Column
from tests.evaluator.building import Version, World, a_version, an_estimator

MAE_CHAMPION: Json = {"metric": "mae", "vs": "champion", "confidence": 0.95, "max": None}
MAE_BASELINE: Json = MAE_CHAMPION | {"vs": "baseline"}


def scored(
    candidate: Version,
    champion: Version | None = None,
    *gates: Json,
    ordered: bool = True,
    seed: int = 11,
) -> dict[str, Any]:
    return score(
        {
            **candidate.files(),
            "champion": champion.files() if champion else None,
            "gates": list(gates) or [MAE_CHAMPION, MAE_BASELINE],
            "ordered": ordered,
            "seed": seed,
        }
    )


@pytest.mark.parametrize("ordered", [True, False])
def test_a_better_candidate_is_shown_to_be_better(ordered: bool) -> None:
    world = World.drawn()

    found = scored(a_version(world), a_version(world, slope=2.0), ordered=ordered)

    versus_champion, versus_baseline = found["comparisons"]["0"], found["comparisons"]["1"]
    assert versus_champion["lower"] > 0
    assert versus_champion["estimate"] == pytest.approx(
        versus_champion["other_value"] - versus_champion["candidate_value"]
    )
    assert versus_baseline["lower"] > 0
    assert versus_champion["test"] == ("block_means_t" if ordered else "bootstrap_t")


def test_the_same_input_gives_the_same_bytes() -> None:
    world = World.drawn()
    files = (a_version(world), a_version(world, slope=2.0))

    assert scored(*files, ordered=False) == scored(*files, ordered=False)


def test_the_order_of_the_file_does_not_matter() -> None:
    world = World.drawn()
    held = world.held_out()
    turned = world.held_out(
        values={name: values[::-1] for name, values in held.values.items()},
        y=held.y[::-1],
        row_hashes=held.row_hashes[::-1],
        times=held.times[::-1] if held.times is not None else None,
    )

    one = scored(a_version(world), a_version(world, slope=2.0))
    other = scored(a_version(world, holdout=turned), a_version(world, slope=2.0))

    assert one == other


def test_without_a_champion_only_the_baseline_is_compared() -> None:
    found = scored(a_version(World.drawn()))

    assert list(found["comparisons"]) == ["1"]


def test_classes_are_judged_by_probabilities_and_by_mistakes() -> None:
    world = World.drawn("classification")
    gates = [
        MAE_BASELINE | {"metric": "log_loss"},
        MAE_CHAMPION | {"metric": "accuracy"},
        MAE_BASELINE | {"metric": "brier"},
        MAE_BASELINE | {"metric": "accuracy", "vs": "absolute", "max": 0.3},
    ]

    found = scored(a_version(world), a_version(world, slope=-1), *gates, ordered=False)

    tests = [found["comparisons"][str(place)]["test"] for place in range(4)]
    assert tests == ["bootstrap_t", "tango_score", "bootstrap_t", "bootstrap_t"]
    assert all(found["comparisons"][str(place)]["lower"] > 0 for place in range(4))


def test_root_mean_squares_are_compared_in_their_own_unit() -> None:
    world = World.drawn()

    found = scored(
        a_version(world), a_version(world, slope=0.0), MAE_CHAMPION | {"metric": "rmse"}
    )["comparisons"]["0"]

    assert found["candidate_value"] == pytest.approx(1.0, rel=0.2)
    assert found["other_value"] == pytest.approx(np.sqrt(10), rel=0.2)
    assert found["estimate"] == pytest.approx(found["other_value"] - found["candidate_value"])


def test_the_evidence_holds_rows_outcomes_and_every_answer() -> None:
    world = World.drawn(rows=50)

    found = scored(a_version(world), a_version(world, slope=2.0))

    with np.load(io.BytesIO(found["evidence"]), allow_pickle=False) as file:
        assert file["row_hashes"].tolist() == list(range(1, 51))
        assert file["candidate"] == pytest.approx(3 * world.x)
        assert file["champion"] == pytest.approx(2 * world.x)
        assert file["baseline"].tolist() == [0.0] * 50
        assert file["y"] == pytest.approx(world.y)
        assert orjson.loads(file["header"].tobytes())["task"] == "regression"


def test_the_baseline_answers_from_the_columns_of_the_row() -> None:
    world = World.drawn()
    rule = {"rule": "column", "column": "last", "otherwise": 0.0}

    found = scored(a_version(world, rule=rule), None, MAE_BASELINE)

    expected = np.abs(world.y - np.roll(world.x, 1)).mean()
    assert found["comparisons"]["0"]["other_value"] == pytest.approx(expected)


def test_a_short_hold_out_is_insufficient_for_every_gate() -> None:
    found = scored(a_version(World.drawn(rows=8)))

    assert "8 rows" in found["comparisons"]["1"]["insufficient"]


# --- fails closed -------------------------------------------------------------------------------


def broken(value: float) -> Any:
    """A model whose every answer is this."""
    model = an_estimator("regression", 1.0)
    model.intercept_ = value
    return model


def test_an_answer_that_is_not_finite_is_invalid() -> None:
    found = scored(a_version(World.drawn(), estimator=broken(np.inf)))

    assert found["problem"] == "invalid_input"


def test_a_champion_that_answers_nonsense_cannot_be_compared_with() -> None:
    world = World.drawn()

    found = scored(a_version(world), a_version(world, estimator=broken(np.nan)))

    assert found["problem"] == "cannot_compare"


def test_a_held_out_row_that_the_candidate_was_fitted_on_is_invalid() -> None:
    world = World.drawn()
    leaking = world.held_out(train_hashes=np.array([5], dtype=np.uint64))

    found = scored(a_version(world, holdout=leaking))

    assert found["problem"] == "invalid_input"
    assert "1 rows were also fitted on" in found["detail"]


def test_a_held_out_row_that_the_champion_was_fitted_on_cannot_be_compared() -> None:
    world = World.drawn()
    other = world.held_out(
        row_hashes=np.arange(50_000, 50_200, dtype=np.uint64),
        train_hashes=np.array([5, 6], dtype=np.uint64),
    )

    found = scored(a_version(world), a_version(world, holdout=other))

    assert found["problem"] == "cannot_compare"
    assert "2 of the held-out rows" in found["detail"]


def test_a_row_that_is_there_twice_is_invalid() -> None:
    world = World.drawn()
    doubled = world.held_out(row_hashes=np.ones(len(world.x), dtype=np.uint64))

    assert scored(a_version(world, holdout=doubled))["problem"] == "invalid_input"


def test_a_champion_that_needs_a_column_that_is_gone_cannot_be_compared() -> None:
    world = World.drawn()
    gone = (Column(name="gone", kind="number"),)

    found = scored(a_version(world), a_version(world, manifest_changes={"columns": gone}))

    assert found["problem"] == "cannot_compare"
    assert "gone" in found["detail"]


def test_a_model_file_that_is_not_safe_is_invalid() -> None:
    version = a_version(World.drawn())

    found = scored(Version(manifest=version.manifest, model=b"no", holdout=version.holdout))

    assert found["problem"] == "invalid_input"


def test_an_outcome_that_no_model_can_name_is_invalid() -> None:
    world = World.drawn("classification")
    world.y[7] = "frozen"

    found = scored(a_version(world), None, MAE_BASELINE | {"metric": "log_loss"})

    assert found["problem"] == "invalid_input"
    assert "frozen" in found["detail"]


def test_seeds_are_functions_of_what_was_compared() -> None:
    assert seed_of("a", "b") == seed_of("a", "b")
    assert seed_of("a", "b") != seed_of("ab", "")
    assert 0 <= seed_of("x") < 2**63
