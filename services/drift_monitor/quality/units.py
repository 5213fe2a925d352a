"""The unit of figures of quality, and how much worse they may be without a word."""


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
