"""What others take for the same rows, each in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from local.paths import CHECKOUT

FOLDER: Final = CHECKOUT / ".venv-bench"
PINS: Final = {
    "river": ("river==0.26.1",),
    "datasketches": ("datasketches==5.2.0", "numpy<3"),
    "whylogs": ("whylogs==1.6.4", "pandas<3", "numpy<2"),
}
SECONDS: Final = 240

_ROWS: Final = """
import json, os, random, time
import numpy as np
chance = np.random.default_rng(1)
rows = int(os.environ["ROWS"])
numbers = chance.normal(size=(rows, 14))
words = [[f"level-{n}" for n in chance.integers(0, k, size=rows)] for k in (2, 3, 5, 10, 30, 60)]
"""
_SCRIPTS: Final = {
    "evidently": (
        """
import pandas
from evidently import Report
from evidently.presets import DataDriftPreset
frame = pandas.DataFrame(numbers, columns=[f"number_{i}" for i in range(14)])
for i, column in enumerate(words):
    frame[f"word_{i}"] = column
half = rows // 2
def once():
    began = time.process_time()
    Report([DataDriftPreset()]).run(frame[half:], frame[:half]).dict()
    return (time.process_time() - began) * 1000
once()
print(json.dumps({"evidently_ms": round(sorted(once() for _ in range(3))[1], 1)}))
""",
        2_000,
    ),
    "river": (
        """
from river.drift import ADWIN
detectors = [ADWIN() for _ in range(14)]
values = numbers.tolist()
began = time.process_time()
for row in values:
    for detector, value in zip(detectors, row):
        detector.update(value)
print(json.dumps({"river_adwin_rows_per_s": round(rows / (time.process_time() - began))}))
""",
        20_000,
    ),
    "datasketches": (
        """
from datasketches import kll_floats_sketch
models = [[kll_floats_sketch(64) for _ in range(14)] for _ in range(100)]
values = numbers.tolist()
began = time.process_time()
for n, row in enumerate(values):
    for sketch, value in zip(models[n % 100], row):
        sketch.update(value)
print(json.dumps({"datasketches_kll_rows_per_s": round(rows / (time.process_time() - began))}))
""",
        50_000,
    ),
    "whylogs": (
        """
import whylogs
records = [
    {
        **{f"number_{i}": value for i, value in enumerate(row)},
        **{f"word_{i}": words[i][n] for i in range(6)},
    }
    for n, row in enumerate(numbers.tolist())
]
profile = whylogs.log(row=records[0]).profile()
began = time.process_time()
for record in records:
    profile.track(row=record)
print(json.dumps({"whylogs_rows_per_s": round(rows / (time.process_time() - began))}))
""",
        2_000,
    ),
}


def measure(screen: Console) -> dict[str, Any]:
    """The figures of every peer that can be had."""
    found: dict[str, Any] = {}
    for peer in _SCRIPTS:
        python, reason = _python_of(peer)
        figures = _run(peer, python) if python else reason
        if isinstance(figures, str):
            screen.print(f"{peer}: not installed ({figures})")
        else:
            screen.print(f"{peer}: {', '.join(f'{k} {v:,}' for k, v in figures.items())}")
            found |= figures
    return found


def _python_of(peer: str) -> tuple[Path | None, str]:
    """The interpreter that has a peer, made if need be; or why there is none."""
    if peer not in PINS:
        return CHECKOUT / ".venv/bin/python", ""
    folder = FOLDER / f"monitor-{peer}"
    made = folder / "pins"
    if made.exists() and made.read_text() == "\n".join(PINS[peer]):
        return folder / "bin/python", ""
    uv, base = str(CHECKOUT / ".venv/bin/uv"), str(CHECKOUT / ".venv/bin/python")
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", base, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(folder / "bin/python"), *PINS[peer]],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return None, (done.stderr.strip().splitlines() or ["no reason given"])[-1][:200]
    made.write_text("\n".join(PINS[peer]))
    return folder / "bin/python", ""


def _run(peer: str, python: Path) -> dict[str, Any] | str:
    script, rows = _SCRIPTS[peer]
    quiet = {"DO_NOT_TRACK": "1", "WHYLOGS_NO_ANALYTICS": "1", "ROWS": str(rows)}
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [str(python), "-c", _ROWS + script],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            env={**os.environ, **quiet, **threads},
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {SECONDS} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no reason given"])[-1][:200]
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures
