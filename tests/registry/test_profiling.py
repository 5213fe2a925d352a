"""What the child finds out about files, and what it refuses to find out."""

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from services.registry.profiling.child import examine
from services.registry.profiling.examiner import Examiner
from services.registry.profiling.limits import Limits
from services.registry.profiling.lines import lines_of
from services.registry.profiling.profile import Profile, read_profile
from shared.events import Reason


def looked_at(path: Path, **limits: Any) -> Profile | list[str]:
    name = "parquet" if path.suffix == ".parquet" else "csv"
    answer = examine({"path": str(path), "format": name, "limits": Limits(**limits).plain()})
    if "profile" in answer:
        return read_profile(answer["profile"])
    return [fault["detail"] for fault in answer["faults"]]


def profile_of(path: Path, **limits: Any) -> Profile:
    found = looked_at(path, **limits)
    assert isinstance(found, Profile), found
    return found


def faults_of(path: Path, **limits: Any) -> str:
    found = looked_at(path, **limits)
    assert isinstance(found, list), found
    return "; ".join(found)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return tmp_path / "file.csv"


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    return tmp_path / "file.parquet"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", "+3"], "integer"),
        (["1", "2.5"], "number"),
        (["1e-3", "2"], "number"),
        (["9999999999999999999999", "1"], "number"),
        (["true", "False"], "boolean"),
        (["2026-11-21", "2026-11-22"], "time"),
        (["2026-11-21T09:00:00Z", "2026-11-22 10:00"], "time"),
        (["2026-13-45", "2026-11-22"], "text"),
        (["1_000", "2"], "text"),
        (["0x1F", "2"], "text"),
        (["١٢", "2"], "text"),
        (["=cmd|'/c calc'!A0", "2"], "text"),
        (["1", "NA"], "text"),
        (["1", "", "2"], "integer"),
        (["1", '""'], "integer"),
    ],
)
def test_the_kind_of_a_column_is_that_of_all_its_values(
    csv: Path, values: list[str], kind: str
) -> None:
    csv.write_text("x,y\n" + "".join(f"{value},0\n" for value in values))

    assert profile_of(csv).kinds["x"] == kind


def test_the_last_of_many_rows_decides_the_kind_as_well(csv: Path) -> None:
    csv.write_text("x\n" + "1\n" * 30_000 + "1.5\n")

    assert profile_of(csv).kinds == {"x": "number"}


def test_the_value_that_spoils_a_column_is_named(csv: Path) -> None:
    csv.write_text("x\n" + "1\n" * 20 + "about 2\n")

    oddity = profile_of(csv).columns[0].oddity

    assert oddity is not None
    assert (oddity.kind, oddity.row, oddity.value) == ("integer", 21, "about 2")


def test_missing_and_infinite_values_are_counted_and_placed(csv: Path) -> None:
    csv.write_text("x,z\n1,a\n,a\nnan,\ninf,b\n-inf,b\n1e999,b\n")

    x, z = profile_of(csv).columns

    assert (x.count, x.missing, x.infinite) == (4, 2, 3)
    assert (x.first_missing_row, x.first_infinite_row) == (2, 4)
    assert (x.minimum, x.maximum) == (1.0, 1.0)
    assert (z.missing, z.first_missing_row, z.top) == (1, 3, (("b", 0.6), ("a", 0.4)))


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_line_ends_and_a_mark_at_the_front_change_nothing(csv: Path, ends: str) -> None:
    csv.write_bytes(b"\xef\xbb\xbf" + f"x,y{ends}1,2{ends}3,4".encode())

    profile = profile_of(csv)

    assert (profile.rows, profile.kinds) == (2, {"x": "integer", "y": "integer"})


def test_quoted_fields_may_hold_commas_and_line_ends(csv: Path) -> None:
    csv.write_text('x,y\n"a,b",1\n"line\nbreak",2\n')

    profile = profile_of(csv)

    assert profile.rows == 2
    assert profile.kinds == {"x": "text", "y": "integer"}


def test_the_same_file_has_the_same_profile(csv: Path) -> None:
    csv.write_text("x,y\n" + "".join(f"{i % 7},{i}\n" for i in range(5000)))

    assert profile_of(csv).to_bytes() == profile_of(csv).to_bytes()


def test_large_files_are_streamed_and_their_statistics_agree(csv: Path, seed: int) -> None:
    numbers = np.random.default_rng(seed).normal(5.0, 2.0, 700_000)
    text = np.where(numbers > 5, "high", "low")
    pl.DataFrame({"x": numbers, "t": text}).write_csv(csv)
    assert csv.stat().st_size > 8_000_000

    profile = profile_of(csv)

    x, t = profile.columns
    assert profile.rows == 700_000
    assert profile.sampled_rows is not None
    assert profile.sampled_rows < 200_000
    assert x.mean == pytest.approx(numbers.mean())
    assert x.deviation == pytest.approx(numbers.std(ddof=1))
    # Counted by registers, not one by one: off by up to 14 % over the seeds seen.
    assert x.distinct == pytest.approx(700_000, rel=0.25)
    assert x.distinct_is_estimate
    assert x.quantiles is not None
    for probability, value in x.quantiles.items():
        assert value == pytest.approx(np.quantile(numbers, float(probability)), abs=0.05)
    assert dict(t.top)["high"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("quoted", [False, True])
def test_lines_are_counted_alike_with_and_without_quotation_marks(
    csv: Path, seed: int, *, quoted: bool
) -> None:
    chance = random.Random(seed)
    mark = '"' if quoted else ""
    widths = [chance.choice([3, 3, 3, 2, 4]) for _ in range(200)]
    rows = [",".join(f"{mark}{chance.random():.3f}{mark}" for _ in range(w)) for w in widths]
    csv.write_text("a,b,c\n" + "\n".join(rows))

    found = lines_of(csv, Limits())

    wrong = [place for place, width in enumerate(widths) if width != 3]
    assert found.rows == 200
    assert f"line {wrong[0] + 2} has {widths[wrong[0]]} fields" in found.faults[0].detail
    assert f"and {len(wrong) - 1} more" in found.faults[0].detail


def test_parquet_types_become_kinds(parquet: Path) -> None:
    frame = pl.DataFrame(
        {
            "i": pl.Series([1, None, 3], dtype=pl.UInt8),
            "f": [1.5, float("nan"), 2.0],
            "b": [True, None, False],
            "s": ["x", None, "y"],
            "c": pl.Series(["u", "v", "u"], dtype=pl.Categorical),
            "n": pl.Series([None, None, None]),
            "d": pl.Series(["2026-11-21"] * 3).str.to_date(),
        }
    )
    frame.write_parquet(parquet)

    profile = profile_of(parquet)

    assert list(profile.kinds.values()) == [
        "integer", "number", "boolean", "text", "text", "text", "time",
    ]  # fmt: skip
    assert [column.missing for column in profile.columns] == [1, 1, 1, 1, 0, 3, 0]


def test_columns_that_are_no_values_are_refused_with_their_type(parquet: Path) -> None:
    pl.DataFrame({"l": [[1, 2]], "s": [{"a": 1}], "b": [b"x"], "x": [1]}).write_parquet(parquet)

    told = faults_of(parquet)

    assert told.count("is of the Parquet type") == 3


def test_a_gate_is_told_with_its_figures(csv: Path, parquet: Path) -> None:
    csv.write_text("a,b,c\n" + "1,2,3\n" * 50)
    pl.DataFrame({"a": [1] * 50, "b": [2] * 50, "c": ["long"] * 50}).write_parquet(parquet)

    assert "50 rows x 3 columns are more than 100 cells" in faults_of(csv, cells=100)
    assert "50 rows x 3 columns are more than 100 cells" in faults_of(parquet, cells=100)
    assert "there are 3 columns, 2 are allowed" in faults_of(csv, columns=2)
    assert "there are 3 columns, 2 are allowed" in faults_of(parquet, columns=2)
    assert "the header is longer than 4 bytes" in faults_of(csv, header_bytes=4)
    assert "decoded, it has 1000 bytes" in faults_of(parquet, decoded_bytes=900)


def test_a_million_columns_are_refused_from_the_header_alone(csv: Path) -> None:
    csv.write_text(",".join(f"c{i}" for i in range(1_000_000)) + "\n" + "1," * 999_999 + "1\n")

    assert "the header is longer than" in faults_of(csv)


@pytest.mark.parametrize("cut", [1, 9, 100])
def test_a_parquet_file_that_was_cut_off_is_refused(parquet: Path, cut: int) -> None:
    pl.DataFrame({"x": list(range(1000))}).write_parquet(parquet)
    parquet.write_bytes(parquet.read_bytes()[:-cut])

    assert "has no footer" in faults_of(parquet)


def test_a_footer_that_lies_about_its_length_is_refused(parquet: Path) -> None:
    pl.DataFrame({"x": [1]}).write_parquet(parquet)
    whole = parquet.read_bytes()
    parquet.write_bytes(whole[:-8] + (2**31).to_bytes(4, "little") + b"PAR1")

    assert "claims a footer" in faults_of(parquet)


async def test_damaged_parquet_never_harms_the_service(tmp_path: Path, seed: int) -> None:
    file = io.BytesIO()
    pl.DataFrame({"x": list(range(300)), "s": [f"t{i % 9}" for i in range(300)]}).write_parquet(
        file
    )
    whole = file.getvalue()
    chance = random.Random(seed)
    examiner = Examiner.of(Limits(seconds=20, megabytes=256), 2)

    for _ in range(25):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(4, len(damaged) - 8)] = chance.randrange(256)
        (tmp_path / "x").write_bytes(bytes(damaged))
        found = await examiner.examine(tmp_path / "x")
        assert isinstance(found, Profile) or all(isinstance(one, Reason) for one in found)

    await examiner.confined.close()


@pytest.fixture
def bomb(parquet: Path) -> Path:
    """One repeated value: some kilobytes on disk, 400 MB once decoded."""
    frame = pl.DataFrame({"x": np.zeros(50_000_000)})
    frame.write_parquet(parquet, row_group_size=50_000_000)
    assert parquet.stat().st_size < 1_000_000
    return parquet


async def test_a_file_that_unfolds_beyond_its_memory_is_refused(bomb: Path) -> None:
    examiner = Examiner.of(Limits(seconds=60, megabytes=100), 1)

    found = await examiner.examine(bomb)

    await examiner.confined.close()
    assert not isinstance(found, Profile)
    assert "takes more than 100 MB" in found[0].detail


@pytest.fixture
def slow(csv: Path) -> Path:
    csv.write_text('x,y\n"a",1\n' * 400_000)
    return csv


async def test_a_file_that_takes_too_long_is_refused(slow: Path) -> None:
    examiner = Examiner.of(Limits(seconds=0.05), 1)

    found = await examiner.examine(slow)

    await examiner.confined.close()
    assert not isinstance(found, Profile)
    assert "takes longer than" in found[0].detail
