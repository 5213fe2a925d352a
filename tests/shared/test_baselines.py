from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.baselines import answer, columns_of, fit_rule, one_hot, parse_expression, probabilities
from shared.errors import Unprocessable
from shared.spec import Baseline


def rule(name: Any, targets: Any, **parts: Any) -> dict[str, Any]:
    return fit_rule(Baseline(rule=name, **parts), targets)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mean", 3.0), ("median", 2.0)],
)
def test_the_middle_of_the_targets_answers_every_row(name: str, expected: float) -> None:
    assert answer(rule(name, [1.0, 2.0, 6.0]), {}) == expected


def test_the_most_frequent_label_answers_with_the_shares_as_probabilities() -> None:
    fitted = rule("majority", ["no", "yes", "no", "no"])

    assert answer(fitted, {}) == "no"
    assert probabilities(fitted, ["no", "yes", "never"]) == [0.75, 0.25, 0.0]


def test_a_constant_is_nearly_certain() -> None:
    fitted = rule("constant", ["no", "yes"], value="yes")

    assert answer(fitted, {}) == "yes"
    assert probabilities(fitted, ["no", "yes"]) == [0.001, 0.999]
    assert sum(one_hot("a", ["a", "b", "c"])) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("row", "expected"),
    [({"lag": 4.5}, 4.5), ({"lag": None}, 2.0), ({}, 2.0), ({"lag": float("nan")}, 2.0)],
)
def test_a_column_answers_and_the_median_where_it_is_missing(
    row: dict[str, Any], expected: float
) -> None:
    assert answer(rule("column", [1.0, 2.0, 6.0], column="lag"), row) == expected
    assert answer(rule("last_value", [1.0, 2.0, 6.0], column="lag"), row) == expected
    assert answer(rule("seasonal_naive", [1.0, 2.0, 6.0], column="lag"), row) == expected


@pytest.mark.parametrize("word", ["last_value", "seasonal_naive"])
def test_a_rule_over_the_past_says_which_column_it_needs(word: str) -> None:
    with pytest.raises(ValueError, match=f"{word} needs column, the feature that holds"):
        Baseline.model_validate(word)


def test_a_column_that_no_rule_reads_is_refused() -> None:
    with pytest.raises(ValueError, match="median reads no column"):
        Baseline(rule="median", column="lag")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"a": 6, "b": 3}, 1.0),
        ({"a": 6, "b": 0}, 2.0),
        ({"a": 6}, 2.0),
        ({"a": "x", "b": 1}, 2.0),
    ],
)
def test_an_expression_answers_and_the_median_where_it_cannot(
    row: dict[str, Any], expected: float
) -> None:
    fitted = rule("expression", [1.0, 2.0, 6.0], expression="a / b - 1")

    assert answer(fitted, row) == expected
    assert columns_of("a / b - 1") == {"a", "b"}


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "a.b",
        "a ** 9",
        "a[0]",
        "lambda: 1",
        "'text'",
        "a if b else c",
        "a and b",
        "",
        "(" * 5000,
    ],
)
def test_an_expression_holds_arithmetic_only(text: str) -> None:
    with pytest.raises(ValueError, match=r"expression|allowed|number"):
        parse_expression(text)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(Unprocessable, match="not known"):
        answer({"rule": "oracle"}, {})


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.dictionaries(st.text(max_size=3), st.text()))
def test_a_fitted_rule_always_answers(targets: list[float], row: dict[str, str]) -> None:
    for fitted in (
        rule("median", targets),
        rule("column", targets, column="lag"),
        rule("expression", targets, expression="lag * 2"),
    ):
        assert answer(fitted, row) is not None
