"""Rows fill windows; a full window is closed and the next one begins. All of it is pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from services.drift_monitor.domain import Policy, Watch
from services.drift_monitor.quality import Judge, Label, Value
from shared.events import Digest, Json, ModelName, PredictionRow, PredictionsLogged
from shared.sketch import Counts, Layout


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
            at=row.at,
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
class Window:
    """The sketch of one window of one version."""

    model: ModelName
    version: int
    number: int
    rows: int
    counts: Counts
    started_at: datetime
    ended_at: datetime
    labels: int = 0
    steps: int = 0
    is_closed: bool = False


def fill(
    open_window: Window | None, newest: int, rows: Sequence[Kept], version: Watched, layout: Layout
) -> list[tuple[Window, list[Kept]]]:
    """The windows that these rows fall into, with the rows of each; only the last may be open.

    Args:
        open_window: with the rows that it has already.
        newest: number of the newest window of the version, 0 when there is none.
        rows: of this version, in order.
    """
    touched: list[tuple[Window, list[Kept]]] = []
    left = list(rows)
    while left:
        window = open_window or _begun(version, newest + 1, layout, left[0].at)
        room = version.policy.window - window.rows
        taken, left = left[:room], left[room:]
        window = _with_rows(window, taken, version, layout)
        open_window, newest = None, window.number
        touched.append((window, [replace(row, window=window.number) for row in taken]))
    return touched


def _begun(version: Watched, number: int, layout: Layout, at: datetime) -> Window:
    return Window(
        model=version.model,
        version=version.version,
        number=number,
        rows=0,
        counts=layout.empty(),
        started_at=at,
        ended_at=at,
    )


def _with_rows(window: Window, rows: Sequence[Kept], version: Watched, layout: Layout) -> Window:
    count = window.rows + len(rows)
    moments = [row.at for row in rows]
    return replace(
        window,
        rows=count,
        counts=window.counts + layout.count(_columns(rows, version.columns, layout)),
        started_at=min(window.started_at, *moments),
        ended_at=max(window.ended_at, *moments),
        labels=window.labels + sum(row.label is not None for row in rows),
        is_closed=count >= version.policy.window,
    )


def _columns(rows: Sequence[Kept], names: tuple[str, ...], layout: Layout) -> list[Sequence[Any]]:
    """One sequence of values per feature of the profile, outputs last."""
    if all(row.names == names for row in rows):
        values: Iterable[Sequence[Any]] = zip(*(row.features for row in rows), strict=True)
    else:
        by_name = [row.row() for row in rows]
        values = [[row.get(name) for row in by_name] for name in names]
    columns = [*values, [row.answer for row in rows], [row.score for row in rows]]
    return columns[: len(layout.features)]
