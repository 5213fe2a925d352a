"""Verdicts: every rule must hold, whatever is wrong is a no, the same input is the same bits."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.evaluator.evidence import Evidence
from services.evaluator.fleet import FleetState, claim
from services.evaluator.verdict import (
    ENGINE,
    GateTerms,
    Rules,
    Verdict,
    decide,
    given_of,
    is_shown_superior,
    proven_gains,
    replayed,
    rules_from,
    rules_of,
)
from services.evaluator.verdict.gates import alpha_of
from shared.errors import Unprocessable
from shared.events import Check, Gate, Json
from shared.spec import read_spec
from tests.evaluator.building import a_spec
from tests.evaluator.evident import (
    Task,
    a_generator,
    a_refresh,
    a_slice,
    some_evidence,
    some_rules,
)

BETTER = {"candidate": 0.2}
WORSE = {"candidate": 0.9}
PROVEN = {"mae": 0.5}
METRICS = {
    "mae": "regression",
    "mse": "regression",
    "rmse": "regression",
    "mape": "regression",
    "r2": "regression",
    "pinball@0.5": "regression",
    "accuracy": "classification",
    "balanced_accuracy": "classification",
    "f1": "classification",
    "roc_auc": "classification",
    "average_precision": "classification",
    "log_loss": "classification",
    "brier": "classification",
}


def a_task(metric: str) -> Task:
    return "regression" if METRICS[metric] == "regression" else "classification"


def gates_of(verdict: Verdict, versus: str) -> list[Gate]:
    return [gate for gate in verdict.gates if gate.versus == versus]


# --- what is decided --------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_a_better_candidate_is_accepted_by_every_metric(
    seed: int, metric: str, ordered: bool
) -> None:
    noise = {"candidate": 0.1, "champion": 2.0}
    evidence = some_evidence(a_task(metric), 600, seed, noise=noise, ordered=ordered)

    verdict = decide(evidence, some_rules(metric), a_refresh(mode="change"))

    assert (verdict.accepted, verdict.reason) == (True, "accepted"), verdict.gates
    assert all(gate.lower is not None and gate.lower > 0 for gate in verdict.gates)
    assert verdict.e_value > 1


@pytest.mark.parametrize("metric", METRICS)
def test_a_worse_candidate_is_rejected_by_every_metric(seed: int, metric: str) -> None:
    noise = {"candidate": 2.0, "champion": 0.1}
    evidence = some_evidence(a_task(metric), 600, seed, noise=noise)

    verdict = decide(evidence, some_rules(metric), a_refresh(mode="change"))

    assert (verdict.accepted, verdict.reason) == (False, "worse"), verdict.gates


def test_an_equal_candidate_may_refresh_and_may_not_be_a_change() -> None:
    evidence = some_evidence(rows=2000)

    refresh = decide(evidence, some_rules(), a_refresh(champion_proven=PROVEN))
    change = decide(evidence, some_rules(), a_refresh(mode="change", champion_proven=PROVEN))

    assert refresh.accepted
    assert gates_of(refresh, "champion")[0].margin == 0.05
    assert change.reason == "not_shown_better"
    assert gates_of(change, "champion")[0].margin == 0


def test_nothing_proven_is_nothing_to_give_away() -> None:
    verdict = decide(some_evidence(rows=2000), some_rules(), a_refresh())

    assert gates_of(verdict, "champion")[0].margin == 0
    assert verdict.reason == "not_shown_better"


def test_a_margin_of_the_specification_comes_first() -> None:
    given = a_refresh(champion_proven=PROVEN)

    verdict = decide(some_evidence(), some_rules(margin=0.3), given)

    assert gates_of(verdict, "champion")[0].margin == 0.3


def test_too_little_evidence_says_how_much_would_be_needed() -> None:
    verdict = decide(some_evidence(rows=60), some_rules(margin=0.01), a_refresh())

    gate = gates_of(verdict, "champion")[0]
    assert verdict.reason == "not_shown_noninferior"
    assert gate.smallest_effect == pytest.approx((1.959964 + 0.841621) * (gate.se or 0), rel=1e-5)
    rows = round(60 * ((gate.smallest_effect or 0) / 0.01) ** 2)
    assert f"0.01 would need about {rows} rows" in gate.detail


def test_the_baseline_must_be_beaten_whatever_the_champion() -> None:
    useless = {"candidate": 3.0, "champion": 4.0}

    verdict = decide(some_evidence(noise=useless), some_rules(), a_refresh(mode="change"))

    assert verdict.reason == "below_baseline"
    assert verdict.champion_below_baseline
    assert not decide(some_evidence(), some_rules(), a_refresh()).champion_below_baseline


def test_the_first_candidate_faces_the_baseline_alone() -> None:
    evidence = some_evidence()
    without = replace(evidence, answers=only(evidence, "candidate", "baseline"))

    verdict = decide(without, some_rules(), a_refresh(mode="first"))

    assert verdict.accepted
    assert [gate.versus for gate in verdict.gates] == ["baseline"]
    assert not verdict.champion_below_baseline


def only(evidence: Evidence, *names: str) -> dict[str, Any]:
    return {name: evidence.answers[name] for name in names}


def test_small_losses_do_not_add_up_past_the_anchor() -> None:
    noise = {"candidate": 0.9, "champion": 0.95, "anchor": 0.2}
    evidence = some_evidence(rows=2000, noise=noise)
    given = a_refresh(champion_proven=PROVEN, anchor=True, anchor_proven=PROVEN)

    with_anchor = decide(evidence, some_rules(), given)
    without = decide(evidence, some_rules(anchor=False), given)

    assert with_anchor.reason == "worse"
    assert not gates_of(with_anchor, "anchor")[0].passed
    assert without.accepted
    assert not gates_of(without, "anchor")


def test_a_change_must_be_better_than_the_champion_and_no_worse_than_the_anchor() -> None:
    noise = {"candidate": 0.2, "champion": 0.9, "anchor": 0.2}
    given = a_refresh(mode="change", anchor=True, anchor_proven=PROVEN)

    verdict = decide(some_evidence(rows=2000, noise=noise), some_rules(), given)

    assert verdict.accepted
    assert gates_of(verdict, "anchor")[0].margin == pytest.approx(0.05)
    assert is_shown_superior(verdict.gates, "champion")
    assert not is_shown_superior(verdict.gates, "anchor")


def test_limits_are_held_by_the_bound_and_not_by_the_estimate() -> None:
    evidence = some_evidence(noise=BETTER)
    value = float(np.abs(evidence.answers["candidate"] - evidence.y).mean())

    def reason(limit: float) -> str:
        gate = GateTerms(metric="mae", vs="absolute", limit=limit)
        rules = some_rules()
        return decide(evidence, replace(rules, gates=(*rules.gates, gate)), a_refresh()).reason

    assert reason(value * 1.3) == "accepted"
    assert reason(value * 1.001) == "limit"


def test_a_gate_may_hold_for_a_slice_alone() -> None:
    mask = np.arange(400) < 200
    evidence = some_evidence(noise=BETTER, slices={"load > 80": mask})
    gates = (
        GateTerms(metric="mae", vs="champion", slice="load > 80"),
        GateTerms(metric="mae", vs="baseline"),
    )

    verdict = decide(evidence, some_rules(gates=gates), a_refresh(mode="change"))

    assert verdict.accepted
    assert verdict.gates[0].rows == 200
    assert verdict.gates[0].slice == "load > 80"


def test_a_check_that_fails_is_a_no() -> None:
    check = Check(name="size", passed=False, detail="12 MB, and 10 are allowed")

    verdict = decide(some_evidence(noise=BETTER, checks=(check,)), some_rules(), a_refresh())

    assert verdict.reason == "check_failed"
    assert verdict.checks == (check,)


# --- slices -----------------------------------------------------------------------------------


def harmed_in(rows: int) -> Evidence:
    """Better everywhere but in the first rows."""
    evidence = some_evidence(rows=2000, noise=BETTER)
    answers = dict(evidence.answers)
    answers["candidate"] = answers["candidate"].copy()
    answers["candidate"][:rows] += 2
    inside = np.arange(2000) < rows
    return replace(evidence, answers=answers, slices={"storm": inside}, found={"load > 80": inside})


@pytest.mark.parametrize("role", ["required", "watched"])
def test_a_harmed_slice_is_a_no_though_all_is_better(role: str) -> None:
    rules = some_rules(slices=(a_slice("storm", role=role),))

    verdict = decide(harmed_in(100), rules, a_refresh(mode="change"))

    assert all(gate.passed for gate in verdict.gates)
    assert verdict.reason == "slice_harmed"
    assert verdict.slices[0].estimate == pytest.approx(-1.6, abs=0.4)


def test_the_worst_part_is_reported_and_decides_nothing() -> None:
    verdict = decide(harmed_in(100), some_rules(), a_refresh(mode="change"))

    assert verdict.accepted
    assert [part.role for part in verdict.slices] == ["found"]
    assert verdict.slices[0].name == "load > 80"
    assert (verdict.slices[0].upper or 0) < 0


def test_an_empty_required_slice_is_a_no_even_for_the_first_candidate() -> None:
    evidence = some_evidence(slices={"storm": np.zeros(400, dtype=np.bool_)})
    rules = some_rules(margin=0.3, slices=(a_slice("storm"),))

    for mode in ("first", "refresh"):
        verdict = decide(evidence, rules, a_refresh(mode=mode))

        assert all(gate.passed for gate in verdict.gates)
        assert verdict.reason == "insufficient"
        assert verdict.slices[0].detail == "no held-out row lies in this slice"


def test_the_first_candidate_has_nobody_to_be_compared_with_in_a_slice() -> None:
    evidence = some_evidence(slices={"storm": np.arange(400) < 100})
    rules = some_rules(slices=(a_slice("storm"),))

    verdict = decide(evidence, rules, a_refresh(mode="first"))

    assert verdict.accepted
    assert verdict.slices[0].detail == "no champion to compare with"


# --- the same rows again ----------------------------------------------------------------------


def test_every_further_use_of_the_rows_has_less_error_to_spend() -> None:
    evidence = some_evidence(noise=BETTER)

    verdicts = [
        decide(evidence, some_rules(), a_refresh(mode="change", holdout_use=use))
        for use in (1, 2, 20)
    ]

    spent = [1 - verdict.gates[0].confidence for verdict in verdicts]
    assert spent == pytest.approx([0.05 / 2, 0.05 / 6, 0.05 / 420])
    lowers = [verdict.gates[0].lower or 0.0 for verdict in verdicts]
    assert lowers == sorted(lowers, reverse=True)
    assert sum(alpha_of(0.95, use) for use in range(1, 10_000)) < 0.05


def test_rows_that_were_used_too_often_judge_nobody() -> None:
    verdict = decide(some_evidence(noise=BETTER), some_rules(uses=3), a_refresh(holdout_use=4))

    assert verdict.reason == "holdout_exhausted"
    assert "3 are allowed" in verdict.gates[0].detail


def test_a_small_alpha_is_read_off_more_draws() -> None:
    evidence = some_evidence(noise=BETTER)

    draws = [decide(evidence, some_rules(), a_refresh(holdout_use=use)).draws for use in (1, 9, 20)]

    assert draws == [999, math.ceil(90 / 0.05), math.ceil(420 / 0.05)]


# --- whatever is wrong is a no ----------------------------------------------------------------


def spoilt(predictor: str, value: float, task: Task = "regression") -> Evidence:
    evidence = some_evidence(task, noise=BETTER)
    answers = {name: values.copy() for name, values in evidence.answers.items()}
    answers[predictor][5] = value
    return replace(evidence, answers=answers)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e200])
@pytest.mark.parametrize(
    ("predictor", "reason"),
    [
        ("candidate", "invalid_input"),
        ("baseline", "invalid_input"),
        ("champion", "cannot_compare"),
        ("anchor", "cannot_compare"),
    ],
)
def test_an_answer_that_is_no_number_is_a_no(predictor: str, reason: str, value: float) -> None:
    evidence = spoilt(predictor, value)

    verdict = decide(evidence, some_rules("mse"), a_refresh(anchor=True))

    assert (verdict.accepted, verdict.reason) == (False, reason)
    assert "1 rows have a" in verdict.gates[0].detail
    assert f"first row {int(evidence.row_hashes[5]):016x}" in verdict.gates[0].detail


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.2, 0.0])
def test_probabilities_that_are_none_are_a_no(value: float) -> None:
    evidence = spoilt("candidate", 0.5, "classification")
    evidence.answers["candidate"][7, 0] = value

    verdict = decide(evidence, some_rules("brier"), a_refresh())

    assert verdict.reason == "invalid_input"
    assert "probabilities that are none" in verdict.gates[0].detail


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"y": np.full(400, np.nan)}, "400 rows have an outcome that is not finite"),
        ({"row_hashes": np.zeros(400, dtype=np.uint64)}, "399 held-out rows are there twice"),
        ({"row_hashes": np.arange(399, dtype=np.uint64)}, "399 row hashes for 400 outcomes"),
        ({"slices": {"a": np.ones(3, dtype=np.bool_)}}, "3 slice a for 400 outcomes"),
        ({"entities": np.zeros(4, dtype=np.int64)}, "4 entities for 400 outcomes"),
        ({"y": np.zeros(0)}, "there are no held-out rows"),
    ],
)
def test_rows_that_do_not_fit_together_are_a_no(changes: Json, said: str) -> None:
    verdict = decide(some_evidence(**changes), some_rules(), a_refresh())

    assert verdict.reason == "invalid_input"
    assert said in verdict.gates[0].detail


@pytest.mark.parametrize(
    ("predictor", "reason"),
    [
        ("candidate", "invalid_input"),
        ("baseline", "invalid_input"),
        ("champion", "cannot_compare"),
        ("anchor", "cannot_compare"),
    ],
)
def test_whoever_is_missing_or_short_is_a_no(predictor: str, reason: str) -> None:
    evidence = some_evidence()
    names = [name for name in evidence.answers if name != predictor]
    missing = replace(evidence, answers=only(evidence, *names))
    short = replace(
        evidence, answers={**evidence.answers, predictor: evidence.answers[predictor][:-1]}
    )

    for broken in (missing, short):
        assert decide(broken, some_rules(), a_refresh(anchor=True)).reason == reason


def test_an_outcome_that_a_predictor_cannot_name_is_a_no() -> None:
    evidence = some_evidence("classification")
    y = evidence.y.copy()
    y[0] = "snow"

    verdict = decide(replace(evidence, y=y), some_rules("log_loss"), a_refresh())

    assert verdict.reason == "invalid_input"
    assert "'snow' is no class" in verdict.gates[0].detail


@pytest.mark.parametrize("metric", ["roc_auc", "f1", "balanced_accuracy", "average_precision"])
def test_outcomes_that_are_all_alike_are_a_no_where_two_classes_are_needed(metric: str) -> None:
    y = np.full(400, "wet", dtype=object)

    verdict = decide(some_evidence("classification", y=y), some_rules(metric), a_refresh())

    assert verdict.reason == "invalid_input"
    assert "all 400 are alike" in verdict.gates[0].detail


def test_too_few_rows_are_a_no() -> None:
    verdict = decide(some_evidence(rows=9), some_rules(), a_refresh())

    assert verdict.reason == "insufficient"
    assert verdict.gates[0].detail == "9 rows are fewer than 10"


def test_a_share_of_an_outcome_of_nothing_is_a_no() -> None:
    evidence = some_evidence()
    y = evidence.y.copy()
    y[3] = 0

    verdict = decide(replace(evidence, y=y), some_rules("mape"), a_refresh())

    assert verdict.reason == "insufficient"
    assert "outcome of 0" in verdict.gates[0].detail


@pytest.mark.parametrize(
    "changes",
    [
        {"slices": (a_slice("unheard of"),)},
        {"gates": (GateTerms(metric="ours.metrics:cost", vs="baseline"),)},
        {"gates": (GateTerms(metric="roc_auc", vs="baseline"),)},
        {"gates": (GateTerms(metric="brier", vs="baseline"),)},
    ],
)
def test_rules_that_the_evidence_cannot_answer_are_a_no(changes: Json) -> None:
    assert decide(some_evidence(), some_rules(**changes), a_refresh()).reason == "invalid_input"


def test_no_gate_at_all_accepts_nobody() -> None:
    verdict = decide(some_evidence(), some_rules(gates=()), a_refresh())

    assert (verdict.accepted, verdict.reason) == (False, "insufficient")


# --- the same bits ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "ordered", "grouped"),
    [(metric, False, False) for metric in METRICS]
    + [("mae", True, False), ("roc_auc", True, False), ("r2", True, False)]
    + [("mae", False, True), ("f1", False, True), ("accuracy", False, True)],
)
@settings(max_examples=3, deadline=None)
@given(shuffle=st.integers(0, 1000))
def test_the_order_of_the_rows_changes_no_bit(
    metric: str, ordered: bool, grouped: bool, shuffle: int
) -> None:
    rows = 120
    evidence = some_evidence(
        a_task(metric),
        rows,
        ordered=ordered,
        times=np.arange(rows, dtype=np.int64) // 2,
        entities=np.arange(rows, dtype=np.int64) // 4 if grouped else None,
        slices={"storm": np.arange(rows) % 2 == 0},
        found={"load > 80": np.arange(rows) % 3 > 0},
    )
    slices = (a_slice("storm", metric=metric, min_rows=10),)
    rules = some_rules(metric, slices=slices, draws=199)
    given = a_refresh(anchor=True, champion_proven={metric: 1.0}, anchor_proven={metric: 1.0})

    straight = decide(evidence, rules, given)
    shuffled = decide(evidence.taken(a_generator(shuffle).permutation(rows)), rules, given)

    assert bits(shuffled) == bits(straight)
    assert straight.gates[0].estimate is not None


def bits(verdict: Verdict) -> bytes:
    return orjson.dumps(verdict)


def test_another_seed_moves_resampled_bounds_a_little_and_estimates_not() -> None:
    evidence = some_evidence(noise=BETTER)

    one, other = (decide(evidence, some_rules(), a_refresh(seed=seed)) for seed in (1, 2))

    assert one.gates[0].estimate == other.gates[0].estimate
    assert one.gates[0].lower != other.gates[0].lower


def recorded(evidence: Evidence, rules: Rules, **changes: Any) -> Json:
    """The fields of an event as they are read from the log."""
    given = a_refresh(champion_proven=PROVEN)
    verdict = decide(evidence, rules, given)
    fields = asdict(verdict) | {
        "policy": {"rules": rules.to_plain(), "given": given.to_plain()},
        "policy_digest": rules.digest(),
        "model": "pump",
    }
    plain: Json = orjson.loads(orjson.dumps(fields | changes))
    return plain


def test_a_recorded_verdict_is_computed_again_bit_for_bit() -> None:
    evidence = some_evidence(noise=BETTER, slices={"storm": np.arange(400) < 100})
    rules = some_rules(slices=(a_slice("storm"),))

    again = replayed(recorded(evidence, rules), evidence.to_bytes())

    assert (again.same, again.differences) == (True, ())
    assert again.verdict.engine == ENGINE


def test_a_replay_names_what_differs() -> None:
    evidence = some_evidence(noise=BETTER)
    event = recorded(evidence, some_rules())
    event["gates"][1]["lower"] += 1e-12
    event["accepted"] = False

    again = replayed(event, evidence.to_bytes())

    assert again.differences == ("accepted", "gates[1].lower")


def test_a_replay_asks_the_fleet_again_at_the_recorded_place() -> None:
    evidence = some_evidence(rows=100)
    verdict = decide(evidence, some_rules(margin=1.0), a_refresh(champion_proven=PROVEN))
    made = claim(verdict.e_value, FleetState(claims=10**9), 0.05, stream="ada/pumps")
    event = recorded(
        evidence, some_rules(margin=1.0), accepted=False, reason="fleet_fdr", fleet=asdict(made)
    )

    assert verdict.accepted
    assert not made.passed
    assert replayed(event, evidence.to_bytes()).same


@pytest.mark.parametrize("missing", ["policy", "gates", "reason"])
def test_an_event_that_does_not_say_enough_cannot_be_replayed(missing: str) -> None:
    event = recorded(some_evidence(), some_rules())
    del event[missing]

    with pytest.raises(Unprocessable):
        replayed(event, some_evidence().to_bytes())


# --- rules ------------------------------------------------------------------------------------


def test_rules_of_a_specification_have_their_defaults_worked_out() -> None:
    gates = [
        {"metric": "mae", "vs": "champion", "margin": 0.2, "confidence": 0.9},
        {"metric": "mae", "vs": "absolute", "max": 3.0},
    ]
    slices = [
        {"name": "storm", "where": "x > 1"},
        {"name": "fog", "where": "x < 0", "metric": "mse", "role": "watched"},
    ]
    spec = read_spec(a_spec(gates=gates) | {"slices": slices, "evaluation": {"uses": 3}})

    rules = rules_from(spec, draws=2000)

    assert [(gate.vs, gate.limit) for gate in rules.gates] == [
        ("champion", None),
        ("absolute", 3.0),
        ("baseline", None),
    ]
    storm, fog = rules.slices
    assert (storm.metric, storm.margin, storm.confidence) == ("mae", 0.2, 0.9)
    assert (fog.metric, fog.margin) == ("mse", None)
    assert (rules.uses, rules.draws, rules.split) == (3, 2000, "time")


def test_rules_and_what_was_known_are_read_back() -> None:
    rules = some_rules(slices=(a_slice(),))
    given = a_refresh(champion_proven=PROVEN, holdout_use=3)

    assert rules_of(rules.to_plain()) == rules
    assert rules_of(rules.to_plain()).digest() == rules.digest()
    assert rules.digest() != some_rules().digest()
    assert given_of(given.to_plain()) == given


@pytest.mark.parametrize(
    "plain", [{"gates": [], "unheard_of": 1}, {"gates": [{"metric": "mae"}]}, {}, None]
)
def test_rules_that_are_none_are_refused(plain: Any) -> None:
    with pytest.raises(Unprocessable, match="rules of a verdict"):
        rules_of(plain)


def test_what_is_proven_against_the_baseline_is_its_lower_bound() -> None:
    verdict = decide(some_evidence(noise=BETTER), some_rules(), a_refresh())

    assert proven_gains(verdict.gates) == {"mae": gates_of(verdict, "baseline")[0].lower}


# --- what is promised -------------------------------------------------------------------------


def test_equal_candidates_are_called_better_as_seldom_as_promised(seed: int) -> None:
    runs, called = 300, 0
    for run in range(runs):
        evidence = some_evidence(rows=80, seed=seed + 991 * run)
        called += decide(
            evidence, some_rules(draws=199), a_refresh(mode="change", seed=run)
        ).accepted

    assert called / runs <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / runs)
