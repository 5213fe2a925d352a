"""Where a value lies in the reference, and how that is said."""

from __future__ import annotations

from typing import Any

import pytest

from services.serving.explanation.places import place_of, quantile_of
from services.serving.explanation.words import sentence, told_rule
from shared.background import Profile

LOAD = Profile(name="load", mean=60.0, quantiles=tuple(float(q) for q in range(35, 86, 5)))
CITY = Profile(name="city", is_text=True, missing=0.1, levels=(("rome", 0.6), ("oslo", 0.01)))
OPEN = Profile(name="open", mean=0.4, quantiles=(0.0, 1.0), levels=((0.0, 0.6), (1.0, 0.4)))


def said(profile: Profile, value: Any, contribution: float, error: float | None = None) -> str:
    place = place_of(value, profile)
    return sentence(profile.name, value, place, contribution, error, "the answer")


@pytest.mark.parametrize(
    ("profile", "value", "contribution", "expected"),
    [
        (LOAD, 60, 2.1, "load 60 (usually 40 to 80) raised the answer by 2.1"),
        (
            LOAD,
            93.0,
            2.1,
            "load 93 (outside of all that training saw, usually 40 to 80) raised the answer by 2.1",
        ),
        (LOAD, 60, 0.0, "load 60 (usually 40 to 80) did not change the answer"),
        (LOAD, 60, -12345.6, "load 60 (usually 40 to 80) lowered the answer by 12,346"),
        (
            LOAD,
            None,
            1.0,
            "load is missing, as in 0 % of the training rows, and raised the answer by 1",
        ),
        (CITY, "rome", 1.0, "city rome (as in 60 % of the training rows) raised the answer by 1"),
        (CITY, "lima", 1.0, "city lima (never seen in training) raised the answer by 1"),
        (
            CITY,
            None,
            -0.5,
            "city is missing, as in 10 % of the training rows, and lowered the answer by 0.5",
        ),
        (OPEN, True, 1.0, "open true (as in 40 % of the training rows) raised the answer by 1"),
        (Profile(name="x"), 4.0, 1.0, "x 4 raised the answer by 1"),
    ],
)
def test_one_sentence_says_what_a_column_did(
    profile: Profile, value: Any, contribution: float, expected: str
) -> None:
    assert said(profile, value, contribution) == expected


def test_a_sampled_contribution_says_how_uncertain_it_is() -> None:
    expected = "load 60 (usually 40 to 80) raised the answer by 2.1 (standard error 0.25)"
    assert said(LOAD, 60, 2.1, 0.25) == expected


@pytest.mark.parametrize(
    ("profile", "value", "status"),
    [
        (LOAD, 60, "usual"),
        (LOAD, 84, "unusual"),
        (LOAD, 93, "outside"),
        (LOAD, None, "missing"),
        (CITY, "rome", "usual"),
        (CITY, "oslo", "unusual"),
        (CITY, "lima", "unseen"),
        (Profile(name="x"), 1.0, "unknown"),
    ],
)
def test_a_value_has_its_place(profile: Profile, value: Any, status: str) -> None:
    assert place_of(value, profile).status == status


def test_quantiles_are_met_where_they_are() -> None:
    found = [quantile_of(v, (0.0, 10.0, 10.0, 10.0, 20.0)) for v in (-1, 0, 5, 10, 15, 20, 21)]

    assert found == [0.0, 0.0, 0.125, 0.5, 0.875, 1.0, 1.0]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"rule": "constant", "value": 3.0}, "the baseline rule answers 3 to every row"),
        (
            {"rule": "majority", "shares": [["wet", 0.7], ["dry", 0.3]]},
            "the baseline rule answers wet, the most frequent label of training",
        ),
        (
            {"rule": "expression", "expression": "a * 2", "otherwise": 1.0},
            "the baseline rule a * 2 gives 8",
        ),
    ],
    ids=["constant", "majority", "expression"],
)
def test_a_rule_is_its_own_explanation(rule: Any, words: str) -> None:
    found = told_rule(rule, {"a": 4.0})

    assert found["words"] == [words]
    assert found["rule"] == rule
