"""Reports for people, drawn by Evidently in a child process; the only door to it.

Evidently draws, it does not judge: the figures in the report are those of `detection`, over the
whole window, handed to it as a statistical test of ours.
"""

import gzip
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from shared.events import Json

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
) -> Json:
    """What a child needs to draw a report.

    Args:
        names, kinds: of the features; `number` or `category`.
        reference, current: rows in the order of the names.
        p_values: the verdict over the whole window, by feature.
        alpha: the level at which a p-value counts as drift.
        rows: how many there are of the training data and in the window.
        kind: what is drawn.
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
    }


def draw(ordered: Json) -> Json:
    """A snapshot, packed, and what its tests say; runs in the child, where the libraries are."""
    from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415 - heavy, in a child

    _register(ordered["p_values"])
    kinds = dict(zip(ordered["names"], ordered["kinds"], strict=True))
    frames = {part: _frame(ordered, part, kinds) for part in ("current", "reference")}
    # A column without any value cannot be drawn; the verdict still names it.
    able = [name for name in kinds if all(f[name].notna().any() for f in frames.values())]
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
            "not_drawn": [name for name in kinds if name not in able],
            "tests": [_told(test) for test in snapshot.dict().get("tests", [])],
        },
    }


def page(packed: Json) -> Json:
    """The HTML of a snapshot; runs in the child. It is drawn anew whenever somebody opens it."""
    from evidently.core.report import Snapshot  # noqa: PLC0415 - heavy, in a child

    plain = gzip.decompress(packed["snapshot"]).decode()
    return {"html": Snapshot.loads(plain).get_html_str(as_iframe=False).encode()}


def with_words(html: bytes, summary: Json) -> bytes:
    """The page, which says above all how many rows of how many are drawn; old reports do not."""
    rows = summary.get("rows")
    if rows is None:
        return html
    words = (
        f"Drawn are {rows['drawn']:,} of the {rows['window']:,} rows of the window, "
        f"and {rows['training_drawn']:,} of {rows['training']:,} training rows. "
        "What is said to have drifted is said of all of them."
    )
    begun, body, rest = html.partition(b"<body>")
    told = f'<p style="font-family: sans-serif; margin: 1em 2em">{words}</p>'.encode()
    return begun + body + told + rest if body else told + html


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


def _told(test: Mapping[str, Any]) -> Json:
    status = test["status"]
    return {"name": test["name"], "status": str(getattr(status, "value", status)).lower()}


def _register(p_values: Mapping[str, float]) -> None:
    """Make our verdict the test that Evidently applies to each column."""
    from evidently.legacy.calculations.stattests import (  # noqa: PLC0415 - heavy, in a child
        StatTest,
        register_stattest,
    )
    from evidently.legacy.core import ColumnType  # noqa: PLC0415 - as above

    def verdict(reference: Any, _current: Any, _kind: Any, threshold: float) -> tuple[float, bool]:
        p = float(p_values.get(str(reference.name), 1.0))
        return p, p < threshold

    register_stattest(
        StatTest(
            name=_TEST,
            display_name="Tidewheel, whole window, p-value",
            allowed_feature_types=[ColumnType.Numerical, ColumnType.Categorical],
            default_threshold=0.001,
        ),
        verdict,
    )
