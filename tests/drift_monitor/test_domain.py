"""What windows, labels and estimates say of one version, and what they are signs of."""

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
    after_detector,
    after_estimate,
    after_measure,
    after_window,
)
from services.drift_monitor.quality import Alarm, Estimated, Measured
from shared.events import FeatureDrift
from tests.drift_monitor.building import NOON, PUMP, a_policy, a_spec, kinds


def a_subject(window: int = 1, **changes: Any) -> Subject:
    given: dict[str, Any] = {
        "model": PUMP,
        "version": 3,
        "window": window,
        "policy": a_policy(),
        "is_champion": True,
        "asked_at": None,
        "now": NOON + timedelta(hours=window),
        "started_at": NOON + timedelta(hours=window - 1),
        "ended_at": NOON + timedelta(hours=window),
    }
    return Subject(**given | changes)


def found(severity: Severity | None, test: str = "location", **effect: Any) -> Comparison:
    p = 1e-9 if severity else 0.7
    drift = FeatureDrift(feature="a", test=test, statistic=6.0, p_value=p, effect=1.0, **effect)
    return Comparison(
        severity=severity, alpha=5e-4, mode="block", features=(drift,), detail="a lies elsewhere"
    )


def quality(*, worse: bool = False, fine: bool = False, **changes: Any) -> Measured:
    given = Measured(
        value=2.0,
        reference=1.0,
        labels=50,
        bound=1.5,
        is_worse=worse,
        is_fine=fine,
        detail="mae 2 over 50 labels",
    )
    return replace(given, **changes)


def estimated(low: float, high: float) -> Estimated:
    return Estimated(metric="log_loss", value=(low + high) / 2, low=low, high=high, reference=1.0)


AN_ALARM = Alarm(at=7, evidence=2e6, level=2.0, reference=1.0, limit=1.1, labels=400)


def windows(
    severities: Sequence[Severity | None], watch: Watch | None = None, **changes: Any
) -> Decided:
    """The state after these windows, with all that was said on the way."""
    decided = Decided(watch=watch or Watch(), events=())
    for number, severity in enumerate(severities, start=1):
        step = after_window(decided.watch, a_subject(number, **changes), found(severity))
        decided = replace(step, events=(*decided.events, *step.events))
    return decided


def measures(given: Sequence[tuple[int, Measured]], watch: Watch | None = None) -> Decided:
    decided = Decided(watch=watch or Watch(), events=())
    for number, one in given:
        step = after_measure(decided.watch, a_subject(number), "mae", one)
        decided = replace(step, events=(*decided.events, *step.events))
    return decided


def test_the_policy_is_read_from_the_specification() -> None:
    spec = a_spec(window=24, confirm=3, cooldown="2h", transient="fallback", horizon="2d")

    assert Policy.of(spec | {"triggers": {"drift": False}}) == Policy(
        window=24,
        tolerance=0.1,
        confirm=3,
        cool_down=timedelta(hours=2),
        by_drift=False,
        by_quality=True,
        transient="fallback",
        horizon=timedelta(days=2),
        dataset="flow",
    )


def test_drift_is_said_once_and_again_only_when_it_becomes_critical() -> None:
    decided = windows(["warning", "warning", "critical", "critical"])

    assert kinds(decided.events) == ["DriftDetected", "DriftDetected"]


def test_drift_is_taken_back_after_three_clean_windows() -> None:
    decided = windows(["warning", None, "warning", None, None])
    over = windows(["warning", None, "warning", None, None, None])

    assert kinds(decided.events) == ["DriftDetected"]
    assert kinds(over.events) == ["DriftDetected", "DriftCleared"]
    assert over.signs.calm


def test_a_window_whose_effect_is_shown_to_be_half_of_critical_is_not_clean() -> None:
    drifting = windows(["critical", "critical"]).watch

    for number in (3, 4, 5):
        step = after_window(drifting, a_subject(number), found(None, low=0.03, high=0.06))
        drifting = step.watch

    assert drifting.drift == "critical"


def test_one_critical_window_is_a_doubt_and_two_of_three_confirm() -> None:
    assert windows(["critical"]).signs.doubtful == "drift"
    assert windows(["critical"]).signs.confirmed is None
    assert windows(["critical", None, "critical"]).signs.confirmed == "drift"
    assert windows(["critical", None, None, "critical"]).signs.confirmed is None


def test_warnings_make_suspect_and_never_confirm() -> None:
    decided = windows(["warning"] * 5)

    assert decided.signs.suspect
    assert decided.signs.confirmed is None


def test_drift_that_an_estimate_shows_to_do_no_harm_is_not_confirmed() -> None:
    fine = after_estimate(Watch(), a_subject(), estimated(0.9, 1.05)).watch

    assert windows(["critical", "critical"], fine).signs.confirmed is None


def test_drift_whose_own_windows_have_fine_losses_is_not_confirmed() -> None:
    drifted = windows(["critical"]).watch
    labelled = measures([(1, quality(fine=True))], drifted).watch

    step = after_window(labelled, a_subject(2), found("critical"))

    assert step.signs.confirmed is None


def test_fine_losses_of_windows_before_the_drift_excuse_nothing() -> None:
    before = measures([(1, quality(fine=True))]).watch

    drifting = after_window(before, a_subject(2), found("critical")).watch
    step = after_window(drifting, a_subject(3), found("critical"))

    assert step.signs.confirmed == "drift"


def test_an_estimate_that_is_surely_worse_makes_suspect() -> None:
    step = after_estimate(Watch(), a_subject(), estimated(1.2, 1.4))

    assert step.signs.suspect
    assert step.signs.confirmed is None
    assert after_estimate(step.watch, a_subject(2), None).watch.estimate == ""


def test_an_alarm_of_the_running_test_confirms_at_once_and_is_said_once() -> None:
    step = after_detector(Watch(), a_subject(), "mae", AN_ALARM)
    again = after_detector(step.watch, a_subject(2), "mae", AN_ALARM)

    assert kinds(step.events) == ["QualityDegraded"]
    assert step.signs.confirmed == "quality"
    assert again.events == ()


def test_worse_answers_are_said_once_and_confirmed_by_as_many_windows_as_are_wanted() -> None:
    one = measures([(1, quality(worse=True))])
    two = measures([(1, quality(worse=True)), (2, quality(worse=True))])

    assert one.signs.confirmed is None
    assert kinds(two.events) == ["QualityDegraded"]
    assert two.signs.confirmed == "quality"


def test_one_window_looked_at_three_times_counts_once() -> None:
    assert measures([(1, quality(worse=True))] * 3).signs.confirmed is None


def test_a_window_whose_labels_were_revised_to_good_counts_no_more() -> None:
    decided = measures(
        [(1, quality(worse=True)), (1, quality(fine=True)), (2, quality(worse=True))]
    )

    assert decided.signs.confirmed is None


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


def test_windows_that_are_worse_than_the_rule_are_counted_for_the_rung_below() -> None:
    decided = measures(
        [(1, quality(worse=True, rule="worse")), (2, quality(worse=True, rule="better"))]
    )

    assert decided.signs.below == (1,)


def test_a_spell_lasts_from_its_first_bad_window_to_its_last_and_ends_when_all_is_calm() -> None:
    decided = windows([None, "critical", "critical", "warning", None, None, None])

    spell = decided.signs.over
    assert spell is not None
    assert (spell.windows, spell.is_of_the_data) == ((2, 3, 4), False)
    assert (spell.began_at, spell.ended_at) == (
        NOON + timedelta(hours=1),
        NOON + timedelta(hours=4),
    )
    assert decided.watch.spell is None


def test_a_spell_of_missing_values_alone_is_of_the_data() -> None:
    watch = Watch()
    for number in (1, 2):
        watch = after_window(watch, a_subject(number), found("critical", "missing")).watch

    assert watch.spell is not None
    assert watch.spell.is_of_the_data
