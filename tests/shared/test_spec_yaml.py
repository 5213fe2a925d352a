"""Specifications from YAML: traps, places, hints, all faults at once."""

import json
from datetime import timedelta

import pytest

from shared.spec import ModelSpec, read_spec
from shared.spec_yaml import MOST_BYTES, SpecFaults, read_spec_yaml

GOOD = """\
apiVersion: tidewheel/v1
name: pump
owner: rotating
task: regression
data: {dataset: plant/pumps, target: y}
"""


def faults_of(text: str | bytes, name: str = "") -> list[str]:
    with pytest.raises(SpecFaults) as refused:
        read_spec_yaml(text, name)
    return [str(fault) for fault in refused.value.faults]


def test_yaml_and_json_are_the_same_specification() -> None:
    from_yaml = read_spec_yaml(GOOD)

    from_json = read_spec_yaml(json.dumps(from_yaml.canonical()))

    assert isinstance(from_yaml, ModelSpec)
    assert from_json == from_yaml


def test_every_fault_is_told_at_once_with_file_line_column_and_hint() -> None:
    text = GOOD.replace("target: y", "tagret: y") + "train:\n  trials: 0\n  trails: 5\n"

    assert faults_of(text, "models/pump.yaml") == [
        "models/pump.yaml:5:1  data.target: target must be given",
        "models/pump.yaml:5:30  data.tagret: unknown key 'tagret', did you mean 'target'?",
        "models/pump.yaml:7:11  train.trials: Input should be greater than or equal to 1",
        "models/pump.yaml:8:3  train.trails: unknown key 'trails', did you mean 'trials'?",
    ]


def test_a_fault_points_into_the_document_for_programs() -> None:
    with pytest.raises(SpecFaults) as refused:
        read_spec_yaml(GOOD + "gates:\n  - {metric: mae, vs: nobody}\n")

    (fault,) = refused.value.faults
    assert fault.pointer == "/gates/0/vs"
    assert fault.detail.startswith("line 7, column 23: ")


def test_a_key_given_twice_is_refused_with_both_places() -> None:
    assert faults_of(GOOD + "name: other\n") == [
        "6:1  name: key 'name' is given twice, first at 2:1"
    ]


def test_words_that_yaml_reads_as_booleans_ask_for_quotes() -> None:
    assert faults_of(GOOD.replace("rotating", "no")) == [
        "3:8  owner: YAML reads no as False, put it in quotes"
    ]
    assert faults_of(GOOD + "on: 1\n") == [
        "6:1  on: YAML reads the key on as true, put it in quotes"
    ]


def test_numbers_with_an_exponent_are_numbers() -> None:
    text = GOOD + (
        "train:\n  candidates:\n"
        "    - {use: sklearn.linear_model.Ridge, with: {tol: 1e-4, solver: '1e-4'},\n"
        "       search: {alpha: {low: 1e-3, high: 1E2}, steps: [1e-3, .5e1]}}\n"
    )

    candidate = read_spec_yaml(text).train.candidates[0]

    assert candidate.arguments == {"tol": 0.0001, "solver": "1e-4"}
    assert candidate.search["steps"] == [0.001, 5.0]


def test_moments_and_times_stay_text() -> None:
    text = GOOD + (
        "train:\n  candidates:\n"
        "    - {use: sklearn.dummy.DummyRegressor, with: {at: 12:30:00, day: 2026-11-21}}\n"
    )

    arguments = read_spec_yaml(text).train.candidates[0].arguments

    assert arguments == {"at": "12:30:00", "day": "2026-11-21"}


def test_a_value_that_fits_no_branch_of_a_union_is_one_fault() -> None:
    text = GOOD + (
        "train:\n  candidates:\n    - {use: sklearn.svm.SVR, search: {C: {low: 1, hihg: 2}}}\n"
    )

    assert [fault.split("  ")[1].split(":")[0] for fault in faults_of(text)] == [
        "train.candidates[0].search.C.high",
        "train.candidates[0].search.C.hihg",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the specification is empty"),
        ("- a\n- b\n", "a mapping of keys to values"),
        ("just words", "a mapping of keys to values"),
        ("a: [1\n", "2:1"),
        ("a: 1\n---\nb: 2\n", "another document"),
        ("a: *nowhere\n", "undefined alias"),
        ("a: &x [*x]\n", "too deeply nested"),
        ("a: " + "[" * 250_000, "nested too deeply"),
        ("a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\n"
         "c: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\n"
         "e: [*d,*d,*d,*d,*d,*d,*d,*d]\n", "too large"),
        (b"a: \xff\n", "no UTF-8"),
        ("a: \x07\n", "not YAML"),
        ("x" * (MOST_BYTES + 1), "more than"),
        ("<<: {a: 1}\n", "keys are not merged"),
        ("? [1]\n: 2\n", "a key is a word"),
        ("a: !!python/object/apply:os.system [ls]\n", "unknown key 'a'"),
    ],
)  # fmt: skip
def test_what_is_no_specification_says_so(text: str | bytes, said: str) -> None:
    assert said in "; ".join(faults_of(text))


@pytest.mark.parametrize("delay", ["3651d", "600000000d", "9" * 400 + "d"])
def test_a_duration_beyond_ten_years_is_refused_with_its_place(delay: str) -> None:
    text = GOOD.replace("target: y", f"target: y, label_delay: {delay}")

    with pytest.raises(SpecFaults) as refused:
        read_spec_yaml(text)

    (fault,) = refused.value.faults
    assert fault.pointer == "/data/label_delay"
    assert "a duration is at most 3650d" in fault.detail


def test_ten_years_are_a_duration() -> None:
    spec = read_spec_yaml(GOOD.replace("target: y", "target: y, label_delay: 87600h"))

    assert spec.data.label_delay == timedelta(days=3650)


def test_a_longer_duration_that_was_accepted_once_is_still_read() -> None:
    plain = read_spec_yaml(GOOD).canonical()
    plain["data"]["label_delay"] = "600000000d"

    assert read_spec(plain).data.label_delay == timedelta(days=600_000_000)
