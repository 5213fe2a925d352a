"""Retrainings asked for against lasting changes, in a fleet over which a heatwave passes.

A thousand models close a window every hour for ninety days. Three hundred of them change for good,
each once; for five days a heatwave hits two in five. Detectors call an unchanged window critical in
5 % and in .1 % of cases, a changed one in 90 %; losses are known a day late and called worse
without reason in .05 %. Our policies are the monitor's own functions (`bench.storm.Ours`).

Usage: python -m bench.bench_storm [models] [days] [seed]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from rich.progress import track

from bench.simulation import print_environment, print_json, print_table, screen
from bench.storm import WITHOUT_BRAKE, EveryAlarm, Ours, Outcome, Retrainer, Scale, World, play

SEED: Final = 20_260_401
ALPHAS: Final = (0.05, 0.001)
OURS: Final = "ours"
"""Everything as it is by default; the quality of windows confirms or excuses drift."""

Policies = Mapping[str, Callable[[], Retrainer]]


def policies(scale: Scale, alpha: float) -> Policies:
    """Each adds something to the one before it, but for the last one."""
    found: dict[str, Callable[[], Retrainer]] = {
        "every alarm": EveryAlarm,
        "+ 24 h cool-down": partial(EveryAlarm, 24),
        "2 of 3 + back-off + budget": partial(Ours, scale, WITHOUT_BRAKE),
        f"+ brake ({OURS})": partial(Ours, scale),
        "+ only by labels, 24 h late": partial(Ours, scale, by_drift=False),
    }
    if alpha == min(ALPHAS):
        found["ours, transient: adapt"] = partial(Ours, scale, transient="adapt")
    return found


def row(name: str, alpha: float, outcome: Outcome, seconds: float) -> dict[str, object]:
    return {
        "policy": name,
        "false alarms": f"{alpha:.1%}",
        "retrains": outcome.retrains,
        "useless": outcome.useless,
        "per change": outcome.per_change,
        "learned": f"{outcome.learned}/{outcome.changes}",
        "peak/h": outcome.peak_per_hour,
        "pages": outcome.pages,
        "wrong model-hours": outcome.wrong_hours,
        "s": round(seconds, 1),
    }


def main() -> None:
    given = [int(text) for text in sys.argv[1:]]
    models, days, seed = (*given, *(1000, 90, SEED)[len(given) :])
    scale = Scale(
        models=models,
        days=days,
        changes=round(0.3 * models),
        heat_from_day=min(40.0, 0.45 * days),
    )
    print_environment(seed, models=models, days=days, changes=scale.changes)
    world = World.drawn(scale, seed)
    figures: dict[str, Any] = {}
    rows: list[dict[str, object]] = []
    for alpha in ALPHAS:
        for name, make in policies(scale, alpha).items():
            began = time.monotonic()
            progress = partial(track, description=f"{name}, {alpha:.1%}", console=screen)
            outcome = play(world, make(), alpha, progress)
            rows.append(row(name, alpha, outcome, time.monotonic() - began))
            figures[f"{name} @ {alpha:g}"] = asdict(outcome)
            if OURS in name and "adapt" not in name and alpha == min(ALPHAS):
                figures |= {
                    "retrains_per_real_change": round(outcome.per_change, 4),
                    "useless_retrains": outcome.useless,
                    "pages": outcome.pages,
                    "peak_per_hour": outcome.peak_per_hour,
                    "wrong_regime_model_hours": outcome.wrong_hours,
                }
    print_table(f"{models} models, {days} days, {scale.changes} lasting changes", rows)
    heat = round(scale.heat * models) * scale.heat_days * 24
    print(f"the heatwave itself lasts {heat:.0f} model-hours")
    print_json({"bench": "storm", "models": models, "days": days, "seed": seed, **figures})


if __name__ == "__main__":
    main()
