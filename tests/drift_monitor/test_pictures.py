"""Pictures say what they show, hold nothing that could run, and depend on the figures alone."""

from __future__ import annotations

from datetime import timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.drift_monitor.pictures import (
    Cell,
    Judged,
    Shares,
    distribution,
    heat,
    quality,
)
from services.drift_monitor.pictures.heat import MOST_ROWS, strength
from tests.drift_monitor.building import NOON

HOSTILE = '</title><script>alert("1")</script>\u202e<b onload=x>'
MOMENTS = [NOON + timedelta(hours=n) for n in range(3)]


def a_cell(**changes: object) -> Cell:
    plain: dict[str, object] = {
        "feature": "a", "column": 0, "p": 1e-9, "tier": "critical", "words": "a lies above"
    }  # fmt: skip
    return Cell(**(plain | changes))  # type: ignore[arg-type] # plain values by name


def texts(svg: bytes) -> list[str]:
    return ["".join(part.itertext()) for part in ElementTree.fromstring(svg).iter()]


def test_the_worst_feature_is_on_top() -> None:
    cells = [a_cell(feature="mild", p=0.2, tier="clean"), a_cell(feature="worst")]

    svg = heat("pump v1", MOMENTS, cells, alpha=1e-3).decode()

    assert svg.index(">worst<") < svg.index(">mild<")
    assert "2 features" in svg


def test_what_is_more_surprising_is_painted_more_strongly() -> None:
    found = [strength(a_cell(p=p), 1e-3) for p in (1e-3, 1e-6, 1e-12, 1e-300)]

    assert found == sorted(found)
    assert found[-1] == 1.0
    assert strength(a_cell(tier="clean", p=0.5), 1e-3) == 1.0


def test_what_does_not_fit_is_counted() -> None:
    cells = [a_cell(feature=f"f{n}") for n in range(MOST_ROWS + 5)]

    assert b"5 further features are not shown." in heat("pump", MOMENTS, cells, alpha=1e-3)


def test_names_that_others_chose_stay_text() -> None:
    shares = Shares(
        feature=HOSTILE, names=(HOSTILE, "missing"), window=(0.7, 0.3), reference=(0.9, 0.1)
    )
    pictures = [
        heat(HOSTILE, MOMENTS, [a_cell(feature=HOSTILE, words=HOSTILE)], alpha=1e-3),
        distribution(HOSTILE, shares, HOSTILE),
        quality(HOSTILE, HOSTILE, []),
    ]

    for svg in pictures:
        tags = {part.tag.split("}")[1] for part in ElementTree.fromstring(svg).iter()}
        assert tags <= {"svg", "title", "desc", "style", "text", "rect", "path", "circle"}
        assert b"<script" not in svg


def a_judged(hour: int, value: float = 0.5, **changes: float | None) -> Judged:
    plain: dict[str, float | None] = {
        "low": 0.4, "high": 0.6, "reference": 0.45, "baseline": 0.9, "completeness": 0.75
    }  # fmt: skip
    return Judged(at=NOON + timedelta(hours=hour), value=value, **(plain | changes))  # type: ignore[arg-type] # as above


def test_quality_is_told_with_its_completeness_the_promise_and_the_rule() -> None:
    said = " ".join(texts(quality("pump v1", "mae", [a_judged(0), a_judged(1, 0.55)])))

    assert (
        "mae 0.55 (promised 0.45, the rule 0.9) in the newest window; 75% of its rows have "
        "labels, it is not known how many are due." in said
    )


def test_a_long_sentence_is_broken_into_lines_and_what_is_missing_has_its_name() -> None:
    count = 40
    names = (*(f"{n} to {n + 1}" for n in range(count - 1)), "missing")
    even = (1 / count,) * count
    shares = Shares(feature="a", names=names, window=even, reference=even)

    said = texts(distribution("pump", shares, "a lies above its reference " * 8))

    assert "missing" in said
    assert {"the window", "the reference"} <= {*said}
    assert max(len(line) for line in said[3:] if "above" in line) < 130


def test_every_colour_of_the_map_is_explained_and_the_last_moment_stays_within() -> None:
    said = texts(heat("pump v1", MOMENTS, [a_cell()], alpha=1e-3))

    assert {"like the reference", "warning", "critical", "not judged"} <= {*said}
    assert f"{MOMENTS[-1]:%Y-%m-%d %H:%M}" in said


def test_pictures_of_nothing_say_so() -> None:
    assert "No window has been compared yet." in texts(heat("pump", [], [], alpha=1.0))
    assert "No window has labels yet." in texts(quality("pump", "mae", []))


@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=False, allow_infinity=False),
            st.none() | st.floats(allow_nan=False, allow_infinity=False),
        ),
        max_size=5,
    )
)
def test_any_figures_make_a_picture(figures: list[tuple[float, float | None]]) -> None:
    judged = [a_judged(n, v, low=low, high=low, baseline=low) for n, (v, low) in enumerate(figures)]

    first = quality("pump", "mae", judged)

    assert first == quality("pump", "mae", judged)
    ElementTree.fromstring(first)


@pytest.mark.parametrize("count", [1, 2, 35, 103])
def test_distributions_have_a_bar_for_every_cell(count: int) -> None:
    names = tuple(f"c{n}" for n in range(count))
    even = (1 / count,) * count

    svg = distribution("pump", Shares(feature="a", names=names, window=even, reference=even), "x")

    assert svg.count(b"<rect") == count
