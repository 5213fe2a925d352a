"""Metrics of a classifier without labels: by counts per cell of the score, and as NannyML does it.

Rows: employment in Massachusetts by the American Community Survey (public domain), 2015 as
reference and 2016-2018 with their real labels after it, as NannyML's wheel has them. Beside both
stands "nothing has changed".
"""

from __future__ import annotations

import io
import time
import zipfile
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no types
from numpy.typing import NDArray

from bench import drift_data, peers
from bench.simulation import chance, print_json, print_table, screen
from services.drift_monitor.quality.estimating import (
    Estimated,
    Table,
    estimate,
    metrics_of,
)
from shared.reference import SCORE, Losses, losses_profile
from shared.scores import Scores, score_cells, scores_profile
from shared.sketch import NumberCells

Floats = NDArray[np.float64]
CHUNK: Final = 5000
METRICS: Final = ("roc_auc", "accuracy", "f1", "precision", "recall")
PINS: Final = (drift_data.NANNYML.pinned, drift_data.STATSMODELS.pinned, "pandas==2.3.3")
"""NannyML asks for pandas without an upper bound, and fails with the next major version."""
SHUFFLES: Final = 40
SEED: Final = 20_260_303
Z: Final = 1.96
DROP: Final = 0.02
"""Fall in accuracy that somebody would want to know of."""
_FILE: Final = "nannyml/datasets/data/employment_MA_{}.pq"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Scores and what came true."""

    score: Floats
    hit: NDArray[np.bool_]

    def chunks(self) -> list[Rows]:
        return [
            Rows(score=self.score[i : i + CHUNK], hit=self.hit[i : i + CHUNK])
            for i in range(0, len(self.score) - CHUNK + 1, CHUNK)
        ]


def census() -> tuple[Rows, Rows] | None:
    """Reference, and what came after; None when the wheel cannot be had."""
    path = drift_data.fetched(drift_data.NANNYML)
    if path is None:
        return None
    with zipfile.ZipFile(path) as opened:
        reference, later, truth = (
            pq.read_table(io.BytesIO(opened.read(_FILE.format(name))))
            for name in ("reference", "analysis", "analysis_target")
        )
    return _rows(reference, reference), _rows(later, truth)


def _rows(scored: Any, labelled: Any) -> Rows:
    return Rows(
        score=scored["predicted_probability"].to_numpy().astype(np.float64),
        hit=labelled["employed"].to_numpy().astype(np.bool_),
    )


def learn(reference: Rows) -> tuple[NumberCells, Scores, Losses]:
    """What the monitor keeps of the reference."""
    cells = score_cells(SCORE, reference.score, [0.5])
    losses = np.square(reference.score - reference.hit)
    found = scores_profile(cells, reference.score, losses, reference.hit)
    if found is None:
        raise ValueError("the reference has no rows")
    # Rows are in no order in which neighbours could be alike.
    return cells, found, replace(losses_profile("brier", losses), inflation=1.0)


def realised(rows: Rows) -> dict[str, float]:
    """The metrics by the labels, exactly: one cell per row, in the order of the scores."""
    order = np.argsort(rows.score, kind="stable")
    edges, cells = np.unique(rows.score[order], return_inverse=True)
    positive = np.bincount(cells[rows.hit[order]], minlength=len(edges)).astype(np.float64)
    total = np.bincount(cells).astype(np.float64)
    table = Table(positive=positive, negative=total - positive, above=edges > 0.5)
    return {name: value for name, (value, _) in metrics_of(table).items()}


def ours(cells: NumberCells, known: Scores, losses: Losses, chunks: list[Rows]) -> list[Estimated]:
    found = []
    for chunk in chunks:
        counts = np.bincount(cells.places(chunk.score), minlength=cells.size)[:-1]
        estimated = estimate(losses, known, cells.edges, counts)
        if estimated is not None:
            found.append(estimated)
    return found


def run() -> dict[str, Any]:
    """Mean absolute errors, interval coverage, and CPU seconds."""
    rows = census()
    if rows is None:
        screen.print("census: not to be had")
        return {"cbpe": "not installed"}
    reference, later = rows
    chunks = later.chunks()
    began = time.process_time()
    cells, known, losses = learn(reference)
    fitted = time.process_time()
    estimates = ours(cells, known, losses, chunks)
    done = time.process_time()
    truth = [realised(chunk) for chunk in chunks]
    before = realised(reference)
    said = {
        "histogram": {name: [_of(one, name)[0] for one in estimates] for name in METRICS},
        "unchanged": {name: [before[name]] * len(chunks) for name in METRICS},
    }
    peer = _nannyml(reference, later, len(chunks))
    if peer is not None:
        said["nannyml"] = peer["estimates"]
    errors = {
        who: {name: _error(values[name], [t[name] for t in truth]) for name in METRICS}
        for who, values in said.items()
    }
    print_table(
        f"metrics without labels, {len(chunks)} chunks of {CHUNK}: mean absolute error",
        [{"estimate": who, **found} for who, found in errors.items()],
    )
    figures: dict[str, Any] = {
        f"cbpe_{who}_{name}_error": round(value, 5)
        for who, found in errors.items()
        for name, value in found.items()
    }
    figures |= _coverage(estimates, truth, "") | _same_rows(reference)
    figures |= _flags(estimates, truth, before)
    figures["cbpe_bytes"] = 8 * len(known.rates)
    figures |= _cpu("histogram", fitted - began, done - fitted)
    if peer is None:
        return {**figures, "cbpe_nannyml": "not installed"}
    figures |= _cpu("nannyml", peer["fit"], peer["estimate"])
    figures["cbpe_largest_difference_of_errors"] = round(
        max(abs(errors["histogram"][n] - errors["nannyml"][n]) for n in METRICS), 5
    )
    total = (done - began) or 1e-9
    figures["cbpe_times_less_cpu"] = round((peer["fit"] + peer["estimate"]) / total, 1)
    return figures


def _nannyml(reference: Rows, later: Rows, chunks: int) -> dict[str, Any] | None:
    python = peers.interpreter("nannyml", PINS)
    if python is None:
        screen.print("nannyml: not installed")
        return None
    arrays = {
        "reference_score": reference.score,
        "reference_hit": reference.hit.astype(np.int64),
        "score": later.score[: chunks * CHUNK],
    }
    return peers.ask(python, "nannyml_cbpe.py", arrays, str(CHUNK), seconds=300)


def _of(found: Estimated, name: str) -> tuple[float, float, float]:
    one = next(other for other in found.others if other.metric == name)
    return one.value, one.low, one.high


def _error(found: list[float], truth: list[float]) -> float:
    return float(np.mean(np.abs(np.array(found) - np.array(truth))))


def _same_rows(reference: Rows) -> dict[str, Any]:
    """The same of rows of one year that were mixed, where a score means what it meant.

    What the intervals then miss is chance; what they miss besides in later years is change.
    """
    estimates, truth = list[Estimated](), list[dict[str, float]]()
    for number in range(SHUFFLES):
        order = chance(SEED, "census", number).permutation(len(reference.score))
        known, others = (
            Rows(score=reference.score[part], hit=reference.hit[part])
            for part in np.split(order, [len(order) // 2])
        )
        cells, scores, losses = learn(known)
        estimates += ours(cells, scores, losses, others.chunks())
        truth += [realised(chunk) for chunk in others.chunks()]
    return _coverage(estimates, truth, "same_rows_")


def _coverage(
    estimates: list[Estimated], truth: list[dict[str, float]], prefix: str
) -> dict[str, Any]:
    """How often the 95 % intervals hold what the labels said, and how far off they are.

    Distances are in standard errors of the estimate; its interval has room for one of 1.
    """
    found: dict[str, Any] = {}
    rows = []
    for name in METRICS:
        pairs = [(_of(one, name), t[name]) for one, t in zip(estimates, truth, strict=True)]
        inside = np.mean([low <= real <= high for (_, low, high), real in pairs])
        off = np.array(
            [(real - value) * 2 * Z / (high - low) for (value, low, high), real in pairs]
        )
        rows.append({"metric": name, "held": inside, "mean off": off.mean(), "spread": off.std()})
        found[f"cbpe_{prefix}{name}_interval_holds"] = round(float(inside), 3)
        found[f"cbpe_{prefix}{name}_mean_off"] = round(float(off.mean()), 2)
        found[f"cbpe_{prefix}{name}_spread"] = round(float(off.std()), 2)
    what = "rows of one year, mixed" if prefix else "later years"
    print_table(f"95 % intervals, {what}: share that holds the real value", rows)
    return found


def _flags(
    estimates: list[Estimated], truth: list[dict[str, float]], before: dict[str, float]
) -> dict[str, Any]:
    """Chunks whose accuracy really fell, and those of which it was estimated."""
    limit = before["accuracy"] - DROP
    fell = {i for i, t in enumerate(truth) if t["accuracy"] < limit}
    flagged = {i for i, one in enumerate(estimates) if _of(one, "accuracy")[0] < limit}
    return {
        "cbpe_drops": len(fell),
        "cbpe_drops_flagged": len(fell & flagged),
        "cbpe_wrongly_flagged": len(flagged - fell),
    }


def _cpu(who: str, fit: float, estimating: float) -> dict[str, Any]:
    return {
        f"cbpe_{who}_fit_cpu_seconds": round(fit, 4),
        f"cbpe_{who}_estimate_cpu_seconds": round(estimating, 4),
    }


if __name__ == "__main__":
    print_json(run())
