"""Log lines are facts in JSON, and every metric can be written with its labels."""

import json
import logging
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import structlog

from shared import telemetry


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


@pytest.mark.parametrize("name", get_args(telemetry.CounterName))
def test_every_counter_is_exported(name: telemetry.CounterName) -> None:
    labels: dict[str, Any] = dict.fromkeys(telemetry.LABELS.get(name, ()), "x")

    telemetry.count(name, **labels)

    assert name.encode() in telemetry.exposition()


@pytest.mark.parametrize("name", get_args(telemetry.GaugeName))
def test_every_gauge_is_exported(name: telemetry.GaugeName) -> None:
    labels: dict[str, Any] = dict.fromkeys(telemetry.LABELS.get(name, ()), "x")

    telemetry.gauge(name, 3, **labels)

    assert name.encode() in telemetry.exposition()


@pytest.mark.parametrize("name", get_args(telemetry.HistogramName))
def test_every_histogram_is_exported(name: telemetry.HistogramName) -> None:
    labels: dict[str, Any] = dict.fromkeys(telemetry.LABELS.get(name, ()), "x")

    telemetry.observe(name, 0.01, **labels)

    assert f"{name}_bucket".encode() in telemetry.exposition()
