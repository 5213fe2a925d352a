"""What the child does, in this process: real files in, a verdict or a reason out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.evaluator.evidence import Evidence, read_evidence
from services.evaluator.scoring import loss, score
from shared.events import Json
from shared.holdout import Holdout
from shared.manifest import Column
from tests.evaluator.building import (
    Version,
    World,
    a_spec,
    a_version,
    an_argument,
    broken,
)

ABSOLUTE: Json = {"metric": "mae", "vs": "absolute", "max": 5.0}


def scored(candidate: Version, champion: Version | None = None, **known: Any) -> dict[str, Any]:
    return score(an_argument(candidate, champion, **known))


def evidence_of(found: dict[str, Any]) -> Evidence:
    return read_evidence(found["evidence"])


def test_a_better_candidate_is_accepted_against_champion_and_baseline() -> None:
    world = World.drawn()

    found = scored(a_version(world), a_version(world, slope=2.0))

    assert (found["verdict"]["accepted"], found["rows"]) == (True, 200)
    assert [gate["versus"] for gate in found["verdict"]["gates"]] == ["champion", "baseline"]
    assert all(gate["lower"] > 0 for gate in found["verdict"]["gates"])


@pytest.mark.parametrize("ordered", [True, False])
def test_the_same_input_gives_the_same_bytes(ordered: bool) -> None:
    world = World.drawn()
    files = (a_version(world), a_version(world, slope=2.0))
    spec = a_spec(ordered=ordered)

    assert scored(*files, spec=spec) == scored(*files, spec=spec)


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


def test_the_evidence_holds_rows_outcomes_and_every_answer() -> None:
    world = World.drawn(rows=60)

    found = evidence_of(
        scored(a_version(world), a_version(world, slope=2.0), anchor=a_version(world, slope=2.5))
    )

    assert found.row_hashes.tolist() == list(range(1, 61))
    assert found.answers["candidate"] == pytest.approx(3 * world.x)
    assert found.answers["champion"] == pytest.approx(2 * world.x)
    assert found.answers["anchor"] == pytest.approx(2.5 * world.x)
    assert found.answers["baseline"].tolist() == [0.0] * 60
    assert found.y == pytest.approx(world.y)


def test_the_baseline_answers_from_the_columns_of_the_row() -> None:
    world = World.drawn()
    rule = {"rule": "column", "column": "last", "otherwise": 0.0}

    found = scored(a_version(world, rule=rule))

    assert evidence_of(found).answers["baseline"] == pytest.approx(np.roll(world.x, 1))


def test_a_candidate_that_does_not_beat_the_last_value_is_rejected() -> None:
    world = World.drawn()
    knowing = world.held_out(values={"x": world.x, "last": world.y})
    rule = {"rule": "column", "column": "last", "otherwise": 0.0}

    found = scored(a_version(world, rule=rule, holdout=knowing))

    assert found["verdict"]["reason"] == "below_baseline"


# --- parts of the rows --------------------------------------------------------------------------


def sites(world: World) -> Holdout:
    """Two sites in turns, and a sensor that is missing now and then."""
    rows = len(world.x)
    names = np.array(["south" if row % 4 else "north" for row in range(rows)], dtype=object)
    sensor = np.where(np.arange(rows) % 10 == 0, np.nan, world.x)
    return world.held_out(
        columns=(
            Column(name="x", kind="number"),
            Column(name="last", kind="number"),
            Column(name="site", kind="text"),
            Column(name="heat now", kind="number"),
        ),
        values={"x": world.x, "last": world.x, "site": names, "heat now": sensor},
    )


def test_declared_slices_and_gates_conditions_are_cut_from_the_columns() -> None:
    world = World.drawn()
    spec = a_spec(
        gates=[{**ABSOLUTE, "slice": "`heat now` > 0"}],
        slices=[{"name": "north", "where": "site == 'north'", "min_rows": 20}],
    )

    found = evidence_of(scored(a_version(world, holdout=sites(world)), spec=spec))

    assert set(found.slices) == {"north", "`heat now` > 0"}
    assert int(found.slices["north"].sum()) == 50
    assert not found.slices["`heat now` > 0"][::10].any()


def test_a_slice_over_a_column_that_is_not_there_is_invalid() -> None:
    spec = a_spec(slices=[{"name": "north", "where": "site == 'north'"}])

    found = scored(a_version(World.drawn()), spec=spec)

    assert found["problem"] == "invalid_input"
    assert "'north'" in found["detail"]
    assert "'site'" in found["detail"]


def test_parts_of_one_column_with_enough_rows_are_looked_for() -> None:
    world = World.drawn(rows=400)

    found = evidence_of(scored(a_version(world, holdout=sites(world)))).found

    assert {"site == 'north'", "site == 'south'"} <= set(found)
    assert sum(name.startswith("x ") for name in found) == 4
    assert any("`heat now` >" in name for name in found)
    assert all(50 <= int(mask.sum()) <= 350 for mask in found.values())


def test_entities_are_codes_and_a_missing_one_stands_for_itself() -> None:
    world = World.drawn(rows=40)
    held = sites(world)
    names = held.values["site"].copy()
    names[[3, 7]] = None
    spec = a_spec(evaluation={"entity": "site"})

    files = a_version(world, holdout=Holdout(**_fields(held) | {"values": _with(held, names)}))
    found = evidence_of(scored(files, spec=spec)).entities

    assert found is not None
    assert len(set(found.tolist())) == 4
    assert found[3] != found[7]


def _fields(held: Holdout) -> dict[str, Any]:
    return {name: getattr(held, name) for name in Holdout.__slots__}


def _with(held: Holdout, names: Any) -> dict[str, Any]:
    return {**held.values, "site": names}


# --- the user's own metrics ---------------------------------------------------------------------

OWN = "tests.evaluator.own_losses"


def with_metric(name: str, task: str = "regression") -> Json:
    return a_spec(task, gates=[{"metric": f"{OWN}:{name}", "vs": "champion"}])


def test_a_metric_of_an_allowed_package_judges_and_its_losses_are_kept() -> None:
    world = World.drawn()

    found = scored(
        a_version(world),
        a_version(world, slope=2.0),
        spec=with_metric("tail"),
        metric_packages=["tests"],
    )

    assert found["verdict"]["accepted"]
    losses = evidence_of(found).own_losses
    expected = np.maximum(np.abs(world.y - 2 * world.x) - 1, 0)
    assert losses["champion", f"{OWN}:tail"] == pytest.approx(expected)


def test_a_metric_may_read_probabilities() -> None:
    world = World.drawn("classification")

    found = scored(
        a_version(world), spec=with_metric("surprise", "classification"), metric_packages=["tests"]
    )

    assert found["verdict"]["accepted"]


@pytest.mark.parametrize(
    ("metric", "allowed", "told"),
    [
        ("tail", (), "no allowed package"),
        ("tail", ("tests_of_others",), "no allowed package"),
        ("absent", ("tests",), "cannot be imported"),
        ("no_function", ("tests",), "is no function"),
        ("failing", ("tests",), "no luck"),
        ("short", ("tests",), "not one loss for each of 200 rows"),
        ("endless", ("tests",), "1 rows have a loss"),
    ],
)
def test_a_metric_that_does_not_do_its_work_is_invalid(
    metric: str, allowed: tuple[str, ...], told: str
) -> None:
    found = scored(
        a_version(World.drawn()), spec=with_metric(metric), metric_packages=list(allowed)
    )

    assert found["problem"] == "invalid_input"
    assert told in found["detail"]


# --- fails closed -------------------------------------------------------------------------------


def reason_of(found: dict[str, Any]) -> str:
    """Of a problem that ends the scoring, or of a verdict that nothing was compared for."""
    if "problem" in found:
        return str(found["problem"])
    return str(found["verdict"]["reason"])


def detail_of(found: dict[str, Any]) -> str:
    if "problem" in found:
        return str(found["detail"])
    return str(found["verdict"]["gates"][0]["detail"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_is_invalid(value: float) -> None:
    found = scored(a_version(World.drawn(), estimator=broken(value)))

    assert reason_of(found) == "invalid_input"


@pytest.mark.parametrize("who", ["champion", "anchor"])
def test_a_champion_or_anchor_that_answers_nonsense_cannot_be_compared_with(who: str) -> None:
    world = World.drawn()
    others = {"champion": a_version(world), who: a_version(world, estimator=broken(np.nan))}

    found = scored(a_version(world), others.pop("champion"), **others)

    assert reason_of(found) == "cannot_compare"
    assert who in detail_of(found)


def test_a_held_out_row_that_the_candidate_was_fitted_on_is_invalid() -> None:
    world = World.drawn()
    leaking = world.held_out(train_hashes=np.array([5], dtype=np.uint64))

    found = scored(a_version(world, holdout=leaking))

    assert reason_of(found) == "invalid_input"
    assert "1 rows were also fitted on" in detail_of(found)


def test_a_candidate_fitted_on_the_rows_of_another_version_is_invalid() -> None:
    world = World.drawn()
    other = world.held_out(train_hashes=np.array([77_777], dtype=np.uint64))
    own = world.held_out(
        row_hashes=np.arange(50_000, 50_200, dtype=np.uint64),
        train_hashes=np.array([5, 6, 7], dtype=np.uint64),
    )

    found = scored(a_version(world, holdout=own), held=other.to_bytes())

    assert reason_of(found) == "invalid_input"
    assert "3 of the held-out rows" in detail_of(found)


@pytest.mark.parametrize("who", ["champion", "anchor"])
def test_a_held_out_row_that_the_champion_or_anchor_was_fitted_on_cannot_be_compared(
    who: str,
) -> None:
    world = World.drawn()
    other = world.held_out(
        row_hashes=np.arange(50_000, 50_200, dtype=np.uint64),
        train_hashes=np.array([5, 6], dtype=np.uint64),
    )
    others = {"champion": a_version(world, slope=2.0), who: a_version(world, holdout=other)}

    found = scored(a_version(world), others.pop("champion"), **others)

    assert reason_of(found) == "cannot_compare"
    assert f"the {who} was fitted on 2 of the held-out rows" in detail_of(found)


def test_a_row_that_is_there_twice_is_invalid() -> None:
    world = World.drawn()
    doubled = world.held_out(row_hashes=np.ones(len(world.x), dtype=np.uint64))

    assert reason_of(scored(a_version(world, holdout=doubled))) == "invalid_input"


def test_no_rows_at_all_are_invalid() -> None:
    found = scored(a_version(World.drawn(rows=0)))

    assert (reason_of(found), detail_of(found)) == ("invalid_input", "there are no held-out rows")


def test_an_outcome_that_is_not_finite_is_invalid() -> None:
    world = World.drawn()
    world.y[3] = np.nan

    assert reason_of(scored(a_version(world))) == "invalid_input"


def test_a_short_hold_out_is_insufficient() -> None:
    assert reason_of(scored(a_version(World.drawn(rows=8)))) == "insufficient"


def test_an_empty_required_slice_is_insufficient() -> None:
    world = World.drawn()
    spec = a_spec(slices=[{"name": "arctic", "where": "x > 1000"}])

    found = scored(a_version(world), a_version(world, slope=2.0), spec=spec)

    assert reason_of(found) == "insufficient"
    assert not found["verdict"]["slices"][0]["passed"]


def test_a_champion_that_needs_a_column_that_is_gone_cannot_be_compared() -> None:
    world = World.drawn()
    gone = (Column(name="gone", kind="number"),)

    found = scored(a_version(world), a_version(world, manifest_changes={"columns": gone}))

    assert reason_of(found) == "cannot_compare"
    assert "gone" in detail_of(found)


def test_a_champion_of_another_task_cannot_be_compared() -> None:
    found = scored(a_version(World.drawn()), a_version(World.drawn("classification")))

    assert reason_of(found) == "cannot_compare"


def test_a_model_file_that_is_not_safe_is_invalid() -> None:
    version = a_version(World.drawn())

    found = scored(Version(manifest=version.manifest, model=b"no", holdout=version.holdout))

    assert reason_of(found) == "invalid_input"


@pytest.mark.parametrize("part", ["manifest", "holdout"])
def test_files_that_are_something_else_are_invalid(part: str) -> None:
    files = a_version(World.drawn()).files() | {part: b"{}"}

    assert reason_of(scored(Version(**files))) == "invalid_input"


def test_an_outcome_that_no_model_can_name_is_invalid() -> None:
    world = World.drawn("classification")
    world.y[7] = "frozen"

    found = scored(a_version(world), spec=a_spec("classification"))

    assert reason_of(found) == "invalid_input"
    assert "frozen" in detail_of(found)


# --- ranking ------------------------------------------------------------------------------------


def ranked(candidate: Version, metric: str, held: Holdout) -> dict[str, Any]:
    return loss(
        {
            "candidate": candidate.files(),
            "held": held.to_bytes(),
            "metric": metric,
            "metric_packages": ["tests"],
        }
    )


@pytest.mark.parametrize("metric", ["mae", "rmse", "r2", "pinball@0.9", f"{OWN}:tail"])
def test_a_version_is_ranked_by_any_metric(metric: str) -> None:
    world = World.drawn()

    good, bad = (
        ranked(a_version(world, slope=slope), metric, world.held_out())["loss"]
        for slope in (3.0, 1.0)
    )

    assert good < bad


def test_a_version_that_cannot_be_ranked_says_why() -> None:
    world = World.drawn()

    unfit = ranked(a_version(world), "roc_auc", world.held_out())
    endless = ranked(a_version(world, estimator=broken(np.inf)), "mae", world.held_out())

    assert unfit["problem"] == endless["problem"] == "invalid_input"
