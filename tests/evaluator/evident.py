"""Evidence drawn from known distributions: how much better the candidate is, is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from services.evaluator.evidence import Evidence
from services.evaluator.verdict import GateTerms, Given, Rules, SliceTerms

Task = Literal["regression", "classification"]
CLASSES = ("dry", "wet")
NOISE = {"candidate": 0.5, "champion": 0.5, "anchor": 0.5}


def a_generator(*parts: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(list(parts)))


def some_evidence(
    task: Task = "regression",
    rows: int = 400,
    seed: int = 1,
    *,
    noise: Mapping[str, float] | None = None,
    **changes: Any,
) -> Evidence:
    """Answers that miss what can be known by `noise` each; the baseline knows nothing."""
    draw = a_generator(seed)
    known = draw.normal(size=rows)
    levels = NOISE | dict(noise or {})
    missed = {name: known + draw.normal(scale=level, size=rows) for name, level in levels.items()}
    given: dict[str, Any] = {
        "task": task,
        "ordered": False,
        "row_hashes": draw.permutation(10 * rows)[:rows].astype(np.uint64),
    }
    if task == "regression":
        given["y"] = 10 + known + draw.normal(scale=0.5, size=rows)
        given["answers"] = {name: 10 + values for name, values in missed.items()}
        given["answers"]["baseline"] = np.full(rows, 10.0)
    else:
        given["y"] = np.where(draw.random(rows) < sigmoid(3 * known), "wet", "dry").astype(object)
        given["answers"] = {name: shares(3 * values) for name, values in missed.items()}
        given["answers"]["baseline"] = np.tile([0.5, 0.5], (rows, 1))
        given["classes"] = dict.fromkeys(given["answers"], CLASSES)
    return Evidence(**given | changes)


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 1 / (1 + np.exp(-x))
    return found


def shares(score: NDArray[np.float64]) -> NDArray[np.float64]:
    wet = sigmoid(score)
    return np.column_stack([1 - wet, wet])


def some_rules(metric: str = "mae", **changes: Any) -> Rules:
    """The champion and the baseline by one metric, with few draws."""
    margin = changes.pop("margin", None)
    given: dict[str, Any] = {
        "gates": (
            GateTerms(metric=metric, vs="champion", margin=margin),
            GateTerms(metric=metric, vs="baseline"),
        ),
        "draws": 999,
    }
    return Rules(**given | changes)


def a_slice(name: str = "storm", **changes: Any) -> SliceTerms:
    given: dict[str, Any] = {
        "name": name,
        "where": f"{name} > 0",
        "role": "required",
        "metric": "mae",
        "margin": 0.2,
    }
    return SliceTerms(**given | changes)


def a_refresh(**changes: Any) -> Given:
    given: dict[str, Any] = {"mode": "refresh", "seed": 7}
    return Given(**given | changes)
