"""Who may allow a rollout: the rules alone, and the machine that asks them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.deployer.domain import Decided, Overridden, Stage, rollout_id
from services.deployer.permission import (
    Approvals,
    Decision,
    Grant,
    Surroundings,
    decide,
    excluded,
    expires_at,
    is_approved,
    missing,
)
from shared.errors import Conflict, NotPermitted
from shared.events import (
    ApprovalDenied,
    ApprovalExpired,
    ApprovalGranted,
    ApprovalRequested,
    ApprovalWithdrawn,
    Digest,
    ModelPromoted,
    RolloutAborted,
    WindowAwaited,
    WindowOverridden,
)
from shared.spec_rollout import Approval
from tests.deployer.building import NOON, Story, a_policy, a_verdict, an_id

AUTHORS = {"spec": "wanda", "data": "dora", "training": "tom", "definition": "wanda"}
NOTHING_YET = Approvals(manifest=Digest("1" * 64), evaluation=an_id("verdict"), asked_at=NOON)
FOUR_EYES = Approval.model_validate("four_eyes")
QUORUM = Approval.model_validate("quorum")


def says(
    decision: Decision,
    by: str,
    *,
    so_far: Approvals = NOTHING_YET,
    policy: Approval = FOUR_EYES,
    **fields: Any,
) -> Approvals:
    return decide(so_far, policy, AUTHORS, decision=decision, by=by, **{"now": NOON} | fields)


# --- rules ----------------------------------------------------------------------------------------


def test_one_other_person_is_enough_for_four_eyes() -> None:
    approvals = says("grant", "ann")

    assert is_approved(approvals, FOUR_EYES, AUTHORS)
    assert approvals.granted_by == ("ann",)


@pytest.mark.parametrize("by", ["wanda", "dora", "tom"])
def test_nobody_approves_own_work_and_is_told_why_and_who_else_may_not(by: str) -> None:
    with pytest.raises(NotPermitted) as refused:
        says("grant", by)

    assert (refused.value.status, refused.value.code) == (403, "self_approval")
    assert "dora, tom, wanda" in refused.value.detail
    did = {"wanda": "wrote the specification", "dora": "published the data", "tom": "training"}
    assert did[by] in refused.value.detail


def test_without_four_eyes_the_author_may_approve() -> None:
    one = Approval.model_validate("one")

    approvals = says("grant", "wanda", policy=one)

    assert excluded(one, AUTHORS) == ()
    assert is_approved(approvals, one, AUTHORS)


def test_a_quorum_needs_two_people() -> None:
    first = says("grant", "ann", policy=QUORUM)
    second = says("grant", "bob", so_far=first, policy=QUORUM)

    assert missing(first, QUORUM, AUTHORS) == 1
    assert is_approved(second, QUORUM, AUTHORS)


def test_the_same_person_does_not_count_twice() -> None:
    first = says("grant", "ann", policy=QUORUM)

    with pytest.raises(Conflict) as refused:
        says("grant", "ann", so_far=first, policy=QUORUM)

    assert refused.value.code == "already_approved"


def test_approvals_that_were_stored_twice_count_once() -> None:
    grant = Grant(by="ann", at=NOON)
    stored = Approvals(
        manifest=NOTHING_YET.manifest,
        evaluation=NOTHING_YET.evaluation,
        asked_at=NOON,
        grants=(grant, grant),
    )

    assert missing(stored, QUORUM, AUTHORS) == 1


def test_who_becomes_an_author_after_approving_counts_no_longer() -> None:
    approvals = says("grant", "ann")

    assert not is_approved(approvals, FOUR_EYES, AUTHORS | {"definition": "ann"})


def test_an_approval_is_for_one_artifact_and_one_verdict() -> None:
    for looked, code in (
        ({"manifest": Digest("2" * 64)}, "other_artifact"),
        ({"evaluation": an_id("another verdict")}, "other_verdict"),
    ):
        with pytest.raises(Conflict) as refused:
            says("grant", "ann", **looked)
        assert (refused.value.status, refused.value.code) == (409, code)

    assert says("grant", "ann", manifest=NOTHING_YET.manifest, evaluation=an_id("verdict")).grants


@pytest.mark.parametrize("decision", ["grant", "deny", "withdraw"])
def test_nothing_is_decided_once_the_time_is_over(decision: Decision) -> None:
    over = expires_at(NOTHING_YET, FOUR_EYES)

    with pytest.raises(Conflict) as refused:
        says(decision, "ann", now=over)

    assert over == NOON + timedelta(days=7)
    assert refused.value.code == "approval_expired"
    assert says("grant", "ann", now=over - timedelta(seconds=1)).grants


def test_only_the_giver_takes_an_approval_back() -> None:
    given_ = says("grant", "ann")

    with pytest.raises(Conflict) as refused:
        says("withdraw", "bob", so_far=given_)

    assert refused.value.code == "not_approved"
    assert says("withdraw", "ann", so_far=given_) == NOTHING_YET


def test_a_policy_may_ask_for_more_people_and_less_time() -> None:
    policy = Approval.model_validate({"needed": 3, "expires": "1h"})

    assert missing(NOTHING_YET, policy, AUTHORS) == 3
    assert expires_at(NOTHING_YET, policy) == NOON + timedelta(hours=1)


PEOPLE = ("ann", "bob", "cid", "wanda", "dora", "tom")


@given(
    policy=st.builds(
        Approval,
        needed=st.integers(0, 3),
        four_eyes=st.booleans(),
        expires=st.integers(1, 40).map(lambda hours: timedelta(hours=hours)),
    ),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["grant", "grant", "withdraw", "deny"]),
            st.sampled_from(PEOPLE),
            st.integers(0, 10),
            st.sampled_from(["1" * 64, "1" * 64, "2" * 64]),
        ),
        max_size=12,
    ),
)
def test_whatever_people_try_only_enough_other_people_in_time_approve(
    policy: Approval, steps: list[tuple[Decision, str, int, str]]
) -> None:
    approvals, now, agreeing = NOTHING_YET, NOON, set[str]()
    for decision, by, hours, manifest in steps:
        now += timedelta(hours=hours)
        try:
            approvals = says(
                decision, by, so_far=approvals, policy=policy, now=now, manifest=Digest(manifest)
            )
        except (Conflict, NotPermitted):
            continue
        assert now < NOON + policy.expires
        assert manifest == NOTHING_YET.manifest
        if decision == "grant":
            agreeing.add(by)
        elif decision == "withdraw":
            agreeing.discard(by)

    if policy.four_eyes:
        assert agreeing.isdisjoint(AUTHORS.values())
    assert set(approvals.granted_by) == agreeing
    assert is_approved(approvals, policy, AUTHORS) == (len(agreeing) >= policy.needed)


# --- the machine asks them ------------------------------------------------------------------------


def proposed(approval: Any = "four_eyes", version: int = 2, **rules: Any) -> Story:
    """Version 1 answers, and this one waits."""
    story = Story().with_champion(1)
    policy = a_policy(strategy="direct", approval=approval, **rules)
    story.hear(a_verdict(version, 1, policy=policy, authors={"spec": "wanda", "data": "dora"}))
    return story


def decided(story: Story, by: str, decision: Decision = "grant", version: int = 2) -> None:
    story.hear(Decided(rollout=rollout_id(story.endpoint.model, version), decision=decision, by=by))


def last(story: Story, kind: type) -> Any:
    return [event for event in story.said if isinstance(event, kind)][-1]


def test_people_are_asked_with_all_that_they_must_know() -> None:
    story = proposed("quorum")

    asked = last(story, ApprovalRequested)
    assert (asked.needed, asked.excluded) == (2, ("dora", "wanda"))
    assert asked.expires_at == NOON + timedelta(days=7)


def test_the_author_does_not_get_past_the_machine() -> None:
    story = proposed()

    with pytest.raises(NotPermitted):
        decided(story, "dora")

    assert story.endpoint.champion_version == 1


def test_who_defined_the_model_last_does_not_either() -> None:
    story = proposed()
    story.around = Surroundings(definer="ann")

    with pytest.raises(NotPermitted):
        decided(story, "ann")


def test_a_quorum_counts_down_and_the_promotion_names_them() -> None:
    story = proposed("quorum")

    decided(story, "ann")
    still = story.endpoint.champion_version
    decided(story, "bob")

    granted = [event for event in story.said if isinstance(event, ApprovalGranted)]
    assert still == 1
    assert [event.missing for event in granted] == [1, 0]
    promoted = last(story, ModelPromoted)
    assert (promoted.version, promoted.approved_by) == (2, ("ann", "bob"))
    assert set(promoted.authors.values()) == {"wanda", "dora"}


def test_an_approval_is_used_once() -> None:
    story = proposed()
    decided(story, "ann")

    with pytest.raises(Conflict):
        decided(story, "bob")
    story.hear(a_verdict(3, 2, policy=a_policy(strategy="direct", approval="four_eyes")))

    assert story.endpoint.champion_version == 2


def test_a_new_verdict_asks_anew() -> None:
    story = proposed("quorum")
    decided(story, "ann")
    story.hear(a_verdict(3, 1, policy=a_policy(strategy="direct", approval="quorum")))

    rollout = story.endpoint.rollout
    assert rollout is not None
    assert rollout.approvals is not None
    assert (rollout.version, rollout.approvals.grants) == (3, ())


def test_a_denial_ends_a_rollout_although_one_approved() -> None:
    story = proposed("quorum")
    decided(story, "ann")

    decided(story, "bob", "deny")

    assert last(story, ApprovalDenied).by == "bob"
    assert last(story, RolloutAborted).reason == "denied"


def test_an_author_may_deny() -> None:
    story = proposed()

    decided(story, "wanda", "deny")

    assert last(story, RolloutAborted).reason == "denied"


def test_too_few_people_in_time_end_it() -> None:
    story = proposed({"needed": 2, "expires": "2h"})
    decided(story, "ann")

    story.wait(timedelta(hours=2))

    expired = last(story, ApprovalExpired)
    assert (expired.granted_by, expired.needed) == (("ann",), 2)
    assert last(story, RolloutAborted).reason == "expired"


CLOSED = "Thu 08:00-16:00 UTC"
"""The story begins on a Wednesday."""


def test_an_approval_is_taken_back_before_the_window_opens() -> None:
    story = proposed(window=CLOSED)
    decided(story, "ann")
    waiting = last(story, WindowAwaited)

    decided(story, "ann", "withdraw")
    story.wait(timedelta(hours=21))

    assert waiting.opens_at == NOON + timedelta(hours=20)
    assert last(story, ApprovalWithdrawn).missing == 1
    assert story.endpoint.champion_version == 1
    assert story.endpoint.rollout is not None
    assert story.endpoint.rollout.stage is Stage.AWAITING_APPROVAL


def test_a_denial_ends_what_waits_for_its_window() -> None:
    story = proposed(window=CLOSED)
    decided(story, "ann")

    decided(story, "bob", "deny")

    assert last(story, RolloutAborted).reason == "denied"


def test_whose_approver_becomes_an_author_waits_again() -> None:
    story = proposed(window=CLOSED)
    decided(story, "ann")
    story.around = Surroundings(definer="ann")

    story.wait(timedelta(hours=20))

    assert story.endpoint.champion_version == 1
    assert story.endpoint.rollout is not None
    assert story.endpoint.rollout.stage is Stage.AWAITING_APPROVAL


def test_break_glass_opens_the_window_and_leaves_a_mark() -> None:
    story = proposed("auto", window=CLOSED)

    story.hear(
        Overridden(rollout=rollout_id(story.endpoint.model, 2), by="olga", reason="fire in the lab")
    )

    said = last(story, WindowOverridden)
    assert (said.by, said.reason) == ("olga", "fire in the lab")
    assert last(story, ModelPromoted).break_glass == "olga"


def test_break_glass_opens_no_approval() -> None:
    story = proposed("four_eyes", window=CLOSED)
    glass = Overridden(rollout=rollout_id(story.endpoint.model, 2), by="olga", reason="hurry")

    try:
        story.hear(glass)
    except Conflict:
        story.wait(timedelta(hours=1))

    assert story.endpoint.champion_version == 1
    assert not any(isinstance(e, ModelPromoted) and e.version == 2 for e in story.said)
