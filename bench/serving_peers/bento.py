"""BentoML with adaptive batching, one worker, its metrics and logs off."""

from pathlib import Path
from typing import Any

import bentoml  # type: ignore[import-not-found] # only in its own environment
import joblib
import numpy as np


@bentoml.service(
    workers=1,
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    tracing={"sample_rate": 0.0},
)
class Forest:
    """The forest as a service."""

    def __init__(self) -> None:
        self.model: Any = joblib.load(Path("model.joblib"))

    @bentoml.api(batchable=True, max_batch_size=256, max_latency_ms=1_000)  # type: ignore[untyped-decorator] # as above
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """An answer for every row of the requests that came together."""
        found: np.ndarray = self.model.predict(rows)
        return found
