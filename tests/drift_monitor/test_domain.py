"""What windows, labels and estimates say of one version, and what they are signs of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest
from pydantic import TypeAdapter

from services.drift_monitor.answers import after_alarm, after_measure, after_quiet
from services.drift_monitor.detection import Comparison, Severity
from services.drift_monitor.domain import Decided, Policy, Subject, Watch, of_before
from services.drift_monitor.drift import after_estimate, after_window
from services.drift_monitor.quality import Alarm, Estimated, Measured
from shared.events import Event, FeatureDrift, QualityRecovered
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


def test_a_warning_is_not_taken_back_silently_by_such_a_window() -> None:
    decided = windows(["warning"])
    for number in (2, 3, 4):
        step = after_window(decided.watch, a_subject(number), found(None, low=0.03, high=0.06))
        decided = replace(step, events=(*decided.events, *step.events))
    again = after_window(decided.watch, a_subject(5), found("warning"))

    assert decided.watch.drift == "warning"
    assert kinds([*decided.events, *again.events]) == ["DriftDetected"]


def test_one_critical_window_is_a_doubt_and_two_of_three_confirm() -> None:
    assert windows(["critical"]).signs.doubtful == "drift"
    assert windows(["critical"]).signs.confirmed is None
    assert windows(["critical", None, "critical"]).signs.confirmed == "drift"
    assert windows(["critical", None, None, "critical"]).signs.confirmed is None


def by_season(
    given: Sequence[tuple[int, str, Severity | None]], watch: Watch | None = None, **changes: Any
) -> Decided:
    """The state after these windows, in the order in which they close."""
    decided = Decided(watch=watch or Watch(), events=())
    for number, season, severity in given:
        subject = a_subject(number, season=season, **changes)
        step = after_window(decided.watch, subject, found(severity))
        decided = replace(step, events=(*decided.events, *step.events))
    return decided


A_SLOW_SEASON: list[tuple[int, str, Severity | None]] = [
    *[(n, "h07", None) for n in (2, 3, 4)],
    (1, "h12", "critical"),
    *[(n, "h07", None) for n in (6, 7, 8, 9)],
    (5, "h12", "critical"),
]
"""Its windows open before and close after those of another one."""


def test_a_season_that_comes_seldom_is_confirmed_by_its_own_windows() -> None:
    decided = by_season(A_SLOW_SEASON)

    assert decided.signs.confirmed == "drift"
    assert decided.signs.windows == (1, 5)
    assert kinds(decided.events) == ["DriftDetected"]


def test_clean_windows_of_other_seasons_do_not_end_the_drift_of_one() -> None:
    others: list[tuple[int, str, Severity | None]] = [(n, "h07", None) for n in range(10, 20)]
    drifting = by_season([*A_SLOW_SEASON, *others])
    clean: list[tuple[int, str, Severity | None]] = [(n, "h12", None) for n in (20, 21, 22)]
    over = by_season(clean, drifting.watch)

    assert (drifting.watch.drift, drifting.signs.confirmed) == ("critical", "drift")
    assert kinds(over.events) == ["DriftCleared"]
    assert (over.watch, over.signs.calm) == (Watch(), True)


def test_windows_of_all_seasons_together_confirm_before_any_season_comes_twice() -> None:
    assert by_season([(1, "h07", "critical"), (2, "h08", "critical")]).signs.confirmed == "drift"


def test_fine_losses_of_other_seasons_excuse_nothing_and_its_own_do() -> None:
    def labelled(season: str, numbers: Sequence[int]) -> Watch:
        watch = by_season([(1, "h12", "critical")]).watch
        for number in numbers:
            subject = a_subject(number, season=season)
            watch = after_measure(watch, subject, "mae", quality(fine=True)).watch
        return by_season([(n, "h07", None) for n in range(2, 6)], watch).watch

    again: list[tuple[int, str, Severity | None]] = [(6, "h12", "critical")]

    assert by_season(again, labelled("h07", (2, 3))).signs.confirmed == "drift"
    assert by_season(again, labelled("h12", (1,))).signs.confirmed is None


def test_worse_answers_of_one_season_are_confirmed_and_recover_by_its_own_windows() -> None:
    watch, said = Watch(), list[Event]()
    order = [(1, "h12", True), (2, "h07", False), (3, "h07", False), (4, "h12", True)]
    fine = [(n, "h07", False) for n in (5, 6)]
    confirmed: list[str | None] = []
    for number, season, worse in [*order, *fine, (7, "h12", False), (8, "h12", False)]:
        one = quality(worse=worse, fine=not worse)
        step = after_measure(watch, a_subject(number, season=season), "mae", one)
        watch, said = step.watch, [*said, *step.events]
        confirmed.append(step.signs.confirmed)

    assert confirmed[3:] == ["quality"] * 3 + [None, None]
    assert kinds(said) == ["QualityDegraded", "QualityRecovered"]
    assert watch == Watch()


def test_a_season_that_is_gone_for_a_quarter_is_not_waited_for() -> None:
    drifting = by_season([(1, "m11", "critical")])
    for number in (2, 3, 4):
        later = a_subject(number, season="m03", now=NOON + timedelta(days=100))
        drifting = after_window(drifting.watch, later, found(None))

    assert drifting.watch == Watch()
    assert kinds(drifting.events) == ["DriftCleared"]


BEFORE: Final = {
    "drift": "critical",
    "criticals": [7, 8],
    "clean": 1,
    "is_degraded": True,
    "worse": [],
    "fine": [9],
    "detector": True,
    "estimate": "",
    "below": [],
    "spell": None,
}
"""As releases before seasons were told apart have kept it."""


def test_what_a_release_before_has_kept_goes_on() -> None:
    watch = TypeAdapter(Watch).validate_python(of_before(BEFORE))
    kept = TypeAdapter(Watch).dump_python(watch, mode="json")
    clean = [after_window(watch, a_subject(9), found(None))]
    clean.append(after_window(clean[0].watch, a_subject(10), found(None)))

    assert TypeAdapter(Watch).validate_python(of_before(kept)) == watch
    assert watch.every.criticals == (7, 8)
    assert [kinds(step.events) for step in clean] == [[], ["DriftCleared"]]
    assert clean[0].watch.every.criticals == (7, 8)
    assert kinds(after_quiet(watch, a_subject(9), "mae", 1.0).events) == ["QualityRecovered"]


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
    assert not after_estimate(step.watch, a_subject(2), None).signs.suspect


def test_an_alarm_of_the_running_test_confirms_at_once_and_is_said_once() -> None:
    step = after_alarm(Watch(), a_subject(), "mae", AN_ALARM)
    again = after_alarm(step.watch, a_subject(2), "mae", AN_ALARM)

    assert kinds(step.events) == ["QualityDegraded"]
    assert step.signs.confirmed == "quality"
    assert again.events == ()


def test_an_alarm_ends_when_the_running_test_finds_nothing_any_more() -> None:
    alarmed = after_alarm(Watch(), a_subject(), "mae", AN_ALARM)
    over = after_quiet(alarmed.watch, a_subject(2), "mae", 0.9)

    (said,) = over.events
    assert isinstance(said, QualityRecovered)
    assert (said.window, said.value) == (2, 0.9)
    assert (over.signs.confirmed, over.signs.calm) == (None, True)
    assert over.watch == Watch()


def test_windows_that_were_worse_are_not_ended_with_the_alarm() -> None:
    worse = measures([(1, quality(worse=True)), (2, quality(worse=True))])
    alarmed = after_alarm(worse.watch, a_subject(2), "mae", AN_ALARM)
    quiet = after_quiet(alarmed.watch, a_subject(3), "mae", 0.9)

    assert quiet.events == ()
    assert (quiet.watch.detector, quiet.watch.is_degraded) == (False, True)
    assert kinds(
        measures([(4, quality(fine=True)), (5, quality(fine=True))], quiet.watch).events
    ) == ["QualityRecovered"]


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
    assert decided.watch.every.fine == ()


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


@pytest.mark.parametrize("test", ["missing", "below", "above", "unseen", "mostly_outside"])
def test_a_spell_of_values_that_cannot_be_alone_is_of_the_data(test: str) -> None:
    watch = Watch()
    for number in (1, 2):
        watch = after_window(watch, a_subject(number), found("critical", test)).watch

    assert watch.spell is not None
    assert watch.spell.is_of_the_data
