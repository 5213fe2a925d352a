"""What figures of quality are called, their unit, and how much worse they may be without a word."""

from typing import Final

_SHOWN: Final = {"accuracy": "error rate"}
"""Losses are watched, and the loss of an answer that is wrong is 1: lower is better here."""


def shown(metric: str) -> str:
    """What people are told that the figures of a watched metric are."""
    return _SHOWN.get(metric, metric)


def value_is(metric: str) -> str:
    """The same for programs: one word."""
    return shown(metric).replace(" ", "_")


def in_unit(metric: str, mean: float) -> float:
    """A mean of losses as the metric has it."""
    return float(mean**0.5) if metric == "rmse" else mean


def in_losses(metric: str, value: float) -> float:
    """The mean of losses that a figure of the metric stands for."""
    return value * value if metric == "rmse" else value


def tolerated(reference: float, tolerance: float) -> float:
    """What a figure may be, in its own unit, without anything being worse."""
    return reference * (1 + tolerance)


def tolerated_losses(metric: str, mean: float, tolerance: float) -> float:
    """The same of a mean of losses: ten per cent more of `rmse` are 21 % more of its squares."""
    return in_losses(metric, tolerated(in_unit(metric, mean), tolerance))
