"""Figures of clean windows, and of real rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench import drift_real
from bench.drift_runs import Tally
from bench.simulation import Rate, print_table, screen
from services.drift_monitor.detection import ALPHA


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


def real_figures(seed: int, shuffles: int) -> dict[str, Any]:
    """Series without a lasting change, and series with one."""
    nulls = drift_real.nulls(seed, shuffles, ALPHA)
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


def marked_figures() -> dict[str, Any]:
    """Short series in which several people marked where they change."""
    found = drift_real.annotated(ALPHA)
    if not found:
        screen.print("annotated series: not to be had")
        return {"annotated": "not installed"}
    print_table("annotated series, windows of 20 rows", [asdict(one) for one in found])
    return {
        f"annotated_{one.name}_{name}": value
        for one in found
        for name, value in asdict(one).items()
        if name != "name"
    }
