"""What common rules and river's detectors make of a sample of the windows of the mixed world."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

from bench import drift_river
from bench.drift_rules import Rules, tally
from bench.drift_runs import REFERENCE, WINDOW
from bench.drift_worlds import DRIFTS, Mixed
from bench.simulation import Rate, chance, print_table, screen

MODELS: Final = 5
"""References whose clean windows are judged, as many of each."""

_RULED: Final = (
    "mean_0_1_sd",
    "mean_0_2_sd",
    "mean_0_3_sd",
    "scale_1_2",
    "correlation_0_2",
    "missing_1_percent",
)


def rule_figures(pool: ProcessPoolExecutor, ruled: int, seed: int) -> dict[str, Any]:
    """What other rules make of clean windows of several models, and of drifted ones of one."""
    each, drifted = max(1, ruled // MODELS), max(8, ruled // 4)
    jobs = [(seed, "clean", each, model) for model in range(MODELS)]
    jobs += [(seed, kind, drifted, 0) for kind in _RULED]
    judged = list(pool.map(_ruled, jobs))
    clean, found = judged[:MODELS], dict(zip(_RULED, judged[MODELS:], strict=True))
    rows, figures = [], dict[str, Any]()
    for rule in clean[0]:
        rate = Rate(hits=sum(one[rule] for one in clean), runs=each * MODELS)
        worst = 1000 * max(one[rule] for one in clean) / each
        power = {kind: found[kind][rule] / drifted for kind in _RULED}
        known = {"clean per 1,000": 1000 * rate.share, "worst model": worst}
        rows.append({"rule": rule, **known, **power})
        figures[f"{rule}_worst_model_per_1000"] = round(worst, 1)
        figures[f"{rule}_false_alarms_per_1000"] = round(1000 * rate.share, 1)
        figures[f"{rule}_false_alarms_per_1000_upper_95"] = round(1000 * rate.interval[1], 1)
        figures |= {f"{rule}_power_at_{short(k)}": round(v, 3) for k, v in power.items()}
    title = f"other rules, a sample of {each} clean windows of each of {MODELS} models"
    print_table(title, rows)
    return {**figures, "rules_clean_windows": each * MODELS, "rules_models": MODELS}


def _ruled(job: tuple[int, str, int, int]) -> Counter[str]:
    seed, kind, count, model = job
    draw = chance(seed, "rules", f"{model}") if model else chance(seed, "rules")
    world = Mixed.drawn(draw)
    rules = Rules.of(world.rows(draw, REFERENCE))
    draw = chance(seed, "rules", kind, f"{model}") if model else chance(seed, "rules", kind)
    windows = [
        world.rows(draw, WINDOW) if kind == "clean" else DRIFTS[kind](draw, world, i, WINDOW)
        for i in range(count)
    ]
    return tally(rules, windows)


def river_figures(seed: int, windows: int) -> dict[str, Any]:
    """ADWIN and Page-Hinkley by river, one per number; a few windows, because they are slow."""
    found = drift_river.run(seed, windows=windows, trials=3, rows=WINDOW)
    if found is None:
        screen.print("river: not installed")
        return {"adwin": "not installed", "page_hinkley": "not installed"}
    print_table(
        f"river, defaults, a sample of {windows} clean windows",
        [{"rule": rule, **shares} for rule, shares in found.items()],
    )
    figures: dict[str, Any] = {"river_clean_windows": windows}
    for rule, shares in found.items():
        rate = Rate(hits=round(shares["clean"] * windows), runs=windows)
        figures[f"{rule}_false_alarms_per_1000"] = round(1000 * rate.share, 1)
        figures[f"{rule}_false_alarms_per_1000_upper_95"] = round(1000 * rate.interval[1], 1)
        figures[f"{rule}_power_at_0_2_sd"] = round(shares["mean_0_2_sd"], 3)
        figures[f"{rule}_power_at_scale_1_2"] = round(shares["scale_1_2"], 3)
    return figures


def short(name: str) -> str:
    """A drift as figures name it."""
    return name.removeprefix("mean_")
