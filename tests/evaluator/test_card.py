"""The card of a version: complete, harmless, and the same for the same facts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.evaluator.card import Card, card_of
from services.evaluator.card.plots import Outlook, Side, pictures_of
from services.evaluator.evidence import Evidence
from shared.coarse import coarse
from shared.events import BestAsked, Check, Digest, FleetClaim, Gate, Json, SliceVerdict
from shared.manifest import Column, File, Manifest
from shared.pictures import drawn, ticks
from shared.plain_text import html, markdown, moment, number, plain
from tests.evaluator.building import a_spec

HOUR = 3_600_000_000
ATTACK = "</script><script>alert(1)</script>"


def a_manifest(**changes: Any) -> Manifest:
    given_fields: dict[str, Any] = {
        "model": "pump",
        "task": "regression",
        "metric": "mae",
        "columns": (
            Column(name="load", kind="number", minimum=0.5, maximum=99.25),
            Column(name="country", kind="text", categories=("de", "fr")),
        ),
        "target": "flow",
        "files": {"model.skops": File(digest=Digest("1" * 64), size_bytes=123_456)},
        "baseline": {"rule": "constant", "value": 0.0},
        "entity": None,
        "bounds": (0.0, 100.0),
        "lineage": "best_effort",
        "objective_seconds": 0.1,
        "dataset": "flows",
        "dataset_version": 7,
        "dataset_digest": Digest("d" * 64),
        "spec_digest": Digest("a" * 64),
        "code_digest": Digest("b" * 64),
        "exclusions_digest": Digest("c" * 64),
        "holdout": Digest("2" * 64),
        "reference": Digest("3" * 64),
        "use": "sklearn.linear_model.Ridge",
        "hyperparameters": {"alpha": 0.25, "steps": {"depth": 3}},
        "seed": 7,
        "rows_trained": 1234,
        "rows_held_out": 321,
        "metrics": {"mae": 1.25},
        "environment": {"python": "3.11.9", "scikit-learn": "1.9.1"},
    }
    return Manifest(**given_fields | changes)


def a_gate(**changes: Any) -> Gate:
    given_fields: dict[str, Any] = {
        "metric": "mae",
        "versus": "champion",
        "passed": True,
        "estimate": 0.125,
        "lower": 0.0625,
        "upper": 0.1875,
        "confidence": 0.95,
        "margin": 0.03125,
        "rows": 321,
        "test": "bootstrap_t",
        "detail": "4999 draws",
        "candidate_value": 1.125,
        "other_value": 1.25,
        "se": 0.02,
        "units": 40,
        "smallest_effect": 0.0775,
    }
    return Gate(**given_fields | changes)


def a_slice(**changes: Any) -> SliceVerdict:
    given_fields: dict[str, Any] = {
        "name": "winter",
        "where": "season == 'winter'",
        "role": "required",
        "metric": "mae",
        "passed": False,
        "rows": 60,
        "estimate": -0.5,
        "lower": -0.75,
        "upper": -0.25,
        "margin": 0.1,
        "p_value": None,
        "detail": "surely worse",
    }
    return SliceVerdict(**given_fields | changes)


def a_verdict(**changes: Any) -> Json:
    given_fields: dict[str, Any] = {
        "model": "pump",
        "version": 4,
        "accepted": False,
        "reason": "slice_harmed",
        "mode": "refresh",
        "gates": (
            a_gate(),
            a_gate(versus="anchor", other_value=1.0, passed=False, estimate=-0.125),
            a_gate(versus="baseline", other_value=4.5),
        ),
        "slices": (a_slice(), a_slice(name="load > 90", where="load > 90", role="found")),
        "checks": (Check(name="bounds", passed=False, detail="3 answers above 100", value=104.5),),
        "manifest": "e" * 64,
        "champion": 3,
        "champion_manifest": "f" * 64,
        "anchor": 2,
        "anchor_manifest": "9" * 64,
        "dataset": "flows",
        "dataset_version": 7,
        "dataset_digest": "d" * 64,
        "split": "4" * 64,
        "evidence": "5" * 64,
        "spec": a_spec() | {"evaluation": {"uses": 20}},
        "rows": 321,
        "seed": 8_675_309,
        "seconds": 0.1,
        "holdout_use": 3,
        "policy_digest": "6" * 64,
        "draws": 4999,
        "engine": "an engine",
        "fleet": FleetClaim(
            stream="pumps", claim=12, accepted_before=5, e_value=64.5, threshold=32.25, passed=True
        ),
        "authors": {"spec": "ada", "data": "grace", "training": "hedy"},
        "best": BestAsked(
            by="ada", metric="mae", reason="the season is over", ranking=((4, 1.125), (2, None))
        ),
    }
    return given_fields | changes


def evidence_of(
    answers: Mapping[str, NDArray[np.float64]],
    y: NDArray[Any],
    *,
    classes: tuple[str, ...] = (),
    times: bool = True,
) -> Evidence:
    rows = len(y)
    return Evidence(
        task="classification" if classes else "regression",
        ordered=times,
        y=y,
        row_hashes=np.arange(rows, dtype=np.uint64),
        times=np.arange(rows, dtype=np.int64) * HOUR if times else None,
        classes=dict.fromkeys(answers, classes),
        answers=answers,
    )


def of_regression(rows: int = 400, *, times: bool = True) -> Evidence:
    draw = np.random.Generator(np.random.PCG64(3))
    x = draw.normal(size=rows)
    y = 3 * x + draw.normal(size=rows)
    answers = {"candidate": 3 * x, "champion": 2.5 * x, "baseline": np.zeros(rows)}
    return evidence_of(answers, y, times=times)


def of_classes(classes: tuple[str, ...], rows: int = 400) -> Evidence:
    draw = np.random.Generator(np.random.PCG64(4))
    answers = {
        name: draw.dirichlet(np.ones(len(classes)), size=rows)
        for name in ("candidate", "champion", "baseline")
    }
    shares = answers["candidate"].cumsum(axis=1)
    places = (draw.random((rows, 1)) > shares).sum(axis=1)
    y = np.array([classes[place] for place in places], dtype=object)
    return evidence_of(answers, y, classes=classes, times=False)


def a_card(**changes: Any) -> Card:
    return card_of(a_verdict(**changes), of_regression(), a_manifest())


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "path", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


FACTS = (
    "Rejected: a part of the rows may be harmed",
    "version 4",
    "sklearn.linear_model.Ridge",
    "d" * 64,
    "1,234",
    "1970-01-01 00:00 to 1970-01-17 15:00 (UTC)",
    "steps.depth",
    "scikit-learn",
    "0.0625 to 0.1875",
    "Anchor",
    "worst one found",
    "3 answers above 100",
    "3 of 20",
    "pumps",
    "number 12, 5 accepted before",
    "the season is over",
    "hedy",
    "0.5 to 99.25",
    "8675309",
    "5" * 64,
)


def unmarked(text: str) -> str:
    text = re.sub(r"\\(.)", r"\1", text)
    for name, sign in (("&lt;", "<"), ("&gt;", ">"), ("&#64;", "@"), ("&#47;", "/")):
        text = text.replace(name, sign)
    return text.replace("&amp;", "&")


@pytest.mark.parametrize("fact", FACTS)
def test_both_forms_of_a_card_say_everything_that_is_known(fact: str) -> None:
    card = a_card()

    assert fact in Page(card.html).text
    assert fact in unmarked(card.markdown)


def test_the_same_facts_give_the_same_bytes() -> None:
    one, other = a_card(), a_card()

    assert one == other
    # The order in which a mapping was filled is no fact.
    assert a_card(authors={"training": "hedy", "data": "grace", "spec": "ada"}) == one


def test_a_page_is_whole_loads_nothing_and_runs_nothing() -> None:
    page = Page(a_card().html)

    assert page.open == []
    assert not {"script", "img", "link", "iframe", "object", "a", "form", "use"} & {*page.tags}
    names = {name for name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on") or name in ("href", "src", "style")}
    assert "url(" not in a_card().html
    assert "@import" not in a_card().html
    assert "default-src 'none'" in a_card().html


def test_a_page_is_readable_in_light_and_dark_and_without_eyes() -> None:
    page = Page(a_card().html)

    assert "prefers-color-scheme:dark" in a_card().html
    assert ("lang", "en") in page.attributes
    assert page.tags.count("svg") > 3
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert len(labels) == page.tags.count("figure")
    assert all(labels)


@pytest.mark.parametrize("name", [ATTACK, "a|b\n| c |", "](javascript:x)", "\u202egnp.exe", "`x`"])
def test_a_name_is_never_more_than_a_name(name: str) -> None:
    manifest = a_manifest(
        model=name,
        target=name,
        columns=(Column(name=name, kind="text", categories=(name,)),),
        hyperparameters={name: name},
        environment={name: name},
    )
    verdict = a_verdict(
        model=name,
        authors={"spec": name},
        slices=(a_slice(name=name, where=name, detail=name),),
        checks=(Check(name=name, passed=False, detail=name),),
        gates=(a_gate(metric=name, slice=name, detail=name, passed=False),),
    )

    card = card_of(verdict, of_regression(), manifest)

    assert "script" not in Page(card.html).tags
    assert "<" not in card.markdown
    assert "\u202e" not in card.html + card.markdown
    assert plain(name) in Page(card.html).text
    rows = [line for line in card.markdown.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)
    assert not re.search(r"(?<!\\)\]\(", card.markdown)


@pytest.mark.parametrize("classes", [("wet", ATTACK), ("a", "b", "c")])
def test_classes_have_a_calibration(classes: tuple[str, ...]) -> None:
    manifest = a_manifest(task="classification", classes=classes, metric="log_loss")

    page = Page(card_of(a_verdict(), of_classes(classes), manifest).html)

    assert "Calibration" in page.text
    assert ("Lift" in page.text) == (len(classes) == 2)
    assert "Residuals" not in page.text
    assert "script" not in page.tags


def test_regression_has_residuals_of_both_and_errors_over_time_where_rows_have_times() -> None:
    timed = Page(card_of(a_verdict(), of_regression(), a_manifest()).html).text
    timeless = Page(card_of(a_verdict(), of_regression(times=False), a_manifest()).html).text

    assert timed.count("Residuals") == 2
    assert "Error over time" in timed
    assert "Residuals" in timeless
    assert "Error over time" not in timeless


@pytest.mark.parametrize("rows", [1, 2, 7, 11])
def test_few_rows_make_a_card_all_the_same(rows: int) -> None:
    card = card_of(a_verdict(), of_regression(rows), a_manifest())

    assert "<svg" in card.html
    assert not re.search(r"\b(nan|inf)\b", card.html)


def test_a_verdict_without_any_comparison_has_a_card_without_pictures() -> None:
    verdict = a_verdict(
        gates=(), slices=(), checks=(), champion=None, anchor=None, fleet=None, best=None,
        authors={}, reason="invalid_input", evidence=None,
    )  # fmt: skip

    card = card_of(verdict, None, a_manifest(metrics={}, columns=(), environment={}))

    assert "<svg" not in card.html
    assert "what it answered, or the rows, cannot be used" in card.markdown


def test_a_constant_model_has_a_card() -> None:
    y = np.zeros(50)
    evidence = evidence_of({"candidate": np.zeros(50), "champion": np.zeros(50)}, y)

    card = card_of(a_verdict(), evidence, a_manifest())

    assert not re.search(r"\b(nan|inf)\b", card.html)


def test_a_champion_with_other_classes_is_drawn_by_their_names() -> None:
    y = np.array(["dry", "wet"] * 50, dtype=object)
    sure = np.array([[1.0, 0.0], [0.0, 1.0]] * 50)
    evidence = Evidence(
        task="classification",
        ordered=False,
        y=y,
        row_hashes=np.arange(100, dtype=np.uint64),
        classes={"candidate": ("dry", "wet"), "champion": ("wet", "dry")},
        answers={"candidate": sure, "champion": sure[:, ::-1]},
    )

    card = card_of(a_verdict(), evidence, a_manifest(task="classification", classes=("dry", "wet")))

    figures = re.findall(r"<figure>.*?</figure>", card.html)
    points = [re.findall(r'd="([^"]+)"', figure.partition('class="line')[2]) for figure in figures]
    assert points[0][0] == points[1][0]


def test_a_card_stays_small_whatever_a_version_holds() -> None:
    columns = tuple(
        Column(name=f"column {n} " + "x" * 400, kind="text", categories=("y" * 400,) * 100)
        for n in range(2_000)
    )
    manifest = a_manifest(
        columns=columns, hyperparameters={f"p{n}": list(range(1_000)) for n in range(1_000)}
    )
    gates = tuple(a_gate(detail="z" * 5_000) for _ in range(40))

    card = card_of(a_verdict(gates=gates), of_regression(20_000), manifest)

    assert len(card.html.encode()) < 250_000
    assert "and 1,900 more" in Page(card.html).text


def test_an_ordinary_card_is_below_150_kilobytes() -> None:
    card = card_of(a_verdict(), of_regression(20_000), a_manifest())

    assert len(card.html.encode()) < 150_000
    assert len(card.markdown.encode()) < 20_000


def test_a_card_of_coarse_figures_says_that_they_are_rounded() -> None:
    exact = orjson.loads(orjson.dumps(a_verdict()))

    card = card_of(coarse(exact), of_regression(), a_manifest())

    assert "rounded to about a quarter" in card.markdown
    assert "rounded to about a quarter" not in card_of(exact, None, a_manifest()).markdown
    assert "64.5" not in card.markdown


def test_fields_may_be_events_or_plain_json() -> None:
    verdict = a_verdict() | {"id": UUID(int=4)}

    assert (
        card_of(verdict, None, a_manifest()).markdown
        == card_of(a_verdict(), None, a_manifest()).markdown
    )


# --- the parts ----------------------------------------------------------------------------------


@given(st.text())
def test_no_text_can_leave_its_place(text: str) -> None:
    assert not set(html(text)) & set("<>\"'")
    assert Page(f"<p>{html(plain(text))}</p>").tags == ["p"]
    shown = markdown(plain(text))
    assert not set(shown) & set("<>\n\r")
    assert not re.search(r"(?<!\\)(\\\\)*[|`*_\[\]]", shown)


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12))
def test_ticks_lie_on_the_axis_and_are_few(low: float, span: float) -> None:
    high = low + span
    found = ticks(low, high)

    assert len(found) <= 21
    room = 1e-6 * max(span, abs(low) * 1e-9)
    assert all(low - room <= value <= high + room for value in found)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(0, 10**6))
def test_any_answers_can_be_drawn(values: list[float], seed: int) -> None:
    answers = np.array(values)
    outcomes = np.random.Generator(np.random.PCG64(seed)).normal(size=len(values))
    side = Side(
        name="candidate", role="candidate", answers=answers, outcomes=outcomes, losses=outcomes**2
    )
    times = np.arange(len(values), dtype=np.int64) * HOUR
    outlook = Outlook(kind="regression", sides=(side,), of="", loss="loss", times=times)

    shown = [drawn(picture) for picture in pictures_of(outlook)]

    assert shown
    assert not re.search(r"nan|inf", "".join(shown))


def test_numbers_and_moments_read_well() -> None:
    assert number(-0.000123456) == "\N{MINUS SIGN}0.0001235"
    assert number(1234567) == "1,234,567"
    assert number(None) == "\N{EN DASH}"
    assert plain(None) == "\N{EN DASH}"
    assert plain(True) == "yes"
    assert moment(1_700_000_000_000_000) == "2023-11-14 22:13"
    assert moment(2**62) == f"{2**62} \N{MICRO SIGN}s"
