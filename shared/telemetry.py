"""What the services say about themselves: log lines as facts, metrics as a vocabulary.

A log line is a constant event name and fields, one JSON object per line on standard error. Inside
a reaction it carries the ids of the event and of the cascade.
"""

import logging
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Literal

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from structlog.contextvars import bind_contextvars, bound_contextvars, merge_contextvars

from shared.vocabulary import (
    COUNTERS,
    EVERY,
    GAUGES,
    CounterName,
    GaugeName,
    HistogramName,
    Metric,
    MetricName,
    at_start,
    told_by,
)

REGISTRY: Final = CollectorRegistry()
_METRICS: Final[dict[str, Counter | Gauge | Histogram]] = {}
_SERIES: Final[dict[tuple[object, ...], Any]] = {}
_TOLD: Final[dict[str, dict[tuple[str, ...], Any]]] = {}
_OURS: Final = {"service": "unknown"}

QUIET_SECONDS: Final = 5.0
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
Level = Literal["debug", "info", "warning", "error"]


def configure(service: str, level: Level = "info") -> None:
    """Write JSON lines to standard error from now on, each with the name of the service.

    Its metrics exist from now on, too, at 0 where their labels are known ahead.
    """
    structlog.configure(
        processors=[
            merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        # A line and its end in one piece: several processes may write into one file.
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    bind_contextvars(service=service)
    _begin_all(service)
    libraries = logging.getLogger()
    libraries.handlers[:] = [_LibraryLines()]
    libraries.setLevel(logging.WARNING)


class _LibraryLines(logging.Handler):
    """What libraries log becomes a line of ours, so that every line has one form.

    A client whose broker is away says the same dozens of times a second; once in five seconds,
    with the number of repeats, tells as much.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[tuple[str, object], float] = {}
        self._kept_back: dict[tuple[str, object], int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        line = (record.name, record.msg if isinstance(record.msg, str) else type(record.msg))
        if record.created - self._said_at.get(line, 0.0) < QUIET_SECONDS:
            self._kept_back[line] = self._kept_back.get(line, 0) + 1
            return
        self._said_at[line] = record.created
        log(
            "library_said",
            level="error" if record.levelno >= logging.ERROR else "warning",
            library=record.name,
            said=record.getMessage(),
            kept_back=self._kept_back.pop(line, 0),
            exc_info=record.exc_info or None,
        )


def log(event: str, *, level: Level = "info", **fields: Any) -> None:
    """One line: what happened, as a constant name, and its particulars."""
    with suppress(OSError):  # a disk too full for its logs must not stop what they are about
        getattr(structlog.get_logger(), level)(event, **fields)


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Every line inside carries these fields."""
    with bound_contextvars(**fields):
        yield


def count(name: CounterName, n: float = 1, **labels: object) -> None:
    """Add to a counter."""
    _series(name, labels).inc(n)


def gauge(name: GaugeName, value: float, **labels: object) -> None:
    """Set a gauge."""
    _series(name, labels).set(value)


def gauges(name: GaugeName, values: Iterable[tuple[Mapping[str, str], float]]) -> None:
    """Set all series of a gauge; those that are not among them are told no longer.

    A gauge that is told so is told in no other way.
    """
    metric, before = _metric(name), _TOLD.get(name, {})
    told: dict[tuple[str, ...], Any] = {}
    for labels, value in values:
        key = _values_of(name, labels)
        series: Any = before.get(key) or metric.labels(*key)
        series.set(value)
        told[key] = series
    for key in before.keys() - told.keys():
        metric.remove(*key)
    _TOLD[name] = told


def observe(name: HistogramName, seconds: float, **labels: object) -> None:
    """Add one duration to a histogram."""
    _series(name, labels).observe(seconds)


def observer(name: HistogramName, **labels: object) -> Callable[[float], None]:
    """What adds a duration to one series of a histogram, for whoever does so very often."""
    observe_one: Callable[[float], None] = _series(name, labels).observe
    return observe_one


def counter(name: CounterName, **labels: object) -> Callable[[float], None]:
    """What adds to one series of a counter, for whoever does so very often."""
    count_some: Callable[[float], None] = _series(name, labels).inc
    return count_some


@contextmanager
def timed(name: HistogramName, **labels: object) -> Iterator[None]:
    """Add how long what is inside takes, whether it fails or not."""
    started = time.perf_counter()
    try:
        yield
    finally:
        observe(name, time.perf_counter() - started, **labels)


def observe_each(name: HistogramName, durations: Sequence[float], **labels: object) -> None:
    """Add many durations to one series of a histogram."""
    # The library adds one at a time; of thousands in a batch that would be an eighth of all work.
    series = _series(name, labels)
    ordered, below = sorted(durations), 0
    for bound, bucket in zip(series._upper_bounds, series._buckets, strict=True):  # noqa: SLF001
        until = bisect_right(ordered, bound, below)
        if until > below:
            bucket.inc(until - below)
        below = until
    series._sum.inc(sum(durations))  # noqa: SLF001


def begin(name: MetricName, **labels: str) -> None:
    """Let all series with these labels exist at 0, so that their first increase can be seen."""
    for known in EVERY[name].label_sets({**_OURS, **labels}):
        _series(name, known)


def exposition() -> bytes:
    """All metrics in the text format of Prometheus."""
    return generate_latest(REGISTRY)


def _series(name: str, labels: Mapping[str, object]) -> Any:
    key = (name, *labels.items())
    found = _SERIES.get(key)
    if found is None:
        metric = _metric(name)
        found = metric.labels(*_values_of(name, labels)) if EVERY[name].labels else metric
        _SERIES[key] = found
    return found


def _values_of(name: str, labels: Mapping[str, object]) -> tuple[str, ...]:
    """Values in the order of the labels; the service is this process's."""
    wanted = EVERY[name].labels
    if len(labels) != len(wanted) - ("service" in wanted and "service" not in labels):
        raise ValueError(f"{name} has the labels {wanted}, not {tuple(labels)}")
    try:
        return tuple([str(labels[n] if n in labels else _OURS[n]) for n in wanted])
    except KeyError:
        raise ValueError(f"{name} has the labels {wanted}, not {tuple(labels)}") from None


def _metric(name: str) -> Counter | Gauge | Histogram:
    """Made when it is first told of, so that a service exports what is its own."""
    known = _METRICS.get(name)
    if known is None:
        known = _METRICS[name] = _made(name, EVERY[name])
    return known


def _made(name: str, metric: Metric) -> Counter | Gauge | Histogram:
    if name in COUNTERS:
        return Counter(name, metric.means, metric.labels, registry=REGISTRY)
    if name in GAUGES:
        return Gauge(name, metric.means, metric.labels, registry=REGISTRY)
    return Histogram(name, metric.means, metric.labels, registry=REGISTRY, buckets=metric.buckets)


def _begin_all(service: str) -> None:
    """Everything this service tells, at 0 where it is known ahead."""
    disable_created_metrics()  # type: ignore[no-untyped-call] # the library has no types here
    _OURS["service"] = service
    _SERIES.clear()
    _TOLD.clear()
    for name in told_by(service):
        _metric(name)
        for labels in at_start(name):
            _series(name, labels | ({"service": service} if "service" in labels else {}))
