"""What the registry decides, without anything around it."""

from typing import Any

import pytest

from services.registry.comparison import compare
from services.registry.domain.datasets import (
    MOST_REASONS,
    Before,
    Consumer,
    File,
    decide_version,
    refuse,
    settled_kinds,
)
from services.registry.domain.definitions import faults_of
from services.registry.domain.numbering import Newest, authors_of, decide_number
from services.registry.lineage.code import Lock, code_digest, modules_of
from services.registry.lineage.narration import DECISIONS, sentence
from services.registry.profiling.profile import Oddity, Profile
from shared.events import (
    CandidateSuperseded,
    DatasetName,
    DatasetPublished,
    DatasetRefused,
    Digest,
    ModelName,
    ModelRegistered,
    Reason,
)
from shared.spec import read_spec
from tests.registry.builders import a_column, a_profile, a_spec, a_training
from tests.support.schemas import example_of


def a_file(profile: Profile) -> File:
    return File(
        dataset=DatasetName("pumps"),
        digest=Digest("1" * 64),
        size_bytes=100,
        profile=profile,
        profile_digest=Digest("2" * 64),
        offered_by="ada",
    )


def decided(profile: Profile, before: Before | None = None, *consumers: Consumer) -> Any:
    return decide_version(a_file(profile), before, consumers)


def a_consumer(**changes: Any) -> Consumer:
    facts = {"model": ModelName("pump"), "task": "regression", "target": "y"}
    return Consumer(**(facts | changes))


def test_the_first_version_is_one_and_the_next_is_one_more() -> None:
    profile = a_profile(a_column("y"))

    first = decided(profile)
    later = decided(profile, Before(version=7, kinds={"y": "number"}))

    assert isinstance(first, DatasetPublished)
    assert (first.version, later.version) == (1, 8)


@pytest.mark.parametrize(
    ("was", "now", "fits"),
    [
        ("number", "integer", True),
        ("integer", "number", True),
        ("number", "text", False),
        ("text", "number", False),
        ("boolean", "integer", False),
        ("time", "text", False),
    ],
)
def test_a_column_keeps_its_kind(was: str, now: str, fits: bool) -> None:
    answer = decided(a_profile(a_column("x", now)), Before(version=1, kinds={"x": was}))

    assert isinstance(answer, DatasetPublished) is fits


def test_an_empty_column_changes_nothing_and_keeps_its_kind() -> None:
    empty = a_column("x", "text", count=0, missing=10)
    before = Before(version=1, kinds={"x": "number"})

    assert isinstance(decided(a_profile(empty), before), DatasetPublished)
    assert settled_kinds(a_profile(empty), before) == {"x": "number"}


def test_the_odd_value_behind_a_changed_kind_is_shown() -> None:
    column = a_column("x", "text", oddity=Oddity(kind="integer", row=4, value="NA"))

    answer = decided(a_profile(column), Before(version=1, kinds={"x": "number"}))

    assert answer.reasons[0].detail.endswith("row 4 holds 'NA'")


def test_columns_may_come_and_go_unless_a_model_predicts_them() -> None:
    before = Before(version=1, kinds={"x": "number", "y": "number"})

    free = decided(a_profile(a_column("z")), before)
    needed = decided(a_profile(a_column("z")), before, a_consumer())

    assert isinstance(free, DatasetPublished)
    assert isinstance(needed, DatasetRefused)


def test_every_model_that_cannot_use_its_target_is_named() -> None:
    profile = a_profile(a_column("y", "text"), a_column("z", missing=2, first_missing_row=3))

    answer = decided(
        profile,
        None,
        a_consumer(),
        a_consumer(model=ModelName("class"), task="classification"),
        a_consumer(model=ModelName("other"), target="z"),
        a_consumer(model=ModelName("third"), target="none"),
    )

    assert [reason.pointer for reason in answer.reasons] == [
        "/columns/y",
        "/columns/z",
        "/columns/none",
    ]


def test_a_refusal_carries_no_more_reasons_than_an_event_may() -> None:
    reasons = [Reason(pointer="/", detail=str(i)) for i in range(250)]

    refused = refuse(DatasetName("pumps"), reasons, digest=None, offered_by="ada")

    assert len(refused.reasons) == MOST_REASONS
    assert "150 more" in refused.reasons[-1].detail


def test_numbers_rise_by_one_and_late_old_data_gets_none() -> None:
    newest = Newest(version=4, trained_on="pumps", trained_on_version=6)

    first = decide_number(a_training(), None, {}, {})
    same = decide_number(a_training(dataset_version=6), newest, {}, {})
    late = decide_number(a_training(dataset_version=5), newest, {}, {})
    moved = decide_number(a_training(dataset="others", dataset_version=1), newest, {}, {})

    assert isinstance(first, ModelRegistered)
    assert isinstance(same, ModelRegistered)
    assert isinstance(moved, ModelRegistered)
    assert (first.version, same.version, moved.version) == (1, 5, 5)
    assert isinstance(late, CandidateSuperseded)
    assert (late.by_version, late.by_dataset_version) == (4, 6)


def test_authors_are_named_by_their_part_and_nobody_is_invented() -> None:
    authors = authors_of(spec="ada", data="bob", training="")

    said = decide_number(a_training(), None, {}, authors)

    assert isinstance(said, ModelRegistered)
    assert said.authors == {"spec": "ada", "data": "bob"}


def faults(**changes: Any) -> list[str]:
    kinds = {"a": "number", "site": "text", "y": "number", "t": "time"}
    return [fault.pointer for fault in faults_of(read_spec(a_spec(**changes)), kinds)]


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ({}, []),
        ({"data": {"dataset": "d", "target": "y", "features": ["a", "y"]}}, ["/data/features/1"]),
        ({"data": {"dataset": "d", "target": "y", "features": ["a", "a"]}}, ["/data/features/1"]),
        ({"data": {"dataset": "d", "target": "y", "time": "y"}}, ["/data/time"]),
        ({"serving": {"entity": "y"}}, ["/serving/entity"]),
        ({"train": {"baseline": {"rule": "column", "column": "a"}}}, []),
        ({"train": {"baseline": {"rule": "last_value", "column": "a"}}}, []),
        (
            {"train": {"baseline": {"rule": "column", "column": "y"}}},
            ["/train/baseline/column"],
        ),
        (
            {"train": {"baseline": {"rule": "seasonal_naive", "column": "gone"}}},
            ["/train/baseline/column"],
        ),
        (
            {"train": {"baseline": {"rule": "expression", "expression": "a + site"}}},
            ["/train/baseline/expression"],
        ),
        (
            {"train": {"baseline": {"rule": "expression", "expression": "open(a)"}}},
            ["/train/baseline/expression"],
        ),
        ({"train": {"baseline": "majority"}}, ["/train/baseline"]),
        ({"task": "classification", "train": {"baseline": "mean"}}, ["/train/baseline"]),
        (
            {"train": {"baseline": {"rule": "constant", "value": "high"}}},
            ["/train/baseline/value"],
        ),
        ({"gates": [{"metric": "brier", "vs": "champion"}]}, ["/gates/0/metric"]),
        ({"gates": [{"metric": "r2", "vs": "champion"}]}, []),
        ({"gates": [{"metric": "pinball@0.9", "vs": "champion"}]}, []),
        ({"gates": [{"metric": "acme.losses:tail", "vs": "champion"}]}, []),
        (
            {"task": "classification", "gates": [{"metric": "pinball@0.9", "vs": "champion"}]},
            ["/gates/0/metric"],
        ),
        ({"slices": [{"name": "n", "where": "site == 'a'", "metric": "f1"}]}, ["/slices/0/metric"]),
        ({"slices": [{"name": "n", "where": "gone > 1 and a > 1"}]}, ["/slices/0/where"]),
        ({"gates": [{"metric": "mae", "vs": "champion", "slice": "y > 1"}]}, ["/gates/0/slice"]),
        ({"evaluation": {"entity": "gone"}}, ["/evaluation/entity"]),
        ({"checks": {"monotone": {"site": "increasing"}}}, ["/checks/monotone/site"]),
        ({"checks": {"monotone": {"a": "increasing"}}}, []),
        ({"triggers": {"schedule": "0 3 * * *"}}, []),
        ({"triggers": {"schedule": "at noon"}}, ["/triggers/schedule"]),
        ({"data": {"dataset": "d", "target": "z"}}, ["/data/target"]),
        ({"data": {"dataset": "d", "target": "site"}}, ["/data/target"]),
    ],
)
def test_a_specification_is_judged_beyond_its_form(
    changes: dict[str, Any], pointers: list[str]
) -> None:
    assert faults(**changes) == pointers


def test_before_there_is_data_columns_are_taken_on_trust() -> None:
    spec = read_spec(a_spec(data={"dataset": "d", "target": "anything"}))

    assert faults_of(spec, None) == ()


def test_code_digests_follow_the_specification_and_what_it_names() -> None:
    spec = read_spec(a_spec(train={"candidates": [{"use": "acme.models:Ridge"}]}))
    lock = Lock({"scikit-learn": "1.9.0", "acme": "2.0", "numpy": "2.4"}, "0" * 64)

    versions = lock.versions(modules_of(spec))

    assert versions == {"scikit-learn": "1.9.0", "acme": "2.0"}
    digest = code_digest(spec, versions)
    assert digest == code_digest(spec, dict(reversed(versions.items())))
    assert digest != code_digest(spec, versions | {"acme": "2.1"})
    assert digest != code_digest(read_spec(a_spec()), versions)


def test_a_changed_rollout_or_gate_is_no_change_of_code() -> None:
    spec = read_spec(a_spec())
    gated = read_spec(
        a_spec(gates=[{"metric": "mae", "vs": "baseline"}], rollout={"strategy": "direct"})
    )

    assert code_digest(gated, {}) == code_digest(spec, {})
    assert gated.digest() != spec.digest()


def test_what_is_not_installed_here_counts_by_the_lock() -> None:
    versions = Lock({}, "f" * 64).versions(frozenset({"nowhere_to_be_found"}))

    assert versions == {"nowhere-to-be-found": f"unknown in lock {'f' * 64}"}


def test_modules_inside_arguments_count_too() -> None:
    pipeline = {
        "use": "sklearn.pipeline.Pipeline",
        "with": {"steps": [["scale", {"use": "acme.scaling.Scale"}]]},
    }
    spec = read_spec(a_spec(train={"candidates": [pipeline]}))

    assert modules_of(spec) == {"sklearn", "acme"}


def test_pins_are_read_from_a_lock(tmp_path: Any) -> None:
    file = tmp_path / "lock"
    file.write_text("Scikit_Learn==1.9.0 \\\n    --hash=sha256:aa\nnumpy==2.4.6 ; x == 'y'\n")

    assert Lock.read(file).pins == {"scikit-learn": "1.9.0", "numpy": "2.4.6"}
    assert Lock.read(None).pins == {}


@pytest.mark.parametrize("kind", DECISIONS, ids=lambda kind: str(kind.TYPE))
def test_every_decision_is_told_in_a_sentence(kind: Any) -> None:
    text = sentence(example_of(kind).event)

    assert text.endswith(".")
    assert kind.TYPE not in text


def test_a_comparison_orders_columns_by_how_far_they_moved() -> None:
    old = a_profile(
        a_column("calm", mean=1.0, deviation=1.0),
        a_column("moved", mean=1.0, deviation=2.0, quantiles={"0.5": 1.0}),
        a_column("constant", mean=4.0, deviation=0.0),
        a_column("word", "text", top=(("a", 0.5), ("b", 0.5))),
        a_column("gone"),
    )
    new = a_profile(
        a_column("calm", mean=1.1, deviation=1.0),
        a_column("moved", mean=7.0, deviation=1.0, quantiles={"0.5": 5.0}),
        a_column("constant", mean=4.0, deviation=0.0, count=5, missing=15),
        a_column("word", "text", top=(("a", 0.5), ("c", 0.5))),
        a_column("new"),
        rows=20,
    )

    found = compare(old, new, old_kinds=old.kinds, new_kinds=new.kinds | {"calm": "integer"})

    assert [shift.column for shift in found.shifts] == ["moved", "constant", "word", "calm"]
    moved = found.shifts[0]
    assert (moved.mean_in_deviations, moved.deviation_ratio) == (3.0, 0.5)
    assert moved.quantiles_in_deviations == {"0.5": 2.0}
    assert found.shifts[1].missing_share == (0.0, 0.75)
    assert found.shifts[2].share_moved == 0.5
    assert (found.added, found.removed) == (("new",), ("gone",))
    assert [(c.column, c.old, c.new) for c in found.changed] == [("calm", "number", "integer")]
