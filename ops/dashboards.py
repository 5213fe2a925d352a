"""The five dashboards: the fleet, one model, cascades, serving, the bus."""

from typing import Final

from ops.panels import Board, Panel

_PREDICT: Final = 'route=~".*/(predict|infer|invocations)"'
_ROWS: Final = "tidewheel_predictions_total"

FLEET: Final = Board(
    uid="tidewheel-fleet",
    title="Tidewheel: fleet",
    help="All models at a glance: what fires, who drifts, who is stale, who is worse than a rule.",
    panels=(
        Panel(
            title="Models by severity of drift",
            queries=(
                (
                    "count(max by (model) (tidewheel_drift_severity) == -1) or vector(0)",
                    "not judged",
                ),
                ("count(max by (model) (tidewheel_drift_severity) == 0) or vector(0)", "clean"),
                ("count(max by (model) (tidewheel_drift_severity) == 1) or vector(0)", "warning"),
                ("count(max by (model) (tidewheel_drift_severity) == 2) or vector(0)", "critical"),
            ),
            help="Many at once have one cause: look upstream.",
        ),
        Panel(
            title="Alerts that fire",
            queries=(
                (
                    "count by (alertname, severity) "
                    '(ALERTS{alertstate="firing",severity!="dashboard"})',
                    "{{alertname}} ({{severity}})",
                ),
            ),
            help="As Prometheus sees them; who is told is Alertmanager's business.",
        ),
        Panel(
            title="Models",
            queries=(("count(max by (model) (tidewheel_model_info))", ""),),
            help="Models that are defined.",
            kind="number",
        ),
        Panel(
            title="Stale models",
            queries=(
                (
                    "count(max by (model) (tidewheel_model_staleness_seconds) > "
                    "max by (model) (tidewheel_model_freshness_objective_seconds)) or vector(0)",
                    "",
                ),
            ),
            help="Published data waits longer than the specification allows.",
            kind="number",
        ),
        Panel(
            title="Worse than their rule",
            queries=(
                (
                    "count(max by (model, metric) "
                    '(tidewheel_quality_gap_lower_bound{kind="baseline"}) > 0) or vector(0)',
                    "",
                ),
            ),
            help="The baseline rule had surely the smaller loss on the same labelled rows.",
            kind="number",
        ),
        Panel(
            title="Held back by the brake",
            queries=(("max(tidewheel_models_held) or vector(0)", ""),),
            help="Models that would be retrained, had not so many changed at once.",
            kind="number",
        ),
        Panel(
            title="Retrainings asked for and held back, per hour",
            queries=(
                (
                    "sum by (result) (increase(tidewheel_retraining_requests_total[1h])) > 0",
                    "{{result}}",
                ),
            ),
            help="Every reason to retrain is either accepted or held back with its reason.",
        ),
        Panel(
            title="Least fresh models",
            queries=(("topk(20, max by (model) (tidewheel_model_staleness_seconds) > 0)", ""),),
            help="Age of the oldest published data that the champion has not learned from.",
            unit="s",
            kind="rows",
        ),
        Panel(
            title="Largest sure shifts",
            queries=(("topk(20, max by (model) (tidewheel_drift_effect_lower_bound))", ""),),
            help="How far a feature lies off at least, in reference standard deviations.",
            kind="rows",
        ),
        Panel(
            title="Data quality alarms",
            queries=(
                ('max by (model, kind) (tidewheel_data_quality_alarm{kind!="stale"}) > 0', ""),
            ),
            help="Models that are asked with rows they were not made for.",
            kind="rows",
        ),
        Panel(
            title="Brakes",
            queries=(("max by (scope) (tidewheel_brake_models) > 0", ""),),
            help="What a brake is set of, and how many of its models are changed now.",
            kind="rows",
        ),
        Panel(
            title="Answers that were said to be worse",
            queries=(("max by (model, metric, by) (tidewheel_quality_alarm) > 0", ""),),
            help="By windows or by the running test, and not shown to be good again.",
            kind="rows",
        ),
    ),
)

MODEL: Final = Board(
    uid="tidewheel-model",
    title="Tidewheel: model",
    help="One model: its answers, its inputs, how wrong it is, how fresh it is.",
    variable=("model", "tidewheel_model_info"),
    panels=(
        Panel(
            title="Rows per second, by what became of them",
            queries=(
                (
                    "sum by (role, outcome) "
                    f'(rate({_ROWS}{{model="$model"}}[$__rate_interval])) > 0',
                    "{{role}} {{outcome}}",
                ),
            ),
            help="Fallback: a rung below answered. Error: nobody had an answer.",
            unit="rowsps",
        ),
        Panel(
            title="Severity of drift",
            queries=(
                ('max by (model) (tidewheel_drift_severity{model="$model"})', "severity"),
                (
                    'max by (model) (tidewheel_drift_effect_lower_bound{model="$model"})',
                    "sure shift",
                ),
            ),
            help="-1 not judged, 0 clean, 1 warning, 2 critical; and by how many standard "
            "deviations a feature surely lies off.",
        ),
        Panel(
            title="Loss: realised, estimated, rule",
            queries=(
                (
                    'max by (metric, kind) (tidewheel_quality_value{model="$model"})',
                    "{{metric}} {{kind}}",
                ),
            ),
            help="Estimated: as scores let expect, while labels have not come.",
        ),
        Panel(
            title="Sure gap above reference and tolerance",
            queries=(
                (
                    'max by (metric, kind) (tidewheel_quality_gap_lower_bound{model="$model"})',
                    "{{metric}} {{kind}}",
                ),
            ),
            help="Above 0 it is worse than it was, or for baseline than the rule, whatever chance "
            "did.",
        ),
        Panel(
            title="Said to be worse",
            queries=(('max by (by) (tidewheel_quality_alarm{model="$model"})', "{{by}}"),),
            help="1 until shown to be good again: by windows, or by the running test on losses.",
        ),
        Panel(
            title="Labels: come and usually come",
            queries=(
                ('max by (model) (tidewheel_label_coverage_ratio{model="$model"})', "come"),
                (
                    'max by (model) (tidewheel_label_coverage_expected_ratio{model="$model"})',
                    "usually",
                ),
            ),
            help="Of the newest five windows that should have theirs, and of the newest hundred. "
            "No figure of quality means anything without its coverage.",
            unit="percentunit",
        ),
        Panel(
            title="Features that drifted",
            queries=(('max by (level) (tidewheel_drift_features{model="$model"})', "{{level}}"),),
            help="Which ones: `tidewheel drift MODEL`.",
        ),
        Panel(
            title="Windows compared, per hour",
            queries=(
                (
                    "sum by (verdict) "
                    '(increase(tidewheel_drift_windows_total{model="$model"}[1h]))',
                    "{{verdict}}",
                ),
            ),
            help="Insufficient: the reference allows no statistical test.",
        ),
        Panel(
            title="Delay of labels, median and 95 %",
            queries=tuple(
                (
                    f"histogram_quantile({share}, sum by (le) "
                    '(rate(tidewheel_label_delay_seconds_bucket{model="$model"}[1h])))',
                    name,
                )
                for share, name in ((0.5, "median"), (0.95, "95 %"))
            ),
            help="Of the labels that came in this time.",
            unit="s",
        ),
        Panel(
            title="Behind what was published",
            queries=(
                ('max by (model) (tidewheel_model_staleness_seconds{model="$model"})', "behind"),
                (
                    'max by (model) (tidewheel_model_freshness_objective_seconds{model="$model"})',
                    "objective",
                ),
            ),
            help="Age of the oldest data that the champion has not learned from.",
            unit="s",
        ),
        Panel(
            title="Time of a request, 99 %",
            queries=(
                (
                    "histogram_quantile(0.99, sum by (le) "
                    '(rate(tidewheel_predict_seconds_bucket{model="$model"}[$__rate_interval])))',
                    "99 %",
                ),
            ),
            help="Inside serving, without the network.",
            unit="s",
        ),
    ),
)

CASCADE: Final = Board(
    uid="tidewheel-cascade",
    title="Tidewheel: cascades",
    help="From a published dataset to the version that answers.",
    panels=(
        Panel(
            title="Longest stand-still, by stage",
            queries=(
                (
                    "max by (stage) (tidewheel_cascade_oldest_pending_seconds)",
                    "{{stage}}",
                ),
            ),
            help="Beyond what specifications allow. People and windows are waited for in no stage.",
            unit="s",
        ),
        Panel(
            title="Published to promoted",
            queries=tuple(
                (
                    f"histogram_quantile({share}, sum by (le) (rate("
                    'tidewheel_cascade_duration_seconds_bucket{outcome="promoted"}[6h])))',
                    name,
                )
                for share, name in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
            ),
            help="Until the deployer promoted; `tidewheel freshness` counts until a replica did.",
            unit="s",
        ),
        Panel(
            title="How stories ended, per hour",
            queries=(
                (
                    "sum by (outcome) (increase(tidewheel_cascade_duration_seconds_count[1h])) > 0",
                    "{{outcome}}",
                ),
            ),
            help="One story per dataset version and model.",
        ),
        Panel(
            title="Datasets offered, per hour",
            queries=(("sum by (outcome) (increase(tidewheel_datasets_total[1h]))", "{{outcome}}"),),
            help="Refused ones say every reason.",
        ),
        Panel(
            title="Training runs, per hour",
            queries=(
                (
                    "sum by (outcome) (increase(tidewheel_training_runs_total[1h])) > 0",
                    "{{outcome}}",
                ),
                ("sum(max by (kind) (tidewheel_jobs_waiting))", "waiting now"),
            ),
            help="Skipped ones are counted with their reason.",
        ),
        Panel(
            title="Verdicts of the gate, per hour",
            queries=(
                (
                    "sum by (verdict, reason) (increase(tidewheel_gate_verdicts_total[1h])) > 0",
                    "{{verdict}}: {{reason}}",
                ),
            ),
            help="The first rule that was broken.",
        ),
        Panel(
            title="Decisions about rollouts, per hour",
            queries=(
                (
                    "sum by (decision, reason) "
                    "(increase(tidewheel_rollout_decisions_total[1h])) > 0",
                    "{{decision}}: {{reason}}",
                ),
            ),
            help="Worry: aborted and rolled back.",
        ),
        Panel(
            title="Rollouts given up last",
            queries=(
                (
                    "topk(20, max by (model, reason) "
                    "(tidewheel_rollout_last_abort_timestamp_seconds) * 1000)",
                    "",
                ),
            ),
            help="And why.",
            unit="dateTimeFromNow",
            kind="rows",
        ),
        Panel(
            title="Work of children, 95 %",
            queries=(
                (
                    "histogram_quantile(0.95, sum by (le, what) "
                    "(rate(tidewheel_child_seconds_bucket[1h])))",
                    "{{what}}",
                ),
            ),
            help="Fits, scores, profiles and reports run in children with limits.",
            unit="s",
        ),
    ),
)

SERVING: Final = Board(
    uid="tidewheel-serving",
    title="Tidewheel: serving",
    help="Whether callers get answers, how fast, from whom, and whether they are logged.",
    panels=(
        Panel(
            title="Share of predictions without an answer",
            queries=tuple(
                (f"tidewheel:error_ratio:rate{window}", window)
                for window in ("5m", "30m", "1h", "6h", "3d")
            ),
            help="Objective: below 0.001.",
            unit="percentunit",
        ),
        Panel(
            title="Share of requests slower than 0.1 s",
            queries=tuple(
                (f"tidewheel:slow_ratio:rate{window}", window)
                for window in ("5m", "30m", "1h", "6h")
            ),
            help="Objective: below 0.01.",
            unit="percentunit",
        ),
        Panel(
            title="Rows per second",
            queries=((f"sum by (outcome) (rate({_ROWS}[$__rate_interval]))", "{{outcome}}"),),
            help="Rejected ones were no rows of their model; that is the caller's mistake.",
            unit="rowsps",
        ),
        Panel(
            title="Time of a request",
            queries=tuple(
                (
                    f"histogram_quantile({share}, sum by (le) (rate("
                    "tidewheel_http_request_duration_seconds_bucket"
                    f'{{service="serving",{_PREDICT}}}[$__rate_interval])))',
                    name,
                )
                for share, name in ((0.5, "median"), (0.99, "99 %"), (0.999, "99.9 %"))
            ),
            help="From the first byte to the answer.",
            unit="s",
        ),
        Panel(
            title="Answers from a lower rung",
            queries=(
                (
                    f'topk(10, sum by (model) (rate({_ROWS}{{outcome="fallback"}}[5m])) > 0)',
                    "{{model}}",
                ),
            ),
            help="Callers have an answer, and not the champion's.",
            unit="rowsps",
        ),
        Panel(
            title="Arms that could not answer",
            queries=(
                (
                    "topk(10, sum by (model) (rate(tidewheel_arm_errors_total[5m])) > 0)",
                    "{{model}}",
                ),
            ),
            help="Whoever answered then.",
            unit="rowsps",
        ),
        Panel(
            title="Requests by status",
            queries=(
                (
                    "sum by (service, code_class) "
                    "(rate(tidewheel_http_requests_total[$__rate_interval])) > 0",
                    "{{service}} {{code_class}}",
                ),
            ),
            help="All services.",
            unit="reqps",
        ),
        Panel(
            title="Spool",
            queries=(("max by (instance) (tidewheel_spool_bytes)", "{{instance}}"),),
            help="Predictions that are not on the broker yet.",
            unit="bytes",
        ),
        Panel(
            title="Predictions not logged, per hour",
            queries=(
                (
                    "sum by (reason) (increase(tidewheel_prediction_log_gaps_total[1h])) > 0",
                    "{{reason}}",
                ),
            ),
            help="No room, too old, or a damaged file. Worry: any.",
        ),
        Panel(
            title="Answers of shadows",
            queries=(
                (
                    "sum by (outcome) (rate(tidewheel_shadow_answers_total[$__rate_interval]))",
                    "{{outcome}}",
                ),
            ),
            help="Dropped ones had no time left beside real requests.",
            unit="rowsps",
        ),
        Panel(
            title="Oldest rows in the spool",
            queries=(("max by (instance) (tidewheel_spool_oldest_seconds)", "{{instance}}"),),
            help="Minutes mean that the broker does not take them; they are lost at last.",
            unit="s",
        ),
        Panel(
            title="Requests not taken",
            queries=(
                (
                    "sum by (reason) (rate(tidewheel_requests_limited_total[$__rate_interval]))",
                    "{{reason}}",
                ),
            ),
            help="Rate: a key asked too often. Queue: too many waited; that needs more replicas.",
            unit="reqps",
        ),
        Panel(
            title="Versions open, opened and closed",
            queries=(
                ("max by (instance) (tidewheel_versions_open)", "open {{instance}}"),
                ("sum(rate(tidewheel_versions_opened_total[$__rate_interval]))", "opened/s"),
                ("sum(rate(tidewheel_versions_closed_total[$__rate_interval]))", "closed/s"),
            ),
            help="Opened and closed at the same pace for long: memory is too small.",
        ),
        Panel(
            title="Models served",
            queries=(("max by (instance) (tidewheel_models_served)", "{{instance}}"),),
            help="By each replica.",
        ),
    ),
)

BUS: Final = Board(
    uid="tidewheel-bus",
    title="Tidewheel: bus",
    help="Whether what is said is heard: lag, outboxes, what was set aside, who is there.",
    panels=(
        Panel(
            title="Age of the oldest unfinished event",
            queries=(
                (
                    "max by (group, topic) (tidewheel_consumer_lag_seconds) > 0",
                    "{{group}} {{topic}}",
                ),
            ),
            help="Worry: above 300 and not falling.",
            unit="s",
        ),
        Panel(
            title="Unfinished events",
            queries=(
                (
                    "sum by (group, topic) (tidewheel_consumer_lag_messages) > 0",
                    "{{group}} {{topic}}",
                ),
            ),
            help="On the broker and not committed.",
        ),
        Panel(
            title="Events per second, by what became of them",
            queries=(
                (
                    "sum by (service, result) "
                    "(rate(tidewheel_events_processed_total[$__rate_interval])) > 0",
                    "{{service}} {{result}}",
                ),
            ),
            help="Worry: dead at all, retry growing.",
            unit="eps",
        ),
        Panel(
            title="From said to done, 95 %",
            queries=(
                (
                    "histogram_quantile(0.95, sum by (le, service) "
                    "(rate(tidewheel_event_age_seconds_bucket[$__rate_interval])))",
                    "{{service}}",
                ),
            ),
            help="Over all kinds of events.",
            unit="s",
        ),
        Panel(
            title="Time of one reaction, 95 %",
            queries=(
                (
                    "histogram_quantile(0.95, sum by (le, service) "
                    "(rate(tidewheel_handler_seconds_bucket[$__rate_interval])))",
                    "{{service}}",
                ),
            ),
            help="With its transaction.",
            unit="s",
        ),
        Panel(
            title="Oldest event in an outbox",
            queries=(("max by (service) (tidewheel_outbox_oldest_seconds)", "{{service}}"),),
            help="Worry: above 60.",
            unit="s",
        ),
        Panel(
            title="Set aside now",
            queries=(("max by (service, topic, reason) (tidewheel_dead_letters_pending) > 0", ""),),
            help="`tidewheel dlq ls` has them with their reasons.",
            kind="rows",
        ),
        Panel(
            title="Set aside, per hour",
            queries=(
                (
                    "sum by (service, reason) (increase(tidewheel_dead_letters_total[1h])) > 0",
                    "{{service}} {{reason}}",
                ),
            ),
            help="Including those that wait behind one.",
        ),
        Panel(
            title="Turned away, per hour",
            queries=(
                (
                    "sum by (service, topic) "
                    "(increase(tidewheel_records_turned_away_total[1h])) > 0",
                    "{{service}} {{topic}}",
                ),
            ),
            help="Outsiders' records that are no events, beyond the room for dead letters.",
        ),
        Panel(
            title="Missing events and lost leases, per hour",
            queries=(
                (
                    "sum by (service, topic) (increase(tidewheel_sequence_gaps_total[1h])) > 0",
                    "gap {{service}} {{topic}}",
                ),
                (
                    "sum by (service, kind) (increase(tidewheel_leases_lost_total[1h])) > 0",
                    "lease {{service}} {{kind}}",
                ),
            ),
            help="A gap stops its subject.",
        ),
        Panel(
            title="Who is there",
            queries=(('min by (job) (up{job=~"tidewheel-.+"})', "{{job}}"),),
            help="1 where Prometheus can ask.",
        ),
        Panel(
            title="Monitor: rows per second and time to close a window",
            queries=(
                ("sum(rate(tidewheel_monitor_rows_total[$__rate_interval]))", "rows"),
                (
                    "histogram_quantile(0.95, sum by (le) "
                    "(rate(tidewheel_monitor_window_close_seconds_bucket[1h])))",
                    "seconds to close, 95 %",
                ),
            ),
            help="Of the drift monitor.",
        ),
        Panel(
            title="Monitor: failed steps per hour, and windows without a verdict",
            queries=(
                ("sum by (round) (increase(tidewheel_rounds_failed_total[1h])) > 0", "{{round}}"),
                ("max(tidewheel_monitor_windows_unjudged)", "windows"),
            ),
            help="Worry: any. The log says why.",
        ),
        Panel(
            title="Labels, per hour",
            queries=(
                ("sum by (outcome) (increase(tidewheel_labels_total[1h])) > 0", "{{outcome}}"),
                ("sum(increase(tidewheel_labels_orphaned_total[1h])) > 0", "orphaned, by model"),
                ("max(tidewheel_labels_waiting)", "waiting now"),
            ),
            help="Unknown ones wait for their predictions.",
        ),
        Panel(
            title="Reports: time to draw, 95 %",
            queries=(
                (
                    "histogram_quantile(0.95, sum by (le) "
                    "(rate(tidewheel_report_render_seconds_bucket[6h])))",
                    "95 %",
                ),
            ),
            help="In a child, off every path that matters.",
            unit="s",
        ),
    ),
)

BOARDS: Final = (FLEET, MODEL, CASCADE, SERVING, BUS)
