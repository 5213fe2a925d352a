"""Which names there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.names import NAME, RESERVED, column_name, dataset_name, model_name


@pytest.mark.parametrize("name", ["a", "pump-7", "0.x_y", "a" * 63, "v1"])
def test_a_name_is_taken_as_it_is(name: str) -> None:
    assert model_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "A", "-a", ".a", "_a", "a b", "a/b", "a\n", "é", "a" * 64, "a\x00", *sorted(RESERVED)],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name is"):
        model_name(name)


@given(st.text(max_size=70))
def test_exactly_the_pattern_is_accepted(text: str) -> None:
    fits = NAME.fullmatch(text) is not None and text not in RESERVED

    try:
        accepted = model_name(text) == text
    except ValueError:
        accepted = False

    assert accepted is fits


@pytest.mark.parametrize("name", ["a", "a/b", "plant/line/pumps/daily"])
def test_a_dataset_is_up_to_four_names(name: str) -> None:
    assert dataset_name(name) == name


@pytest.mark.parametrize("name", ["", "/", "a/", "/a", "a//b", "a/b/c/d/e", "a/../b", "a/data"])
def test_a_dataset_is_nothing_else(name: str) -> None:
    with pytest.raises(ValueError, match=r"a name is|a dataset is"):
        dataset_name(name)


@pytest.mark.parametrize("name", ["y", "Load (kW)", "größe", "a.b-c_d", "温度", "x" * 128])
def test_columns_are_named_freely(name: str) -> None:
    assert column_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "x" * 129, "a\tb", "a\nb", "<a>", 'a"', "it's", "a&b", "\u202e"]
)
def test_columns_that_would_do_harm_where_they_are_shown_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a column is"):
        column_name(name)
