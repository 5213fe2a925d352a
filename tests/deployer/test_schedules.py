"""Ten thousand schedules of everything at once, and mutants of the machine that must be caught."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import pytest

from services.deployer import gateway, observing, permission, rollout, trial
from services.deployer.domain import Due, Policy
from tests.deployer.schedules import POLICIES, UNHINDERED, Violation, World

SCHEDULES: Final = 10_000
EVERYDAY: Final = 2_500
LENGTH: Final = 40
PATIENCE: Final = 3_000
"""Schedules within which a mutant must be caught."""


@pytest.mark.parametrize(
    "schedules", [EVERYDAY, pytest.param(SCHEDULES, marks=pytest.mark.nightly)]
)
def test_no_schedule_breaks_a_promise(seed: int, schedules: int) -> None:
    promoted = advanced = approved = 0

    for number in range(schedules):
        world = World(f"{seed} {number}")
        try:
            world.run(LENGTH)
        except Violation as broken:
            raise AssertionError(f"schedule {number} of seed {seed}: {broken}") from broken
        promoted += len(world.promoted)
        advanced += sum(1 for books in world.books.values() if books.began_with)
        approved += sum(len(books.grants) for books in world.books.values())

    # They are worth something only when much was promoted, tried and approved in them.
    assert promoted > schedules / 2
    assert advanced > schedules / 5
    assert approved > schedules / 2


def is_caught(by: str, **world: Any) -> bool:
    """Whether some schedule shows that a mutant breaks this promise."""
    for number in range(PATIENCE):
        try:
            World(f"mutant {number}", **world).run(LENGTH)
        except Violation as found:
            if by in str(found):
                return True
    return False


def test_without_an_inbox_a_repeat_has_an_effect() -> None:
    assert is_caught("a repeat had an effect", inbox=False)


def test_without_a_fence_serving_ends_elsewhere() -> None:
    assert is_caught("serving answers otherwise", fenced=False)


def _timer_without_seq(monkeypatch: pytest.MonkeyPatch) -> None:
    due = rollout._Decisions.due

    def anyway(self: Any, timer: Due) -> None:
        due(self, replace(timer, seq=self.endpoint.seq))

    monkeypatch.setattr(rollout._Decisions, "due", anyway)


def _evidence_without_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    observed = observing.observed

    def anyway(one: Any, measure: Any, *others: Any, generation: int, share: float) -> Any:
        fresh = replace(measure, generation=generation)
        return observed(one, fresh, *others, generation=generation, share=share)

    monkeypatch.setattr(trial, "observed", anyway)


def _self_approval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permission, "excluded", lambda *_: ())


def _window_ignored_at_promotion(monkeypatch: pytest.MonkeyPatch) -> None:
    is_open = gateway.Gateway._is_open

    def unless_answering(self: Any, one: Any) -> bool:
        return one.begun_at is not None or is_open(self, one)

    monkeypatch.setattr(gateway.Gateway, "_is_open", unless_answering)


def _approval_of_any_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    decide = permission.decide

    def anyway(*given: Any, **named: Any) -> Any:
        return decide(*given, **named | {"manifest": None, "evaluation": None})

    monkeypatch.setattr(permission, "decide", anyway)


def _approvals_never_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    decide = permission.decide

    def anyway(approvals: Any, *given: Any, now: Any, **named: Any) -> Any:
        return decide(approvals, *given, now=min(now, approvals.asked_at), **named)

    monkeypatch.setattr(permission, "decide", anyway)


def _late_versions_promoted(monkeypatch: pytest.MonkeyPatch) -> None:
    decisions = rollout._Decisions
    judged = decisions.judged

    def unfenced(self: Any, verdict: Any) -> None:
        self.set(fence=0)
        judged(self, verdict)

    monkeypatch.setattr(decisions, "judged", unfenced)


def _stale_verdicts_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    decisions = rollout._Decisions
    judged = decisions.judged

    def anyway(self: Any, verdict: Any) -> None:
        judged(self, replace(verdict, champion=self.endpoint.champion_version))

    monkeypatch.setattr(decisions, "judged", anyway)


def _experiments_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.deployer.experiment.making_room", lambda *_: ())


@pytest.mark.parametrize(
    ("mutate", "by", "policies"),
    [
        (_timer_without_seq, "a timer of an earlier state had an effect", POLICIES),
        (_evidence_without_generation, "counted before it began", UNHINDERED),
        (_self_approval, "too few people, or the wrong ones", POLICIES),
        (_window_ignored_at_promotion, "changes were not allowed then", POLICIES),
        (_approval_of_any_artifact, "they looked at another", POLICIES),
        (_approvals_never_expire, "came too late", POLICIES),
        (_late_versions_promoted, "an older version replaced a newer one", UNHINDERED),
        (_stale_verdicts_taken, "no such verdict", UNHINDERED),
        (_experiments_without_end, "more arms than allowed", UNHINDERED),
    ],
)
def test_a_mutant_is_caught(
    monkeypatch: pytest.MonkeyPatch,
    mutate: Callable[[pytest.MonkeyPatch], None],
    by: str,
    policies: Sequence[Policy],
) -> None:
    mutate(monkeypatch)

    assert is_caught(by, policies=policies)
