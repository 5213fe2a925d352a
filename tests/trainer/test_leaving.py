"""Rows of annotated periods: which are not learned from, and when they are all the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter

from services.trainer.domain import Exclusion, digest_of_exclusions, exclusions_for, leaves_out
from services.trainer.fitting.leaving import is_better_with, left_out
from services.trainer.fitting.reading import CannotTrain, Table
from services.trainer.fitting.run import fit
from services.trainer.fitting.splitting import split_rows
from shared.holdout import read_holdout
from shared.manifest import read_manifest
from shared.spec import read_spec
from tests.support.house import a_spec

SECOND = 1_000_000
TAGS = ("transient", "corrupt", "held_out")


def a_table(rows: int = 100) -> Table:
    at = np.arange(rows, dtype=np.float64)
    kinds = {"at": "number", "a": "number", "y": "number"}
    return Table(kinds=kinds, values={"at": at, "a": at % 7, "y": at % 7 * 2}, rows=rows)


def a_period(
    start: int, end: int, tag: str = "transient", name: str = "1", column: str = "at"
) -> dict[str, Any]:
    return {
        "annotation": name,
        "tag": tag,
        "column": column,
        "starts": start * SECOND,
        "ends": end * SECOND,
    }


def test_rows_of_a_period_are_left_out_up_to_its_end() -> None:
    found = left_out(a_table(), [a_period(10, 20)], TAGS)

    assert np.flatnonzero(found.mask).tolist() == list(range(10, 20))
    assert (found.rows, found.share, found.tags) == (10, 0.1, {"transient": 10})
    assert found.annotations == ("1",)


def test_of_two_annotations_over_a_row_the_later_one_counts() -> None:
    periods = [a_period(10, 20), a_period(15, 30, "normal", "2"), a_period(18, 19, "corrupt", "3")]

    found = left_out(a_table(), periods, TAGS)

    assert np.flatnonzero(found.mask).tolist() == [10, 11, 12, 13, 14, 18]
    assert found.annotations == ("1", "3")


def test_a_tag_that_is_learned_from_leaves_nothing_out() -> None:
    assert left_out(a_table(), [a_period(10, 20, "new_regime")], TAGS).rows == 0


def test_nothing_is_learned_by_accident_from_a_period_that_cannot_be_found() -> None:
    with pytest.raises(CannotTrain, match="lift the annotations"):
        left_out(a_table(), [a_period(0, 9, column="when")], TAGS)


def test_leaving_rows_out_moves_no_other_row() -> None:
    table, data = a_table(), read_spec(a_spec("m", "flow", data=DATA)).data
    before = split_rows(table, data)
    mask = left_out(table, [a_period(70, 85)], TAGS).mask

    after = split_rows(table, data, mask)

    assert set(after.held_out) == set(before.held_out) - set(range(80, 85))
    assert set(after.train) == set(before.train) - set(range(70, 80))
    assert after.left_out.tolist() == list(range(70, 85))
    assert after.embargoed == before.embargoed
    assert set(after.train_with) == set(before.train)


def test_where_most_held_out_rows_are_left_out_the_others_are_parted_anew() -> None:
    table, data = a_table(), read_spec(a_spec("m", "flow", data=DATA)).data
    mask = left_out(table, [a_period(85, 100)], TAGS).mask

    split = split_rows(table, data, mask)

    assert split.held_out.tolist() == list(range(68, 85))


def test_more_rows_are_taken_back_only_if_that_is_shown_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    losses = rng.exponential(size=400)

    assert is_better_with(losses, losses - 0.5)
    assert not is_better_with(losses, losses + 0.5)
    assert not is_better_with(losses, losses)
    assert not is_better_with(losses[:1], losses[:1] - 1)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_rows_that_resemble_their_neighbours_are_not_taken_back_by_chance(
    seed: int, phi: float
) -> None:
    noise = np.random.default_rng(seed).normal(size=(600, 1100))
    differences = lfilter([1.0], [1.0, -phi], noise, axis=1)[:, 100:]

    taken = sum(is_better_with(one, np.zeros(1000)) for one in differences)

    # 30 are expected; 60 have a probability below 1e-5, and rows taken for independent make 200.
    assert taken < 60


def an_exclusion(name: str = "1", tag: str = "transient") -> Exclusion:
    return Exclusion(annotation=name, tag=tag, column="at", starts=0, ends=9)


def test_who_adapts_learns_from_what_passes() -> None:
    adapting = read_spec(a_spec("m", "flow", monitor={"transient": "adapt"}))

    assert "transient" not in leaves_out(adapting)
    assert exclusions_for(adapting, [an_exclusion()]) == ()
    assert len(exclusions_for(read_spec(a_spec("m", "flow")), [an_exclusion()])) == 1


def test_the_same_annotations_have_the_same_digest_whatever_their_order() -> None:
    spec = read_spec(a_spec("m", "flow"))
    both = [an_exclusion("2", "corrupt"), an_exclusion("1")]

    digests = {digest_of_exclusions(exclusions_for(spec, given)) for given in (both, both[::-1])}

    assert len(digests) == 1
    assert digests != {digest_of_exclusions(())}


DATA = {"dataset": "flow", "target": "y", "time": "at"}


def fitted(periods: list[dict[str, Any]], bad: slice, offset: float) -> dict[str, Any]:
    """A run over 300 rows of y = 2a, some of them off."""
    y = [2.0 * (i % 7) for i in range(300)]
    y[bad] = [value + offset for value in y[bad]]
    lines = ["at,a,y", *(f"{i},{i % 7},{value}" for i, value in enumerate(y))]
    spec = a_spec(
        "m",
        "flow",
        data=DATA,
        train={"candidates": [{"use": "sklearn.linear_model.LinearRegression"}]},
    )
    digests = dict.fromkeys(
        ("dataset_digest", "spec_digest", "code_digest", "exclusions_digest"), "0" * 64
    )
    return fit(
        {
            "data": "\n".join(lines).encode(),
            "format": "csv",
            "columns": {"at": "integer", "a": "integer", "y": "number"},
            "spec": spec,
            "allowed": ["sklearn"],
            "model": "m",
            "dataset": "flow",
            "dataset_version": 1,
            "exclusions": periods,
            "leave_out": TAGS,
            **digests,
        }
    )


NAME = "018f0000-0000-7000-8000-000000000001"


def test_a_run_without_the_bad_rows_is_better_and_its_manifest_says_what_is_missing() -> None:
    bad = slice(40, 70)
    with_them = fitted([], bad, 50.0)
    without = fitted([a_period(40, 70, name=NAME)], bad, 50.0)

    told = read_manifest(without["manifest"]).left_out
    assert told is not None
    assert (told.rows, told.tags, told.annotations) == (30, {"transient": 30}, (NAME,))
    assert told.loss_without is not None
    assert told.loss_with is not None
    assert told.loss_without < told.loss_with
    assert (without["rows_left_out"], without["periods"]) == (30, [NAME])
    assert without["metrics"]["mae"] < 0.01 < 1.0 < with_them["metrics"]["mae"]
    rows = read_holdout(without["left_out"])
    assert len(rows) == 30
    assert not set(rows.row_hashes) & set(rows.train_hashes)


def test_rows_that_are_shown_to_help_are_learned_from_all_the_same() -> None:
    # What was called transient is how things have been ever since.
    helps = fitted([a_period(60, 190, name=NAME)], slice(60, 300), 50.0)

    told = read_manifest(helps["manifest"]).left_out
    assert told is not None
    assert told.kept
    assert (told.rows, helps["rows_left_out"], helps["periods"]) == (0, 0, [])
    assert told.annotations == (NAME,)
    assert "left_out" not in helps
