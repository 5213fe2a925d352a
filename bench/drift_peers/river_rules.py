"""River's detectors over a stream of numbers; runs in an environment of its own.

Usage: python river_rules.py FILE; the file is a .npz of `before`, shape (rows, features), and of
streams of windows, shape (windows, rows, features) each. Every stream goes on from `before`, one
detector per feature; printed is how many windows of each had a detection.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from river import drift  # type: ignore[import-not-found]  # only in an environment of its own

MAKERS: dict[str, Callable[[], Any]] = {
    "adwin": drift.ADWIN,
    "page_hinkley": drift.PageHinkley,
}


def windows_alarmed(make: Callable[[], Any], before: Any, windows: Any) -> int:
    """How many windows had a detection in any feature."""
    alarmed = np.zeros(len(windows), dtype=bool)
    for place in range(before.shape[1]):
        detector = make()
        for value in before[:, place].tolist():
            detector.update(value)
        for number, window in enumerate(windows):
            for value in window[:, place].tolist():
                detector.update(value)
                alarmed[number] |= bool(detector.drift_detected)
    return int(alarmed.sum())


def main() -> None:
    """One JSON line."""
    with np.load(sys.argv[1]) as found:
        streams = {name: found[name] for name in found.files}
    before = streams.pop("before")
    counts = {
        name: {what: windows_alarmed(make, before, rows) for what, rows in streams.items()}
        for name, make in MAKERS.items()
    }
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
