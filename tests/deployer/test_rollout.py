from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.deployer.domain import (
    Decided,
    Degraded,
    Due,
    Judged,
    RollbackAsked,
    Stage,
    Unusable,
    rollout_id,
)
from services.deployer.permission import Decision
from services.deployer.routing import due_at
from shared.errors import Conflict
from shared.events import DeploymentDesired, Event
from tests.deployer.building import NOON, Story, a_policy, a_verdict

MINUTES_10 = timedelta(minutes=10)


def last(story: Story, name: str) -> Any:
    found: list[Event] = [event for event in story.said if type(event).__name__ == name]
    assert found, f"nobody said {name}; said was {story.types()}"
    return found[-1]


def shares(story: Story) -> dict[int, float]:
    desired: DeploymentDesired = last(story, "DeploymentDesired")
    return {arm.version: round(arm.weight, 6) for arm in desired.arms}


def rungs(story: Story) -> list[tuple[str, int | None]]:
    desired: DeploymentDesired = last(story, "DeploymentDesired")
    return [(rung.kind, rung.version) for rung in desired.ladder]


def test_the_first_accepted_version_is_promoted_without_a_canary() -> None:
    story = Story()

    story.hear(a_verdict(1))

    assert story.types() == ["RolloutProposed", "ModelPromoted", "DeploymentDesired"]
    assert shares(story) == {1: 1.0}
    assert rungs(story) == [("champion", 1), ("baseline", None)]
    promoted = last(story, "ModelPromoted")
    assert promoted.generation == last(story, "DeploymentDesired").generation == 1
    assert promoted.evidence["reason"] == "there is no champion to compare it with"


def test_a_first_candidate_that_is_rejected_leaves_the_baseline_rule_to_answer() -> None:
    story = Story()

    story.hear(a_verdict(1, accepted=False))

    desired = last(story, "DeploymentDesired")
    assert desired.arms == ()
    assert [rung.rule for rung in desired.ladder] == [{"rule": "constant", "value": 1.0}]
    assert story.types() == ["DeploymentDesired"]


def test_a_version_accepted_after_the_rule_answered_becomes_champion() -> None:
    story = Story()
    story.hear(a_verdict(1, accepted=False))

    story.hear(a_verdict(2))

    assert shares(story) == {2: 1.0}
    assert last(story, "DeploymentDesired").generation == 2


def test_a_rejected_candidate_leaves_a_champion_alone() -> None:
    story = Story().with_champion(1)
    before = story.endpoint

    change = story.hear(a_verdict(2, 1, accepted=False))

    assert change.endpoint is before
    assert change.events == ()


def test_a_canary_goes_through_its_steps_and_is_promoted() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(2, 1))
    assert shares(story) == {1: 0.9, 2: 0.1}

    story.now += MINUTES_10
    story.measure()
    assert shares(story) == {1: 0.5, 2: 0.5}
    story.now += MINUTES_10
    story.measure()

    assert shares(story) == {2: 1.0}
    assert rungs(story) == [("champion", 2), ("previous", 1), ("baseline", None)]
    evidence = last(story, "ModelPromoted").evidence["canary"]
    assert evidence["guards"]["errors"]["canary"] == {"requests": 200, "events": 0}
    assert evidence["measures"] == {"0": [1, 2]}


def test_a_step_ends_by_time_when_its_requests_are_already_there() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(2, 1))

    story.measure()
    assert shares(story) == {1: 0.9, 2: 0.1}
    assert due_at(story.endpoint, story.now) == NOON + MINUTES_10
    story.wait(MINUTES_10)

    assert shares(story) == {1: 0.5, 2: 0.5}


def test_requests_of_an_earlier_step_do_not_count_for_the_next() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(2, 1))
    story.now += MINUTES_10
    story.measure()
    early = story.endpoint.generation - 1

    story.now += MINUTES_10
    story.hear(replace(story.a_measure(), generation=early))

    assert shares(story) == {1: 0.5, 2: 0.5}


def test_a_canary_that_errs_more_is_aborted_at_once() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(2, 1))

    story.measure(canary=(100, 30), champion=(900, 5))

    assert shares(story) == {1: 1.0}
    aborted = last(story, "RolloutAborted")
    assert aborted.reason == "worse"
    assert "30 of 100" in aborted.detail
    assert aborted.evidence["guards"]["errors"]["log_e_abort"] > 0


def test_a_canary_that_is_slower_is_aborted_too() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(2, 1))

    story.measure(slow=(60, 10))

    assert last(story, "RolloutAborted").reason == "worse"


def test_a_canary_without_requests_waits_and_then_gives_up() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(2, 1))

    story.wait(timedelta(hours=1))
    assert shares(story) == {1: 0.9, 2: 0.1}
    assert due_at(story.endpoint, story.now) == NOON + timedelta(days=1)
    story.wait(timedelta(hours=23))

    assert last(story, "RolloutAborted").reason == "undecided"
    assert shares(story) == {1: 1.0}


def test_a_canary_whose_rare_events_decide_nothing_is_not_promoted() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(2, 1))

    story.now += MINUTES_10
    story.measure(canary=(120, 6), champion=(1000, 50))

    assert shares(story) == {1: 0.9, 2: 0.1}


def test_the_same_measure_again_counts_once() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(2, 1))
    measured = story.a_measure(canary=(60, 0))

    story.hear(measured)
    change = story.hear(measured)

    assert change.events == ()
    assert story.endpoint.rollout is not None
    assert story.endpoint.rollout.step_requests == 60


def test_serving_that_refuses_the_canary_ends_it() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(2, 1))

    story.hear(Unusable(version=2, detail="digest_mismatch"))

    assert last(story, "RolloutAborted").reason == "refused_by_serving"
    assert shares(story) == {1: 1.0}


def test_serving_that_refuses_a_young_champion_brings_the_previous_one_back() -> None:
    story = Story().with_champion(1, 2)

    story.hear(Unusable(version=2, detail="load_failed"))

    assert shares(story) == {1: 1.0}
    assert last(story, "DeploymentRolledBack").by == "tidewheel"


def test_serving_that_refuses_the_very_first_version_leaves_the_rule() -> None:
    story = Story().with_champion(1)

    story.hear(Unusable(version=1, detail="load_failed"))

    rolled_back = last(story, "DeploymentRolledBack")
    assert (rolled_back.from_version, rolled_back.to_version) == (1, None)
    assert shares(story) == {}
    assert rungs(story) == [("baseline", None)]


def test_a_manual_rollout_waits_for_approval() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(2, 1, policy=a_policy(approval="four_eyes")))
    assert story.types()[-2:] == ["RolloutProposed", "ApprovalRequested"]

    story.hear(decision(story, 2, granted=True))

    assert last(story, "ApprovalGranted").by == "ada"
    assert shares(story) == {1: 0.9, 2: 0.1}


def decision(story: Story, version: int, *, granted: bool) -> Decided:
    rollout = rollout_id(story.endpoint.model, version)
    word: Decision = "grant" if granted else "deny"
    return Decided(rollout=rollout, decision=word, by="ada", comment="because")


def test_a_denied_rollout_ends() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(2, 1, policy=a_policy(approval="four_eyes")))

    story.hear(decision(story, 2, granted=False))

    assert last(story, "RolloutAborted").reason == "denied"
    assert story.endpoint.rollout is None


def test_an_approval_nobody_gives_expires() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(2, 1, policy=a_policy(approval="four_eyes")))

    story.wait(timedelta(days=7))

    assert last(story, "RolloutAborted").reason == "expired"


def test_a_decision_about_a_running_canary_is_refused() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(2, 1))

    with pytest.raises(Conflict, match="waits for no approval"):
        story.hear(decision(story, 2, granted=True))


def test_a_closed_window_is_waited_for() -> None:
    story = Story().with_champion(1)

    story.hear(a_verdict(2, 1, policy=a_policy(window="Mon-Wed 14:00-16:00 UTC")))
    assert last(story, "WindowAwaited").opens_at == NOON + timedelta(hours=2)
    assert due_at(story.endpoint, story.now) == NOON + timedelta(hours=1)  # probation of 1
    story.wait(timedelta(hours=1))
    story.wait(timedelta(hours=1))

    assert shares(story) == {1: 0.9, 2: 0.1}


def test_a_canary_holds_its_step_while_the_window_is_closed() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(2, 1, policy=a_policy(window="Mon-Thu 10:00-12:05 UTC")))
    assert shares(story) == {1: 0.9, 2: 0.1}

    story.now += MINUTES_10
    story.measure()
    story.measure()
    assert shares(story) == {1: 0.9, 2: 0.1}
    assert story.types().count("WindowAwaited") == 1
    story.wait(timedelta(hours=21, minutes=50))

    assert shares(story) == {1: 0.5, 2: 0.5}


def test_a_window_that_cannot_be_read_ends_the_rollout() -> None:
    story = Story().with_champion(1)

    rules = a_policy().rules.model_copy(update={"window": ("now and then",)})
    story.hear(a_verdict(2, 1, policy=replace(a_policy(), rules=rules)))

    assert last(story, "RolloutAborted").reason == "expired"
    assert "now and then" in last(story, "RolloutAborted").detail


def test_a_newer_version_supersedes_a_canary() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(2, 1))

    change = story.hear(a_verdict(3, 1))

    superseded = last(story, "RolloutSuperseded")
    assert (superseded.version, superseded.by_version) == (2, 3)
    assert shares(story) == {1: 0.9, 3: 0.1}
    assert [rollout.stage for rollout in change.ended] == [Stage.SUPERSEDED]


def test_a_newer_version_that_must_wait_still_withdraws_the_canary() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(2, 1))

    story.hear(a_verdict(3, 1, policy=a_policy(approval="four_eyes")))

    assert shares(story) == {1: 1.0}


def test_an_older_version_that_comes_late_is_superseded() -> None:
    story = Story().with_champion(1)
    story.hear(a_verdict(3, 1))

    story.hear(a_verdict(2, 1))

    superseded = last(story, "RolloutSuperseded")
    assert (superseded.version, superseded.by_version) == (2, 3)
    assert shares(story) == {1: 0.9, 3: 0.1}


def test_a_verdict_against_another_champion_waits_for_a_new_one() -> None:
    story = Story().with_champion(1, 2)

    change = story.hear(a_verdict(3, 1))
    assert change.events == ()
    assert story.endpoint.awaiting is not None
    story.hear(a_verdict(3, 2))

    assert shares(story) == {2: 0.9, 3: 0.1}
    assert story.endpoint.awaiting is None


def test_a_version_rejected_when_judged_again_ends() -> None:
    story = Story().with_champion(1, 2)
    story.hear(a_verdict(3, 1))

    change = story.hear(a_verdict(3, 2, accepted=False))

    assert [rollout.stage for rollout in change.ended] == [Stage.REJECTED]
    assert story.endpoint.awaiting is None


def test_a_stale_verdict_that_is_never_renewed_ends_the_version() -> None:
    story = Story().with_champion(1, 2)
    story.hear(a_verdict(3, 1))
    story.wait(timedelta(hours=1))

    story.wait(timedelta(days=1))

    assert last(story, "RolloutAborted").reason == "stale_verdict"


def test_a_repeated_verdict_starts_nothing_twice() -> None:
    story = Story().with_champion(1)
    verdict = a_verdict(2, 1)
    story.hear(verdict)

    assert story.hear(verdict).events == ()
    story.measure(canary=(100, 60))
    assert story.hear(verdict).events == ()


def test_degraded_quality_in_probation_brings_the_previous_champion_back() -> None:
    story = Story().with_champion(1, 2)
    assert last(story, "DeploymentDesired").probation

    story.hear(Degraded(version=2, detail="mae 3 on 80 labels is beyond 1"))

    rolled_back = last(story, "DeploymentRolledBack")
    assert (rolled_back.from_version, rolled_back.to_version) == (2, 1)
    assert rolled_back.by == "tidewheel"
    assert shares(story) == {1: 1.0}
    assert not last(story, "DeploymentDesired").probation


def test_degraded_quality_after_probation_rolls_nothing_back() -> None:
    story = Story().with_champion(1, 2)
    story.wait(timedelta(hours=1))

    change = story.hear(Degraded(version=2, detail=""))

    assert change.events == ()
    assert not last(story, "DeploymentDesired").probation


def test_a_canary_whose_champion_degrades_is_judged_again() -> None:
    story = Story().with_champion(1, 2)
    story.hear(a_verdict(3, 2))

    story.hear(Degraded(version=2, detail=""))
    assert shares(story) == {1: 1.0}
    assert story.endpoint.awaiting is not None
    story.hear(a_verdict(3, 1))

    assert shares(story) == {1: 0.9, 3: 0.1}


def test_a_rollback_takes_one_step_and_ends_a_running_canary() -> None:
    story = Story().with_champion(1, 2)
    story.hear(a_verdict(3, 2))

    story.hear(RollbackAsked(by="ada", reason="it looks wrong"))

    assert story.types()[-3:] == ["RolloutAborted", "DeploymentRolledBack", "DeploymentDesired"]
    assert shares(story) == {1: 1.0}
    assert rungs(story) == [("champion", 1), ("baseline", None)]


def test_a_second_rollback_goes_one_champion_further_back() -> None:
    story = Story().with_champion(1, 2, 3)

    story.hear(RollbackAsked(by="ada", reason="once"))
    story.hear(RollbackAsked(by="ada", reason="twice"))

    assert shares(story) == {1: 1.0}
    with pytest.raises(Conflict, match="no champion before"):
        story.hear(RollbackAsked(by="ada", reason="thrice"))


def test_a_rollback_may_name_any_former_champion() -> None:
    story = Story().with_champion(1, 2, 3)

    story.hear(RollbackAsked(by="ada", reason="", to=1))
    story.hear(RollbackAsked(by="ada", reason="after all", to=3))

    assert shares(story) == {3: 1.0}
    with pytest.raises(Conflict, match="there are: 2, 1"):
        story.hear(RollbackAsked(by="ada", reason="", to=9))


def test_an_older_version_does_not_return_after_a_rollback() -> None:
    story = Story().with_champion(1, 3)
    story.hear(RollbackAsked(by="ada", reason=""))

    story.hear(a_verdict(2, 1))

    assert last(story, "RolloutSuperseded").version == 2
    assert shares(story) == {1: 1.0}


def test_a_timer_made_before_the_last_transition_means_nothing() -> None:
    story = Story().with_champion(1)
    old = Due(seq=story.endpoint.seq)
    story.hear(a_verdict(2, 1))

    story.now += timedelta(days=30)
    change = story.hear(old)

    assert change.events == ()


def test_direct_strategy_needs_no_canary() -> None:
    story = Story().with_champion(1)
    verdict: Judged = a_verdict(2, 1, policy=a_policy(strategy="direct"))

    story.hear(verdict)

    assert shares(story) == {2: 1.0}
