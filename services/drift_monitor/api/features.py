"""What is known of features across windows: in words, and as a short history."""

from typing import Final

from services.drift_monitor.detection import in_words, severity_of
from services.drift_monitor.pictures.heat import Tier
from shared.events import FeatureDrift, Json

MOST_TOLD: Final = 8
HISTORY: Final = 20
"""Windows whose effects are listed for each feature."""


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
