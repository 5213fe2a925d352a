"""Five thousand models judged one after the other, of which a twentieth has truly become better.

Sensors share weather: a common factor moves the losses of all of them on the same days, so their
verdicts depend on each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from bench.gate_promises import ALPHA, against_champion
from bench.simulation import chance, print_table, screen
from services.evaluator.evidence import Evidence
from services.evaluator.fleet import FleetState, after, bh, claim, e_bh
from services.evaluator.verdict import GateTerms, Given, Rules, decide
from shared.probability import normal_sf

MODELS = 5_000
CHANGED = 0.05
ROWS = 500
COMMON = 0.3
"""Part of the variance of each difference that all sensors share."""
_SIGMA = 0.12
_EFFECTS = (0.1, 0.4)
"""Gain of a changed model in standard deviations of the differences, evenly in between."""
_DRAWS = 199
"""The e-value uses none; only the plain p-values beside it would."""
Truth = NDArray[np.bool_]


def evidence_of(gains: NDArray[np.float64]) -> Evidence:
    """Answers to a sensor's rows whose absolute errors differ by `gains`."""
    y = np.zeros(len(gains))
    answers = {"candidate": 1 - gains / 2, "champion": 1 + gains / 2, "baseline": y + 9.0}
    return Evidence(
        task="regression",
        ordered=False,
        y=y,
        row_hashes=np.arange(len(gains), dtype=np.uint64),
        answers=answers,
    )


def judged_fleet(
    models: int, seed: int, run: int, *, progress: bool = False
) -> tuple[Truth, list[float], list[float]]:
    """Who truly changed, the e-value of each model's verdict, and its plain p-value."""
    draw = chance(seed, "fleet", run)
    changed = draw.random(models) < CHANGED
    weather = draw.normal(size=ROWS)
    effects = changed * draw.uniform(*_EFFECTS, size=models)
    rules = Rules(
        gates=(GateTerms(metric="mae", vs="champion", margin=0.0, confidence=1 - ALPHA),),
        draws=_DRAWS,
    )
    e_values, p_values = [], []
    numbers: Sequence[int] = range(models)
    for model in track(numbers, "models", console=screen, transient=True) if progress else numbers:
        own = draw.normal(size=ROWS)
        noise = np.sqrt(COMMON) * weather + np.sqrt(1 - COMMON) * own
        # Weather helps or hurts a new model by chance: its sign is the model's own.
        noise *= draw.choice([-1.0, 1.0])
        gains = _SIGMA * (np.clip(noise, -2, 2) + effects[model])
        verdict = decide(evidence_of(gains), rules, Given(mode="change", seed=model))
        gate = against_champion(verdict)
        e_values.append(verdict.e_value)
        p_values.append(normal_sf((gate.estimate or 0.0) / gate.se) if gate.se else 1.0)
    return changed, e_values, p_values


def accepted_by(
    e_values: Sequence[float], p_values: Sequence[float], alpha: float
) -> Mapping[str, Truth]:
    """Which models each rule promotes."""
    state, in_order = FleetState(), []
    for e_value in e_values:
        made = claim(e_value, state, alpha, stream="bench")
        state = after(state, made)
        in_order.append(made.passed)
    return {
        "alpha per model": np.array(p_values) <= alpha,
        "BH": _chosen(bh(p_values, alpha), len(p_values)),
        "e-LOND": np.array(in_order),
        "e-BH": _chosen(e_bh(e_values, alpha), len(e_values)),
    }


def _chosen(places: Sequence[int], count: int) -> Truth:
    found = np.zeros(count, dtype=np.bool_)
    found[list(places)] = True
    return found


def fleets(models: int, runs: int, seed: int) -> dict[str, Any]:
    """Share of false promotions among all (a mean over fleets), and of the changed ones found."""
    false: dict[str, list[float]] = {}
    found: dict[str, list[float]] = {}
    for run in range(runs):
        changed, e_values, p_values = judged_fleet(models, seed, run, progress=True)
        for name, accepted in accepted_by(e_values, p_values, ALPHA).items():
            wrong = int((accepted & ~changed).sum())
            false.setdefault(name, []).append(wrong / max(int(accepted.sum()), 1))
            found.setdefault(name, []).append(float(accepted[changed].mean()))
    rows = [
        {
            "rule": name,
            "realised FDR, mean": float(np.mean(false[name])),
            "worst fleet": float(np.max(false[name])),
            "recall, mean": float(np.mean(found[name])),
        }
        for name in false
    ]
    print_table(
        f"{runs} fleets of {models} models, {CHANGED:.0%} changed, common factor {COMMON:.0%}", rows
    )
    figures: dict[str, Any] = {}
    for name in false:
        word = name.replace("-", "_").replace(" ", "_").lower()
        figures[f"fleet_fdr_{word}"] = round(float(np.mean(false[name])), 4)
        figures[f"fleet_recall_{word}"] = round(float(np.mean(found[name])), 4)
    return figures
