"""What one verdict costs: 10,000 rows, champion, anchor, baseline and five slices."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from bench.gate_promises import rules_for
from bench.simulation import chance, print_table
from services.evaluator.evidence import Evidence
from services.evaluator.verdict import Given, SliceTerms, decide

ROWS = 10_000
SLICES = 5
REPEATS = 7


def evidence(seed: int, task: str) -> Evidence:
    """Independent rows of two similar models, an anchor and a baseline."""
    draw = chance(seed, "cost", task)
    if task == "regression":
        y: np.ndarray[Any, Any] = draw.normal(size=ROWS)
        answers = {
            name: y + draw.normal(scale=scale, size=ROWS)
            for name, scale in (("candidate", 0.5), ("champion", 0.5), ("anchor", 0.5))
        }
        answers["baseline"] = np.zeros(ROWS)
        classes = {}
    else:
        truth = draw.beta(0.7, 0.7, size=ROWS)
        y = np.empty(ROWS, dtype=object)
        y[:] = np.where(draw.random(ROWS) < truth, "yes", "no")
        answers = {"baseline": np.full((ROWS, 2), 0.5)}
        for name in ("candidate", "champion", "anchor"):
            p = np.clip(truth + draw.normal(scale=0.1, size=ROWS), 0.01, 0.99)
            answers[name] = np.column_stack([1 - p, p])
        classes = dict.fromkeys(answers, ("no", "yes"))
    part = draw.integers(0, SLICES, ROWS)
    return Evidence(
        task="regression" if task == "regression" else "classification",
        ordered=False,
        y=y,
        row_hashes=np.arange(ROWS, dtype=np.uint64),
        classes=classes,
        answers=answers,
        slices={f"part {n}": part == n for n in range(SLICES)},
    )


def verdict_cpu_ms(metric: str, draws: int, seed: int, repeats: int = REPEATS) -> float:
    """Median CPU time of one verdict, all threads of this process together."""
    task = "regression" if metric in ("mae", "rmse") else "classification"
    given = Given(mode="refresh", anchor=True, seed=seed)
    rules = rules_for(
        metric,
        0.05,
        draws,
        slices=tuple(
            SliceTerms(
                name=f"part {n}", where=f"part {n}", role="required", metric=metric, margin=0.05
            )
            for n in range(SLICES)
        ),
    )
    rows = evidence(seed, task)
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        decide(rows, rules, given)
        spent.append(1000 * (time.process_time() - began))
    return statistics.median(spent)


def cost(seed: int) -> dict[str, Any]:
    """At 2,000 and at 4,999 shared draws."""
    rows = []
    figures: dict[str, Any] = {}
    for metric in ("log_loss", "mae", "rmse", "roc_auc", "accuracy"):
        spent = {draws: verdict_cpu_ms(metric, draws, seed) for draws in (2_000, 4_999)}
        rows.append(
            {"metric": metric, "2,000 draws, ms": spent[2_000], "4,999 draws, ms": spent[4_999]}
        )
        figures[f"verdict_cpu_ms_{metric}"] = round(spent[2_000], 1)
        figures[f"verdict_cpu_ms_{metric}_4999"] = round(spent[4_999], 1)
    print_table(
        f"CPU of one verdict: {ROWS} rows, champion, anchor, baseline, {SLICES} slices; "
        f"median of {REPEATS}",
        rows,
    )
    means = [figures["verdict_cpu_ms_log_loss"], figures["verdict_cpu_ms_mae"]]
    slower = [figures["verdict_cpu_ms_log_loss_4999"], figures["verdict_cpu_ms_mae_4999"]]
    return {"verdict_cpu_ms": max(means), "verdict_cpu_ms_4999": max(slower), **figures}
