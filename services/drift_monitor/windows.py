"""Rows fill windows; a full or old window is closed and the next one begins. All of it is pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final

from services.drift_monitor.domain import Policy, Watch
from services.drift_monitor.quality import Judge, Label, Value
from shared.events import Digest, Json, ModelName, PredictionRow, PredictionsLogged
from shared.seasons import Season, season_of
from shared.sketch import Counts, Sketch

_NAMES: Final = attrgetter("names")
_AT: Final = attrgetter("at")
LEAST_ROWS: Final = 20
"""A window with fewer says nothing; it goes on, however old it is."""
EARLIEST: Final = datetime(2, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9998, 12, 31, tzinfo=UTC)
"""At the ends of time an offset leads out of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A registered version: what its windows are compared with, and how it stands.

    Attributes:
        reference: digest of the profile.
        columns: names of the features in the order of the profile.
        metric: of the watched losses.
    """

    model: ModelName
    version: int
    manifest: Digest
    reference: Digest
    columns: tuple[str, ...]
    classes: tuple[Value, ...]
    baseline: Json
    metric: str
    policy: Policy
    watch: Watch
    registered_at: datetime

    @property
    def judge(self) -> Judge:
        """Who says how wrong an answer of this version was."""
        return Judge(metric=self.metric, classes=self.classes, rule=self.baseline)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One answered row as it is kept until its label comes.

    Attributes:
        window: number of the window that counted it; None while no version claims it.
        weight: share of requests that its arm had.
        arms: versions that requests were shared among, the champion's first; none without sharing.
        told: whether its loss was told to those who compare arms.
        manifest, generation: who answered, and by which state of the endpoint.
    """

    id: str
    model: ModelName
    version: int | None
    names: tuple[str, ...]
    features: tuple[Any, ...]
    answer: Value
    score: float | None
    arm: str
    rung: str
    at: datetime
    window: int | None = None
    label: Label | None = None
    entity: str | None = None
    weight: float = 1.0
    arms: tuple[int, ...] = ()
    told: bool = False
    manifest: Digest | None = None
    generation: int | None = None

    @classmethod
    def of(cls, batch: PredictionsLogged, row: PredictionRow) -> "Kept":
        """A row of a batch; answers of the baseline rule have no version and join no window."""
        return cls(
            id=row.id,
            model=row.model,
            version=row.version,
            names=batch.columns[row.columns],
            features=row.features,
            answer=row.answer,
            score=row.score,
            arm=row.arm,
            rung=row.rung,
            at=moment_of(row.at),
            entity=row.entity,
            weight=row.weight,
            arms=row.arms,
            manifest=row.manifest,
            generation=row.generation,
        )

    def row(self) -> dict[str, Any]:
        """The features by name."""
        return dict(zip(self.names, self.features, strict=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the rows of a version are cut into windows.

    Attributes:
        columns: names of the features in the order of the profile.
        width: watched values per row: the features, the answer, for two classes the score.
        window: rows of a full window.
        close_after: a window with enough rows closes at this age.
        season: what rows of one window have in common.
    """

    columns: tuple[str, ...]
    width: int
    window: int
    close_after: timedelta | None = None
    season: Season | None = None

    def values(self, rows: Sequence[Kept]) -> tuple[list[tuple[Any, ...]], list[list[Any]]]:
        """What is counted of rows, in the order of the profile: features by row, then outputs.

        An absent feature is missing.
        """
        outputs: list[list[Any]] = [[row.answer for row in rows], [row.score for row in rows]]
        features = [row.features for row in rows]
        if not self._fits(rows) or set(map(len, features)) != {len(self.columns)}:
            features = [self._ordered(row) for row in rows]
        return features, outputs[: self.width - len(self.columns)]

    def _fits(self, rows: Sequence[Kept]) -> bool:
        """Whether all rows have the columns in their order; nearly always it is one object."""
        if set(map(id, map(_NAMES, rows))) == {id(self.columns)}:
            return True
        return all(row.names == self.columns for row in rows)

    def _ordered(self, row: Kept) -> tuple[Any, ...]:
        by_name = row.row()
        return tuple(by_name.get(name) for name in self.columns)

    def absent(self, rows: Sequence[Kept]) -> dict[str, int]:
        """How many of the rows came without a column, by its name."""
        found: dict[str, int] = {}
        if self._fits(rows):
            return found
        for row in rows:
            for name in set(self.columns).difference(row.names):
                found[name] = found.get(name, 0) + 1
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A window that is being filled, beside its sketch.

    Attributes:
        begun_at: moment of the row that came first; its age is counted from there.
        started_at, ended_at: the earliest and latest moment of its rows.
        absent: rows without a column, by its name.
    """

    number: int
    season: str
    rows: int
    begun_at: datetime
    started_at: datetime
    ended_at: datetime
    absent: Mapping[str, int] = field(default_factory=dict)

    def with_rows(self, rows: Sequence[Kept], absent: Mapping[str, int]) -> "Open":
        """The same window with these rows."""
        moments = list(map(_AT, rows))
        return Open(
            number=self.number,
            season=self.season,
            rows=self.rows + len(rows),
            begun_at=self.begun_at,
            started_at=min(self.started_at, *moments),
            ended_at=max(self.ended_at, *moments),
            absent=_added(self.absent, absent) if absent else self.absent,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a batch adds to one window: the window afterwards, and the rows that it got."""

    window: Open
    rows: Sequence[Kept]
    closes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A window of one version as others look at it.

    Attributes:
        sketch: None where it was not read.
    """

    model: ModelName
    version: int
    number: int
    rows: int
    started_at: datetime
    ended_at: datetime
    sketch: Sketch | None = None
    season: str = ""
    is_closed: bool = False
    absent: Mapping[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> Counts:
        """Rows per cell.

        Raises:
            LookupError: the sketch was not read.
        """
        if self.sketch is None:
            raise LookupError(f"the sketch of window {self.number} was not read")
        return self.sketch.counts


def moment_of(at: datetime) -> datetime:
    """A moment that can be kept: a broken clock moves it, and loses no row."""
    if at.tzinfo is UTC and EARLIEST.year <= at.year < LATEST.year:
        return at
    return min(max(at if at.tzinfo else at.replace(tzinfo=UTC), EARLIEST), LATEST)


def allot(opened: Mapping[str, Open], newest: int, rows: Sequence[Kept], plan: Plan) -> list[Part]:
    """Which rows fall into which window, in the order in which windows are filled.

    A window closes when it is full, or before a row that comes later than it may get old, if it
    has enough rows by then. Rows that come late are counted where their season is filled now.

    Args:
        opened: windows that have rows already, by season.
        newest: number of the newest window of the version, 0 when there is none.
        rows: of this version, in the order in which they came.
    """
    parts: list[Part] = []
    for season, own in _by_season(rows, plan.season).items():
        window, left = opened.get(season), own
        while left:
            if window is None:
                newest += 1
                window = _begun(newest, season, left[0].at)
            taken, closes = _next_part(window, left, plan)
            left = left[len(taken) :]
            window = window.with_rows(taken, plan.absent(taken)) if taken else window
            parts.append(Part(window=window, rows=taken, closes=closes))
            window = None if closes else window
    return parts


def _next_part(window: Open, rows: Sequence[Kept], plan: Plan) -> tuple[Sequence[Kept], bool]:
    """The rows that the window takes, and whether it closes after them."""
    room = max(plan.window - window.rows, 0)
    taken = rows[:room]
    if plan.close_after is not None:
        for place, row in enumerate(taken):
            is_old = row.at - window.begun_at >= plan.close_after
            if is_old and window.rows + place >= LEAST_ROWS:
                return rows[:place], True
    return taken, window.rows + len(taken) >= plan.window


def _begun(number: int, season: str, at: datetime) -> Open:
    return Open(number=number, season=season, rows=0, begun_at=at, started_at=at, ended_at=at)


def _by_season(rows: Sequence[Kept], season: Season | None) -> dict[str, Sequence[Kept]]:
    if season is None:
        return {"": rows} if rows else {}
    found: dict[str, list[Kept]] = defaultdict(list)
    for row in rows:
        found[season_of(season, row.at)].append(row)
    return dict(found)


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
