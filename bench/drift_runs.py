"""What the monitor says about windows of made-up worlds, model by model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from bench.drift_worlds import (
    DRIFTS,
    Columns,
    Drift,
    Mixed,
    Model,
    autoregressive,
    model_of,
    normal_shifted,
    numeric_rows,
    seasonal,
    shifted,
    visited,
    windows_of,
)
from bench.simulation import chance
from services.drift_monitor.detection import HISTORY, Comparison, compare
from shared.sketch import Sketch

REFERENCE: Final = 20_000
HELD_OUT: Final = 20_000
WINDOW: Final = 1000
PATIENCE: Final = 60
"""Windows until a change counts as missed."""
RAMP: Final = 0.005
SIZES: Final = (0.05, 0.075)


@dataclass(slots=True)
class Tally:
    """What was said about the clean windows of one model, and by which tests."""

    windows: int = 0
    warnings: int = 0
    critical: int = 0
    mode: str = ""
    tests: dict[str, int] = field(default_factory=dict)

    def note(self, found: Comparison) -> None:
        self.windows += 1
        self.mode = found.mode
        if found.severity:
            self.warnings += 1
            name = f"{found.features[0].test} x {found.features[0].scale}"
            self.tests[name] = self.tests.get(name, 0) + 1
        self.critical += found.severity == "critical"


def follow(model: Model, windows: Sequence[Columns], alpha: float) -> Tally:
    """The verdicts about windows that follow each other."""
    tally = Tally()
    for found in verdicts(model, windows, alpha):
        tally.note(found)
    return tally


def verdicts(model: Model, windows: Sequence[Columns], alpha: float) -> Iterator[Comparison]:
    """One by one, each with the windows before it."""
    history = list[Sketch]()
    for columns in windows:
        history = [model.sketch(columns), *history][:HISTORY]
        yield compare(model.reference, history, alpha=alpha)


@dataclass(frozen=True, slots=True)
class Mixture:
    """What became of one model of the mixed world.

    Attributes:
        found: first windows of each drift that were found, of `trials`.
        delays: windows until a small shift of one number was found; None when it was not.
        normal_delays: the same for a normal number, the hardest of the shapes.
        ramp: shift in standard deviations at which a growing one was found.
        wild_hides, wild_alarms: whether one wild value hid a large drift, or made an alarm by
            another test than that of the range.
    """

    tally: Tally
    found: dict[str, int]
    trials: int
    delays: dict[str, int | None]
    normal_delays: dict[str, int | None]
    ramp: float | None
    wild_hides: bool
    wild_alarms: bool


def mixture(seed: int, number: int, windows: int, trials: int, alpha: float) -> Mixture:
    """One model: clean windows, drifts, slow changes and wild values."""
    draw = chance(seed, "mixed", number)
    world = Mixed.drawn(draw)
    model = model_of(world.rows(draw, REFERENCE), world.rows(draw, HELD_OUT), WINDOW)
    tally, history = Tally(), list[Sketch]()
    for _ in range(windows):
        history = [model.sketch(world.rows(draw, WINDOW)), *history][:HISTORY]
        tally.note(compare(model.reference, history, alpha=alpha))
    before = history[: HISTORY - 1]

    def is_found(columns: Columns) -> bool:
        return _found(model, [model.sketch(columns), *before], alpha)

    found = {
        name: sum(is_found(drift(draw, world, number + i, WINDOW)) for i in range(trials))
        for name, drift in DRIFTS.items()
    }
    return Mixture(
        tally=tally,
        found=found,
        trials=trials,
        delays={
            f"{size:g}": _delay(model, world, draw, before, partial(_moved, number, size), alpha)
            for size in SIZES
        },
        normal_delays={
            f"{size:g}": _delay(model, world, draw, before, partial(_normal, size), alpha)
            for size in SIZES
        },
        ramp=_ramp(model, world, draw, before, alpha),
        wild_hides=not _found_with_wild(model, world, draw, alpha),
        wild_alarms=_wild_alarms(model, world, draw, alpha),
    )


def _found(model: Model, history: list[Sketch], alpha: float) -> bool:
    return compare(model.reference, history[:HISTORY], alpha=alpha).severity is not None


def _moved(feature: int, size: float, number: int) -> Drift:
    del number
    return lambda draw, world, _, count: shifted(size)(draw, world, feature, count)


def _normal(size: float, number: int) -> Drift:
    del number
    return normal_shifted(size)


def _rising(number: int) -> Drift:
    return normal_shifted(RAMP * number)


def _delay(
    model: Model,
    world: Mixed,
    draw: np.random.Generator,
    before: list[Sketch],
    drift: Callable[[int], Drift],
    alpha: float,
) -> int | None:
    history = before
    for number in range(1, PATIENCE + 1):
        columns = drift(number)(draw, world, 0, WINDOW)
        history = [model.sketch(columns), *history][:HISTORY]
        if _found(model, history, alpha):
            return number
    return None


def _ramp(
    model: Model, world: Mixed, draw: np.random.Generator, before: list[Sketch], alpha: float
) -> float | None:
    number = _delay(model, world, draw, before, _rising, alpha)
    return None if number is None else RAMP * number


def _found_with_wild(model: Model, world: Mixed, draw: np.random.Generator, alpha: float) -> bool:
    columns = normal_shifted(1.0)(draw, world, 0, WINDOW)
    place = 6
    columns[place][0] = -1e300
    found = compare(model.reference, [model.sketch(columns)], alpha=alpha)
    return any(f.feature == f"x{place}" and f.p_value <= alpha for f in found.features)


def _wild_alarms(model: Model, world: Mixed, draw: np.random.Generator, alpha: float) -> bool:
    """Whether a wild value alarms where the same window without it does not."""
    columns = world.rows(draw, WINDOW)
    before = compare(model.reference, [model.sketch(columns)], alpha=alpha)
    columns[6][0] = 1e300
    after = compare(model.reference, [model.sketch(columns)], alpha=alpha)
    others = [f for f in after.features if f.p_value <= alpha and f.test not in ("above", "below")]
    return bool(others) and before.severity is None


# --- rows that resemble their neighbours --------------------------------------------------------

ALIKE: Final = ("phi_0", "phi_0_5", "phi_0_9", "season", "visitors")
_FEATURES: Final = 20


def alike(seed: int, name: str, number: int, windows: int, alpha: float) -> Tally:
    """One model whose clean windows follow its reference."""
    draw = chance(seed, name, number)
    rows = REFERENCE + HELD_OUT // 4 + windows * WINDOW
    match name:
        case "season":
            made = seasonal(draw, rows, _FEATURES, WINDOW)
        case "visitors":
            made = visited(draw, rows, _FEATURES)
        case _:
            phi = float(name.removeprefix("phi_").replace("_", "."))
            made = autoregressive(draw, rows, _FEATURES, phi)
    parts = np.split(made, [REFERENCE, REFERENCE + HELD_OUT // 4])
    train, held, later = (numeric_rows(part) for part in parts)
    return follow(model_of(train, held, WINDOW), windows_of(later, WINDOW), alpha)
