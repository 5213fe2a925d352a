"""What one explanation costs: processor time in the thread that explains, nobody else asked.

Each figure is the median over rows of held-out data, after the version was opened; the row is
read, the model is asked, and the figures are put into words, as the door does it.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from services.serving.explanation.choosing import workshop_of
from services.serving.explanation.words import told
from services.trainer.fitting.backgrounds import build_background
from shared.background import read_background
from shared.manifest import Column

COLUMNS: Final = tuple(Column(name=f"c{i}", kind="number") for i in range(10))
ROWS: Final = 20_000
ASKED: Final = 100
MODELS: Final[dict[str, Callable[[], Any]]] = {
    "linear": Ridge,
    "linear_scaled": lambda: make_pipeline(StandardScaler(), Ridge()),
    "forest_100_depth_8": lambda: RandomForestRegressor(100, max_depth=8, random_state=0),
    "histogram_boosting_100": lambda: HistGradientBoostingRegressor(max_iter=100),
    "sampled_neighbours": lambda: KNeighborsRegressor(5, algorithm="brute"),
}


def measured(model: Any, X: Any, y: Any) -> dict[str, Any]:
    """Microseconds per explanation, and seconds to open the fitted model."""
    values = {column.name: X[:, i] for i, column in enumerate(COLUMNS)}
    background = read_background(build_background(COLUMNS, values, seed=1))
    estimator = model.fit(X, y)
    started = time.thread_time()
    workshop = workshop_of(estimator, COLUMNS, "regression", background)
    opened = time.thread_time() - started
    chance = np.random.default_rng(1)
    costs, method = [], ""
    for _ in range(ASKED if workshop.exact else 10):
        row = dict(zip(values, chance.normal(size=len(COLUMNS)).tolist(), strict=True))
        started = time.thread_time()
        _, explained = workshop.explain(row, None, lambda: None, lambda: True)
        told(explained, COLUMNS, row, background, None)
        costs.append(time.thread_time() - started)
        method = explained.method
    median = round(1e6 * statistics.median(costs))
    return {"method": method, "us_per_explanation": median, "open_ms": round(1e3 * opened, 1)}


def main() -> None:
    """Print one line of JSON per model."""
    chance = np.random.default_rng(0)
    X = chance.normal(size=(ROWS, len(COLUMNS)))
    y = 2 * X[:, 0] + X[:, 1] * X[:, 2] + np.abs(X[:, 3]) + chance.normal(size=ROWS)
    for name, make in MODELS.items():
        size = ROWS if name != "sampled_neighbours" else 2_000
        print(json.dumps({"model": name} | measured(make(), X[:size], y[:size])), flush=True)


if __name__ == "__main__":
    main()
