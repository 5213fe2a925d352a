"""When drift is said and taken back, and when a fresh model is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from services.drift_monitor.detection import Comparison, Severity
from services.drift_monitor.domain import (
    Decided,
    Policy,
    Subject,
    Watch,
    after_measure,
    after_window,
)
from services.drift_monitor.quality import Measured
from shared.events import FeatureDrift, RetrainingRequested, RetrainingWithheld
from tests.drift_monitor.building import NOON, PUMP, a_policy, a_spec, kinds


def a_subject(window: int = 1, **changes: Any) -> Subject:
    given: dict[str, Any] = {
        "model": PUMP,
        "version": 3,
        "window": window,
        "policy": a_policy(),
        "is_champion": True,
        "asked_at": None,
        "now": NOON,
    }
    return Subject(**given | changes)


def found(severity: Severity | None) -> Comparison:
    p = 1e-9 if severity else 0.7
    drift = FeatureDrift(feature="a", test="location", statistic=6.0, p_value=p, effect=1.0)
    return Comparison(
        severity=severity, alpha=5e-4, mode="block", features=(drift,), detail="a lies elsewhere"
    )


def quality(*, worse: bool = False, fine: bool = False) -> Measured:
    return Measured(
        value=2.0,
        reference=1.0,
        labels=50,
        bound=1.5,
        is_worse=worse,
        is_fine=fine,
        detail="mae 2 over 50 labels",
    )


def windows(
    severities: Sequence[Severity | None], watch: Watch | None = None, **changes: Any
) -> Decided:
    """The state after these windows, with all that was said on the way."""
    decided = Decided(watch=watch or Watch(), events=())
    for number, severity in enumerate(severities, start=1):
        step = after_window(decided.watch, a_subject(number, **changes), found(severity))
        decided = Decided(watch=step.watch, events=(*decided.events, *step.events))
    return decided


def test_the_policy_is_read_from_the_specification() -> None:
    policy = Policy.of(a_spec(window=24, confirm=3, cooldown="2h") | {"triggers": {"drift": False}})

    assert policy == Policy(
        window=24,
        tolerance=0.1,
        confirm=3,
        cool_down=timedelta(hours=2),
        by_drift=False,
        by_quality=True,
    )


def test_drift_is_said_once_and_again_only_when_it_becomes_critical() -> None:
    decided = windows(["warning", "warning", "critical", "critical"], is_champion=False)

    assert kinds(decided.events) == ["DriftDetected", "DriftDetected"]


def test_drift_is_taken_back_after_enough_clean_windows() -> None:
    decided = windows(["warning", None, "warning", None, None, None])

    assert kinds(decided.events) == ["DriftDetected", "DriftCleared"]
    assert decided.watch.drift is None


def test_a_first_critical_window_waits_for_confirmation() -> None:
    decided = windows(["critical"])

    assert kinds(decided.events) == ["DriftDetected", "RetrainingWithheld"]
    withheld = decided.events[1]
    assert isinstance(withheld, RetrainingWithheld)
    assert withheld.reason == "not_confirmed"
    assert "1 of 2 windows agree" in withheld.detail


def test_confirmed_drift_asks_for_a_fresh_model_with_its_reason() -> None:
    decided = windows(["critical", "critical"])

    asked = decided.events[-1]
    assert isinstance(asked, RetrainingRequested)
    assert (asked.reason, asked.window, asked.detail) == ("drift", 2, "a lies elsewhere")


def test_a_clean_window_between_begins_the_counting_anew() -> None:
    decided = windows(["critical", None, "critical"])

    assert not decided.asks


def test_warnings_alone_ask_for_nothing() -> None:
    assert kinds(windows(["warning"] * 5).events) == ["DriftDetected"]


def test_a_drift_that_lasts_does_not_ask_with_every_window() -> None:
    decided = windows(["critical"] * 4)

    assert kinds(decided.events).count("RetrainingRequested") == 2


def test_within_the_cool_down_the_request_is_withheld() -> None:
    decided = windows(["critical", "critical"], asked_at=NOON - timedelta(hours=23))

    withheld = decided.events[-1]
    assert isinstance(withheld, RetrainingWithheld)
    assert withheld.reason == "cool_down"


def test_after_the_cool_down_it_is_asked_again() -> None:
    assert windows(["critical", "critical"], asked_at=NOON - timedelta(hours=24)).asks


def test_a_trigger_that_is_off_withholds() -> None:
    decided = windows(["critical", "critical"], policy=a_policy(by_drift=False))

    withheld = decided.events[-1]
    assert isinstance(withheld, RetrainingWithheld)
    assert withheld.reason == "trigger_off"


def test_only_the_champion_asks() -> None:
    assert kinds(windows(["critical", "critical"], is_champion=False).events) == ["DriftDetected"]


def measures(given: Sequence[tuple[int, Measured]], **changes: Any) -> Decided:
    decided = Decided(watch=Watch(), events=())
    for number, one in given:
        step = after_measure(decided.watch, a_subject(number, **changes), "mae", one)
        decided = Decided(watch=step.watch, events=(*decided.events, *step.events))
    return decided


def test_worse_answers_are_said_once_and_confirmed_ones_ask() -> None:
    decided = measures([(1, quality(worse=True)), (2, quality(worse=True))])

    assert kinds(decided.events) == ["QualityDegraded", "RetrainingWithheld", "RetrainingRequested"]


def test_one_window_looked_at_three_times_counts_once() -> None:
    decided = measures([(1, quality(worse=True))] * 3)

    assert kinds(decided.events) == ["QualityDegraded", "RetrainingWithheld"]


def test_a_window_whose_labels_were_revised_to_good_counts_no_more() -> None:
    decided = measures(
        [(1, quality(worse=True)), (1, quality(fine=True)), (2, quality(worse=True))]
    )

    assert "RetrainingRequested" not in kinds(decided.events)


def test_recovery_needs_several_fine_windows() -> None:
    one = measures([(1, quality(worse=True)), (2, quality(fine=True))])
    two = measures([(1, quality(worse=True)), (2, quality(fine=True)), (3, quality(fine=True))])

    assert "QualityRecovered" not in kinds(one.events)
    assert kinds(two.events)[-1] == "QualityRecovered"
    assert not two.watch.is_degraded


def test_answers_between_fine_and_worse_change_nothing() -> None:
    decided = measures([(1, quality(worse=True)), (2, quality(fine=True)), (3, quality())])

    assert decided.watch.is_degraded
    assert decided.watch.fine == ()


def test_what_cannot_be_judged_decides_nothing() -> None:
    unjudged = replace(quality(worse=False), bound=None)

    assert measures([(1, unjudged)]) == Decided(watch=Watch(), events=())
