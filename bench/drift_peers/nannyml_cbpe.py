"""NannyML's estimates of metrics by scores alone; runs in an environment of its own.

Usage: python nannyml_cbpe.py FILE CHUNK; the file is a .npz of `reference_score`, `reference_hit`
and `score`. Printed is one JSON line: estimates by metric, one per chunk, and CPU seconds.
"""

import json
import os
import sys
import time
import warnings

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
warnings.filterwarnings("ignore")

import nannyml  # type: ignore[import-not-found]  # noqa: E402 - only in an environment of its own
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

METRICS = ("roc_auc", "accuracy", "f1", "precision", "recall")


def main() -> None:
    """One JSON line."""
    with np.load(sys.argv[1]) as found:
        reference = _frame(found["reference_score"]).assign(hit=found["reference_hit"])
        window = _frame(found["score"])
    estimator = nannyml.CBPE(
        problem_type="classification_binary",
        y_pred_proba="score",
        y_pred="answer",
        y_true="hit",
        metrics=list(METRICS),
        chunk_size=int(sys.argv[2]),
    )
    began = time.process_time()
    estimator.fit(reference)
    fitted = time.process_time()
    result = estimator.estimate(window)
    done = time.process_time()
    frame = result.filter(period="analysis").to_df()
    said = {name: frame[(name, "value")].tolist() for name in METRICS}
    print(json.dumps({"estimates": said, "fit": fitted - began, "estimate": done - fitted}))


def _frame(score: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> "pd.DataFrame":
    return pd.DataFrame({"score": score, "answer": (score > 0.5).astype(int)})


if __name__ == "__main__":
    main()
