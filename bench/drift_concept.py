"""How soon worse answers are found by their losses, and how often good ones are called worse.

The monitor's running test beside detectors of river, on losses of 0 and 1: streams of a known rate,
and mistakes of a frozen model on river's `synth` worlds whose concept changes. The running test is
told its baseline and begins at the change; the others learn theirs from 2,000 clean losses. Besides
there is a test of windows of 1,000 labels, and one rule that always alarms and one that never does.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench import peers
from bench.drift_river import PIN
from bench.simulation import Rate, chance, print_json, print_table, screen
from services.drift_monitor.quality import Detector, Limit, feed
from shared import probability
from shared.reference import losses_profile

Floats = NDArray[np.float64]
SEED: Final = 20_260_303
BASES: Final = (0.05, 0.10, 0.30)
STEPS: Final = (0.02, 0.05, 0.10, 0.20)
BASE: Final = 0.10
"""The rate that changes."""
LOW: Final = (0.05, BASE)
"""Rates from which rises are looked for."""
CLEAN: Final = 2_000_000
"""Losses without a change per rate, for the running test; river sees a share of them."""
CLEAN_PEERS: Final = 60_000
STREAMS: Final = 300
STREAMS_PEERS: Final = 12
PATIENCE: Final = 15_000
BEFORE: Final = 2000
SYNTH_ROWS: Final = 6000
WINDOW: Final = 1000
WINDOW_ALPHA: Final = 1e-3
_SECONDS: Final = 400.0


def run(seed: int = SEED) -> dict[str, Any]:
    """False alarms per million labels, and delays in labels."""
    figures = {**_clean(seed), **_delays(seed), **_windowed(seed)}
    python = peers.interpreter("river", [PIN])
    if python is None:
        screen.print("river: not installed")
        return {**figures, "concept_river": "not installed"}
    return {**figures, **_peers(seed, python), **_synth(seed, python)}


def rate_stream(seed: int, rate: float, rows: int, *more: object) -> list[float]:
    """Losses of 0 and 1 with this rate of 1."""
    draw = chance(seed, "losses", rate, *more)
    losses: list[float] = (draw.random(rows) < rate).astype(np.float64).tolist()
    return losses


def limit_at(rate: float, tolerance: float = 0.0) -> Limit:
    """A baseline that is known, and what is added to it."""
    return Limit(unit=1.0, mean=rate, limit=rate + tolerance)


# --- the running test ---------------------------------------------------------------------------


def _clean(seed: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    rows = []
    seconds = 0.0
    for base in BASES:
        for name, tolerance in (("", 0.0), ("_tolerant", 0.01)):
            losses = rate_stream(seed, base, CLEAN)
            began = time.perf_counter()
            _, found = feed(Detector(), losses, limit_at(base, tolerance))
            seconds += time.perf_counter() - began
            rate = Rate(hits=len(found), runs=CLEAN)
            low, high = (1e6 * end for end in rate.interval)
            rows.append(
                {
                    "error": base,
                    "limit": base + tolerance,
                    "labels": CLEAN,
                    "false alarms per 10^6": 1e6 * rate.share,
                    "95 %": f"{low:.2f} to {high:.2f}",
                }
            )
            figures[f"quality_false_alarms_per_million_{base:.2f}{name}"] = 1e6 * rate.share
            figures[f"quality_false_alarms_per_million_{base:.2f}{name}_upper_95"] = round(high, 2)
    print_table("the running test where nothing changes; proved: at most 1", rows)
    per_second = len(BASES) * 2 * CLEAN / seconds
    return {**figures, "quality_labels_per_s": round(per_second)}


def _delays(seed: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    rows = []
    for base in LOW:
        for name, tolerance in (("", 0.0), ("_tolerant", 0.01)):
            row: dict[str, object] = {"error": base, "limit": base + tolerance}
            for step in STEPS:
                found = [
                    _first(rate_stream(seed, base + step, PATIENCE, i), limit_at(base, tolerance))
                    for i in range(STREAMS)
                ]
                row[f"+{step:.2f}"] = _median(found)
                figures[f"quality_delay_labels_{base:.2f}_plus_{step:.2f}{name}"] = _median(found)
            rows.append(row)
    print_table(f"labels until worse answers are found, median of {STREAMS}", rows)
    figures["quality_delay_labels"] = figures[f"quality_delay_labels_{BASE:.2f}_plus_0.05"]
    return figures


def _first(losses: Sequence[float], limit: Limit) -> int | None:
    state, step = Detector(), 500
    for start in range(0, len(losses), step):
        state, found = feed(state, losses[start : start + step], limit)
        if found:
            return start + found[0].at + 1
    return None


def _median(found: Sequence[int | None]) -> float | None:
    """None where more than half were never found."""
    middle = float(np.median([np.inf if one is None else one for one in found]))
    return middle if np.isfinite(middle) else None


# --- others -------------------------------------------------------------------------------------


def _windowed(seed: int) -> dict[str, Any]:
    """A test of each window of 1,000 labels by itself, and two rules that look at nothing."""
    figures: dict[str, Any] = {"always_fire_delay_labels": 1, "never_fire_delay_labels": None}
    bound = BASE + probability.z_of(WINDOW_ALPHA) * (BASE * (1 - BASE) / WINDOW) ** 0.5
    clean = np.array(rate_stream(seed, BASE, CLEAN)).reshape(-1, WINDOW).mean(axis=1)
    figures["z_windows_false_alarms_per_million"] = 1e6 * float((clean > bound).sum()) / CLEAN
    row: dict[str, object] = {"rule": f"z of {WINDOW}"}
    for step in STEPS:
        found = []
        for i in range(STREAMS):
            means = np.array(rate_stream(seed, BASE + step, PATIENCE, i)).reshape(-1, WINDOW)
            over = np.flatnonzero(means.mean(axis=1) > bound)
            found.append((int(over[0]) + 1) * WINDOW if len(over) else None)
        row[f"+{step:.2f}"] = figures[f"z_windows_delay_labels_plus_{step:.2f}"] = _median(found)
    row["false alarms per 10^6"] = figures["z_windows_false_alarms_per_million"]
    print_table("a test of windows, at 1e-3 each", [row])
    return figures


def _peers(seed: int, python: Path) -> dict[str, Any]:
    """River's detectors on the same kind of streams; fewer, because some are slow."""
    rules: dict[str, dict[str, object]] = {}
    figures: dict[str, Any] = {}
    for base in BASES:
        arrays = {
            "before": np.array(rate_stream(seed, base, BEFORE, "before")),
            "clean": np.array(rate_stream(seed, base, CLEAN_PEERS, "clean")),
        }
        if base == BASE:
            for step in STEPS:
                streams = [rate_stream(seed, base + step, 6000, i) for i in range(STREAMS_PEERS)]
                arrays[f"+{step:.2f}"] = np.array(streams)
        said = peers.ask(python, "river_losses.py", arrays, seconds=_SECONDS)
        if said is None:
            return {**figures, "concept_river": "failed"}
        screen.print(f"river at an error of {base}: done")
        for rule, found in said.items():
            row = rules.setdefault(rule, {"rule": rule})
            alarms = 1e6 * found["alarms"] / CLEAN_PEERS
            row[f"false per 10^6 at {base}"] = alarms
            figures[f"{rule}_false_alarms_per_million_{base:.2f}"] = round(alarms, 2)
            for name, delays in found["delays"].items():
                row[name] = _median(delays)
                figures[f"{rule}_delay_labels_{name[1:]}"] = _median(delays)
    print_table(f"river, defaults, {CLEAN_PEERS} clean labels per rate", list(rules.values()))
    return figures


def _synth(seed: int, python: Path) -> dict[str, Any]:
    """Mistakes of a frozen model before and after its concept changes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synth.npz"
        program = str(peers.PROGRAMS / "river_losses.py")
        asked = [str(path), "synth", str(seed % 1000), str(SYNTH_ROWS)]
        if not peers.call([str(python), program, *asked], seconds=_SECONDS):
            return {"concept_synth": "failed"}
        with np.load(path) as found:
            streams = {name: found[name] for name in found.files}
    rows, figures = [], dict[str, Any]()
    for name, losses in streams.items():
        clean, changed = losses[:SYNTH_ROWS], losses[SYNTH_ROWS:]
        reference, quiet = clean[:BEFORE], clean[BEFORE:]
        limit = Limit.of(losses_profile("accuracy", reference), tolerance=0.0)
        row = {"world": name, "error": clean.mean(), "after": changed.mean()}
        if limit is not None:
            state, alarms = feed(Detector(), quiet.tolist(), limit)
            _, after = feed(state, changed.tolist(), limit)
            row |= {"ours": after[0].at + 1 if after else None, "ours false": len(alarms)}
        arrays = {"before": reference, "clean": quiet, "after": changed[None]}
        said = peers.ask(python, "river_losses.py", arrays, seconds=_SECONDS) or {}
        for rule, found in said.items():
            row[rule] = found["delays"]["after"][0]
        rows.append(row)
        figures[f"synth_{name}_delay_labels"] = row.get("ours")
        figures |= {f"synth_{name}_{rule}_delay_labels": row[rule] for rule in said}
    print_table("labels until a changed concept is found; baseline learned from 2,000", rows)
    return figures


if __name__ == "__main__":
    print_json(run())
