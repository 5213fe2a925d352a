"""Log lines are facts in JSON, and every metric can be written with its labels."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import structlog

from shared import telemetry, vocabulary
from shared.telemetry import REGISTRY
from shared.topics import SERVICES


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Later tests must not log to the screen of this one, which is closed by then."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_carries_the_service_and_what_is_bound(capfd: pytest.CaptureFixture[str]) -> None:
    telemetry.configure("trainer")

    with telemetry.bound(event_id="e1", cascade="c1"):
        telemetry.log("training_skipped", model="pump")
    telemetry.log("afterwards")

    skipped, after = (json.loads(line) for line in capfd.readouterr().err.splitlines())
    assert skipped["event"] == "training_skipped"
    assert (skipped["service"], skipped["event_id"], skipped["cascade"]) == ("trainer", "e1", "c1")
    assert skipped["model"] == "pump"
    assert "event_id" not in after


def test_what_libraries_log_has_the_same_form(capfd: pytest.CaptureFixture[str]) -> None:
    telemetry.configure("trainer")

    logging.getLogger("somebody.else").warning("it is %s", "late")

    line = json.loads(capfd.readouterr().err)
    assert (line["event"], line["said"]) == ("library_said", "it is late")


def test_a_library_that_repeats_itself_is_heard_once(capfd: pytest.CaptureFixture[str]) -> None:
    telemetry.configure("trainer")

    for number in range(100):
        logging.getLogger("somebody.else").warning("broker %s is away", number)

    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name", get_args(vocabulary.CounterName))
def test_every_counter_is_exported(name: vocabulary.CounterName) -> None:
    telemetry.count(name, **some_labels(name))

    assert name.encode() in telemetry.exposition()


@pytest.mark.parametrize("name", get_args(vocabulary.GaugeName))
def test_every_gauge_is_exported(name: vocabulary.GaugeName) -> None:
    telemetry.gauge(name, 3, **some_labels(name))

    assert name.encode() in telemetry.exposition()


@pytest.mark.parametrize("name", get_args(vocabulary.HistogramName))
def test_every_histogram_is_exported(name: vocabulary.HistogramName) -> None:
    telemetry.observe(name, 0.01, **some_labels(name))

    assert f"{name}_bucket".encode() in telemetry.exposition()


def test_every_name_has_a_meaning_and_a_service_that_tells_it() -> None:
    names = get_args(vocabulary.MetricName)
    declared = {name for union in names for name in get_args(union)} or set(names)

    assert declared == set(vocabulary.EVERY)
    assert all(metric.means.endswith(".") for metric in vocabulary.EVERY.values())
    assert all(set(metric.by) <= set(SERVICES) for metric in vocabulary.EVERY.values())


def test_labels_that_a_metric_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="has the labels"):
        telemetry.count("tidewheel_predictions_total", model="pump", rung="champion")


def test_what_is_known_ahead_exists_at_zero_from_the_start() -> None:
    program = (
        "from shared import telemetry;"
        "telemetry.configure('evaluator');"
        "labels = {'verdict': 'rejected', 'reason': 'fleet_fdr'};"
        "print(telemetry.REGISTRY.get_sample_value('tidewheel_gate_verdicts_total', labels))"
    )

    # In this one other tests may have counted before.
    fresh = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert fresh.stdout.strip() == "0.0"


def test_a_model_that_becomes_known_has_its_series_at_zero() -> None:
    telemetry.begin("tidewheel_predictions_total", model="never-asked", role="champion")

    labels = {"model": "never-asked", "role": "champion", "outcome": "error"}
    assert REGISTRY.get_sample_value("tidewheel_predictions_total", labels) == 0


def test_the_service_is_a_label_that_the_process_fills_in() -> None:
    telemetry.configure("trainer")
    telemetry.gauge("tidewheel_outbox_pending", 7)

    assert REGISTRY.get_sample_value("tidewheel_outbox_pending", {"service": "trainer"}) == 7


def test_series_of_a_gauge_that_are_told_no_longer_are_gone() -> None:
    name: vocabulary.GaugeName = "tidewheel_drift_severity"
    telemetry.gauges(name, [({"model": "pump"}, 2), ({"model": "fan"}, 1)])

    telemetry.gauges(name, [({"model": "fan"}, 0)])

    assert REGISTRY.get_sample_value(name, {"model": "pump"}) is None
    assert REGISTRY.get_sample_value(name, {"model": "fan"}) == 0


def some_labels(name: str) -> dict[str, Any]:
    return {label: "x" for label in vocabulary.EVERY[name].labels if label != "service"}


def test_many_durations_at_once_are_what_they_are_one_by_one() -> None:
    seconds = [0.0, 59.9, 60.0, 3600.0, 1e9]
    for one in seconds:
        telemetry.observe("tidewheel_label_delay_seconds", one, model="one-by-one")

    telemetry.observe_each("tidewheel_label_delay_seconds", seconds, model="together")

    found = {
        model: [
            (sample.name, sample.labels.get("le"), sample.value)
            for metric in REGISTRY.collect()
            for sample in metric.samples
            if sample.labels.get("model") == model and not sample.name.endswith("_created")
        ]
        for model in ("one-by-one", "together")
    }
    assert found["together"] == found["one-by-one"]
    assert len(found["together"]) > 5
