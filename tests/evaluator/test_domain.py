from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from services.evaluator.domain import (
    Champion,
    Question,
    Standing,
    anchor_moves,
    fleet_of,
    is_retired,
    mode_of,
    natural_key,
    policy_of,
    question_of,
    ranked_question,
    spec_of,
    stream_of,
)
from services.evaluator.telling import said
from services.evaluator.verdict import Verdict
from shared.coarse import NOTE, coarse, step_of
from shared.events import BestAsked, Digest, EvaluationCompleted, FleetClaim, Gate, Json
from shared.spec import read_spec
from tests.evaluator.building import World, a_registration, a_spec, a_version

CHAMPION = Champion(version=3, manifest=Digest("c" * 64), code_digest="b" * 64, proven={"mae": 2.0})
ANCHOR = Champion(version=2, manifest=Digest("a" * 64), proven={"mae": 1.0})
FILES = a_version(World.drawn(rows=20))


def a_question(standing: Standing | None = None, *, uses: int = 0, **parts: Any) -> Question:
    registered = a_registration(7, FILES, spec=a_spec(**parts))
    spec = read_spec(registered.spec)
    return question_of(registered, spec, standing or Standing(champion=CHAMPION), uses)


def a_gate(versus: Any = "champion", lower: float | None = 0.1, **fields: Any) -> Gate:
    given: dict[str, Any] = {
        "metric": "mae",
        "versus": versus,
        "passed": True,
        "estimate": 0.2,
        "lower": lower,
        "upper": 0.3,
        "confidence": 0.975,
        "margin": 0.0,
        "rows": 100,
        "test": "block_means_t",
        "detail": "40 blocks",
    }
    return Gate(**given | fields)


def a_verdict(*gates: Gate, **fields: Any) -> EvaluationCompleted:
    question = a_question(Standing(champion=CHAMPION, anchor=fields.pop("anchor", None)))
    verdict = Verdict(accepted=True, reason="accepted", gates=gates or (a_gate(),))
    return replace(said(question, verdict, evidence=Digest("f" * 64), spends=True), **fields)


def test_newer_data_is_a_refresh_and_anything_else_a_change() -> None:
    assert mode_of("b" * 64, None) == "first"
    assert mode_of("b" * 64, CHAMPION) == "refresh"
    assert mode_of("9" * 64, CHAMPION) == "change"


def test_what_is_given_is_fixed_before_the_candidate_is_scored() -> None:
    given = a_question(Standing(champion=CHAMPION, anchor=ANCHOR), uses=4).given()

    assert (given.mode, given.holdout_use) == ("refresh", 5)
    assert (given.champion_proven, given.anchor_proven) == ({"mae": 2.0}, {"mae": 1.0})
    assert given.anchor


def test_an_anchor_that_the_specification_does_not_want_is_not_compared_with() -> None:
    question = a_question(Standing(champion=CHAMPION, anchor=ANCHOR), evaluation={"anchor": False})

    assert question.anchor is None
    assert not question.given().anchor


def test_seeds_are_functions_of_everything_that_is_compared() -> None:
    one = a_question()
    seeds = {
        one.given().seed,
        a_question(Standing()).given().seed,
        a_question(Standing(champion=CHAMPION, anchor=ANCHOR)).given().seed,
        a_question(gates=[{"metric": "mae", "vs": "champion", "margin": 1}]).given().seed,
        replace(one, split=Digest("1" * 64)).given().seed,
    }

    assert len(seeds) == 5
    assert one.given().seed == a_question(uses=3).given().seed
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_policies_differ_by_their_rules_and_by_nothing_else() -> None:
    stricter = a_spec(gates=[{"metric": "mae", "vs": "champion", "confidence": 0.99}])

    assert policy_of(a_spec()) == policy_of(a_spec() | {"owner": "grace"})
    assert policy_of(a_spec()) != policy_of(stricter)
    assert policy_of({"apiVersion": "tidewheel/v0"}) == "unreadable"
    assert spec_of({"apiVersion": "tidewheel/v0"}) is None


def test_a_champion_who_has_come_back_is_another_job() -> None:
    registered = a_registration(7, FILES)

    keys = {natural_key(registered, 2, reign, "p") for reign in (1, 3)}

    assert len(keys) == 2


# --- anchors ----------------------------------------------------------------------------------


def test_the_first_champion_is_the_anchor() -> None:
    assert anchor_moves(7, None, None) == "first_champion"


@pytest.mark.parametrize(
    ("gates", "anchor", "moves"),
    [
        ((a_gate("champion", 0.1),), CHAMPION, "shown_better"),
        ((a_gate("champion", -0.1),), CHAMPION, None),
        ((a_gate("champion", 0.1), a_gate("champion", -0.1, metric="rmse")), CHAMPION, None),
        ((a_gate("champion", 0.1), a_gate("champion", -0.1, slice="x > 1")), CHAMPION,
         "shown_better"),
        ((a_gate("champion", None),), CHAMPION, None),
        ((a_gate("baseline", 0.1),), CHAMPION, None),
        ((a_gate("champion", 0.1),), ANCHOR, None),
    ],
)  # fmt: skip
def test_the_anchor_moves_when_a_promoted_version_was_shown_to_be_better(
    gates: tuple[Gate, ...], anchor: Champion, moves: str | None
) -> None:
    assert anchor_moves(7, anchor, a_verdict(*gates)) == moves


def test_an_older_anchor_has_to_be_beaten_itself() -> None:
    beaten = a_verdict(a_gate("champion", -0.1), a_gate("anchor", 0.1), anchor=ANCHOR)
    level = a_verdict(a_gate("champion", 0.1), a_gate("anchor", -0.1), anchor=ANCHOR)

    assert anchor_moves(7, ANCHOR, beaten) == "shown_better"
    assert anchor_moves(7, ANCHOR, level) is None


def test_without_the_verdict_of_this_version_no_anchor_moves() -> None:
    assert anchor_moves(7, CHAMPION, None) is None
    assert anchor_moves(8, CHAMPION, a_verdict()) is None
    assert anchor_moves(3, CHAMPION, a_verdict(version=3)) is None


# --- fleets -----------------------------------------------------------------------------------


def test_models_of_one_owner_and_definition_are_a_fleet_whatever_their_name_and_data() -> None:
    plain = a_spec()
    other = plain | {"name": "valve", "data": plain["data"] | {"dataset": "other"}}

    assert fleet_of(read_spec(plain)) == fleet_of(read_spec(other))
    assert fleet_of(read_spec(plain)) != fleet_of(read_spec(plain | {"owner": "grace"}))
    assert fleet_of(read_spec(plain)) != fleet_of(read_spec(a_spec(monitor={"window": 99})))


def test_a_fleet_may_be_named_or_declined() -> None:
    assert fleet_of(read_spec(a_spec(evaluation={"fleet": "pumps"}))) == "pumps"
    assert fleet_of(read_spec(a_spec(evaluation={"fleet": "none"}))) is None


@pytest.mark.parametrize(
    ("month", "quarter"), [(1, "Q1"), (3, "Q1"), (4, "Q2"), (9, "Q3"), (10, "Q4"), (12, "Q4")]
)
def test_a_stream_begins_anew_each_quarter(month: int, quarter: str) -> None:
    assert stream_of("pumps", datetime(2026, month, 1, tzinfo=UTC)) == f"pumps/2026-{quarter}"


def test_a_fleet_that_is_not_convinced_turns_an_accepted_version_down() -> None:
    claim = FleetClaim(
        stream="pumps/2026-Q1", claim=4, accepted_before=1, e_value=2.0, threshold=90.0,
        passed=False,
    )  # fmt: skip
    accepted = Verdict(accepted=True, reason="accepted", e_value=2.0)
    rejected = Verdict(accepted=False, reason="worse")

    turned_down = said(a_question(), accepted, evidence=Digest("f" * 64), asked=claim)
    worse = said(a_question(), rejected, evidence=Digest("f" * 64), asked=claim)

    assert (turned_down.accepted, turned_down.reason) == (False, "fleet_fdr")
    assert (worse.accepted, worse.reason) == (False, "worse")
    assert turned_down.fleet == worse.fleet == claim


# --- the best of several ----------------------------------------------------------------------


def test_whoever_was_chosen_on_rows_pays_for_every_version_it_was_chosen_from() -> None:
    asked = BestAsked(
        by="ada", metric="mae", reason="", ranking=((5, 0.1), (3, 0.2), (7, 0.3), (4, None))
    )
    newest = a_registration(7, FILES)

    question = ranked_question(
        a_registration(5, FILES, code="9"),
        newest,
        read_spec(newest.spec),
        Standing(champion=CHAMPION),
        asked,
        2,
        "job",
    )

    assert question.mode == "change"
    assert (question.uses_before, question.holdout_use) == (2, 4)
    assert question.given().holdout_use == 4
    assert question.rows_of == newest.manifest


# --- rounded figures --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lower", "upper", "step"),
    [(0.0, 4.0, 1.0), (0.0, 0.4, 0.1), (-1.0, 5.0, 2.0), (0.0, 10.0, 5.0), (1.0, 1.0, 0.0)],
)
def test_a_step_is_about_a_quarter_of_the_interval(lower: float, upper: float, step: float) -> None:
    assert step_of(lower, upper) == pytest.approx(step)


def plain_fields() -> Json:
    gate = {
        "metric": "mae", "passed": True, "estimate": 0.2341, "lower": 0.1132, "upper": 0.4177,
        "se": 0.04, "e_value": 31.0, "smallest_effect": 0.1, "candidate_value": 1.2345,
        "other_value": 1.4686, "detail": "12 rows", "rows": 100,
    }  # fmt: skip
    few = {"metric": "mae", "passed": False, "estimate": None, "lower": None, "upper": None,
           "detail": "8 rows are too few"}  # fmt: skip
    return {
        "accepted": True,
        "gates": [gate, few],
        "slices": [gate | {"p_value": 0.03}],
        "fleet": {"stream": "s", "e_value": 31.0, "threshold": 20.0},
        "policy": {"rules": {"uses": 20}, "given": {"mode": "refresh", "anchor_proven": {"a": 1}}},
        "best": {"metric": "mae", "ranking": [[2, 0.25], [1, 0.5]]},
    }


def test_readers_see_decisions_and_no_exact_figures() -> None:
    told = coarse(plain_fields())

    gate = told["gates"][0]
    assert (gate["estimate"], gate["lower"], gate["upper"]) == (0.2, 0.1, 0.4)
    assert (gate["candidate_value"], gate["other_value"]) == (1.2, 1.5)
    assert gate["se"] is gate["e_value"] is gate["smallest_effect"] is None
    assert (gate["detail"], gate["passed"], gate["rows"]) == (NOTE, True, 100)
    assert told["slices"][0]["p_value"] is None
    assert told["fleet"]["e_value"] is None
    assert told["best"]["ranking"] == [[2, None], [1, None]]
    assert told["policy"]["given"]["anchor_proven"] == {}


def test_reasons_without_figures_stay_as_they_are() -> None:
    fields = plain_fields()

    told = coarse(fields)

    assert told["gates"][1] == fields["gates"][1]
    assert fields["gates"][0]["estimate"] == 0.2341


def test_rows_are_retired_when_they_are_used_up_or_newer_ones_have_judged() -> None:
    event = a_verdict()

    assert not is_retired(event, event.split, 19)
    assert is_retired(event, event.split, 20)
    assert is_retired(event, "another", 1)
