"""Every metric: what it means, which labels it has, and which service tells it.

A name that is not here is an error of types. Labels are few and bounded: a service, a model, an
outcome; never a feature, a request or a person. Where all values of a label are known ahead its
series exist at 0 from the start, because an increase from nothing to 1 cannot be seen; where they
cannot be known, a gauge tells the moment instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Final, Literal, get_args

from shared.topics import SERVICES

CounterName = Literal[
    "tidewheel_http_requests_total",
    "tidewheel_events_processed_total",
    "tidewheel_dead_letters_total",
    "tidewheel_records_turned_away_total",
    "tidewheel_sequence_gaps_total",
    "tidewheel_leases_lost_total",
    "tidewheel_predictions_total",
    "tidewheel_arm_errors_total",
    "tidewheel_requests_limited_total",
    "tidewheel_shadow_answers_total",
    "tidewheel_prediction_log_gaps_total",
    "tidewheel_labels_total",
    "tidewheel_labels_orphaned_total",
    "tidewheel_rounds_failed_total",
    "tidewheel_drift_windows_total",
    "tidewheel_monitor_rows_total",
    "tidewheel_retraining_requests_total",
    "tidewheel_training_runs_total",
    "tidewheel_batches_total",
    "tidewheel_gate_verdicts_total",
    "tidewheel_rollouts_total",
    "tidewheel_rollout_decisions_total",
    "tidewheel_overrides_total",
    "tidewheel_requests_refused_total",
    "tidewheel_datasets_total",
    "tidewheel_versions_opened_total",
    "tidewheel_versions_closed_total",
]
GaugeName = Literal[
    "tidewheel_outbox_pending",
    "tidewheel_outbox_oldest_seconds",
    "tidewheel_relay_leader",
    "tidewheel_consumer_lag_messages",
    "tidewheel_consumer_lag_seconds",
    "tidewheel_dead_letters_pending",
    "tidewheel_jobs_waiting",
    "tidewheel_labels_waiting",
    "tidewheel_monitor_windows_unjudged",
    "tidewheel_spool_bytes",
    "tidewheel_spool_oldest_seconds",
    "tidewheel_models_served",
    "tidewheel_versions_open",
    "tidewheel_versions_open_bytes",
    "tidewheel_model_info",
    "tidewheel_cascade_oldest_pending_seconds",
    "tidewheel_model_staleness_seconds",
    "tidewheel_model_freshness_objective_seconds",
    "tidewheel_rollout_last_abort_timestamp_seconds",
    "tidewheel_drift_severity",
    "tidewheel_drift_effect_lower_bound",
    "tidewheel_drift_features",
    "tidewheel_drift_last_window_timestamp_seconds",
    "tidewheel_drift_window_seconds",
    "tidewheel_quality_value",
    "tidewheel_quality_gap_lower_bound",
    "tidewheel_quality_alarm",
    "tidewheel_label_coverage_ratio",
    "tidewheel_label_coverage_expected_ratio",
    "tidewheel_brake_models",
    "tidewheel_models_held",
    "tidewheel_data_quality_alarm",
]
HistogramName = Literal[
    "tidewheel_http_request_duration_seconds",
    "tidewheel_event_age_seconds",
    "tidewheel_handler_seconds",
    "tidewheel_predict_seconds",
    "tidewheel_child_seconds",
    "tidewheel_cascade_duration_seconds",
    "tidewheel_label_delay_seconds",
    "tidewheel_monitor_window_close_seconds",
    "tidewheel_report_render_seconds",
]
MetricName = CounterName | GaugeName | HistogramName
Round = Literal[
    "ages",
    "brakes",
    "courses",
    "coverage",
    "idle",
    "labels",
    "reports",
    "rows",
    "telemetry",
    "told",
    "unjudged",
    "verdicts",
    "vitals",
    "waiting",
    "windows",
]
"""Steps of the monitor's rounds."""

_QUICK: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_SLOW: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400, 604800)
_ALL: Final[tuple[str, ...]] = SERVICES
_CODES: Final = ("2xx", "3xx", "4xx", "5xx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        means: what it tells, and what should worry.
        labels: in order; `service` is filled in by the process.
        by: the services that tell it.
        known: the values of labels that are known ahead.
        buckets: upper bounds, of histograms.
    """

    means: str
    labels: tuple[str, ...] = ()
    by: tuple[str, ...] = _ALL
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = _QUICK

    def label_sets(self, given: Mapping[str, str]) -> list[dict[str, str]]:
        """All sets of labels with these values; none while the values of another are open."""
        options = [self.known.get(n, ()) if n not in given else (given[n],) for n in self.labels]
        return [dict(zip(self.labels, values, strict=True)) for values in product(*options)]


_RESULTS: Final = ("ok", "retry", "dead", "duplicate")
_LEVELS: Final = ("clean", "warning", "critical", "insufficient")
_GATES: Final = (
    ("accepted", ("accepted",)),
    (
        "rejected",
        (
            "worse",
            "not_shown_better",
            "not_shown_noninferior",
            "below_baseline",
            "slice_harmed",
            "check_failed",
            "limit",
            "insufficient",
            "cannot_compare",
            "invalid_input",
            "holdout_exhausted",
            "fleet_fdr",
        ),
    ),
)
_RETRAINING: Final = tuple(
    "accepted" if reason is None else f"suppressed_{reason}"
    for reason in (
        None,
        "cool_down",
        "not_confirmed",
        "trigger_off",
        "budget",
        "brake",
        "no_labels",
        "duplicate",
        "transient",
    )
)
_ENDS: Final = (
    "promoted",
    "rejected",
    "failed",
    "superseded",
    "aborted",
    "withheld",
    "dead_lettered",
)
STAGES: Final = ("train", "evaluate", "deploy", "canary")

COUNTERS: Final[Mapping[CounterName, Metric]] = {
    "tidewheel_http_requests_total": Metric(
        means="HTTP requests answered, by path template and status class. Worry: many 5xx.",
        labels=("service", "route", "code_class"),
        known={"route": ("other",), "code_class": _CODES},
    ),
    "tidewheel_events_processed_total": Metric(
        means="What became of events heard: committed, tried again, set aside, heard before. "
        "Worry: retry growing, dead at all.",
        labels=("service", "type", "result"),
        known={"result": _RESULTS},
    ),
    "tidewheel_dead_letters_total": Metric(
        means="Events set aside, by the class of the reason. Worry: any.",
        labels=("service", "topic", "reason"),
    ),
    "tidewheel_records_turned_away_total": Metric(
        means="Records of outsiders that are wrong and for which there was no room among the dead "
        "letters. Worry: any.",
        labels=("service", "topic"),
    ),
    "tidewheel_sequence_gaps_total": Metric(
        means="Events missing between two sequences of a subject. Worry: any; page at once.",
        labels=("service", "topic"),
    ),
    "tidewheel_leases_lost_total": Metric(
        means="Jobs whose lease was lost to another worker. Worry: many.",
        labels=("service", "kind"),
    ),
    "tidewheel_predictions_total": Metric(
        means="Rows asked for, by who was to answer and what became of it: answered, answered by "
        "a rung below, refused as no row of this model, not answered. Worry: errors; fallbacks.",
        labels=("model", "role", "outcome"),
        by=("serving",),
        known={"outcome": ("ok", "fallback", "rejected", "error")},
    ),
    "tidewheel_arm_errors_total": Metric(
        means="Rows that an arm could not answer, whoever answered them then. Worry: any.",
        labels=("model",),
        by=("serving",),
    ),
    "tidewheel_requests_limited_total": Metric(
        means="Requests for predictions that were not taken: their key asked too often (rate), or "
        "too many waited (queue). Worry: any of the queue.",
        labels=("reason",),
        by=("serving",),
        known={"reason": ("rate", "queue")},
    ),
    "tidewheel_versions_opened_total": Metric(
        means="Versions opened to be asked. Worry: rising as fast as closed ones, for long.",
        by=("serving",),
    ),
    "tidewheel_versions_closed_total": Metric(
        means="Versions closed to make room for others. Worry: as many as requests.",
        by=("serving",),
    ),
    "tidewheel_shadow_answers_total": Metric(
        means="Rows that a shadow was to answer, by outcome. Worry: many dropped.",
        labels=("outcome",),
        by=("serving",),
        known={"outcome": ("answered", "failed", "dropped")},
    ),
    "tidewheel_prediction_log_gaps_total": Metric(
        means="Rows answered and lost to the log, by reason: no room, too old, file damaged. "
        "Worry: any.",
        labels=("reason",),
        by=("serving",),
        known={"reason": ("full", "old", "damaged")},
    ),
    "tidewheel_labels_total": Metric(
        means="Labels, by what became of them. Worry: many of the last four.",
        labels=("outcome",),
        by=("drift_monitor",),
        known={
            "outcome": (
                "joined",
                "early",
                "duplicate",
                "revised",
                "unknown",
                "conflict",
                "invalid",
                "orphaned",
            )
        },
    ),
    "tidewheel_labels_orphaned_total": Metric(
        means="Labels that waited a whole horizon, or behind 100,000 newer ones, and found no "
        "prediction that can be judged; of models that nobody knows as other. Worry: growing.",
        labels=("model",),
        by=("drift_monitor",),
    ),
    "tidewheel_rounds_failed_total": Metric(
        means="Steps of the monitor's rounds that failed in a way nobody foresaw; the log has the "
        "trace. Worry: above 0.",
        labels=("round",),
        by=("drift_monitor",),
        known={"round": get_args(Round)},
    ),
    "tidewheel_drift_windows_total": Metric(
        means="Windows compared with the reference, by verdict. Worry: insufficient for ever.",
        labels=("model", "verdict"),
        by=("drift_monitor",),
        known={"verdict": _LEVELS},
    ),
    "tidewheel_monitor_rows_total": Metric(
        means="Predictions that were counted into windows.", by=("drift_monitor",)
    ),
    "tidewheel_retraining_requests_total": Metric(
        means="Reasons to retrain and whether a training was asked for. Worry: many accepted.",
        labels=("reason", "result"),
        by=("drift_monitor",),
        known={"reason": ("drift", "quality"), "result": _RETRAINING},
    ),
    "tidewheel_batches_total": Metric(
        means="Batches of answers, by outcome. Worry: failures.",
        labels=("outcome",),
        by=("trainer",),
        known={
            "outcome": ("completed", "error", "timeout", "resource_exceeded", "crashed"),
        },
    ),
    "tidewheel_training_runs_total": Metric(
        means="Training runs, by outcome. Worry: failures.",
        labels=("outcome",),
        by=("trainer",),
        known={
            "outcome": (
                "completed",
                "error",
                "timeout",
                "resource_exceeded",
                "crashed",
                "no_material_change",
                "nothing_new",
                "superseded",
                "trigger_off",
                "cannot_train",
            )
        },
    ),
    "tidewheel_gate_verdicts_total": Metric(
        means="Verdicts of the gate, by the first rule that was broken. Worry: cannot_compare.",
        labels=("verdict", "reason"),
        by=("evaluator",),
    ),
    "tidewheel_rollouts_total": Metric(
        means="Rollouts ended, by outcome.", labels=("outcome",), by=("deployer",)
    ),
    "tidewheel_rollout_decisions_total": Metric(
        means="What was decided about rollouts and why. Worry: aborted and rolled_back.",
        labels=("decision", "reason"),
        by=("deployer",),
    ),
    "tidewheel_overrides_total": Metric(
        means="Windows and freezes that a person opened for one rollout. Worry: any; ask why.",
        by=("deployer",),
    ),
    "tidewheel_requests_refused_total": Metric(
        means="Requests on the bus that were not done. Worry: codes of signatures.",
        labels=("kind", "code"),
        by=("deployer",),
    ),
    "tidewheel_datasets_total": Metric(
        means="Dataset versions offered, by outcome.",
        labels=("outcome",),
        by=("registry",),
        known={"outcome": ("published", "same", "refused")},
    ),
}
"""Counters, in the order of the cascade."""

GAUGES: Final[Mapping[GaugeName, Metric]] = {
    "tidewheel_outbox_pending": Metric(
        means="Events said and not yet acknowledged by the broker. Worry: growing.",
        labels=("service",),
    ),
    "tidewheel_outbox_oldest_seconds": Metric(
        means="Age of the oldest of them. Worry: above 60.", labels=("service",)
    ),
    "tidewheel_relay_leader": Metric(
        means="1 where this process publishes for its service.", labels=("service",)
    ),
    "tidewheel_consumer_lag_messages": Metric(
        means="Events on the broker that this group has not finished. Worry: growing.",
        labels=("group", "topic"),
    ),
    "tidewheel_consumer_lag_seconds": Metric(
        means="Age of the oldest event that this group has not finished. Worry: above 300.",
        labels=("group", "topic"),
    ),
    "tidewheel_dead_letters_pending": Metric(
        means="Events that are set aside now, those that wait behind one included. Worry: any.",
        labels=("service", "topic", "reason"),
    ),
    "tidewheel_jobs_waiting": Metric(
        means="Jobs waiting for a worker.", labels=("kind",), by=("trainer",)
    ),
    "tidewheel_labels_waiting": Metric(
        means="Labels whose predictions were not heard of yet. Worry: growing.",
        by=("drift_monitor",),
    ),
    "tidewheel_monitor_windows_unjudged": Metric(
        means="Closed windows that wait for their verdict because their profile cannot be read, "
        "or it failed; tried again every five minutes. Worry: above 0.",
        by=("drift_monitor",),
    ),
    "tidewheel_spool_bytes": Metric(
        means="Bytes in the local spool. Worry: near the cap.", by=("serving",)
    ),
    "tidewheel_spool_oldest_seconds": Metric(
        means="Age of the oldest rows in the local spool. Worry: minutes; they are lost at last.",
        by=("serving",),
    ),
    "tidewheel_versions_open": Metric(
        means="Versions that are open in this process at the moment.", by=("serving",)
    ),
    "tidewheel_versions_open_bytes": Metric(
        means="Memory of the open versions, estimated. Worry: at the limit while versions close.",
        by=("serving",),
    ),
    "tidewheel_models_served": Metric(
        means="Models that this replica can answer. Worry: falling.", by=("serving",)
    ),
    "tidewheel_model_info": Metric(
        means="1 for every model, with the team that it belongs to and what it learns from.",
        labels=("model", "owner", "dataset"),
        by=("registry",),
    ),
    "tidewheel_cascade_oldest_pending_seconds": Metric(
        means="How long the longest wait in a stage is beyond what the model's specification "
        "allows for it; waiting for people and windows is in no stage. Worry: above 1800.",
        labels=("stage",),
        by=("registry",),
        known={"stage": STAGES},
    ),
    "tidewheel_model_staleness_seconds": Metric(
        means="Age of the oldest published data that is newer than what the champion learned "
        "from; 0 when it has the newest. Worry: above its objective.",
        labels=("model",),
        by=("registry",),
    ),
    "tidewheel_model_freshness_objective_seconds": Metric(
        means="How old unserved data may be, where the specification says so.",
        labels=("model",),
        by=("registry",),
    ),
    "tidewheel_rollout_last_abort_timestamp_seconds": Metric(
        means="When a rollout of a model was last aborted, as a Unix time; a counter born at 1 "
        "would be invisible. Worry: within the last hour.",
        labels=("model", "reason"),
        by=("deployer",),
    ),
    "tidewheel_drift_severity": Metric(
        means="Of the champion's newest window, and of the newest ones of its drifted seasons, the "
        "worst: 0 like the reference, 1 warning, 2 critical; -1 where none was compared with "
        "it. Worry: 2.",
        labels=("model",),
        by=("drift_monitor",),
    ),
    "tidewheel_drift_effect_lower_bound": Metric(
        means="How far the feature that moved furthest lies off at least, in reference standard "
        "deviations. Widths, shares and correlations have other units, and no part in it.",
        labels=("model",),
        by=("drift_monitor",),
    ),
    "tidewheel_drift_features": Metric(
        means="Features that drifted in that window, by level: critical where the effect is shown "
        "to be beyond what is tolerated, of shares less than of shifts.",
        labels=("model", "level"),
        by=("drift_monitor",),
        known={"level": ("warning", "critical")},
    ),
    "tidewheel_drift_last_window_timestamp_seconds": Metric(
        means="When a window of the champion last got its verdict or, while none waits for one, "
        "began; or when it was registered or promoted.",
        labels=("model",),
        by=("drift_monitor",),
    ),
    "tidewheel_drift_window_seconds": Metric(
        means="How long a window of the champion takes at most, as far as is known, and 20 minutes "
        "at least.",
        labels=("model",),
        by=("drift_monitor",),
    ),
    "tidewheel_quality_value": Metric(
        means="The metric that orders candidates, a loss (error_rate where that is accuracy), in "
        "the newest window that has one: as labels say, as scores let expect, and of the baseline "
        "rule on the same rows.",
        labels=("model", "metric", "kind"),
        by=("drift_monitor",),
    ),
    "tidewheel_quality_gap_lower_bound": Metric(
        means="By how much the loss is surely above its reference and tolerance, or for the kind "
        "baseline above that of the rule. Worry: above 0.",
        labels=("model", "metric", "kind"),
        by=("drift_monitor",),
    ),
    "tidewheel_quality_alarm": Metric(
        means="1 from when answers were said to be worse until they are shown to be good again, by "
        "who said so: windows, or the running test on losses. Worry: 1.",
        labels=("model", "metric", "by"),
        by=("drift_monitor",),
        known={"by": ("window", "detector")},
    ),
    "tidewheel_label_coverage_ratio": Metric(
        means="Share of the predictions of the newest five windows, of those old enough to have "
        "their labels, that have one.",
        labels=("model",),
        by=("drift_monitor",),
    ),
    "tidewheel_label_coverage_expected_ratio": Metric(
        means="The usual share: the same over the newest hundred such windows.",
        labels=("model",),
        by=("drift_monitor",),
    ),
    "tidewheel_brake_models": Metric(
        means="Models that are changed now, where a brake is set; 0 where none is. Worry: above 0, "
        "look upstream.",
        labels=("scope",),
        by=("drift_monitor",),
        known={"scope": ("fleet",)},
    ),
    "tidewheel_models_held": Metric(
        means="Models whose retraining is held back by a brake.", by=("drift_monitor",)
    ),
    "tidewheel_data_quality_alarm": Metric(
        means="1 while what a model is asked with is not what it was made for. Worry: 1.",
        labels=("model", "kind"),
        by=("drift_monitor",),
        known={"kind": ("schema", "missing", "range", "unseen", "stale")},
    ),
}
"""Gauges, in the order of the cascade."""

HISTOGRAMS: Final[Mapping[HistogramName, Metric]] = {
    "tidewheel_http_request_duration_seconds": Metric(
        means="Time from request to answer.", labels=("service", "route")
    ),
    "tidewheel_event_age_seconds": Metric(
        means="From when an event was said until its reaction was committed. Worry: growing.",
        labels=("service", "type"),
        buckets=_SLOW,
    ),
    "tidewheel_handler_seconds": Metric(
        means="Time of one reaction with its transaction.", labels=("service", "type")
    ),
    "tidewheel_predict_seconds": Metric(
        means="Time of one predict request.", labels=("model",), by=("serving",)
    ),
    "tidewheel_child_seconds": Metric(
        means="Wall time of a child process, by what it did.",
        labels=("what",),
        by=("registry", "trainer", "evaluator", "drift_monitor"),
        buckets=_SLOW,
    ),
    "tidewheel_cascade_duration_seconds": Metric(
        means="From a published dataset version to its end for one model. Worry: growing.",
        labels=("outcome",),
        by=("registry",),
        known={"outcome": _ENDS},
        buckets=_SLOW,
    ),
    "tidewheel_label_delay_seconds": Metric(
        means="From a prediction to its label.",
        labels=("model",),
        by=("drift_monitor",),
        buckets=_SLOW,
    ),
    "tidewheel_monitor_window_close_seconds": Metric(
        means="Time to compare one full window. Worry: above 0.1.", by=("drift_monitor",)
    ),
    "tidewheel_report_render_seconds": Metric(
        means="Wall time of drawing one report.", by=("drift_monitor",), buckets=_SLOW
    ),
}
"""Histograms, in the order of the cascade."""

EVERY: Final[Mapping[str, Metric]] = {
    **{str(name): metric for name, metric in COUNTERS.items()},
    **{str(name): metric for name, metric in GAUGES.items()},
    **{str(name): metric for name, metric in HISTOGRAMS.items()},
}


def at_start(name: str) -> list[dict[str, str]]:
    """The sets of labels, without the service, that are known before anything has happened."""
    if name == "tidewheel_gate_verdicts_total":
        return [{"verdict": verdict, "reason": why} for verdict, whys in _GATES for why in whys]
    metric = EVERY[name]
    return metric.label_sets({"service": ""}) if metric.labels else []


def told_by(service: str) -> list[str]:
    """The metrics that a service tells."""
    return [name for name, metric in EVERY.items() if service in metric.by]
