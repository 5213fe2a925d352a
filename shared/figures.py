"""What the figures of a watched metric are called: losses are watched, and lower is better."""

from typing import Final

_SHOWN: Final = {"accuracy": "error rate"}
"""The loss of an answer that is wrong is 1, so their mean is no accuracy."""


def shown(metric: str) -> str:
    """What people are told that figures of a watched metric are."""
    return _SHOWN.get(metric, metric)


def value_is(metric: str) -> str:
    """The same for programs, as one word."""
    return shown(metric).replace(" ", "_")
