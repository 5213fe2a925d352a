"""River's detectors over streams of losses, and losses of its models; in an environment of its own.

Usage: python river_losses.py FILE [synth SEED ROWS]

The file is a .npz: `before` has shape (rows,), losses that every detector learns from first;
`clean` is one long stream that goes on from there; all others have shape (streams, rows). Printed
is one JSON line: by detector the detections in `clean`, the seconds that took, and by name the
delays until the first one, null where there is none.

With `synth` the file is written instead: by stream of `river.datasets.synth`, mistakes of a naive
Bayes model that has learned the concept before the change and is left alone from then on.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import numpy as np
from river import drift, naive_bayes  # type: ignore[import-not-found]  # in its own environment
from river.datasets import synth  # type: ignore[import-not-found]

MAKERS: dict[str, Callable[[], Any]] = {
    "adwin": drift.ADWIN,
    "page_hinkley": drift.PageHinkley,
    "ddm": drift.binary.DDM,
    "eddm": drift.binary.EDDM,
    "hddm_a": drift.binary.HDDMA,
    "hddm_w": drift.binary.HDDMW,
    "fhddm": drift.binary.FHDDM,
}
WORLDS: dict[str, Callable[[int, bool], Any]] = {
    "sea": lambda seed, new: synth.SEA(variant=3 if new else 0, seed=seed),
    "stagger": lambda seed, new: synth.STAGGER(classification_function=2 if new else 0, seed=seed),
    "agrawal": lambda seed, new: synth.Agrawal(classification_function=1 if new else 0, seed=seed),
    "sine": lambda seed, new: synth.Sine(classification_function=1 if new else 0, seed=seed),
    "mixed": lambda seed, new: synth.Mixed(classification_function=1 if new else 0, seed=seed),
    "rbf": lambda seed, new: synth.RandomRBF(seed_model=9 if new else 1, seed_sample=seed),
}


def delay(make: Callable[[], Any], before: Iterable[float], losses: Iterable[float]) -> int | None:
    """Losses until the first detection."""
    detector = make()
    for loss in before:
        detector.update(loss)
    for number, loss in enumerate(losses, start=1):
        detector.update(loss)
        if detector.drift_detected:
            return number
    return None


def alarms(make: Callable[[], Any], before: Iterable[float], losses: Iterable[float]) -> int:
    """Detections in a stream without a change; detectors begin anew by themselves or here."""
    detector, found = make(), 0
    for loss in before:
        detector.update(loss)
    for loss in losses:
        detector.update(loss)
        found += bool(detector.drift_detected)
    return found


def judge(path: str) -> dict[str, Any]:
    with np.load(path) as found:
        streams = {name: found[name].tolist() for name in found.files}
    before, clean = streams.pop("before"), streams.pop("clean")
    said: dict[str, Any] = {}
    for rule, make in MAKERS.items():
        began = time.perf_counter()
        said[rule] = {
            "alarms": alarms(make, before, clean),
            "seconds": time.perf_counter() - began,
            "delays": {
                name: [delay(make, before, losses) for losses in many]
                for name, many in streams.items()
            },
        }
    return said


def mistakes(world: Callable[[int, bool], Any], seed: int, rows: int) -> np.ndarray[Any, Any]:
    """Of a model that learned `rows` rows: on as many clean ones, then on as many changed ones."""
    model = naive_bayes.GaussianNB()
    for x, y in islice(world(seed, False), rows):
        model.learn_one(_numbers(x), y)
    wrong = [
        model.predict_one(_numbers(x)) != y
        for new in (False, True)
        for x, y in islice(world(seed + 1, new), rows)
    ]
    return np.array(wrong, dtype=np.float64)


def _numbers(x: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in x.items()}


def main() -> None:
    """One JSON line."""
    if len(sys.argv) > 2:
        seed, rows = int(sys.argv[3]), int(sys.argv[4])
        found: dict[str, Any] = {n: mistakes(world, seed, rows) for n, world in WORLDS.items()}
        np.savez(sys.argv[1], **found)
        print("{}")
    else:
        print(json.dumps(judge(sys.argv[1])))


if __name__ == "__main__":
    main()
