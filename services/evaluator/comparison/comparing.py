"""All comparisons of a verdict at once, so that they share their draws."""

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from services.evaluator.comparison.drawing import Pool, Units, circular, first_of, with_spare
from services.evaluator.comparison.intervals import Interval, Student, Studentised
from services.evaluator.comparison.resampled import (
    Key,
    accelerated,
    difference,
    left_out,
    pivots_of,
    with_wild_rows,
)
from services.evaluator.comparison.single import (
    LEAST_UNITS,
    allowed_mistakes,
    are_alike,
    areas,
    block_means,
    check_rows,
    entity_sums,
    mistakes,
    starting_blocks,
    too_dependent,
)
from services.evaluator.evidence import Evidence, Floats, Mask
from services.evaluator.metrics import (
    Insufficient,
    Measure,
    kind_of,
    losses_of,
    measure_of,
    sides,
)

Dependence = Literal["rows", "entities", "blocks"]
Found = Interval | Insufficient
"""An interval, or why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What came of one comparison.

    Attributes:
        candidate_value, other_value: the metric of both sides, as a loss; None where it does not
            exist on these rows.
        independent: differences of single rows where rows do not depend on each other and the
            metric is their mean, shape (rows,).
    """

    interval: Found
    rows: int
    candidate_value: float | None
    other_value: float | None
    independent: Floats | None = None

    @property
    def draws(self) -> int:
        """How many resamples it is read off."""
        return 0 if isinstance(self.interval, Insufficient) else self.interval.draws


GROUPS: Final = 200
"""Most groups of the jackknife."""

_NOT_YET: Final = Insufficient("this was not compared")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One comparison: by default of the candidate; the other is a predictor or a limit of loss."""

    metric: str
    other: str | float
    candidate: str = "candidate"
    mask: Mask | None = None
    """Only these rows."""


def dependence_of(evidence: Evidence) -> Dependence:
    """Which rows depend on each other: those of one entity, else neighbours in time, else none.

    Fewer than 10 entities cannot be compared; rows in time then are compared by blocks, each of
    which holds all of them.
    """
    if evidence.entities is not None:
        entities = len(np.unique(evidence.entities))
        if entities >= LEAST_UNITS or not evidence.ordered:
            return "rows" if entities == len(evidence) else "entities"
    return "blocks" if evidence.ordered else "rows"


def compare(
    evidence: Evidence, asked: Mapping[str, Asked], *, draws: int, seed: int
) -> dict[str, Compared]:
    """Intervals and values by name.

    Args:
        evidence: rows in the order of decision, with usable answers.

    Raises:
        Unprocessable: a metric does not fit the answers.
    """
    verdicts = _Comparisons(evidence, draws=draws, seed=seed)
    for name, question in asked.items():
        verdicts.begin(name, question)
    return verdicts.finished()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """A part of the evidence, and its place in the whole."""

    evidence: Evidence
    places: NDArray[np.intp]
    key: bytes = b""


@dataclass(slots=True)
class _Comparisons:
    evidence: Evidence
    draws: int = field(kw_only=True)
    seed: int = field(kw_only=True)
    found: dict[str, Found] = field(default_factory=dict)
    begun: dict[str, Compared] = field(default_factory=dict)
    later: dict[str, Callable[[Mapping[Hashable, Floats]], Interval]] = field(default_factory=dict)
    dependence: Dependence = "rows"
    units: Units = field(default_factory=lambda: Units(count=0))
    pool: Pool = field(default_factory=lambda: Pool(units=Units(count=0), rows=0))
    losses: dict[tuple[str, str], Floats] = field(default_factory=dict)
    measures: dict[Key, Measure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dependence = dependence_of(self.evidence)
        self.units = Units(count=len(self.evidence))
        if self.dependence == "entities" and self.evidence.entities is not None:
            # Entities are numbered as they first appear in the order of decision.
            _, first, codes = np.unique(
                self.evidence.entities, return_index=True, return_inverse=True
            )
            numbers = np.empty(len(first), dtype=np.int64)
            numbers[np.argsort(first)] = np.arange(len(first))
            self.units = Units(count=len(first), of_row=numbers[codes])
        self.pool = Pool(units=self.units, rows=len(self.evidence))

    # --- one comparison -----------------------------------------------------------------------

    def begin(self, name: str, asked: Asked) -> None:
        """Answer at once, or plan what must be known of each draw."""
        part = self._part(asked.mask)
        self._begin_values(name, asked, part)
        try:
            check_rows(len(part.places))
            self._check_outcomes(asked.metric, part)
            kind = kind_of(asked.metric)
            if kind in ("mean", "mistakes"):
                self._of_rows(name, asked, part)
            elif kind == "area" and self.dependence == "rows":
                self.found[name] = self._areas(asked, part)
            elif self.dependence == "blocks":
                self.found[name] = self._circular(asked, part)
            else:
                self._resampled(name, asked, part)
        except Insufficient as reason:
            self.found[name] = reason

    def finished(self) -> dict[str, Compared]:
        """Everything, with the draws where there are any."""
        if self.later:
            drawn = self.pool.run(self.seed, with_spare(self.draws))
            for name, finish in self.later.items():
                try:
                    self.found[name] = finish(drawn)
                except Insufficient as reason:
                    self.found[name] = reason
        return {
            name: replace(began, interval=self.found[name]) for name, began in self.begun.items()
        }

    def _part(self, mask: Mask | None) -> _Rows:
        if mask is None:
            places = np.arange(len(self.evidence))
            return _Rows(evidence=self.evidence, places=places)
        places = np.flatnonzero(mask)
        return _Rows(evidence=self.evidence.taken(places), places=places, key=mask.tobytes())

    def _check_outcomes(self, metric: str, part: _Rows) -> None:
        if metric == "mape" and np.any(part.evidence.y == 0):
            zeros = int(np.sum(part.evidence.y == 0))
            raise Insufficient(f"{zeros} rows have an outcome of 0, of which no share exists")

    def _begin_values(self, name: str, asked: Asked, part: _Rows) -> None:
        self.begun[name] = Compared(
            interval=_NOT_YET,
            rows=len(part.places),
            candidate_value=self._value(asked.candidate, asked.metric, part),
            other_value=self._value(asked.other, asked.metric, part),
            independent=self._independent(asked, part),
        )

    def _value(self, predictor: str | float, metric: str, part: _Rows) -> float | None:
        if not isinstance(predictor, str):
            return predictor
        if not len(part.places):
            return None
        if kind_of(metric) in ("mean", "mistakes"):
            value = math.fsum(self._losses(predictor, metric)[part.places]) / len(part.places)
        else:
            measure = self._measure(predictor, metric, part)[1]
            value = float(measure.of_weights(np.ones((1, len(part.places))))[0])
        return value if math.isfinite(value) else None

    def _independent(self, asked: Asked, part: _Rows) -> Floats | None:
        if self.dependence != "rows" or kind_of(asked.metric) not in ("mean", "mistakes"):
            return None
        return self._row_differences(asked, part)

    # --- means of rows ------------------------------------------------------------------------

    def _of_rows(self, name: str, asked: Asked, part: _Rows) -> None:
        d = self._row_differences(asked, part)
        is_share = kind_of(asked.metric) == "mistakes"
        if self.dependence == "blocks":
            self.found[name] = with_wild_rows(block_means(d), d)
        elif self.dependence == "entities" and is_share:
            self.found[name] = entity_sums(*self._entity_sums(d, part)[:2])
        elif is_share and isinstance(asked.other, float):
            own = self._losses(asked.candidate, asked.metric)[part.places]
            self.found[name] = allowed_mistakes(own, asked.other)
        elif is_share:
            self.found[name] = mistakes(d)
        else:
            self._studentised(name, d, part)

    def _row_differences(self, asked: Asked, part: _Rows) -> Floats:
        own = self._losses(asked.candidate, asked.metric)[part.places]
        if isinstance(asked.other, str):
            other = self._losses(asked.other, asked.metric)[part.places]
            with np.errstate(invalid="ignore"):  # shares of an outcome of 0, which is said below
                return other - own
        return asked.other - own

    def _losses(self, predictor: str, metric: str) -> Floats:
        key = (predictor, metric)
        if key not in self.losses:
            self.losses[key] = losses_of(self.evidence, predictor, metric)
        return self.losses[key]

    def _entity_sums(self, d: Floats, part: _Rows) -> tuple[Floats, Floats, Floats]:
        """Sums and rows of the units with any rows here, and the same sums of all units."""
        columns = np.zeros((len(self.evidence), 2))
        columns[part.places] = np.column_stack([d, np.ones_like(d)])
        summed = self.units.sums(columns)
        present = summed[:, 1] > 0
        return summed[present, 0], summed[present, 1], summed

    def _studentised(self, name: str, d: Floats, part: _Rows) -> None:
        sums, sizes, everywhere = self._entity_sums(d, part)
        base = entity_sums(sums, sizes)
        if np.ptp(d) == 0:
            self.found[name] = _without_width(base)
            return
        c = everywhere[:, 0] - base.estimate * everywhere[:, 1]
        n = everywhere[:, 1]
        table = [c, np.square(c), n]
        if self.dependence == "entities":
            table += [c * n, np.square(n)]
        self.pool.add_columns(name, np.column_stack(table), pivots_of(np.square(c).max()))
        self.later[name] = lambda drawn: with_wild_rows(self._of_pivots(base, drawn[name]), d)

    def _of_pivots(self, base: Student, pivots: Floats) -> Studentised:
        usable, again = first_of(pivots, self.draws)
        return Studentised(
            estimate=base.estimate,
            se=base.se,
            rows=base.rows,
            units=base.units,
            test="bootstrap_t",
            detail=_told(self.draws, again, self.dependence),
            draws=self.draws,
            pivots=np.sort(usable),
        )

    # --- anything else ------------------------------------------------------------------------

    def _areas(self, asked: Asked, part: _Rows) -> Interval:
        own = sides(part.evidence, asked.candidate)
        if isinstance(asked.other, str):
            return areas(own, sides(part.evidence, asked.other))
        return areas(own, float(asked.other))

    def _measures(self, asked: Asked, part: _Rows) -> list[tuple[Key, Measure]]:
        names = [asked.candidate, *([asked.other] if isinstance(asked.other, str) else [])]
        return [self._measure(predictor, asked.metric, part) for predictor in names]

    def _measure(self, predictor: str, metric: str, part: _Rows) -> tuple[Key, Measure]:
        key = (predictor, metric, part.key)
        if key not in self.measures:
            self.measures[key] = measure_of(part.evidence, predictor, metric)
        return key, self.measures[key]

    def _resampled(self, name: str, asked: Asked, part: _Rows) -> None:
        measures = self._measures(asked, part)
        for key, measure in measures:
            self.pool.add_measure(key, measure, part.places)
        codes = _compact(self.units, part)
        units = int(codes.max()) + 1
        if units < LEAST_UNITS:
            raise Insufficient(f"{units} entities are fewer than {LEAST_UNITS}")
        groups = min(GROUPS, units)
        estimate, jackknifed = left_out(measures, asked.other, codes * groups // units, groups)

        def finish(drawn: Mapping[Hashable, Floats]) -> Interval:
            values = difference([drawn[key] for key, _ in measures], asked.other)
            return self._accelerated(estimate, jackknifed, values, len(part.places), units)

        self.later[name] = finish

    def _circular(self, asked: Asked, part: _Rows) -> Interval:
        """Blocks as for block means; their means are the jackknife's pseudo-values."""
        measures, rows = self._measures(asked, part), len(part.places)
        blocks = starting_blocks(rows)
        while blocks >= LEAST_UNITS and rows >= blocks:
            groups = np.arange(rows) * blocks // rows
            estimate, jackknifed = left_out(measures, asked.other, groups, blocks)
            if not are_alike(jackknifed):
                drawn = [
                    circular(measure, rows, blocks, self.seed, with_spare(self.draws))
                    for _, measure in measures
                ]
                values = difference(drawn, asked.other)
                return self._accelerated(estimate, jackknifed, values, rows, blocks)
            blocks //= 2
        raise too_dependent(rows)

    def _accelerated(
        self, estimate: float, jackknifed: Floats, values: Floats, rows: int, units: int
    ) -> Interval:
        usable, again = first_of(values, self.draws)
        return accelerated(
            estimate,
            jackknifed,
            usable,
            rows=rows,
            units=units,
            detail=_told(self.draws, again, self.dependence, units),
        )


def _compact(units: Units, part: _Rows) -> NDArray[np.intp]:
    """The unit of each row here, numbered without gaps."""
    if units.of_row is None:
        return np.arange(len(part.places))
    return np.unique(units.of_row[part.places], return_inverse=True)[1]


def _without_width(base: Student) -> Student:
    return replace(base, se=0.0, test="bootstrap_t", detail="the same difference on every row")


def _told(draws: int, again: int, dependence: Dependence, units: int = 0) -> str:
    what = {"rows": "rows", "entities": "entities", "blocks": f"{units} circular blocks"}
    extra = f", {again} of them drawn again" if again else ""
    return f"{draws} draws of {what[dependence]}{extra}"
