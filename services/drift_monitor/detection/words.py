"""Findings as a person would say them."""

from math import exp
from typing import Final

from shared.events import FeatureDrift

NOT_TESTED: Final = "not tested: "
"""What comes before the reason in the words of a verdict that is none."""


def in_words(drift: FeatureDrift) -> str:
    """One finding as a person would say it."""
    size = abs(drift.effect)
    match drift.test:
        case "location":
            side = "above" if drift.effect > 0 else "below"
            said = f"lies {size:.2f} standard deviations {side} the reference"
        case "scale":
            side = "wider" if drift.effect > 0 else "narrower"
            said = f"is {exp(min(size, 20)):.2f} times {side} than the reference"
        case "shape" | "fine shape":
            said = f"has another shape (a share moved by {size:.1%})"
        case "level":
            said = f"has a level whose share moved by {drift.effect:+.1%}"
        case "correlation":
            said = f"move together by {drift.effect:+.2f} more than in the reference"
            if drift.effect < 0:
                said = f"move together by {size:.2f} less than in the reference"
        case "together":
            said = "lie elsewhere than in the reference, each by little"
        case "mostly_outside":
            said = f"is missing or outside anything seen in {drift.statistic:.0%} of the rows"
        case other:
            said = f"is {other} in {size:.1%} {'more' if drift.effect > 0 else 'fewer'} of the rows"
    over = f" over {drift.scale} windows" if drift.scale > 1 else ""
    return f"{drift.feature} {said}{over} (p = {drift.p_value:.1g})"


def reason_of(detail: str | None) -> str:
    """Why a window was not tested, from the words of its verdict."""
    said = detail or "nobody wrote down why"
    _, found, reason = said.partition(NOT_TESTED)
    return (reason.rpartition("; alpha ")[0] or reason) if found else said
