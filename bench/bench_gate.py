"""Whether the gate keeps its promises, beside the rules that people use instead.

Every decision is the service's own (`services.evaluator.verdict.decide`, `fleet.claim`); only the
worlds are made up, so that it is known which model is better. Bootstrap draws are fewer than in
the service where thousands of verdicts are made, which is printed.

Usage: python -m bench.bench_gate [scale] [seed]; 1 is the whole size.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from bench.gate_chains import creep
from bench.gate_cost import cost
from bench.gate_fleet import MODELS, fleets
from bench.gate_holdout import cross_validation, reuse, slices
from bench.gate_promises import (
    ALPHA,
    DRAWS,
    acceptances_at_the_margin,
    false_promotions,
    power,
)
from bench.simulation import print_environment, print_json, screen

SEED = 20_260_101


def parts(scale: float, seed: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """Every part of the benchmark by its name, in order."""

    def sized(whole: int) -> int:
        return max(int(whole * scale), 2)

    return {
        "cost": lambda: cost(seed),
        "A/A": lambda: false_promotions(sized(1_500), seed),
        "margin": lambda: acceptances_at_the_margin(sized(1_500), seed),
        "power": lambda: power(sized(200), seed),
        "creep": lambda: creep(sized(200), seed),
        "fleet": lambda: fleets(sized(MODELS), sized(5), seed),
        "reuse in time": lambda: reuse(sized(1_000), seed, ordered=True),
        "reuse of rows": lambda: reuse(sized(300), seed, ordered=False),
        "slices": lambda: slices(sized(400), seed),
        "folds": lambda: cross_validation(sized(600), seed),
    }


def main() -> None:
    """Run everything, print tables, and one line of JSON."""
    scale = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else SEED
    figures: dict[str, Any] = {"alpha": ALPHA, "draws": DRAWS}
    environment = print_environment(seed, scale=scale, alpha=ALPHA, draws=DRAWS)
    began = time.process_time()
    for name, part in parts(scale, seed).items():
        before = time.process_time()
        figures |= part()
        spent = time.process_time() - before
        screen.print(f"{name}: {spent:.0f} s of CPU", style="dim")
    figures["cpu_seconds"] = round(time.process_time() - began)
    print_json({**figures, "environment": environment})


if __name__ == "__main__":
    main()
