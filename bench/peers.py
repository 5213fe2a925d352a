"""Environments of other people's libraries: made when they are missing, None where they cannot be.

Pins of one peer disagree with those of another, so each has an environment of its own under
`.venv-bench`, which is no part of the repository.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.simulation import screen
from local.paths import CHECKOUT

FOLDER: Final = CHECKOUT / ".venv-bench"
PROGRAMS: Final = Path(__file__).parent / "drift_peers"


def interpreter(name: str, pins: Sequence[str]) -> Path | None:
    """The interpreter of a peer's environment."""
    folder = FOLDER / name
    python, made = folder / "bin" / "python", folder / "pins"
    wanted = " ".join(pins)
    if made.exists() and made.read_text() == wanted:
        return python
    uv = str(CHECKOUT / ".venv/bin/uv")
    base = str(CHECKOUT / ".venv/bin/python")
    screen.print(f"making the environment of {wanted}")
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", base, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(python), *pins],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            screen.print(f"{name} is not installed: {done.stderr.strip()[-200:]}")
            return None
    made.write_text(wanted)
    return python


def call(command: Sequence[str], *, seconds: float) -> bool:
    """Whether a peer's program has come to its end."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        screen.print(f"a peer took more than {seconds:.0f} s")
        return False
    if done.returncode:
        screen.print(f"a peer failed: {done.stderr[-300:]}")
    return not done.returncode


def ask(
    python: Path, program: str, arrays: Mapping[str, NDArray[Any]], *more: str, seconds: float
) -> dict[str, Any] | None:
    """What a program of `drift_peers` says of these arrays, as one JSON line; None if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.npz"
        np.savez(path, **arrays)  # type: ignore[arg-type]  # names are free
        command = [str(python), str(PROGRAMS / program), str(path), *more]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            screen.print(f"{program} took more than {seconds:.0f} s")
            return None
    if done.returncode:
        screen.print(f"{program} failed: {done.stderr[-300:]}")
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
