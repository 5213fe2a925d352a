"""Which held-out rows a condition means."""

from __future__ import annotations

import numpy as np
import pytest

from services.evaluator.masks import mask_of
from shared.predicates import read_predicate

SITE = np.array(["north", "south", None, "south"], dtype=object)
COLUMNS = {
    "load": np.array([90.0, 70.0, np.nan, 80.0]),
    "wet": np.array([1.0, 0.0, np.nan, 1.0]),
    "site": SITE,
    "heat now": np.array([1.0, 2.0, 3.0, 4.0]),
}


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("load > 75", [0, 3]),
        ("not load > 75", [1, 2]),
        ("75 < load <= 80", [3]),
        ("load > 75 and site == 'south'", [3]),
        ("load > 85 or site == 'south'", [0, 1, 3]),
        ("site in ['north', 'east']", [0]),
        ("site not in ['north']", [1, 3]),
        ("site == none", [2]),
        ("load != none", [0, 1, 3]),
        ("wet == true", [0, 3]),
        ("`heat now` >= 3", [2, 3]),
        ("`heat now` > load", []),
    ],
)
def test_a_condition_means_its_rows_and_a_missing_value_fulfils_none(
    condition: str, rows: list[int]
) -> None:
    mask = mask_of(read_predicate(condition), COLUMNS)

    assert np.flatnonzero(mask).tolist() == rows


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("gone > 1", "no column 'gone'"),
        ("site > 1", "another kind"),
        ("load == 'much'", "compared with a text"),
    ],
)
def test_a_condition_that_does_not_fit_its_columns_is_told(condition: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        mask_of(read_predicate(condition), COLUMNS)
