"""How often quiet windows alarm, and how soon changed ones do, beside what others do by default.

Every verdict is the monitor's own (`services.drift_monitor.detection`), over the window and those
before it. Worlds: mixed features of one copula, rows that resemble their neighbours, real rows
without a lasting change, and real rows with one. Rates have Clopper-Pearson intervals.

Usage: python -m bench.bench_drift [seed]; with FULL=1 in the environment 20,000 clean windows.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from bench import drift_cbpe, drift_concept, drift_real, drift_river
from bench.drift_rules import Rules, tally
from bench.drift_runs import (
    ALIKE,
    PATIENCE,
    REFERENCE,
    WINDOW,
    Mixture,
    Tally,
    alike,
    mixture,
)
from bench.drift_worlds import DRIFTS, Mixed
from bench.simulation import (
    Rate,
    chance,
    print_environment,
    print_json,
    print_table,
    screen,
)
from services.drift_monitor.detection import ALPHA

SEED: Final = 20_260_303
_RULED: Final = (
    "mean_0_1_sd",
    "mean_0_2_sd",
    "mean_0_3_sd",
    "scale_1_2",
    "correlation_0_2",
    "missing_1_percent",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of everything is looked at.

    Attributes:
        models, windows: of the mixed world, and clean windows of each.
        trials: drifted windows of each kind per model.
        alike, alike_windows: the same for rows that resemble their neighbours.
        ruled: clean windows that other rules judge; of each drift a fourth of that.
        shuffles: of each series without an order.
    """

    models: int
    windows: int
    trials: int
    alike: int
    alike_windows: int
    ruled: int
    shuffles: int


USUAL: Final = Sizes(
    models=16, windows=150, trials=10, alike=6, alike_windows=40, ruled=40, shuffles=3
)
FULL: Final = Sizes(
    models=100, windows=200, trials=10, alike=20, alike_windows=50, ruled=200, shuffles=20
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
    with ProcessPoolExecutor(workers) as pool:
        said = [
            mixed_figures(_mixtures(pool, sizes, seed)),
            alike_figures(pool, sizes, seed),
            rule_figures(pool, sizes, seed),
        ]
    said += [river_figures(seed, sizes), real_figures(seed, sizes)]
    said += [drift_concept.run(), drift_cbpe.run()]
    figures = {name: value for part in said for name, value in part.items()}
    print_json(
        {**facts, **figures, "seconds": round(time.perf_counter() - started), "full": is_full}
    )


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
        **{f"power_at_{_short(name)}": round(share, 4) for name, share in power.items()},
        "power_curve_area": round(float(curve), 4),
        **delays,
        "wild_value_hides": sum(m.wild_hides for m in models),
        "wild_value_alarms": sum(m.wild_alarms for m in models),
    }


def _delays(name: str, found: Sequence[int | None]) -> dict[str, Any]:
    """Median and ninth tenth; what was not found counts as one more than the patience."""
    seen = [windows or PATIENCE + 1 for windows in found]
    return {name: float(np.median(seen)), f"{name}_p90": float(np.quantile(seen, 0.9))}


def _short(name: str) -> str:
    return name.removeprefix("mean_")


def clean_figures(tallies: Sequence[Tally], prefix: str) -> dict[str, Any]:
    """False alarms per 1,000 windows, the worst model, and critical ones per 100,000."""
    windows = sum(t.windows for t in tallies)
    rate = Rate(hits=sum(t.warnings for t in tallies), runs=windows)
    critical = Rate(hits=sum(t.critical for t in tallies), runs=windows)
    worst = max(1000 * t.warnings / t.windows for t in tallies)
    tests: dict[str, int] = {}
    for one in tallies:
        for name, hits in one.tests.items():
            tests[name] = tests.get(name, 0) + hits
    row = {
        "world": prefix.strip("_") or "mixed",
        "clean windows": windows,
        "alarms per 1,000": 1000 * rate.share,
        "upper 95 %": 1000 * rate.interval[1],
        "worst model": worst,
        "critical": critical.hits,
        "modes": " ".join(sorted({t.mode for t in tallies})),
        "by": ", ".join(f"{name}: {hits}" for name, hits in sorted(tests.items())),
    }
    print_table("clean windows", [row])
    return {
        f"{prefix}clean_windows": windows,
        f"{prefix}false_alarms_per_1000": round(1000 * rate.share, 3),
        f"{prefix}false_alarms_per_1000_upper_95": round(1000 * rate.interval[1], 3),
        f"{prefix}worst_model_per_1000": round(worst, 3),
        f"{prefix}critical_per_100000": round(100_000 * critical.share, 3),
        f"{prefix}critical_per_100000_upper_95": round(100_000 * critical.interval[1], 3),
    }


# --- rows that resemble their neighbours ---------------------------------------------------------


def alike_figures(pool: ProcessPoolExecutor, sizes: Sizes, seed: int) -> dict[str, Any]:
    """False alarms where rows know their neighbours."""
    figures: dict[str, Any] = {}
    for name in ALIKE:
        make = partial(alike, seed, name, windows=sizes.alike_windows, alpha=ALPHA)
        figures |= clean_figures(list(pool.map(make, range(sizes.alike))), f"{name}_")
    return figures


# --- other rules ----------------------------------------------------------------------------------


def rule_figures(pool: ProcessPoolExecutor, sizes: Sizes, seed: int) -> dict[str, Any]:
    """What other rules make of the windows of one reference of the mixed world."""
    kinds = {"clean": sizes.ruled} | {name: max(8, sizes.ruled // 4) for name in _RULED}
    jobs = [(seed, kind, count) for kind, count in kinds.items()]
    found = dict(zip(kinds, pool.map(_ruled, jobs), strict=True))
    names = list(found["clean"])
    rows, figures = [], dict[str, Any]()
    for rule in names:
        rate = Rate(hits=found["clean"][rule], runs=kinds["clean"])
        power = {kind: found[kind][rule] / kinds[kind] for kind in _RULED}
        rows.append({"rule": rule, "clean per 1,000": 1000 * rate.share, **power})
        figures[f"{rule}_false_alarms_per_1000"] = round(1000 * rate.share, 1)
        figures[f"{rule}_false_alarms_per_1000_upper_95"] = round(1000 * rate.interval[1], 1)
        figures |= {f"{rule}_power_at_{_short(k)}": round(v, 3) for k, v in power.items()}
    print_table(f"other rules, {kinds['clean']} clean windows", rows)
    return figures


def _ruled(job: tuple[int, str, int]) -> Counter[str]:
    seed, kind, count = job
    draw = chance(seed, "rules")
    world = Mixed.drawn(draw)
    rules = Rules.of(world.rows(draw, REFERENCE))
    draw = chance(seed, "rules", kind)
    windows = [
        world.rows(draw, WINDOW) if kind == "clean" else DRIFTS[kind](draw, world, i, WINDOW)
        for i in range(count)
    ]
    return tally(rules, windows)


def river_figures(seed: int, sizes: Sizes) -> dict[str, Any]:
    """ADWIN and Page-Hinkley by river, one per number; a few windows, because they are slow."""
    found = drift_river.run(seed, windows=sizes.ruled // 4, trials=3, rows=WINDOW)
    if found is None:
        screen.print("river: not installed")
        return {"adwin": "not installed", "page_hinkley": "not installed"}
    print_table("river, defaults", [{"rule": rule, **shares} for rule, shares in found.items()])
    figures: dict[str, Any] = {}
    for rule, shares in found.items():
        figures[f"{rule}_false_alarms_per_1000"] = round(1000 * shares["clean"], 1)
        figures[f"{rule}_power_at_0_2_sd"] = round(shares["mean_0_2_sd"], 3)
        figures[f"{rule}_power_at_scale_1_2"] = round(shares["scale_1_2"], 3)
    return figures


# --- real rows ------------------------------------------------------------------------------------


def real_figures(seed: int, sizes: Sizes) -> dict[str, Any]:
    """Series without a lasting change, and series with one."""
    nulls = drift_real.nulls(seed, sizes.shuffles, ALPHA)
    if nulls is None:
        screen.print("real rows: not to be had")
        return {"real": "not installed"}
    figures = clean_figures([one.tally for one in nulls], "real_")
    weather = [one.tally for one in nulls if one.name.startswith("weather")]
    if weather:
        figures |= clean_figures(weather, "weather_")
    changed = drift_real.changes(ALPHA)
    rows = [
        {
            "series": one.name,
            "windows": one.tally.windows,
            "ours": one.tally.warnings / one.tally.windows,
            "critical": one.tally.critical / one.tally.windows,
            **one.rules,
        }
        for one in [n for n in nulls if n.rules] + changed
    ]
    print_table("real rows: share of windows that alarm", rows)
    for one in changed:
        name = one.name.replace(" ", "_")
        figures[f"{name}_alarmed"] = round(one.tally.warnings / one.tally.windows, 3)
    return figures


if __name__ == "__main__":
    main()
