"""What is usual in the columns of a version."""

import numpy as np
import pytest

from services.trainer.fitting.backgrounds import MOST_ROWS, build_background
from shared.background import read_background, rough_background
from shared.errors import Unprocessable
from shared.manifest import Column

COLUMNS = (Column(name="load", kind="number"), Column(name="city", kind="text"))
CITY = np.empty(100, dtype=object)
CITY[:] = ["rome"] * 60 + ["oslo"] * 30 + [None] * 10
LOAD = np.append(np.arange(80.0) % 4, [np.nan] * 20)
VALUES = {"load": LOAD, "city": CITY}


def test_a_background_tells_means_shares_and_quantiles() -> None:
    load, city = read_background(build_background(COLUMNS, VALUES, seed=1)).profiles

    assert load.mean == 1.5
    assert [load.missing, city.missing] == pytest.approx([0.2, 0.1])
    assert (load.quantiles[0], load.quantiles[10], load.quantiles[-1]) == (0.0, 1.5, 3.0)
    assert load.levels == ((0.0, 0.2), (1.0, 0.2), (2.0, 0.2), (3.0, 0.2))
    assert city.levels == (("rome", 0.6), ("oslo", 0.3))


def test_its_rows_are_rows_of_training_and_the_same_every_time() -> None:
    data = build_background(COLUMNS, VALUES, seed=1)
    found = read_background(data)

    known = {(None if a != a else a, b) for a, b in zip(LOAD.tolist(), CITY, strict=True)}
    assert len(found.rows) == MOST_ROWS
    assert set(found.rows) <= known
    assert build_background(COLUMNS, VALUES, seed=1) == data


def test_a_column_without_any_value_is_missing() -> None:
    nothing = {"load": np.full(3, np.nan), "city": np.array([None] * 3, dtype=object)}

    load, city = read_background(build_background(COLUMNS, nothing, seed=1)).profiles

    assert (load.mean, load.missing, load.quantiles) == (None, 1.0, ())
    assert (city.levels, city.missing) == ((), 1.0)


def test_old_versions_have_the_middle_of_their_ranges() -> None:
    columns = (
        Column(name="load", kind="number", minimum=0.0, maximum=10.0),
        Column(name="city", kind="text", categories=("rome", "oslo")),
        Column(name="lag", kind="number"),
    )

    found = rough_background(columns)

    assert found.is_rough
    assert found.rows == ((5.0, "rome", None),)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"format": "other"}', b'{"profiles": []}'])
def test_other_bytes_are_no_background(data: bytes) -> None:
    with pytest.raises(Unprocessable):
        read_background(data)
