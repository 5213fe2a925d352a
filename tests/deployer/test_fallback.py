"""While a disturbance passes, the rule answers for a champion that does worse."""

from __future__ import annotations

from services.deployer.domain import CaughtUp, FallenBehind, RollbackAsked
from tests.deployer.building import Story, a_policy, a_verdict
from tests.deployer.test_rollout import last, rungs, shares

BEHIND = FallenBehind(version=2, detail="mae 9 over 400 labels, the rule has 4")
DIRECT = a_policy(strategy="direct")


def a_story() -> Story:
    """Version 2 answers, after version 1."""
    story = Story()
    story.hear(a_verdict(1, policy=DIRECT))
    story.hear(a_verdict(2, champion=1, policy=DIRECT))
    return story


def test_the_rule_answers_and_the_champion_goes_on_unseen() -> None:
    story = a_story()
    before = story.endpoint.generation

    story.hear(BEHIND)

    desired = last(story, "DeploymentDesired")
    assert [(arm.role, arm.version, arm.weight) for arm in desired.arms] == [("shadow", 2, 1.0)]
    assert rungs(story) == [("baseline", None), ("previous", 1), ("champion", 2)]
    assert desired.generation == before + 1


def test_it_is_said_once_however_often_it_is_heard() -> None:
    story = a_story()
    story.hear(BEHIND)
    said = len(story.said)

    story.hear(BEHIND)

    assert len(story.said) == said


def test_a_champion_that_caught_up_answers_as_before() -> None:
    story = a_story()
    arms = shares(story)
    story.hear(BEHIND)

    story.hear(CaughtUp(version=2))

    assert shares(story) == arms
    assert rungs(story)[0] == ("champion", 2)
    assert story.endpoint.fallback is None


def test_what_is_said_of_another_version_changes_nothing() -> None:
    story = a_story()
    said = len(story.said)

    story.hear(FallenBehind(version=1, detail="late"))
    story.hear(CaughtUp(version=2))

    assert len(story.said) == said


def test_a_new_champion_answers_whatever_was_said_of_the_one_before() -> None:
    story = a_story()
    story.hear(BEHIND)

    story.hear(a_verdict(3, champion=2, policy=DIRECT))

    assert shares(story) == {3: 1.0}
    assert story.endpoint.fallback is None


def test_a_rollback_ends_it_too() -> None:
    story = a_story()
    story.hear(BEHIND)

    story.hear(RollbackAsked(by="ada", reason="enough"))

    assert shares(story)[1] == 1.0
    assert story.endpoint.fallback is None


def test_a_canary_is_compared_with_the_champion_which_answers_meanwhile() -> None:
    story = a_story()
    story.hear(BEHIND)

    story.hear(a_verdict(3, champion=2))

    assert set(shares(story)) == {2, 3}
    assert rungs(story)[0] == ("champion", 2)
    assert story.endpoint.fallback is not None
