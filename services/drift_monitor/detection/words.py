"""Findings as a person would say them."""

from math import exp

from shared.events import FeatureDrift


def in_words(drift: FeatureDrift) -> str:
    """One finding as a person would say it."""
    size = abs(drift.effect)
    match drift.test:
        case "location":
            side = "above" if drift.effect > 0 else "below"
            said = f"lies {size:.2f} standard deviations {side} the reference"
        case "scale":
            side = "wider" if drift.effect > 0 else "narrower"
            said = f"is {exp(size):.2f} times {side} than the reference"
        case "shape":
            said = f"has another shape (a share moved by {size:.1%})"
        case "mostly_outside":
            said = f"is missing or outside anything seen in {drift.statistic:.0%} of the rows"
        case other:
            said = f"is {other} in {drift.effect:+.1%} of the rows"
    return f"{drift.feature} {said} (p = {drift.p_value:.1g})"
