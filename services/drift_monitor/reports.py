"""Reports for people, drawn by Evidently in a child process; the only door to it.

Evidently draws, it does not judge: the figures in the report are those of `detection`, over the
whole window, handed to it as a statistical test of ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from shared.events import Json

ENTRY: Final = "services.drift_monitor.reports:render"
"""What a child is told to call."""
LIBRARIES: Final = ("evidently", "evidently.presets", "evidently.legacy.calculations.stattests")
ROWS: Final = 500
"""Of the window and of the training data that are drawn."""
_TEST: Final = "tidewheel_sketch"


def order(
    names: Sequence[str],
    kinds: Sequence[str],
    reference: Sequence[Sequence[Any]],
    current: Sequence[Sequence[Any]],
    p_values: Mapping[str, float],
    alpha: float,
) -> Json:
    """What a child needs to draw a report.

    Args:
        names, kinds: of the features; `number` or `category`.
        reference, current: rows in the order of the names.
        p_values: the verdict over the whole window, by feature.
        alpha: the level at which a p-value counts as drift.
    """
    return {
        "names": list(names),
        "kinds": list(kinds),
        "reference": [list(row) for row in reference],
        "current": [list(row) for row in current],
        "p_values": dict(p_values),
        "alpha": alpha,
    }


def render(ordered: Json) -> Json:
    """HTML and a summary; runs in the child, where the libraries are loaded."""
    import pandas  # noqa: PLC0415 - heavy, and only ever in a child
    from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415 - as above
    from evidently.presets import DataDriftPreset  # noqa: PLC0415 - as above

    _register(ordered["p_values"])
    kinds = dict(zip(ordered["names"], ordered["kinds"], strict=True))
    frames = []
    for part in ("current", "reference"):
        frame = pandas.DataFrame(ordered[part], columns=ordered["names"])
        for name, kind in kinds.items():
            frame[name] = frame[name].astype("float64" if kind == "number" else "object")
        frames.append(frame)
    # A column without any value cannot be drawn; the verdict still names it.
    drawn = [name for name in kinds if all(frame[name].notna().any() for frame in frames)]
    definition = DataDefinition(
        numerical_columns=[name for name in drawn if kinds[name] == "number"],
        categorical_columns=[name for name in drawn if kinds[name] == "category"],
    )
    current, known = (
        Dataset.from_pandas(frame[drawn], data_definition=definition) for frame in frames
    )
    report = Report(
        [DataDriftPreset(columns=drawn, method=_TEST, threshold=ordered["alpha"])],
        include_tests=True,
    )
    snapshot = report.run(current, known)
    drifted = sorted(n for n, p in ordered["p_values"].items() if p <= ordered["alpha"])
    return {
        "html": snapshot.get_html_str(as_iframe=False).encode(),
        "summary": {
            "features": len(kinds),
            "drifted": drifted,
            "not_drawn": [name for name in kinds if name not in drawn],
        },
    }


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
