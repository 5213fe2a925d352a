from __future__ import annotations

from typing import Any

import pytest

from services.evaluator.domain import (
    Champion,
    judge,
    margin_of,
    mode_of,
    policy_digest,
    proven_gains,
    refused,
    spec_of,
)
from shared.events import Digest, Json
from shared.spec import GateRule, ModelSpec, read_spec
from tests.evaluator.building import a_spec

CHAMPION = Champion(version=3, manifest=Digest("c" * 64), code_digest="b" * 64, proven={"mae": 2.0})
NEW_CODE = Champion(version=3, manifest=Digest("c" * 64), code_digest="a" * 64)


def a_rule(**fields: Any) -> GateRule:
    return GateRule(**{"metric": "mae", "vs": "champion"} | fields)


def compared(lower: float, upper: float, **fields: Any) -> Json:
    return {
        "estimate": (lower + upper) / 2,
        "lower": lower,
        "upper": upper,
        "se": (upper - lower) / 3.3,
        "rows": 100,
        "test": "block_means_t",
        "detail": "40 contiguous blocks",
        **fields,
    }


GOOD = compared(1.0, 2.0)


def spec(*gates: Json) -> ModelSpec:
    return read_spec(a_spec(gates=gates))


def test_a_candidate_that_passes_every_gate_is_accepted() -> None:
    judgement = judge(spec(), {"0": GOOD, "1": GOOD}, "change", CHAMPION)

    assert (judgement.accepted, judgement.reason) == (True, "accepted")
    assert [gate.versus for gate in judgement.gates] == ["champion", "baseline"]


def test_the_first_candidate_has_only_the_baseline_to_beat() -> None:
    judgement = judge(spec(), {"1": GOOD}, "first", None)

    assert judgement.accepted
    assert [gate.versus for gate in judgement.gates] == ["baseline"]


def test_a_candidate_that_does_not_surely_beat_the_baseline_is_rejected() -> None:
    judgement = judge(spec(), {"1": compared(-0.1, 3.0)}, "first", None)

    assert (judgement.accepted, judgement.reason) == (False, "below_baseline")


@pytest.mark.parametrize(
    ("mode", "found", "reason"),
    [
        ("refresh", compared(-0.19, 0.1), "accepted"),
        ("refresh", compared(-0.21, 0.1), "not_shown_noninferior"),
        ("refresh", compared(-0.9, -0.3), "worse"),
        ("change", compared(0.01, 0.1), "accepted"),
        ("change", compared(-0.01, 0.1), "not_shown_better"),
        ("change", compared(0.0, 0.0), "not_shown_better"),
        ("change", compared(-0.9, -0.3), "worse"),
    ],
)
def test_a_refresh_may_give_a_tenth_of_the_proven_gain_away_and_a_change_nothing(
    mode: Any, found: Json, reason: str
) -> None:
    judgement = judge(spec(), {"0": found, "1": GOOD}, mode, CHAMPION)

    assert judgement.reason == reason


def test_without_a_proven_gain_a_refresh_has_to_be_better() -> None:
    assert margin_of(a_rule(), "refresh", NEW_CODE) == 0
    assert margin_of(a_rule(metric="rmse"), "refresh", CHAMPION) == 0
    assert margin_of(a_rule(), "refresh", CHAMPION) == pytest.approx(0.2)


def test_a_margin_in_the_specification_holds_for_refreshes() -> None:
    assert margin_of(a_rule(margin=0.7), "refresh", CHAMPION) == 0.7
    assert margin_of(a_rule(margin=0.0), "refresh", CHAMPION) == 0
    assert margin_of(a_rule(margin=0.7), "change", CHAMPION) == 0


def test_limits_are_tested_on_the_bound_not_on_the_estimate() -> None:
    limit = {"metric": "mae", "vs": "absolute", "max": 5.0}

    within = judge(spec(limit), {"1": compared(0.1, 1.0), "2": GOOD}, "first", None)
    unsure = judge(spec(limit), {"1": compared(-0.1, 1.0), "2": GOOD}, "first", None)

    assert within.accepted
    assert unsure.reason == "limit"


def test_a_gate_that_cannot_be_compared_is_shut() -> None:
    few = {"insufficient": "8 rows are fewer than 10"}

    judgement = judge(spec(), {"1": few}, "first", None)
    missing = judge(spec(), {}, "first", None)

    assert judgement.reason == missing.reason == "insufficient"
    assert judgement.gates[0].detail == "8 rows are fewer than 10"
    assert judgement.gates[0].estimate is None


def test_a_rejection_for_lack_of_evidence_says_what_would_have_been_needed() -> None:
    judgement = judge(spec(), {"0": compared(-0.5, 0.5), "1": GOOD}, "refresh", CHAMPION)

    assert "would need about" in judgement.gates[0].detail


def test_newer_data_is_a_refresh_and_anything_else_a_change() -> None:
    assert mode_of("b" * 64, None) == "first"
    assert mode_of("b" * 64, CHAMPION) == "refresh"
    assert mode_of("b" * 64, NEW_CODE) == "change"


def test_a_gain_is_proven_by_the_lower_bound_over_the_baseline() -> None:
    gates: list[Json] = [
        {"metric": "mae", "versus": "baseline", "lower": 0.4},
        {"metric": "rmse", "versus": "baseline", "lower": -0.1},
        {"metric": "brier", "versus": "champion", "lower": 0.9},
        {"metric": "log_loss", "versus": "baseline", "lower": None},
    ]

    assert proven_gains(gates) == {"mae": 0.4}


def test_policies_differ_by_their_rules_and_by_nothing_else() -> None:
    one = spec()
    renamed = read_spec(a_spec() | {"owner": "grace"})
    stricter = spec({"metric": "mae", "vs": "champion", "confidence": 0.99})

    assert policy_digest(one) == policy_digest(renamed)
    assert policy_digest(one) != policy_digest(stricter)


def test_a_specification_that_cannot_be_read_is_none() -> None:
    assert spec_of({"apiVersion": "tidewheel/v0"}) is None


def test_a_refusal_carries_its_reason() -> None:
    judgement = refused("cannot_compare", "the champion: no artifact has this digest")

    assert not judgement.accepted
    assert judgement.gates[0].detail.startswith("the champion")
