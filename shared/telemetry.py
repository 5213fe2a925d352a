"""What the services say about themselves: log lines as facts, metrics as a vocabulary.

A log line is a constant event name and fields, one JSON object per line on standard error. Inside
a reaction it carries the ids of the event and of the cascade.
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal, get_args

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from structlog.contextvars import bind_contextvars, bound_contextvars, merge_contextvars

CounterName = Literal[
    # HTTP requests answered, by route and status class. Worry: many 5xx.
    "tidewheel_http_requests_total",
    # Events whose reaction was committed, by type.
    "tidewheel_events_handled_total",
    # Events heard again and skipped by the watermark or the inbox.
    "tidewheel_duplicates_total",
    # Tries of a reaction that met something unavailable. Worry: growing.
    "tidewheel_retries_total",
    # Events set aside with a reason. Worry: any.
    "tidewheel_parked_total",
    # Events set aside only because an earlier one of their subject is. Worry: any.
    "tidewheel_parked_behind_total",
    # Events missing between two sequences of a subject. Worry: any; page at once.
    "tidewheel_sequence_gaps_total",
    # Jobs whose lease was lost to another worker. Worry: many.
    "tidewheel_leases_lost_total",
    # Rows predicted, by model and rung. Worry: rungs below champion.
    "tidewheel_predictions_total",
    # Answers of an arm that counted as errors, by model. Worry: any.
    "tidewheel_prediction_errors_total",
    # Rows that a shadow was to answer, by outcome: answered, failed, dropped. Worry: many dropped.
    "tidewheel_shadow_answers_total",
    # Predictions answered and not logged, because the spool was full. Worry: any.
    "tidewheel_prediction_log_gaps_total",
    # Labels, by what became of them: joined, early, duplicate, revised, unknown, conflict, invalid,
    # orphaned. Worry: many of the last four.
    "tidewheel_labels_total",
    # Windows compared with the reference, by model and outcome.
    "tidewheel_windows_total",
    # Training runs, by outcome.
    "tidewheel_training_runs_total",
    # Verdicts, by outcome.
    "tidewheel_verdicts_total",
    # Rollouts ended, by outcome.
    "tidewheel_rollouts_total",
    # What was decided about rollouts: advanced, promoted, aborted, superseded, rolled_back, with
    # the reason. Worry: aborted and rolled_back.
    "tidewheel_rollout_decisions_total",
    # Windows and freezes that a person opened for one rollout. Worry: any; ask for the reason.
    "tidewheel_overrides_total",
    # Requests on the bus that were not done, by kind and code. Worry: codes of signatures.
    "tidewheel_requests_refused_total",
    # Dataset versions offered, by outcome: published, same, refused.
    "tidewheel_datasets_total",
]
GaugeName = Literal[
    # Events said and not yet acknowledged by the broker. Worry: growing.
    "tidewheel_outbox_pending",
    # Age of the oldest of them. Worry: above 60.
    "tidewheel_outbox_oldest_seconds",
    # 1 where this process publishes for its service.
    "tidewheel_relay_leader",
    # Events on the broker that this service has not finished, by topic and partition.
    "tidewheel_consumer_lag",
    # Seconds since a partition with lag moved. Worry: above 60.
    "tidewheel_consumer_seconds_since_progress",
    # Jobs waiting for a worker.
    "tidewheel_jobs_waiting",
    # Labels whose predictions were not heard of yet. Worry: growing.
    "tidewheel_labels_waiting",
    # Bytes in the local spool. Worry: near the cap.
    "tidewheel_spool_bytes",
    # Models that this replica can answer.
    "tidewheel_models_served",
    # When a rollout of a model was last aborted, as a Unix time; a counter born at 1 would be
    # invisible to whoever looks for its increase. Worry: within the last hour.
    "tidewheel_rollout_last_abort_timestamp_seconds",
]
HistogramName = Literal[
    # Time from request to answer, by route.
    "tidewheel_http_seconds",
    # Time of one reaction with its transaction, by type.
    "tidewheel_handler_seconds",
    # Time of one predict request, by model.
    "tidewheel_predict_seconds",
    # Wall time of a child process, by what it did.
    "tidewheel_child_seconds",
]

REGISTRY: Final = CollectorRegistry()
LABELS: Final[Mapping[str, tuple[str, ...]]] = {
    "tidewheel_http_requests_total": ("route", "status"),
    "tidewheel_events_handled_total": ("type",),
    "tidewheel_duplicates_total": ("type",),
    "tidewheel_retries_total": ("type",),
    "tidewheel_parked_total": ("type", "failure"),
    "tidewheel_parked_behind_total": ("type",),
    "tidewheel_sequence_gaps_total": ("topic",),
    "tidewheel_leases_lost_total": ("kind",),
    "tidewheel_predictions_total": ("model", "rung"),
    "tidewheel_prediction_errors_total": ("model",),
    "tidewheel_shadow_answers_total": ("outcome",),
    "tidewheel_prediction_log_gaps_total": (),
    "tidewheel_labels_total": ("outcome",),
    "tidewheel_windows_total": ("model", "outcome"),
    "tidewheel_training_runs_total": ("outcome",),
    "tidewheel_verdicts_total": ("outcome",),
    "tidewheel_rollouts_total": ("outcome",),
    "tidewheel_rollout_decisions_total": ("decision", "reason"),
    "tidewheel_rollout_last_abort_timestamp_seconds": ("model", "reason"),
    "tidewheel_overrides_total": (),
    "tidewheel_requests_refused_total": ("kind", "code"),
    "tidewheel_datasets_total": ("outcome",),
    "tidewheel_consumer_lag": ("topic", "partition"),
    "tidewheel_consumer_seconds_since_progress": ("topic", "partition"),
    "tidewheel_jobs_waiting": ("kind",),
    "tidewheel_http_seconds": ("route",),
    "tidewheel_handler_seconds": ("type",),
    "tidewheel_predict_seconds": ("model",),
    "tidewheel_child_seconds": ("what",),
}
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)

_COUNTERS: Final = {
    name: Counter(name, name.replace("_", " "), LABELS.get(name, ()), registry=REGISTRY)
    for name in get_args(CounterName)
}
_GAUGES: Final = {
    name: Gauge(name, name.replace("_", " "), LABELS.get(name, ()), registry=REGISTRY)
    for name in get_args(GaugeName)
}
_HISTOGRAMS: Final = {
    name: Histogram(
        name, name.replace("_", " "), LABELS.get(name, ()), registry=REGISTRY, buckets=_BUCKETS
    )
    for name in get_args(HistogramName)
}

QUIET_SECONDS: Final = 5.0
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
Level = Literal["debug", "info", "warning", "error"]


def configure(service: str, level: Level = "info") -> None:
    """Write JSON lines to standard error from now on, each with the name of the service."""
    structlog.configure(
        processors=[
            merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    bind_contextvars(service=service)
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
    getattr(structlog.get_logger(), level)(event, **fields)


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Every line inside carries these fields."""
    with bound_contextvars(**fields):
        yield


def count(name: CounterName, n: float = 1, **labels: object) -> None:
    """Add to a counter."""
    metric = _COUNTERS[name]
    (metric.labels(**labels) if labels else metric).inc(n)


def gauge(name: GaugeName, value: float, **labels: object) -> None:
    """Set a gauge."""
    metric = _GAUGES[name]
    (metric.labels(**labels) if labels else metric).set(value)


def observe(name: HistogramName, seconds: float, **labels: object) -> None:
    """Add one duration to a histogram."""
    metric = _HISTOGRAMS[name]
    (metric.labels(**labels) if labels else metric).observe(seconds)


def exposition() -> bytes:
    """All metrics in the text format of Prometheus."""
    return generate_latest(REGISTRY)
