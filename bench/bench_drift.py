"""How often quiet windows alarm, and how soon changed ones do, beside what others do by default.

Every verdict is the monitor's own (`services.drift_monitor.detection`), over the window and those
before it. Worlds: mixed features of one copula, columns that say something in few rows, rows that
resemble their neighbours, real rows without a lasting change, and real rows with one. Rates have
Clopper-Pearson intervals.

Usage: python -m bench.bench_drift [seed]; with FULL=1 in the environment 20,000 clean windows.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from bench import drift_cbpe, drift_concept
from bench.drift_figures import clean_figures, marked_figures, real_figures
from bench.drift_others import river_figures, rule_figures, short
from bench.drift_runs import (
    ALIKE,
    PATIENCE,
    REFERENCE,
    WINDOW,
    Mixture,
    alike,
    mixture,
)
from bench.drift_sparse import sparse_figures
from bench.drift_worlds import DRIFTS
from bench.simulation import (
    Rate,
    print_environment,
    print_json,
    print_table,
    screen,
)
from services.drift_monitor.detection import ALPHA

SEED: Final = 20_260_303


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of everything is looked at.

    Attributes:
        models, windows: of the mixed world, and clean windows of each.
        trials: drifted windows of each kind per model.
        sparse: models of each kind of sparse columns, with `windows` clean windows each.
        alike, alike_windows: the same for rows that resemble their neighbours.
        ruled: clean windows that other rules judge; of each drift a fourth of that.
        shuffles: of each series without an order.
    """

    models: int
    windows: int
    trials: int
    sparse: int
    alike: int
    alike_windows: int
    ruled: int
    shuffles: int


USUAL: Final = Sizes(
    models=16, windows=150, trials=10, sparse=2, alike=6, alike_windows=40, ruled=40, shuffles=3
)
FULL: Final = Sizes(
    models=100,
    windows=200,
    trials=10,
    sparse=14,
    alike=40,
    alike_windows=100,
    ruled=200,
    shuffles=20,
)


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else SEED
    is_full = os.environ.get("FULL", "") not in ("", "0")
    sizes = FULL if is_full else USUAL
    facts = print_environment(
        seed, alpha=ALPHA, reference=REFERENCE, window=WINDOW, clean=sizes.models * sizes.windows
    )
    started = time.perf_counter()
    workers = max(1, min(2, os.cpu_count() or 1))
    figures: dict[str, Any] = {}
    with ProcessPoolExecutor(workers) as pool:
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "mixed": lambda: mixed_figures(_mixtures(pool, sizes, seed)),
            "sparse": lambda: sparse_figures(pool, sizes.sparse, sizes.windows, seed),
            "alike": lambda: alike_figures(pool, sizes, seed),
            "rules": lambda: rule_figures(pool, sizes.ruled, seed),
            "river": lambda: river_figures(seed, sizes.ruled // 4),
            "real": lambda: real_figures(seed, sizes.shuffles),
            "marked": marked_figures,
            "concept": drift_concept.run,
            "cbpe": drift_cbpe.run,
        }
        for number, (name, measure) in enumerate(parts.items(), start=1):
            began = time.perf_counter()
            figures |= measure()
            seconds = figures[f"{name}_seconds"] = round(time.perf_counter() - began)
            screen.print(f"part {number} of {len(parts)}, {name}: done in {seconds} s")
    figures |= goal_figures(figures)
    print_json(
        {**facts, **figures, "seconds": round(time.perf_counter() - started), "full": is_full}
    )


def goal_figures(found: dict[str, Any]) -> dict[str, Any]:
    """Which of the goals that the project set itself hold by these figures.

    An upper end of an interval that few windows make wide fails a goal that it belongs to.
    """
    alike_worst = max(
        found.get(f"{name}_false_alarms_per_1000", 0.0) for name in (*ALIKE, "weather")
    )
    prefixes = ("", "sparse_", *(f"{name}_" for name in ALIKE), "real_")
    windows = {prefix: found.get(f"{prefix}clean_windows", 0) for prefix in prefixes}
    critical = Rate(
        hits=round(
            sum(found[f"{p}critical_per_100000"] * n / 1e5 for p, n in windows.items() if n)
        ),
        runs=sum(windows.values()),
    )
    goals = {
        "goal_1_false_alarms": found["false_alarms_per_1000"] <= 1
        and found["sparse_false_alarms_per_1000"] <= 1
        and found["false_alarms_per_1000_upper_95"] <= 1.5,
        "goal_2_first_window": found["power_at_0_2_sd"] >= 0.95,
        "goal_3_small_shifts": found["delay_windows_0_075_sd_normal"] <= 5
        and found["delay_windows_0_05_sd_normal"] <= 16,
        "goal_4_alike_rows": alike_worst <= 3,
        "goal_5_critical": critical.share * 1e5 <= 1,
        "goal_6_quality": _is_quality_soon(found),
        "goal_7_estimates": _within(found.get("cbpe_largest_difference_of_errors"), 0.001)
        and found.get("cbpe_times_less_cpu", 0) >= 50
        and _within(found.get("cbpe_bytes"), 1000),
        "goal_10_wild_values": not found["wild_value_hides"] and not found["wild_value_alarms"],
    }
    print_table("goals", [{"goal": name, "holds": holds} for name, holds in goals.items()])
    return {
        **goals,
        "alike_worst_false_alarms_per_1000": alike_worst,
        "all_clean_windows": critical.runs,
        "all_critical_per_100000": round(1e5 * critical.share, 3),
        "all_critical_per_100000_upper_95": round(1e5 * critical.interval[1], 3),
    }


def _is_quality_soon(found: dict[str, Any]) -> bool:
    """Whether the running test is quiet without a change, and finds one of .05 soon."""
    rates = [found[f"quality_false_alarms_per_million_{base:.2f}"] for base in drift_concept.BASES]
    delays = [found[f"quality_delay_labels_{base:.2f}_plus_0.05"] for base in drift_concept.LOW]
    return max(rates) <= 1 and all(_within(delay, 800) for delay in delays)


def _within(found: float | None, most: float) -> bool:
    """Whether it was found at all, and is no more than this."""
    return found is not None and found <= most


# --- the mixed world ----------------------------------------------------------------------------


def _mixtures(pool: ProcessPoolExecutor, sizes: Sizes, seed: int) -> list[Mixture]:
    make = partial(mixture, seed, windows=sizes.windows, trials=sizes.trials, alpha=ALPHA)
    found = []
    for number, one in enumerate(pool.map(make, range(sizes.models)), start=1):
        found.append(one)
        if number % 5 == 0:
            alarms = sum(m.tally.warnings for m in found)
            screen.print(f"mixed world: {number} of {sizes.models} models, {alarms} false alarms")
    return found


def mixed_figures(models: Sequence[Mixture]) -> dict[str, Any]:
    """False alarms, power and delays of the mixed world."""
    tallies = [model.tally for model in models]
    figures = clean_figures(tallies, "")
    trials = sum(model.trials for model in models)
    power = {n: sum(m.found[n] for m in models) / trials for n in DRIFTS}
    rows = [{"drift": name, "windows found": share} for name, share in power.items()]
    print_table(f"first windows found, {trials} of each", rows)
    delays: dict[str, Any] = {}
    for size in models[0].delays:
        name = f"delay_windows_{size.replace('.', '_')}_sd"
        delays |= _delays(name, [m.delays[size] for m in models])
        delays |= _delays(f"{name}_normal", [m.normal_delays[size] for m in models])
    ramps = sorted(m.ramp or 1.0 for m in models)
    delays["ramp_found_at_sd"] = float(np.median(ramps))
    print_table(
        "windows until a shift of one number is found, and the shift at which a growing one is",
        [delays],
    )
    curve = np.trapezoid([0, *(power[f"mean_0_{n}_sd"] for n in (1, 2, 3))], dx=0.1) / 0.3
    return {
        **figures,
        **{f"power_at_{short(name)}": round(share, 4) for name, share in power.items()},
        "power_curve_area": round(float(curve), 4),
        **delays,
        "wild_value_hides": sum(m.wild_hides for m in models),
        "wild_value_alarms": sum(m.wild_alarms for m in models),
    }


def _delays(name: str, found: Sequence[int | None]) -> dict[str, Any]:
    """Median and ninth tenth; what was not found counts as one more than the patience."""
    seen = [windows or PATIENCE + 1 for windows in found]
    return {name: float(np.median(seen)), f"{name}_p90": float(np.quantile(seen, 0.9))}


# --- rows that resemble their neighbours ---------------------------------------------------------


def alike_figures(pool: ProcessPoolExecutor, sizes: Sizes, seed: int) -> dict[str, Any]:
    """False alarms where rows know their neighbours."""
    figures: dict[str, Any] = {}
    for name in ALIKE:
        make = partial(alike, seed, name, windows=sizes.alike_windows, alpha=ALPHA)
        tallies = []
        for number, one in enumerate(pool.map(make, range(sizes.alike)), start=1):
            tallies.append(one)
            if number % 5 == 0:
                screen.print(f"{name}: {number} of {sizes.alike} models")
        figures |= clean_figures(tallies, f"{name}_")
    return figures


if __name__ == "__main__":
    main()
