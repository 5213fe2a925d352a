"""What people read: moments, names of files, and where the right names are listed."""

from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import Run
from tidewheel import screen
from tidewheel.errors import of_answer, plainly


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2026-11-21T18:21:33.775423+00:00", "2026-11-21 18:21:33"),
        ("2026-11-21T18:21:33Z", "2026-11-21 18:21:33"),
        ("2026-11-21T18:21:33+02:00", "2026-11-21T18:21:33+02:00"),
        ("v2 since 2026-11-21T18:21:33Z", "v2 since 2026-11-21T18:21:33Z"),
        (103.022, "103"),
        (None, "-"),
    ],
)
def test_a_moment_of_utc_is_a_date_and_a_time(value: Any, text: str) -> None:
    assert screen.cell(value) == text


@pytest.mark.parametrize(
    ("path", "fix"),
    [
        ("/v1/models/pmup/drift", "`tidewheel models` lists what there is"),
        ("/v1/datasets/pmups/versions", "`tidewheel datasets` lists what there is"),
        ("/v1/brakes/release", "`tidewheel brakes` lists those that are set"),
        ("/v1/predictions/p-1/explain", ""),
    ],
)
def test_what_is_not_found_leads_to_where_the_right_name_is(path: str, fix: str) -> None:
    problem = {"detail": "There is none.", "instance": path}

    failure = of_answer("nothing is done", 404, problem, {})

    assert failure.fix == fix


def test_a_file_that_is_missing_is_told_without_numbers(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        (tmp_path / "none").read_text()

    assert plainly(raised.value) == "there is no such file"


def test_an_empty_file_of_rows_is_named(tidewheel: Run, tmp_path: Path) -> None:
    empty = tmp_path / "rows.csv"
    empty.touch()

    ran = tidewheel("predict", "pump", "--file", str(empty))

    assert (ran.code, ran.err) == (
        65,
        f"error: pump gives no prediction\n  why: {empty} has no rows\n",
    )
