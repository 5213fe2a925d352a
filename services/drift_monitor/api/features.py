"""What is known of features across windows: in words, as a short history, as cells of a map."""

from collections.abc import Iterator, Sequence
from typing import Final

from services.drift_monitor.detection import MOST_FEATURES, in_words, reason_of, severity_of
from services.drift_monitor.pictures.heat import MOST_COLUMNS, Cell, Column, Tier
from shared.events import FeatureDrift, Json

MOST_TOLD: Final = 8
HISTORY: Final = 20
"""Windows whose effects are listed for each feature."""
_RANKS: Final = {"critical": 0, "warning": 1, "clean": 2, "insufficient": 3}


def words_of(found: Json) -> str:
    """A finding as a person would say it."""
    known = {name: found[name] for name in FeatureDrift.__slots__ if name in found}
    return in_words(FeatureDrift(**known))


def tier_of(window: Json, found: Json, shift: float) -> Tier:
    """How serious one feature of a window is, by itself.

    Args:
        shift: what its version tolerates.
    """
    severity = severity_of(
        found["test"],
        is_drift=found["p_value"] <= (window["alpha"] or 0.0),
        low=found.get("low"),
        high=found.get("high"),
        shift=shift,
    )
    return severity or ("insufficient" if window["mode"] == "insufficient" else "clean")


def said_of(window: Json, feature: str, shift: float) -> str:
    """How one feature of a window compares, as far as the window was judged at all."""
    name = f"Window {window['window']}"
    if window["closed_at"] is None:
        return f"{name} is open with {window['rows']} rows and not judged yet"
    if window["judge_at"] is not None:
        return f"{name} is closed and waits for its verdict"
    features = window["features"] or ()
    found = next((one for one in features if one["feature"] == feature), None)
    tier = tier_of(window, found, shift) if found else None
    if found and tier in ("warning", "critical"):
        return f"{name}: {tier}: {words_of(found)}"
    if window["mode"] == "insufficient":
        return f"{name} was not judged: {reason_of(window['detail'])}"
    if found:
        return f"{name}: like the reference: {words_of(found)}"
    if len(features) < MOST_FEATURES:
        return f"{name}: {feature} was not tested, it has too few rows"
    return f"{name}: {feature} is not among the {MOST_FEATURES} that differ most"


def worst_of(windows: list[Json], shift: float) -> list[Json]:
    """The worst features of the newest window, each with how it did before.

    Args:
        windows: that were compared, the newest first.
        shift: what their version tolerates.
    """
    if not windows:
        return []
    newest, before = windows[0], list(reversed(windows[:HISTORY]))
    return [
        {
            "feature": found["feature"],
            "tier": tier_of(newest, found, shift),
            "words": words_of(found),
            "effect": found["effect"],
            "low": found.get("low"),
            "high": found.get("high"),
            "p_value": found["p_value"],
            "history": [_effect(window, found["feature"]) for window in before],
        }
        for found in (newest["features"] or ())[:MOST_TOLD]
    ]


def _effect(window: Json, feature: str) -> float | None:
    """None for a window in which the feature was not among the worst."""
    found = (one for one in window["features"] or () if one["feature"] == feature)
    effect: float | None = next((one["effect"] for one in found), None)
    return effect


# --- the map ----------------------------------------------------------------------------------


def columns_of(closed: Sequence[Json]) -> list[Column]:
    """Compared windows, the oldest first, as columns of the map; of many, several share one."""
    return [
        Column(
            first=min(one["window"] for one in some),
            last=max(one["window"] for one in some),
            at=some[-1]["ended_at"],
            windows=len(some),
            unjudged="" if any(map(_has_figures, some)) else reason_of(some[-1]["detail"]),
        )
        for some in _shared(closed)
    ]


def _has_figures(window: Json) -> bool:
    return bool(window["features"]) or window["mode"] != "insufficient"


def cells_of(closed: Sequence[Json], shift: float) -> list[Cell]:
    """The worst that is known of each feature in each column."""
    cells: list[Cell] = []
    for place, some in enumerate(_shared(closed)):
        worst: dict[str, tuple[tuple[int, float], Tier, Json, Json]] = {}
        for window in some:
            for found in window["features"] or ():
                tier, known = tier_of(window, found, shift), worst.get(found["feature"])
                rank = (_RANKS[tier], found["p_value"])
                if known is None or rank < known[0]:
                    worst[found["feature"]] = (rank, tier, window, found)
        cells += [
            Cell(
                feature=name,
                column=place,
                p=found["p_value"],
                tier=tier,
                words=f"window {window['window']}: {_of_cell(tier, window, found)}",
            )
            for name, (_, tier, window, found) in worst.items()
        ]
    return cells


def _of_cell(tier: Tier, window: Json, found: Json) -> str:
    return (
        f"not judged: {reason_of(window['detail'])}" if tier == "insufficient" else words_of(found)
    )


def _shared(closed: Sequence[Json]) -> Iterator[Sequence[Json]]:
    each = max(1, -(-len(closed) // MOST_COLUMNS))
    # The newest one has its place at the right, and the oldest column may hold fewer.
    first = len(closed) % each
    if first:
        yield closed[:first]
    for start in range(first, len(closed), each):
        yield closed[start : start + each]
