"""Bodies as JSON: strict about repeats, exact about places."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serving.prediction.reading import MalformedJson, read_json, rows_of
from shared.errors import InvalidInput, TooLarge

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(document=documents)
def test_what_is_written_is_read_back(document: Any) -> None:
    assert read_json(json.dumps(document).encode()) == document


@given(name=texts, deep=st.booleans())
def test_a_repeated_name_is_refused_wherever_it_stands(name: str, deep: bool) -> None:
    twice = f"{{{json.dumps(name)}: 1, {json.dumps(name)}: 2}}"
    body = f'{{"rows": [{twice}], "a:b": ":"}}' if deep else twice

    with pytest.raises(InvalidInput) as refused:
        read_json(body.encode())

    assert refused.value.code == "duplicate_key"


def test_a_repeat_that_is_written_differently_is_still_a_repeat() -> None:
    with pytest.raises(InvalidInput):
        read_json(b'{"load": 1, "\\u006coad": 2}')


def test_colons_in_texts_are_no_names() -> None:
    assert read_json(b'{"a": "x:y:z", "b": "::"}') == {"a": "x:y:z", "b": "::"}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"9" * 5_000, b'{"a" 1}'])
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedJson):
        read_json(body)


def test_one_row_and_many_rows_have_their_own_names() -> None:
    assert rows_of({"row": {"a": 1}}, 10) == [{"a": 1}]
    assert rows_of({"rows": [{"a": 1}, {"a": 2}]}, 10) == [{"a": 1}, {"a": 2}]


def test_more_rows_than_allowed_are_too_large() -> None:
    with pytest.raises(TooLarge):
        rows_of({"rows": [{}] * 11}, 10)
