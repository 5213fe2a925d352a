"""What must hold of a candidate whatever its losses are: bounds, monotonicity, probes, limits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.evaluator.predictors import Candidate
from shared import models
from shared.errors import TidewheelError, Unprocessable
from shared.events import Check
from shared.holdout import Holdout
from shared.manifest import Column
from shared.models import Answers
from shared.spec_gate import Checks, Probe
from shared.tabular import Matrix, matrix

SWEPT_ROWS: Final = 100
GRID: Final = 9
TIMED_ROWS: Final = 60
_WARM_UP: Final = 3
_MEGABYTE: Final = 1_000_000
_SLACK: Final = 1e-9
"""Part of the largest answer that rounding may take: no step down."""

Seconds = Callable[[], float]


def checked(checks: Checks, candidate: Candidate, held: Holdout, seconds: Seconds) -> list[Check]:
    """Every declared check, in one order.

    Args:
        held: in the order of decision.
        seconds: reads a monotonic clock.
    """
    subject = _Subject(candidate=candidate, held=held, probes=checks.probes)
    found: list[Check] = []
    if checks.bounds is not None:
        found.append(bounds(checks.bounds, candidate.scored.numbers, held.row_hashes))
    found += [
        _attempted(f"monotone {name}", partial(_monotone, subject, name, way))
        for name, way in sorted(checks.monotone.items())
    ]
    found += [
        _attempted(f"probe {probe.name}", partial(_probe, subject, probe))
        for probe in checks.probes
    ]
    if checks.latency is not None:
        found.append(latency(_p95(subject, seconds), checks.latency.total_seconds()))
    if checks.size_mb is not None:
        total = sum(file.size_bytes for file in candidate.manifest.files.values())
        found.append(size(total / _MEGABYTE, checks.size_mb))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    candidate: Candidate
    held: Holdout
    probes: tuple[Probe, ...]

    def swept(self) -> tuple[Matrix, list[str]]:
        """Rows spread over the hold-out and every probe, with what people call each."""
        columns = self.candidate.manifest.columns
        rows = np.unique(np.linspace(0, len(self.held) - 1, SWEPT_ROWS).astype(np.intp))
        held = self.held.matrix(columns)[rows]
        probes = matrix(columns, [probe.row for probe in self.probes])
        names = [_row(self.held.row_hashes, int(row)) for row in rows]
        names += [f"probe {probe.name}" for probe in self.probes]
        return np.concatenate([held, probes]), names

    def answers(self, table: Matrix) -> Answers:
        return models.predict(self.candidate.estimator, table, self.candidate.manifest.task)

    def score(self, table: Matrix) -> NDArray[np.float64]:
        """One number per row: the answer, or the probability of the second of two classes."""
        answers, classes = self.answers(table), self.candidate.manifest.classes
        if answers.probabilities is None:
            return answers.values.astype(np.float64)
        if len(classes) != 2:
            raise Unprocessable(f"{len(classes)} classes have no order; two have")
        shares: NDArray[np.float64] = answers.probabilities[:, 1].astype(np.float64)
        return shares


def _attempted(name: str, look: Callable[[], Check]) -> Check:
    """A check that cannot be made has not been passed."""
    try:
        return look()
    except TidewheelError as error:
        return Check(name=name, passed=False, detail=f"cannot be checked: {error}")


def bounds(
    limits: tuple[float, float], answers: NDArray[np.float64], hashes: NDArray[np.uint64]
) -> Check:
    """Whether every answer lies between, shape (n,) or (n, classes)."""
    low, high = limits
    table = answers.reshape(len(answers), -1)
    outside = ((table < low) | (table > high)).any(axis=1)
    least, most = float(table.min()), float(table.max())
    if not outside.any():
        detail = f"all answers lie between {least:.6g} and {most:.6g}"
        return Check(name="bounds", passed=True, detail=detail)
    row = int(outside.argmax())
    worst = low if low - least > most - high else high
    return Check(
        name="bounds",
        passed=False,
        detail=f"{int(outside.sum())} answers lie outside {low:g} to {high:g}; the first is "
        f"{_numbers(table[row])} to {_row(hashes, row)}",
        value=least if worst == low else most,
        limit=worst,
    )


def _monotone(subject: _Subject, name: str, direction: str) -> Check:
    """Sweep one column over its range in training, for held-out rows and for the probes."""
    label, manifest = f"monotone {name}", subject.candidate.manifest
    column = next((column for column in manifest.columns if column.name == name), None)
    if column is None:
        if name not in subject.held.values:
            raise Unprocessable(f"there is no column {name!r}")
        return Check(name=label, passed=True, detail="the candidate does not read this column")
    grid = _grid(column)
    rows, names = subject.swept()
    table = np.repeat(rows, len(grid), axis=0)
    table[:, manifest.columns.index(column)] = np.tile(grid, len(rows))
    swept = subject.score(table).reshape(len(rows), len(grid))
    steps = np.diff(swept, axis=1) * (1 if direction == "increasing" else -1)
    wrong = ~(steps >= -_SLACK * max(1.0, float(np.abs(swept).max())))
    if not wrong.any():
        detail = f"{len(rows)} rows over {grid[0]:g} to {grid[-1]:g} are {direction}"
        return Check(name=label, passed=True, detail=detail, value=0.0, limit=0.0)
    row = int(wrong.any(axis=1).argmax())
    step = int(wrong[row].argmax())
    before, after = swept[row, step : step + 2]
    return Check(
        name=label,
        passed=False,
        detail=f"{int(wrong.any(axis=1).sum())} of {len(rows)} rows are not {direction}; to "
        f"{names[row]} the answer goes from {before:.6g} to "
        f"{after:.6g} while {name} rises from {grid[step]:g} to {grid[step + 1]:g}",
        value=float(-steps.min()),
        limit=0.0,
    )


def _grid(column: Column) -> NDArray[np.float64]:
    if column.kind == "text":
        raise Unprocessable(f"{column.name!r} is text, which does not rise")
    low, high = column.minimum, column.maximum
    if low is None or high is None or not low < high:
        raise Unprocessable(f"{column.name!r} had no range in training")
    if column.kind == "boolean":
        return np.array([0.0, 1.0])
    return np.linspace(low, high, GRID)


def _probe(subject: _Subject, probe: Probe) -> Check:
    name = f"probe {probe.name}"
    table = matrix(subject.candidate.manifest.columns, [probe.row])
    answers = subject.answers(table)
    answer = answers.values[0]
    said = answer.item() if isinstance(answer, np.generic) else answer
    if probe.answer is not None and said != probe.answer:
        return Check(name=name, passed=False, detail=f"it answers {said!r}, not {probe.answer!r}")
    if probe.min is None and probe.max is None:
        return Check(name=name, passed=True, detail=f"it answers {said!r}")
    score = float(subject.score(table)[0])
    for limit, is_broken in (
        (probe.min, probe.min is not None and not score >= probe.min),
        (probe.max, probe.max is not None and not score <= probe.max),
    ):
        if is_broken:
            detail = f"it answers {score:.6g}, {_range(probe)} was asked for"
            return Check(name=name, passed=False, detail=detail, value=score, limit=limit)
    return Check(name=name, passed=True, detail=f"it answers {score:.6g}", value=score)


def _range(probe: Probe) -> str:
    if probe.min is None:
        return f"at most {probe.max:g}"
    return f"at least {probe.min:g}" + ("" if probe.max is None else f" and at most {probe.max:g}")


def latency(p95_seconds: float, limit_seconds: float) -> Check:
    """Whether single rows are answered in time; the figure is kept, a replay measures nothing."""
    return Check(
        name="latency",
        passed=p95_seconds <= limit_seconds,
        detail=f"95 of 100 single rows take at most {p95_seconds * 1000:.3g} ms here, "
        f"{limit_seconds * 1000:g} ms are allowed",
        value=p95_seconds,
        limit=limit_seconds,
    )


def size(megabytes: float, limit: float) -> Check:
    """Whether the candidate's files are small enough."""
    return Check(
        name="size",
        passed=megabytes <= limit,
        detail=f"its files have {megabytes:.4g} MB, {limit:g} MB are allowed",
        value=megabytes,
        limit=limit,
    )


def _p95(subject: _Subject, seconds: Seconds) -> float:
    table = subject.held.matrix(subject.candidate.manifest.columns)
    places = np.linspace(0, len(table) - 1, TIMED_ROWS).astype(np.intp).tolist()
    for place in places[:_WARM_UP]:
        subject.answers(table[place : place + 1])
    return float(np.quantile(list(_times(subject, table, places, seconds)), 0.95, method="higher"))


def _times(
    subject: _Subject, table: Matrix, places: list[int], seconds: Seconds
) -> Iterator[float]:
    for place in places:
        started = seconds()
        subject.answers(table[place : place + 1])
        yield seconds() - started


def _numbers(row: NDArray[Any]) -> str:
    return ", ".join(f"{value:.6g}" for value in row.tolist())


def _row(hashes: NDArray[np.uint64], place: int) -> str:
    return f"row {place} ({int(hashes[place]):016x})"
