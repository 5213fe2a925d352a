"""Open sketches in arrays: what they count is exactly what one sketch at a time would."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift_monitor.detection.filling import Filling, Group
from shared.joint import Basis
from shared.sketch import Layout, Sketch, category_cells, number_cells

ODD = ([1, 2], {"a": 1}, True, 3, "0.5", None, 10**400, float("inf"), float("nan"))


def a_layout(seed: int, *, numbers: int = 3, joint: bool = True) -> Layout:
    chance = np.random.default_rng(seed)
    cells = tuple(number_cells(f"x{i}", chance.normal(size=300)) for i in range(numbers))
    scores = tuple(
        (*np.linspace(-150, 150, cell.size - 1).astype(int).tolist(), 0) for cell in cells
    )
    words = chance.choice(list("abcdef"), size=40).astype(object)
    basis = Basis(features=tuple(range(numbers)), scores=scores, width=2.0)
    return Layout(features=(*cells, category_cells("c", words)), basis=basis if joint else None)


def some_rows(count: int, seed: int, *, numbers: int = 3) -> list[list[Any]]:
    chance = np.random.default_rng(seed)
    rows = chance.normal(size=(count, numbers)).tolist()
    words = chance.choice(list("abcxyz"), size=count).tolist()
    return [[*row, word] for row, word in zip(rows, words, strict=True)]


def one_by_one(layout: Layout, rows: Sequence[Sequence[Any]]) -> Sketch:
    return layout.sketch([list(column) for column in zip(*rows, strict=True)])


@pytest.mark.parametrize("together", [1, 3, 50, 1000])
def test_a_mixed_batch_counts_what_each_version_would_by_itself(together: int) -> None:
    layouts = {key: a_layout(key) for key in range(9)}
    filling: Filling[int] = Filling()
    for key, layout in layouts.items():
        filling.open(key, layout)
    rows = some_rows(1000, 1)
    keys = np.random.default_rng(2).integers(0, 9, size=1000).tolist()

    for start in range(0, 1000, together):
        filling.add(keys[start : start + together], rows[start : start + together])

    for key, layout in layouts.items():
        mine = [row for row, whose in zip(rows, keys, strict=True) if whose == key]
        assert filling.sketch(key) == one_by_one(layout, mine)


def test_odd_values_are_counted_as_one_sketch_would() -> None:
    layout, filling = a_layout(1), Filling[str]()
    filling.open("a", layout)
    rows: list[list[Any]] = [[value, 0.5, value, value] for value in ODD] + some_rows(30, 3)

    filling.add(["a"] * len(rows), rows)

    assert filling.sketch("a") == one_by_one(layout, rows)
    assert filling.sketch("a").invalid.tolist() == [3, 0, 3, 6]


def test_odd_values_are_counted_alike_whether_versions_share_their_levels_or_not() -> None:
    one, other = a_layout(1), a_layout(2)
    shared = replace(other, features=(*other.features[:-1], one.features[-1]))
    rows: list[list[Any]] = [[value, 0.5, value, value] for value in ODD] + some_rows(30, 3)
    random.Random(4).shuffle(rows)

    for second in (other, shared):
        filling = Filling[str]()
        filling.open("a", one)
        filling.open("b", second)
        filling.add([key for _ in rows for key in "ab"], [row for row in rows for _ in "ab"])

        assert filling.sketch("a") == one_by_one(one, rows)
        assert filling.sketch("b") == one_by_one(second, rows)


def test_many_rows_of_one_version_are_counted_as_few_are() -> None:
    layouts = {key: a_layout(key) for key in range(3)}
    filling: Filling[int] = Filling()
    for key, layout in layouts.items():
        filling.open(key, layout)
    rows = some_rows(9_500, 5)
    keys = [0] * 4_200 + [1] * 5_200 + [2] * 100

    filling.add(keys, rows)

    for key, (start, end) in enumerate([(0, 4_200), (4_200, 9_400), (9_400, 9_500)]):
        assert filling.sketch(key) == one_by_one(layouts[key], rows[start:end])


def test_versions_of_different_shapes_stand_beside_each_other() -> None:
    filling: Filling[str] = Filling()
    narrow, wide, bare = a_layout(1), a_layout(2, numbers=7), a_layout(3, joint=False)
    rows = {
        "narrow": some_rows(20, 1),
        "wide": some_rows(20, 2, numbers=7),
        "bare": some_rows(9, 3),
    }
    for key, layout in {"narrow": narrow, "wide": wide, "bare": bare}.items():
        filling.open(key, layout)

    filling.add(
        [key for key in rows for _ in rows[key]], [row for key in rows for row in rows[key]]
    )

    assert len(filling.banks) == 3
    assert filling.sketch("narrow") == one_by_one(narrow, rows["narrow"])
    assert filling.sketch("wide") == one_by_one(wide, rows["wide"])
    assert filling.sketch("bare") == one_by_one(bare, rows["bare"])


def a_layout_of(kinds: str, seed: int) -> Layout:
    """Numbers and words in this order; all numbers move together."""
    chance = np.random.default_rng(seed)
    words = chance.choice(list("abcdef"), size=40).astype(object)
    features = tuple(
        number_cells(f"x{i}", chance.normal(size=300))
        if kind == "n"
        else category_cells(f"x{i}", words)
        for i, kind in enumerate(kinds)
    )
    places = tuple(i for i, kind in enumerate(kinds) if kind == "n")
    scores = tuple(
        (*np.linspace(-150, 150, features[i].size - 1).astype(int).tolist(), 0) for i in places
    )
    basis = Basis(features=places, scores=scores, width=2.0) if places else None
    return Layout(features=features, basis=basis)


@st.composite
def versions(draw: st.DrawFn) -> tuple[str, int, int, int]:
    """Kinds of the features, how many of them are outputs, rows, and a seed."""
    kinds = draw(st.sampled_from(["nnnwn", "nnw", "nwn", "n", "wwn", "wnw"]))
    outputs = draw(st.integers(0, min(2, len(kinds) - 1)))
    return kinds, outputs, draw(st.integers(1, 9)), draw(st.integers(0, 3))


@settings(max_examples=40, deadline=None)
@given(st.lists(versions(), min_size=1, max_size=8))
def test_versions_of_any_shapes_count_together_what_each_would_alone(
    drawn: list[tuple[str, int, int, int]],
) -> None:
    filling: Filling[int] = Filling()
    groups: list[Group[int]] = []
    expected: list[Sketch] = []
    for key, (kinds, outputs, count, seed) in enumerate(drawn):
        layout, chance = a_layout_of(kinds, seed), np.random.default_rng(key)
        columns: list[list[Any]] = [
            (
                chance.normal(size=count) if kind == "n" else chance.choice(list("abxy"), count)
            ).tolist()
            for kind in kinds
        ]
        features = len(kinds) - outputs
        filling.open(key, layout)
        groups.append(Group(key, [*zip(*columns[:features], strict=True)], columns[features:]))
        expected.append(layout.sketch(columns))

    filling.count(groups)

    assert [filling.sketch(key) for key in range(len(drawn))] == expected


def test_counting_goes_on_where_a_stored_sketch_ends() -> None:
    layout, filling = a_layout(1), Filling[str]()
    first, second = some_rows(40, 1), some_rows(30, 2)
    stored = one_by_one(layout, first).to_bytes()

    filling.open("a", layout, layout.read(stored))
    filling.add(["a"] * 30, second)

    assert filling.rows("a") == 70
    assert filling.sketch("a") == one_by_one(layout, [*first, *second])


def test_a_slot_is_used_again_and_begins_empty() -> None:
    filling: Filling[str] = Filling()
    filling.open("a", a_layout(1))
    filling.add(["a"] * 10, some_rows(10, 1))
    filling.drop("a")
    layout = a_layout(2)

    filling.open("b", layout)

    assert filling.sketch("b") == layout.blank()
    assert "a" not in filling


def test_a_key_that_is_not_open_counts_nothing() -> None:
    filling: Filling[str] = Filling()
    filling.open("a", a_layout(1))

    with pytest.raises(KeyError):
        filling.add(["a", "b"], some_rows(2, 1))

    assert filling.rows("a") == 0


def test_a_version_of_twenty_features_takes_less_than_ten_kilobytes() -> None:
    filling: Filling[int] = Filling()
    chance = np.random.default_rng(4)
    rows = chance.normal(size=(3000, 14))
    cells = tuple(number_cells(f"x{i}", rows[:, i]) for i in range(14))
    words = chance.choice(list("abcdefgh"), size=60).astype(object)
    scores = tuple(
        (*np.linspace(-150, 150, cell.size - 1).astype(int).tolist(), 0) for cell in cells
    )
    layout = Layout(
        features=(*cells, *(category_cells(f"c{i}", words) for i in range(6))),
        basis=Basis(features=tuple(range(14)), scores=scores, width=5.0),
    )

    for key in range(250):
        filling.open(key, layout)

    (bank,) = filling.banks.values()
    assert filling.size_bytes / len(bank.rows) < 10_000
