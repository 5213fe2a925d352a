"""Reports for people, drawn by Evidently in a child process; the only door to it.

Evidently draws, it does not judge: the figures in the report are those of `detection`, over the
whole window, handed to it as a statistical test of ours.
"""

import gzip
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from shared.events import Json
from shared.plain_text import html as escaped
from shared.plain_text import plain

DRAW: Final = "services.drift_monitor.reports:draw"
OPEN: Final = "services.drift_monitor.reports:page"
"""What a child is told to call."""
LIBRARIES: Final = ("evidently", "evidently.presets", "evidently.legacy.calculations.stattests")
ROWS: Final = 500
"""Of the window and of the training data that are drawn."""
_TEST: Final = "tidewheel_sketch"
_ZIPPED: Final = b"\x1f\x8b"

Kind = Literal["alarm", "full"]
"""An alarm draws the features that drifted; a full report draws all of them."""


def order(
    names: Sequence[str],
    kinds: Sequence[str],
    reference: Sequence[Sequence[Any]],
    current: Sequence[Sequence[Any]],
    p_values: Mapping[str, float],
    alpha: float,
    *,
    rows: tuple[int, int],
    kind: Kind = "full",
    not_tested: str = "",
    season: str = "",
) -> Json:
    """What a child needs to draw a report.

    Args:
        names, kinds: of the features; `number` or `category`.
        reference, current: rows in the order of the names.
        p_values: the verdict over the whole window, by feature.
        alpha: the level at which a p-value counts as drift.
        rows: how many there are of the training data and in the window.
        kind: what is drawn.
        not_tested: why nothing was tested; empty where it was.
        season: that the verdict is about; the training rows are of all of them.
    """
    return {
        "names": list(names),
        "kinds": list(kinds),
        "reference": [list(row) for row in reference],
        "current": [list(row) for row in current],
        "p_values": dict(p_values),
        "alpha": alpha,
        "rows": list(rows),
        "kind": kind,
        "not_tested": not_tested,
        "season": season,
    }


def without_values(ordered: Json) -> list[str]:
    """Features that cannot be drawn: no row of the window has them, or none of the training data.

    The verdict still names them.
    """
    return [
        name
        for place, name in enumerate(ordered["names"])
        if not all(_has_values(ordered[part], place) for part in ("current", "reference"))
    ]


def _has_values(rows: Sequence[Sequence[Any]], place: int) -> bool:
    # What is no number is not equal to itself.
    return any(row[place] is not None and row[place] == row[place] for row in rows)


def why_nothing(ordered: Json) -> str:
    """Why a report would be empty; empty itself where there is something to draw."""
    undrawn = without_values(ordered)
    if len(undrawn) < len(ordered["names"]):
        return ""
    return f"nothing to draw: {', '.join(undrawn)} without any value in the rows that are kept"


def draw(ordered: Json) -> Json:
    """A snapshot, packed, and what its tests say; runs in the child, where the libraries are."""
    from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415 - heavy, in a child

    _register(ordered["p_values"], is_tested=not ordered["not_tested"])
    kinds = dict(zip(ordered["names"], ordered["kinds"], strict=True))
    frames = {part: _frame(ordered, part, kinds) for part in ("current", "reference")}
    undrawn = without_values(ordered)
    able = [name for name in kinds if name not in undrawn]
    drifted = sorted(n for n, p in ordered["p_values"].items() if p <= ordered["alpha"])
    drawn = [name for name in able if ordered["kind"] == "full" or name in drifted] or able
    definition = DataDefinition(
        numerical_columns=[name for name in drawn if kinds[name] == "number"],
        categorical_columns=[name for name in drawn if kinds[name] == "category"],
    )
    current, known = (
        Dataset.from_pandas(frames[part][drawn], data_definition=definition)
        for part in ("current", "reference")
    )
    report = Report(_metrics(ordered["kind"], drawn, ordered["alpha"]), include_tests=True)
    snapshot = report.run(current, known)
    return {
        "snapshot": gzip.compress(snapshot.dumps().encode(), mtime=0),
        "summary": {
            "kind": ordered["kind"],
            "rows": {
                "drawn": len(ordered["current"]),
                "window": ordered["rows"][1],
                "training_drawn": len(ordered["reference"]),
                "training": ordered["rows"][0],
            },
            "features": len(kinds),
            "drifted": drifted,
            "not_drawn": undrawn,
            "not_tested": ordered["not_tested"] or None,
            "season": ordered["season"] or None,
            "unknown": [name for name in drawn if name not in ordered["p_values"]],
            "tests": [
                _told(test, ordered["not_tested"]) for test in snapshot.dict().get("tests", [])
            ],
        },
    }


def page(packed: Json) -> Json:
    """The HTML of a snapshot; runs in the child. It is drawn anew whenever somebody opens it."""
    from evidently.core.report import Snapshot  # noqa: PLC0415 - heavy, in a child

    plain = gzip.decompress(packed["snapshot"]).decode()
    return {"html": Snapshot.loads(plain).get_html_str(as_iframe=False).encode()}


def with_words(html: bytes, summary: Json) -> bytes:
    """The page, which says above all what is drawn of what; old reports do not."""
    rows = summary.get("rows")
    if rows is None:
        return html
    words = (
        f"Drawn are {rows['drawn']:,} of the {rows['window']:,} rows of the window, "
        f"and {rows['training_drawn']:,} of {rows['training']:,} training rows. {_said(summary)}"
    )
    begun, body, rest = html.partition(b"<body>")
    style = "font-family: sans-serif; margin: 1em 2em"
    told = f'<p style="{style}">{escaped(words)}</p>'.encode()
    return begun + body + told + rest if body else told + html


def _said(summary: Json) -> str:
    """What the page does not say of itself."""
    said = ["What is said to have drifted is said of all of them."]
    if summary.get("not_tested"):
        said = [
            f"Not tested: {plain(summary['not_tested'])}. "
            "That no drift is detected below says nothing: none was looked for, "
            "but for columns that are mostly missing, new or out of range."
        ]
    if summary.get("season"):
        said.append(
            "The training rows are of all seasons; "
            f"the verdict compares with those of the season {plain(summary['season'])} alone."
        )
    if summary.get("not_drawn"):
        said.append(f"Not drawn, because no row has a value: {_listed(summary['not_drawn'])}.")
    if summary.get("unknown") and not summary.get("not_tested"):
        said.append(f"Drawn with p = 1, because it is not known: {_listed(summary['unknown'])}.")
    return " ".join(said)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(plain, names))


def is_snapshot(data: bytes) -> bool:
    """Whether an artifact is a packed snapshot; older reports were kept as HTML."""
    return data.startswith(_ZIPPED)


def _frame(ordered: Json, part: str, kinds: Mapping[str, str]) -> Any:
    import pandas  # noqa: PLC0415 - heavy, and only ever in a child

    frame = pandas.DataFrame(ordered[part], columns=ordered["names"])
    for name, kind in kinds.items():
        frame[name] = frame[name].astype("float64" if kind == "number" else "object")
    return frame


def _metrics(kind: Kind, drawn: Sequence[str], alpha: float) -> list[Any]:
    from evidently.metrics import DriftedColumnsCount, ValueDrift  # noqa: PLC0415 - in a child
    from evidently.presets import DataDriftPreset  # noqa: PLC0415 - as above

    if kind == "full":
        return [DataDriftPreset(columns=list(drawn), method=_TEST, threshold=alpha)]
    count = DriftedColumnsCount(columns=list(drawn), method=_TEST, threshold=alpha)
    each = [ValueDrift(column=name, method=_TEST, threshold=alpha) for name in drawn]
    return [count, *each]


def _told(test: Mapping[str, Any], not_tested: str) -> Json:
    found = test["status"]
    status = str(getattr(found, "value", found)).lower()
    # What nobody tested has not passed.
    status = "not_tested" if not_tested and status == "success" else status
    return {"name": test["name"], "status": status}


def _register(p_values: Mapping[str, float], *, is_tested: bool) -> None:
    """Make our verdict the test that Evidently applies to each column."""
    from evidently.legacy.calculations.stattests import (  # noqa: PLC0415 - heavy, in a child
        StatTest,
        register_stattest,
    )
    from evidently.legacy.core import ColumnType  # noqa: PLC0415 - as above

    def verdict(reference: Any, _current: Any, _kind: Any, threshold: float) -> tuple[float, bool]:
        p = float(p_values.get(str(reference.name), 1.0))
        return p, p <= threshold

    register_stattest(
        StatTest(
            name=_TEST,
            display_name=(
                "Tidewheel, whole window, p-value" if is_tested else "Tidewheel, not tested"
            ),
            allowed_feature_types=[ColumnType.Numerical, ColumnType.Categorical],
            default_threshold=0.001,
        ),
        verdict,
    )
