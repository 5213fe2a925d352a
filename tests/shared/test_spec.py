"""The specification: what must be given, what follows from it, and what it is known by."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.spec import ModelSpec, parse_duration, read_spec, write_duration


def a_spec(**changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "apiVersion": "tidewheel/v1",
        "name": "pump",
        "owner": "rotating",
        "task": "regression",
        "data": {"dataset": "plant/pumps", "target": "y"},
    }
    return spec | changes


def read(**changes: Any) -> ModelSpec:
    return read_spec(a_spec(**changes))


def test_six_facts_are_enough() -> None:
    spec = read()

    assert spec.data.split_kind == "random"
    assert spec.metric == "mae"
    assert [(gate.metric, gate.vs) for gate in spec.effective_gates] == [
        ("mae", "champion"),
        ("mae", "baseline"),
    ]
    assert spec.effective_baseline.rule == "median"
    assert spec.rollout.steps == (0.05, 0.25, 0.5)


def test_classification_has_its_own_defaults() -> None:
    spec = read(task="classification")

    assert spec.metric == "log_loss"
    assert spec.effective_baseline.rule == "majority"


def test_the_baseline_is_judged_even_when_no_gate_names_it() -> None:
    gates = [{"metric": "rmse", "vs": "absolute", "max": 3}]

    assert [gate.vs for gate in read(gates=gates).effective_gates] == [
        "champion",
        "absolute",
        "baseline",
    ]


def test_a_time_column_splits_by_time() -> None:
    data = {"dataset": "d", "target": "y", "time": "t"}

    assert read(data=data).data.split_kind == "time"
    assert read(data=data | {"split": "random"}).data.split_kind == "random"


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"apiVersion": "tidewheel/v2"}, "apiVersion"),
        ({"name": "Pump"}, "name"),
        ({"more": 1}, "more"),
        ({"task": "ranking"}, "task"),
        ({"data": {"dataset": "d"}}, "data.target"),
        ({"data": {"dataset": "d", "target": "y", "split": "time"}}, "data"),
        ({"data": {"dataset": "d", "target": "<y>"}}, "data.target"),
        ({"data": {"dataset": "d", "target": "y", "holdout": 0.9}}, "data.holdout"),
        ({"train": {"candidates": [{"use": "os.system('x')"}]}}, "train.candidates.0.use"),
        ({"train": {"budget": "5 minutes"}}, "train.budget"),
        ({"train": {"baseline": {"rule": "constant"}}}, "train.baseline"),
        ({"gates": [{"metric": "mae", "vs": "absolute"}]}, "gates.0"),
        ({"gates": [{"metric": "mae", "vs": "champion", "max": 1}]}, "gates.0"),
        (
            {"gates": [{"metric": "mae", "vs": "champion", "margin": float("inf")}]},
            "gates.0.margin",
        ),
        ({"gates": [{"metric": "mae", "vs": "absolute", "max": float("nan")}]}, "gates.0.max"),
        ({"checks": {"bounds": [400, 0]}}, "checks.bounds"),
        ({"rollout": {"steps": [0.5, 0.25]}}, "rollout"),
        ({"rollout": {"steps": [0.5, 1.0]}}, "rollout"),
        ({"triggers": {"timezone": "Mars/Olympus"}}, "triggers"),
        ({"monitor": {"window": 3}}, "monitor.window"),
    ],
)
def test_what_is_wrong_is_refused_at_its_place(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as refused:
        read(**changes)

    places = [".".join(str(part) for part in item["loc"]) for item in refused.value.errors()]
    assert place in places


def test_the_digest_does_not_depend_on_how_it_was_written() -> None:
    spelled_out = read(train={"budget": "300s", "trials": 20}, gates=[])

    assert read().digest() == spelled_out.digest()
    assert read().digest() != read(train={"trials": 21}).digest()


def test_the_canonical_form_reads_back_as_itself() -> None:
    spec = read(
        train={
            "candidates": [
                {
                    "use": "sklearn.linear_model.Ridge",
                    "with": {"fit_intercept": True},
                    "search": {"alpha": {"low": 0.001, "high": 10, "log": True}, "tol": [0.1]},
                }
            ],
            "baseline": "mean",
        },
        rollout={"give_up_after": "2h"},
    )

    again = read_spec(spec.canonical())

    assert again == spec
    assert again.digest() == spec.digest()


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("10s", 10), ("5m", 300), ("1.5h", 5400), ("1d", 86400)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@given(st.integers(min_value=0, max_value=10**10))
def test_a_duration_reads_back_as_itself(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)

    assert parse_duration(write_duration(duration)) == duration
