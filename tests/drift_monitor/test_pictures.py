"""Pictures say what they show, hold nothing that could run, and depend on the figures alone."""

from __future__ import annotations

from datetime import timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.drift_monitor.pictures import (
    Cell,
    Column,
    Guessed,
    Judged,
    Shares,
    distribution,
    heat,
    quality,
)
from services.drift_monitor.pictures.heat import MOST_ROWS, strength
from services.drift_monitor.pictures.sheet import broken, width_of
from tests.drift_monitor.building import NOON

HOSTILE = '</title><script>alert("1")</script>\u202e<b onload=x>'
COLUMNS = [Column(first=n + 1, last=n + 1, at=NOON + timedelta(hours=n)) for n in range(3)]
LONG = "a-model-whose-name-has-as-many-characters-as-are-allowed-xxxxxx v12"


def a_cell(**changes: object) -> Cell:
    plain: dict[str, object] = {
        "feature": "a", "column": 0, "p": 1e-9, "tier": "critical", "words": "a lies above"
    }  # fmt: skip
    return Cell(**(plain | changes))  # type: ignore[arg-type] # plain values by name


def texts(svg: bytes) -> list[str]:
    return ["".join(part.itertext()) for part in ElementTree.fromstring(svg).iter()]


def described(svg: bytes) -> str:
    return ElementTree.fromstring(svg).findtext("{*}desc") or ""


def test_the_worst_feature_is_on_top() -> None:
    cells = [a_cell(feature="mild", p=0.2, tier="clean"), a_cell(feature="worst")]

    svg = heat("pump v1", COLUMNS, cells, alpha=1e-3).decode()

    assert svg.index(">worst<") < svg.index(">mild<")
    assert "2 features" in svg


def test_what_is_more_surprising_is_painted_more_strongly() -> None:
    found = [strength(a_cell(p=p), 1e-3) for p in (1e-3, 1e-6, 1e-12, 1e-300)]

    assert found == sorted(found)
    assert found[-1] == 1.0
    assert strength(a_cell(tier="clean", p=0.5), 1e-3) == 1.0


def test_what_does_not_fit_is_counted() -> None:
    cells = [a_cell(feature=f"f{n}") for n in range(MOST_ROWS + 5)]

    assert b"5 further features are not shown." in heat("pump", COLUMNS, cells, alpha=1e-3)


def test_names_that_others_chose_stay_text() -> None:
    shares = Shares(
        feature=HOSTILE, names=(HOSTILE, "missing"), window=(0.7, 0.3), reference=(0.9, 0.1)
    )
    pictures = [
        heat(HOSTILE, COLUMNS, [a_cell(feature=HOSTILE, words=HOSTILE)], alpha=1e-3),
        distribution(HOSTILE, shares, HOSTILE),
        quality(HOSTILE, HOSTILE, []),
        quality(HOSTILE, HOSTILE, [a_judged(0)]),
    ]

    for svg in pictures:
        tags = {part.tag.split("}")[1] for part in ElementTree.fromstring(svg).iter()}
        assert tags <= {"svg", "title", "desc", "style", "text", "rect", "path", "circle"}
        assert b"<script" not in svg


def a_judged(hour: int, value: float | None = 0.5, **changes: float | Guessed | None) -> Judged:
    plain: dict[str, float | Guessed | None] = {
        "low": 0.4, "high": 0.6, "reference": 0.45, "baseline": 0.9, "completeness": 0.75
    }  # fmt: skip
    return Judged(at=NOON + timedelta(hours=hour), value=value, **(plain | changes))  # type: ignore[arg-type] # as above


def test_quality_is_told_with_its_completeness_the_promise_and_the_rule() -> None:
    said = " ".join(texts(quality("pump v1", "mae", [a_judged(0), a_judged(1, 0.55)])))

    assert (
        "mae 0.55 (promised 0.45, the rule 0.9) in the newest window; 75% of its rows have "
        "labels, it is not known how many are due." in said
    )


def test_mistakes_are_drawn_as_an_error_rate() -> None:
    said = texts(quality("pump v1", "accuracy", [a_judged(0)]))

    assert "error rate 0.5 (promised 0.45" in " ".join(said)
    assert "error rate" in said
    assert "accuracy" not in " ".join(said)


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
    said = texts(heat("pump v1", COLUMNS, [a_cell()], alpha=1e-3))

    assert {"like the reference", "warning", "critical", "not judged"} <= {*said}
    assert f"{COLUMNS[-1].at:%Y-%m-%d %H:%M}" in said


def test_pictures_of_nothing_say_so() -> None:
    assert "No window has been compared yet." in texts(heat("pump", [], [], alpha=1.0))
    assert "No window has labels or an estimate yet." in " ".join(texts(quality("pump", "mae", [])))


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


GUESS = Guessed(value=0.5, low=0.4, high=0.6, reference=0.45)
UNLABELLED: dict[str, float | None] = {
    "low": None, "high": None, "reference": None, "baseline": None, "completeness": 0.0
}  # fmt: skip


def test_an_estimate_is_drawn_and_told_before_any_label_comes() -> None:
    svg = quality("pump v1", "mae", [a_judged(0, None, **UNLABELLED, estimate=GUESS)])

    assert b'class="dot estimated"' in svg
    assert b'class="whiskers estimated"' in svg
    assert {"estimated", "promised"} <= {*texts(svg)}
    assert (
        "mae is estimated 0.5 (0.4 to 0.6) by scores alone in the newest window (promised 0.45); "
        "none of its rows has a label." in described(svg)
    )


def test_an_interval_is_seen_of_one_window_and_beside_others_without() -> None:
    alone = quality("pump", "mae", [a_judged(0)])
    beside = quality("pump", "mae", [a_judged(0), a_judged(1, low=None, high=None)])

    for svg in (alone, beside):
        path = ElementTree.fromstring(svg).find(".//{*}path[@class='whiskers candidate']")
        assert path is not None
        assert path.attrib["d"].count("V") == 1


def test_titles_and_names_keep_clear_of_what_is_beside_them() -> None:
    columns, cells = COLUMNS[:1], [a_cell(feature="W" * 60)]
    shares = Shares(feature="x" * 300, names=("missing",), window=(1.0,), reference=(1.0,))
    pictures = {
        876: heat(LONG, columns, cells, alpha=1e-3),
        764: distribution(LONG, shares, "as before"),
        420: quality(LONG, "mae", [a_judged(0)]),
    }

    for width, svg in pictures.items():
        root = ElementTree.fromstring(svg)
        assert int(root.attrib["width"]) == width
        title = [part for part in root.findall("{*}text") if part.attrib["class"] == "name"]
        legend = [part for part in root.findall("{*}text") if part.attrib["class"] == "soft"]
        assert all(12 + 1.1 * width_of(part.text or "") <= width for part in title)
        # What the colours mean begins below a title that has no room beside it.
        assert max(float(t.attrib["y"]) for t in title) < min(float(x.attrib["y"]) for x in legend)
    # Names of rows have a frame of their own, left of the cells.
    frame = ElementTree.fromstring(pictures[876]).find("{*}svg")
    assert frame is not None
    assert float(frame.attrib["width"]) < 220
    assert width_of(frame[0].text or "") < 220


def test_what_xml_may_not_hold_spoils_no_picture() -> None:
    name = "a\uffff\ufffe\x07\ud800b"
    shares = Shares(feature=name, names=(name,), window=(1.0,), reference=(1.0,))

    for svg in (
        heat(name, COLUMNS, [a_cell(feature=name, words=name)], alpha=1e-3),
        distribution(name, shares, name),
        quality(name, name, [a_judged(0)]),
    ):
        ElementTree.fromstring(svg)


def test_how_serious_a_cell_is_can_be_seen_without_colours() -> None:
    tiers = ("clean", "warning", "critical", "insufficient")
    columns = [Column(first=n, last=n, at=NOON) for n in range(1, 5)]
    cells = [a_cell(column=n, tier=tier) for n, tier in enumerate(tiers)]

    root = ElementTree.fromstring(heat("pump", columns, cells, alpha=1e-3))

    drawn = {part.attrib["class"]: part.attrib for part in root.findall("{*}rect")}
    assert {*drawn} == {*tiers}
    assert len({(one["y"], one["height"]) for one in drawn.values()}) == 4


def test_the_map_names_the_features_that_drifted_to_those_who_do_not_see_it() -> None:
    cells = [
        a_cell(feature="flow"), a_cell(feature="flow", column=2),
        a_cell(feature="heat", column=1, tier="warning"), a_cell(feature="calm", tier="clean", p=1),
    ]  # fmt: skip

    said = described(heat("pump v1", COLUMNS, cells, alpha=1e-3))

    assert "3 windows, 3 features: flow critical in 2 of 3 columns, last in window 3; " in said
    assert "heat warning in 1 of 3 columns, last in window 2." in said
    assert "calm" not in said


def test_a_window_that_was_given_up_is_no_blank() -> None:
    gone = Column(first=2, last=2, at=NOON, unjudged="judged in vain 12 times: ValueError")
    columns = [COLUMNS[0], gone]

    said = texts(heat("pump", columns, [a_cell(tier="clean", p=1.0)], alpha=1e-3))
    alone = texts(heat("pump", [gone], [], alpha=1e-3))

    assert "window 2: not judged: judged in vain 12 times: ValueError" in said
    assert "No window was judged: judged in vain 12 times: ValueError." in alone


def test_neighbours_that_are_alike_are_drawn_as_one() -> None:
    cells = [a_cell(column=n, tier="clean", p=1.0) for n in range(3)]

    svg = heat("pump", COLUMNS, cells, alpha=1e-3)

    assert svg.count(b"<rect") == 1
    assert "windows 1 to 3: like the reference" in texts(svg)


def test_windows_of_seasons_are_named_by_their_numbers_though_these_go_back() -> None:
    columns = [Column(first=n, last=n, at=NOON) for n in (2, 5, 1)]
    cells = [a_cell(column=n, tier="clean", p=1.0) for n in range(3)]

    svg = heat("pump", columns, cells, alpha=1e-3)

    assert "windows 1 to 5: like the reference" in texts(svg)
    assert "3 windows, 1 feature: no feature left the reference." in described(svg)


@given(st.text(max_size=60), st.integers(20, 200))
def test_broken_lines_fit_and_lose_nothing(words: str, width: int) -> None:
    found = broken(words, width)

    assert all(width_of(line) <= width or len(line) == 1 for line in found)
    assert "".join(found).replace(" ", "") == "".join(broken(words, 1e9)).replace(" ", "")
