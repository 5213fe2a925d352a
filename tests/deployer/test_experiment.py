"""Challengers that stay on their share, shadows, losses and probation, in the state machine."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from services.deployer.domain import Degraded, Labelled, RollbackAsked, Stage
from shared.events import ArmLoss, DeploymentDesired, Event
from tests.deployer.building import Story, a_policy, a_verdict, an_arm

SHARE = {"share": 0.1, "run_for": "1d", "arms": 2}


def staying(**changes: Any) -> Any:
    given = {"strategy": "experiment", "experiment": SHARE, "probation": "0"}
    return a_policy(**given | changes)


def with_experiments(*versions: int, **changes: Any) -> Story:
    story = Story().with_champion(1, probation="0")
    for version in versions:
        story.hear(a_verdict(version, 1, policy=staying(**changes)))
    return story


def last(story: Story, name: str) -> Any:
    found: list[Event] = [event for event in story.said if type(event).__name__ == name]
    assert found, f"nobody said {name}; said was {story.types()}"
    return found[-1]


def arms(story: Story) -> list[tuple[str, int, float]]:
    desired: DeploymentDesired = last(story, "DeploymentDesired")
    return [(arm.role, arm.version, round(arm.weight, 6)) for arm in desired.arms]


BETTER = ((1.0, 0.2),) * 60
WORSE = ((0.2, 1.0),) * 60


def test_challengers_stay_beside_each_other_on_their_shares() -> None:
    story = with_experiments(2, 3)

    assert arms(story) == [("champion", 1, 0.8), ("challenger", 2, 0.1), ("challenger", 3, 0.1)]
    assert last(story, "RolloutAdvanced").stage == "experiment"
    assert last(story, "DeploymentDesired").owner == "water"


def test_entities_stay_where_they_are_when_another_challenger_joins() -> None:
    story = with_experiments(2)
    before = story.endpoint.salt

    story.hear(a_verdict(3, 1, policy=staying()))

    assert story.endpoint.salt == before


def test_the_newest_challenger_takes_the_place_of_the_oldest() -> None:
    story = with_experiments(2, 3, 4)

    assert [arm[1] for arm in arms(story)] == [1, 3, 4]
    superseded = last(story, "RolloutSuperseded")
    assert (superseded.version, superseded.by_version) == (2, 4)


def test_the_champion_keeps_as_much_as_a_challenger_gets() -> None:
    story = with_experiments(2, 3, experiment={"share": 0.4, "run_for": "1d", "arms": 5})

    assert arms(story) == [("champion", 1, 0.6), ("challenger", 3, 0.4)]


def test_harm_ends_one_arm_and_leaves_the_other() -> None:
    story = with_experiments(2, 3)

    story.arms(
        an_arm("champion", 1, 900),
        an_arm("challenger", 2, 100, errors=40),
        an_arm("challenger", 3, 100),
    )

    assert arms(story) == [("champion", 1, 0.9), ("challenger", 3, 0.1)]
    assert last(story, "RolloutAborted").reason == "worse"


def test_at_its_end_a_challenger_shown_better_becomes_champion_and_ends_the_others() -> None:
    story = with_experiments(2, 3)
    story.pairs(2, *BETTER)

    story.wait(timedelta(days=1))

    assert arms(story) == [("champion", 2, 1.0)]
    assert last(story, "ModelPromoted").evidence["experiment"]["losses"]["pairs"]["rows"] == 60
    aborted = last(story, "RolloutAborted")
    assert (aborted.version, aborted.reason) == (3, "champion_changed")


def test_at_its_end_a_challenger_not_shown_better_goes() -> None:
    story = with_experiments(2)

    story.wait(timedelta(days=1))

    assert last(story, "RolloutAborted").reason == "experiment_over"
    assert arms(story) == [("champion", 1, 1.0)]


def test_an_experiment_that_is_only_to_end_promotes_nothing() -> None:
    story = with_experiments(2, experiment=SHARE | {"then": "end"})
    story.pairs(2, *BETTER)

    story.wait(timedelta(days=1))

    assert last(story, "RolloutAborted").reason == "experiment_over"


def test_a_rollback_ends_experiments() -> None:
    story = Story().with_champion(1, 2, probation="0")
    story.hear(a_verdict(3, 2, policy=staying()))

    story.hear(RollbackAsked(by="olga", reason="odd"))

    assert last(story, "RolloutAborted").reason == "champion_changed"
    assert arms(story) == [("champion", 1, 1.0)]


# --- shadows --------------------------------------------------------------------------------------


def shadowed(strategy: str = "shadow", **rules: Any) -> Story:
    story = Story().with_champion(1, probation="0")
    shadow = {"share": 0.5, "run_for": "10m", "minimum_requests": 50, **rules.pop("shadow", {})}
    policy = a_policy(strategy=strategy, shadow=shadow, **rules)
    story.hear(a_verdict(2, 1, policy=policy))
    return story


def test_a_shadow_answers_its_share_and_nobody_sees_it() -> None:
    story = shadowed()

    assert arms(story) == [("champion", 1, 1.0), ("shadow", 2, 0.5)]
    assert last(story, "RolloutAdvanced").weight == 0.5


def test_a_harmless_shadow_is_promoted_and_the_one_before_watches_on_unseen() -> None:
    story = shadowed()
    story.now += timedelta(minutes=10)

    story.measure(canary=(60, 0))

    assert arms(story) == [("champion", 2, 1.0), ("shadow", 1, 0.5)]
    assert last(story, "ModelPromoted").evidence["shadow"]["shadow"]["requests"] == 60


def test_after_its_shadow_a_version_may_need_a_canary() -> None:
    story = shadowed("shadow_canary")
    story.now += timedelta(minutes=10)

    story.measure(canary=(60, 0))

    assert arms(story) == [("champion", 1, 0.9), ("challenger", 2, 0.1)]


def test_a_shadow_that_errs_is_aborted() -> None:
    story = shadowed()

    story.measure(canary=(100, 40))

    assert last(story, "RolloutAborted").reason == "worse"


def test_a_shadow_with_larger_losses_is_aborted() -> None:
    story = shadowed()

    story.pairs(2, *WORSE)

    assert last(story, "RolloutAborted").detail.startswith("unseen: losses")


def test_a_shadow_waits_for_labels_where_they_are_asked_for() -> None:
    story = shadowed(shadow={"minimum_labels": 50})
    story.now += timedelta(minutes=10)

    story.measure(canary=(60, 0))
    assert story.endpoint.champion_version == 1
    story.pairs(2, *BETTER)

    assert story.endpoint.champion_version == 2


def test_a_shadow_that_dropped_too_much_has_shown_nothing() -> None:
    story = shadowed()
    story.now += timedelta(minutes=10)

    story.arms(an_arm("champion", 1, 900), an_arm("shadow", 2, 60, dropped=10))
    assert story.endpoint.champion_version == 1
    story.wait(timedelta(days=1))

    aborted = last(story, "RolloutAborted")
    assert aborted.reason == "undecided"
    assert "no time for 10 of 70 requests" in aborted.detail
    assert aborted.evidence["shadow"]["void"]


def test_labels_of_another_metric_or_champion_say_nothing() -> None:
    story = shadowed()
    before = story.endpoint

    story.pairs(2, *WORSE, metric="mse")
    story.pairs(2, *WORSE, champion=7)

    assert story.endpoint.rollout is not None
    assert before.rollout is not None
    assert story.endpoint.rollout.evidence == before.rollout.evidence


# --- canaries -------------------------------------------------------------------------------------


def canary(**rules: Any) -> Story:
    story = Story().with_champion(1, probation="0")
    story.hear(a_verdict(2, 1, policy=a_policy(**{"steps": (0.1,), **rules})))
    return story


def test_losses_of_entities_on_both_arms_abort_a_canary() -> None:
    story = canary()

    story.hear(
        Labelled(
            champion=1,
            challenger=2,
            metric="mae",
            singles=tuple(
                ArmLoss(
                    prediction=str(row),
                    entity=f"pump {row}",
                    role="challenger" if row % 10 == 0 else "champion",
                    weight=0.1,
                    loss=1.0 if row % 10 == 0 else 0.1,
                )
                for row in range(400)
            ),
        )
    )

    assert last(story, "RolloutAborted").reason == "worse"
    assert last(story, "RolloutAborted").evidence["losses"]["entities"]["rows"] > 50


def test_nothing_is_promoted_before_the_loss_is_shown_where_that_is_required() -> None:
    story = canary(loss={"required": True})
    story.now += timedelta(minutes=10)

    story.measure()
    assert story.endpoint.champion_version == 1
    story.pairs(2, *BETTER)

    assert story.endpoint.champion_version == 2


@pytest.mark.parametrize(
    ("caps", "told"),
    [
        ({"requests": 90}, "100 requests"),
        ({"entities": 20}, "25 entities"),
        ({"harm": 3}, "3 errors above what"),
    ],
)
def test_a_cap_reached_without_a_decision_gives_up(caps: dict[str, int], told: str) -> None:
    story = canary(exposure=caps)

    story.arms(
        an_arm("champion", 1, 900, errors=9, new_entities=225),
        an_arm("challenger", 2, 100, errors=4, new_entities=25),
    )

    aborted = last(story, "RolloutAborted")
    assert (aborted.reason, aborted.detail.startswith(told)) == ("cap_reached", True)


def test_too_few_entities_hold_a_canary() -> None:
    story = canary(minimum_entities=30)
    story.now += timedelta(minutes=10)

    both = (
        an_arm("champion", 1, 900, new_entities=180),
        an_arm("challenger", 2, 100, new_entities=20),
    )
    story.arms(*both)
    assert story.endpoint.champion_version == 1
    story.arms(*both)

    assert story.endpoint.champion_version == 2


def test_a_split_that_is_not_as_asked_for_holds_a_canary() -> None:
    story = canary()
    story.now += timedelta(minutes=10)

    story.arms(
        an_arm("champion", 1, 900, new_entities=100),
        an_arm("challenger", 2, 100, new_entities=100),
    )
    assert story.endpoint.champion_version == 1
    story.wait(timedelta(days=1))

    assert "not split" in last(story, "RolloutAborted").detail


def test_little_traffic_may_widen_the_share_once() -> None:
    story = canary(steps=(0.1, 0.5), low_traffic="widen")

    story.wait(timedelta(days=1))
    assert arms(story) == [("champion", 1, 0.5), ("challenger", 2, 0.5)]
    story.wait(timedelta(days=1))

    assert last(story, "RolloutAborted").reason == "undecided"


def test_little_traffic_may_promote_on_the_gates_word_and_says_so() -> None:
    story = canary(low_traffic="direct", probation="1h")

    story.wait(timedelta(days=1))

    promoted = last(story, "ModelPromoted")
    assert promoted.evidence["low_traffic"] == "direct"
    assert last(story, "DeploymentDesired").probation


def test_a_near_miss_is_not_forgotten_when_the_version_comes_back_as_the_best() -> None:
    story = canary()
    story.measure(canary=(100, 6), champion=(900, 20))
    story.wait(timedelta(days=1))
    assert last(story, "RolloutAborted").reason == "undecided"

    story.hear(a_verdict(2, 1, best=True, requested_by="ada", evaluation=UUID_OF_BEST))

    assert story.endpoint.rollout is not None
    assert story.endpoint.rollout.evidence.errors.events == (6, 20)


UUID_OF_BEST = a_verdict(2, 9).evaluation


# --- the best version -----------------------------------------------------------------------------


def test_an_older_version_comes_back_when_somebody_asks_for_the_best() -> None:
    story = Story().with_champion(1, 2, 3, probation="0")
    verdict = a_verdict(1, 3, best=True, requested_by="ada", policy=a_policy(strategy="direct"))

    story.hear(verdict)
    story.hear(verdict)

    assert story.endpoint.champion_version == 1
    assert story.types().count("ModelPromoted") == 4
    assert last(story, "RolloutProposed").requested_by == "ada"
    assert story.endpoint.fence == 3


# --- probation ------------------------------------------------------------------------------------


def test_a_young_champion_that_errs_more_than_the_one_before_is_rolled_back() -> None:
    story = shadowed()
    story.now += timedelta(minutes=10)
    story.measure(canary=(200, 0), champion=(2000, 0))
    assert story.endpoint.champion_version == 2

    story.arms(an_arm("champion", 2, 1000, errors=100))

    rolled_back = last(story, "DeploymentRolledBack")
    assert (rolled_back.to_version, rolled_back.by) == (1, "tidewheel")
    assert "errors: 100 of 1000" in rolled_back.reason


def test_a_young_champion_above_the_limit_is_rolled_back_whatever_was_before() -> None:
    story = Story().with_champion(1, 2)

    story.arms(an_arm("champion", 2, 200, errors=100))

    assert last(story, "DeploymentRolledBack").to_version == 1


def test_a_young_champion_with_larger_losses_than_the_one_before_is_rolled_back() -> None:
    story = shadowed()
    story.now += timedelta(minutes=10)
    story.measure(canary=(60, 0))

    story.pairs(1, *((1.0, 0.2),) * 60)

    assert "losses: larger" in last(story, "DeploymentRolledBack").reason


def test_a_few_errors_of_a_young_champion_are_no_reason() -> None:
    story = Story().with_champion(1, 2)

    story.arms(an_arm("champion", 2, 100, errors=3))

    assert story.endpoint.champion_version == 2


def test_what_a_champion_did_in_its_probation_is_what_the_next_is_held_against() -> None:
    story = Story().with_champion(1)
    story.arms(an_arm("champion", 1, 5000, errors=5))
    story.wait(timedelta(hours=1))
    story.with_champion(2)

    story.arms(an_arm("champion", 2, 1000, errors=50))

    assert "the version before it had 5 of 5000" in last(story, "DeploymentRolledBack").reason


def test_a_canary_that_waits_for_a_new_verdict_ends_when_none_comes() -> None:
    story = Story().with_champion(1, 2, probation="0")
    story.hear(a_verdict(3, 1))

    change = story.wait(timedelta(days=1))

    assert [rollout.stage for rollout in change.ended] == [Stage.ABORTED]


def test_the_best_is_looked_for_again_when_its_champion_answers_no_more() -> None:
    story = Story().with_champion(1, 2, 3, probation="0")
    verdict = a_verdict(2, 9, best=True, requested_by="ada")

    change = story.hear(verdict)

    aborted = last(story, "RolloutAborted")
    assert (aborted.version, aborted.reason) == (2, "champion_changed")
    assert aborted.evidence == {"evaluation": str(verdict.evaluation)}
    assert [rollout.stage for rollout in change.ended] == [Stage.ABORTED]
    assert story.endpoint.awaiting is None


def test_the_best_on_its_way_ends_with_the_champion_it_was_compared_with() -> None:
    story = Story().with_champion(1, 2, 3, probation="1h")
    story.hear(a_verdict(1, 3, best=True, requested_by="ada", policy=a_policy(steps=(0.1,))))
    rollout = story.endpoint.rollout

    story.hear(Degraded(version=3, detail=""))

    assert rollout is not None
    assert last(story, "RolloutAborted").rollout == rollout.id
    assert last(story, "RolloutAborted").reason == "champion_changed"
    assert story.endpoint.rollout is None
    assert story.endpoint.awaiting is None
