"""Every event has its sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args, get_type_hints

import pytest

from services.registry.lineage.narration import DECISIONS, GOVERNANCE, sentence
from shared.events import (
    ALL,
    ApprovalGranted,
    ApprovalRequested,
    Event,
    RolloutAborted,
    RolloutAdvanced,
    WindowAwaited,
)
from tests.support.schemas import example_of


def an(kind: type[Event], **changes: Any) -> Any:
    return replace(example_of(kind).event, **changes)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.TYPE)
def test_every_event_type_has_its_sentence(kind: type[Event]) -> None:
    told = sentence(example_of(kind).event)

    assert told.endswith(".")
    assert not told.startswith("tidewheel.")


def test_what_is_told_is_known() -> None:
    assert set(DECISIONS) | set(GOVERNANCE) <= set(ALL)


def test_a_wait_for_an_event_names_its_reason() -> None:
    waits = an(WindowAwaited, version=3, opens_at=None, reason="dataset billing/closed")

    assert sentence(waits) == (
        "Version 3 waits until changes are allowed (dataset billing/closed), "
        "until something has happened."
    )


def test_approvals_count_down() -> None:
    asked = an(ApprovalRequested, version=3, needed=2, excluded=("ada", "bob"), expires_at=None)
    first = an(ApprovalGranted, version=3, by="carla", comment="fine", missing=1)
    second = an(ApprovalGranted, version=3, by="dora", comment="", missing=0)

    assert sentence(asked) == "Version 3 waits for the approval of 2 people; ada, bob may not."
    assert sentence(first) == "carla approved version 3, one more must agree: fine."
    assert sentence(second) == "dora approved version 3: no comment."


@pytest.mark.parametrize(
    ("stage", "told"), [("shadow", "unseen"), ("canary", "requests."), ("experiment", "experiment")]
)
def test_each_stage_is_told_apart(stage: str, told: str) -> None:
    assert told in sentence(an(RolloutAdvanced, stage=stage, weight=0.25))


@pytest.mark.parametrize("reason", get_args(get_type_hints(RolloutAborted)["reason"]))
def test_every_reason_of_an_abort_has_its_words(reason: Any) -> None:
    assert sentence(an(RolloutAborted, reason=reason, detail="so")).endswith(": so.")
