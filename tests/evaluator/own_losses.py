"""Metrics as a user's package would have them: a good one and bad ones."""

from typing import Any

import numpy as np


def tail(y: Any, answers: Any, _probabilities: Any, _classes: Any) -> Any:
    return np.maximum(np.abs(y - answers) - 1.0, 0.0)


def surprise(y: Any, _answers: Any, probabilities: Any, classes: Any) -> Any:
    places = [list(classes).index(label) for label in y]
    return 1.0 - probabilities[np.arange(len(y)), places]


def short(y: Any, *_: Any) -> Any:
    return np.zeros(len(y) - 1)


def endless(y: Any, *_: Any) -> Any:
    return np.where(np.arange(len(y)) == 3, np.inf, 0.0)


def failing(*_: Any) -> Any:
    raise RuntimeError("no luck")


no_function = 3
