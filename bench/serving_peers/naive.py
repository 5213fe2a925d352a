"""What most people write first: FastAPI, a pydantic model for the body, scikit-learn's own predict.

No authentication, no log of predictions, no metrics, no check of ranges.
"""

from pathlib import Path
from typing import Any

import joblib
from fastapi import FastAPI
from pydantic import BaseModel


class Rows(BaseModel):
    """A request."""

    rows: list[list[float]]


model: Any = joblib.load(Path("model.joblib"))
app = FastAPI()


@app.post("/predict")
def predict(body: Rows) -> dict[str, list[float]]:
    """An answer for every row."""
    return {"predictions": model.predict(body.rows).tolist()}
