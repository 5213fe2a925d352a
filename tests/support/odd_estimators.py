"""Estimators of an operator's own package: one crashes, one waits."""

import os
import signal
from typing import Any, Self

from sklearn.base import BaseEstimator, RegressorMixin


class Crashing(RegressorMixin, BaseEstimator):  # type: ignore[misc] # the library has no types
    def fit(self, _X: Any, _y: Any) -> Self:
        os.kill(os.getpid(), signal.SIGSEGV)
        return self


class Waiting(RegressorMixin, BaseEstimator):  # type: ignore[misc] # the library has no types
    def fit(self, _X: Any, _y: Any) -> Self:
        signal.pause()
        return self
