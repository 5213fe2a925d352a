"""How a champion stands, as the figures that metrics tell: drift, windows, quality, labels.

They are worked out from what is kept, never from what a process has just seen, so that a restart, a
rollback or another replica shows the same.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final

from services.drift_monitor.quality.units import tolerated
from shared.figures import value_is
from shared.vocabulary import GaugeName

LEAST_SECONDS: Final = 1200.0
"""How long a window is said to take at least. That none comes for three times as long is told where
rows were answered within half an hour; so it is told of no rows but such as are not counted, which
takes a minute or two, however few come at once and however long none came before."""
SEVERITIES: Final = {None: 0, "warning": 1, "critical": 2}
NOT_JUDGED: Final = -1
"""Of windows that were not compared with anything, and show nothing."""
Series = tuple[GaugeName, Mapping[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is kept about a champion and its newest windows.

    Attributes:
        window_rows: rows that fill a window.
        closed: of the newest closed window; None while there is none.
        crowned_at: when it became champion; None where that was not written down.
        open_rows, open_seconds, open_at: of the newest open one, up to its last row, and when that
            came; `open_since` when the first did, unless earlier windows wait for their verdict.
        is_alarmed: whether the running test has raised an alarm that stands; `is_degraded` whether
            windows were worse and are not shown to be good again.
        quality, estimate: what labels and scores said last, as plain data.
        severity: of the window that tells how it stands; `is_judged` whether that was compared
            with the reference.
        drifted, critical: features that drifted, and how many of them surely by more than is
            tolerated; `shifted`: how far the worst of all surely lies off, whichever way.
        alarms: kinds of data quality that are alarmed.
    """

    model: str
    metric: str
    registered_at: datetime
    window_rows: int
    close_after: float | None
    tolerance: float
    crowned_at: datetime | None = None
    severity: str | None = None
    shifted: float | None = None
    drifted: int | None = None
    critical: int | None = None
    is_judged: bool = False
    closed_at: datetime | None = None
    closed_seconds: float | None = None
    open_rows: int | None = None
    open_seconds: float | None = None
    open_at: datetime | None = None
    open_since: datetime | None = None
    is_alarmed: bool = False
    is_degraded: bool = False
    quality: Mapping[str, Any] | None = None
    estimate: Mapping[str, Any] | None = None
    alarms: Sequence[str] = ()

    @property
    def figure(self) -> str:
        """What the figures of its quality are, as the label of a metric."""
        return value_is(self.metric)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Labels of the newest few windows of a champion that are old enough to have them.

    Attributes:
        ratio: share of their rows that have one.
    """

    model: str
    version: int
    ratio: float


@dataclass(frozen=True, slots=True)
class Usual:
    """How many labels usually come, by model and version; it changes slowly and is read in turns.

    Attributes:
        turns: in so many of them each is read once, the one that was read longest ago first.
    """

    turns: int = 60
    known: dict[tuple[str, int], float] = field(default_factory=dict)

    def due(self, champions: Collection[tuple[str, int]]) -> list[tuple[str, int]]:
        """Those to read now; what is no champion any more is forgotten."""
        for gone in self.known.keys() - set(champions):
            del self.known[gone]
        oldest = islice(self.known, -(-len(self.known) // self.turns))
        return [*oldest, *(key for key in champions if key not in self.known)]

    def learn(self, read: Mapping[tuple[str, int], float]) -> None:
        """What was read just now."""
        for key, share in read.items():
            self.known.pop(key, None)
            self.known[key] = share


def series(found: Standing) -> Iterator[Series]:
    """Every gauge of one champion."""
    yield from _drift(found)
    yield from _windows(found)
    yield from _alarmed(found)
    yield from _realised(found)
    yield from _estimated(found)
    for kind in ("schema", "missing", "range", "unseen", "stale"):
        labels = {"model": found.model, "kind": kind}
        yield "tidewheel_data_quality_alarm", labels, float(kind in found.alarms)


def _drift(found: Standing) -> Iterator[Series]:
    model = {"model": found.model}
    is_known = found.is_judged or found.severity is not None
    severity = SEVERITIES[found.severity] if is_known else NOT_JUDGED
    yield "tidewheel_drift_severity", model, float(severity)
    yield "tidewheel_drift_effect_lower_bound", model, found.shifted or 0.0
    drifted, critical = found.drifted or 0, found.critical or 0
    yield "tidewheel_drift_features", model | {"level": "critical"}, float(critical)
    yield "tidewheel_drift_features", model | {"level": "warning"}, float(drifted - critical)


def _windows(found: Standing) -> Iterator[Series]:
    model = {"model": found.model}
    yield "tidewheel_drift_last_window_timestamp_seconds", model, last_sign(found).timestamp()
    yield "tidewheel_drift_window_seconds", model, window_seconds(found)


def last_sign(found: Standing) -> datetime:
    """When a window last began or closed; before there was one, since when there may be rows.

    A window that has begun is waited for from its first row on: nothing may have come before it for
    long, while nobody asked or the rung below answered.
    """
    return _newest(_last_closed(found), found.open_since if found.open_rows else None)


def _last_closed(found: Standing) -> datetime:
    return _newest(found.registered_at, found.crowned_at, found.closed_at)


def _newest(moment: datetime, *others: datetime | None) -> datetime:
    return max([moment, *(other for other in others if other is not None)])


def window_seconds(found: Standing) -> float:
    """How long a window takes at most, as far as is known; never nothing."""
    if found.closed_at is None and not found.open_rows:
        return LEAST_SECONDS  # it may close at an age, but only once it has begun
    spans = (found.close_after, found.closed_seconds, projected(found))
    return max([LEAST_SECONDS, *(span for span in spans if span)])


def projected(found: Standing) -> float | None:
    """How long the open window takes at the pace of its rows; None while it has none.

    Rows of one moment have no pace: they are what has come since the last window.
    """
    if not found.open_rows:
        return None
    seconds = found.open_seconds or 0.0
    if not seconds and found.open_at is not None:
        seconds = max((found.open_at - _last_closed(found)).total_seconds(), 0.0)
    return seconds * found.window_rows / found.open_rows


def _alarmed(found: Standing) -> Iterator[Series]:
    for by, stands in (("window", found.is_degraded), ("detector", found.is_alarmed)):
        labels = {"model": found.model, "metric": found.figure, "by": by}
        yield "tidewheel_quality_alarm", labels, float(stands)


def _realised(found: Standing) -> Iterator[Series]:
    known = found.quality
    if known is None:
        return
    if known.get("state") == "censored":
        return
    yield from _figures(found, "realised", known["value"], known.get("margin"))
    if known.get("baseline") is not None:
        yield from _figures(found, "baseline", known["baseline"], known.get("rule_margin"))


def _estimated(found: Standing) -> Iterator[Series]:
    known = found.estimate
    if known is None:
        return
    limit = tolerated(known["reference"], found.tolerance)
    yield from _figures(found, "estimated", known["value"], known["low"] - limit)
    for other in known.get("others", ()):
        if other["metric"] != found.figure:
            labels = {"model": found.model, "metric": other["metric"], "kind": "estimated"}
            yield "tidewheel_quality_value", labels, other["value"]


def _figures(found: Standing, kind: str, value: float, gap: float | None) -> Iterator[Series]:
    labels = {"model": found.model, "metric": found.figure, "kind": kind}
    yield "tidewheel_quality_value", labels, value
    if gap is not None:
        yield "tidewheel_quality_gap_lower_bound", labels, gap
