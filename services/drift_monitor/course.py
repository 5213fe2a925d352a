"""The way of one model from a confirmed change to a fresh version: its states.

healthy → suspect → confirmed → retraining → cooling → healthy. A retraining that came to nothing
leads to backoff instead of cooling; a model that the brake holds is held. What windows change is
told by `following`, what is asked for and refused by `asking`, what becomes of trainings by
`trainings`: functions of the state and of what is heard; the clock is an argument.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil
from typing import Final, Literal

from services.drift_monitor.domain import Policy, Why
from shared.events import DatasetName, Event, ModelName

LONGEST_TRAINING: Final = timedelta(hours=24)
"""What was started and never heard of again does not keep a model from being retrained."""
SHARE_OF_ROWS: Final = 0.2
"""Of the training rows: so many new ones make a retraining worth its while."""

Reason = Literal[
    "cool_down",
    "not_confirmed",
    "trigger_off",
    "budget",
    "brake",
    "no_labels",
    "duplicate",
    "transient",
]


class Phase(StrEnum):
    """Where a model is on its way."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    CONFIRMED = "confirmed"
    RETRAINING = "retraining"
    COOLING = "cooling"
    BACKOFF = "backoff"
    HELD = "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """The rung below answers for a version."""

    version: int
    window: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How one model stands.

    Attributes:
        version: the champion that all of it is about.
        why, window, windows, detail: of the change that was last confirmed.
        confirmed_at: since when a change is confirmed; None while none is.
        asked_at: when a fresh version was last asked for.
        cools_until: not before is it asked for again.
        vain: retrainings in a row that came to nothing.
        training_at: since when a training of it, whoever wanted it, is on its way.
        refused: the last reason for a refusal; it is said once.
        checked: whether it was asked if others have changed at the same time.
        regime: the change has outlasted the horizon, and that was said.
        fallback: the rung below answers.
        fell_at: the newest window that has answers of the last such time or of before it; only
            later ones may be a reason again.
    """

    phase: Phase = Phase.HEALTHY
    version: int = 0
    why: Why = "drift"
    window: int = 0
    windows: tuple[int, ...] = ()
    detail: str = ""
    confirmed_at: datetime | None = None
    asked_at: datetime | None = None
    cools_until: datetime | None = None
    vain: int = 0
    training_at: datetime | None = None
    refused: str = ""
    checked: bool = False
    regime: bool = False
    fallback: Fallback | None = None
    fell_at: int = 0

    @property
    def wants(self) -> bool:
        """Whether a fresh version would be asked for if nothing spoke against it."""
        return self.confirmed_at is not None and self.phase is not Phase.RETRAINING

    def is_training(self, now: datetime) -> bool:
        """Whether a training is on its way."""
        return self.training_at is not None and now < self.training_at + LONGEST_TRAINING


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Whose course it is.

    Attributes:
        labels: new rows with outcomes since the champion was made; None where nobody counted.
        rows_trained: of the champion.
        annotated: people say that what happens now is abnormal and passes.
    """

    model: ModelName
    version: int
    owner: str
    policy: Policy
    now: datetime
    labels: int | None = None
    rows_trained: int = 0
    annotated: str = ""

    @property
    def dataset(self) -> DatasetName:
        """What the model learns from."""
        return DatasetName(self.policy.dataset)

    @property
    def least_labels(self) -> int:
        """New rows with outcomes that are enough: the lesser of two bounds."""
        share = ceil(SHARE_OF_ROWS * self.rows_trained)
        return min(self.policy.least_labels, share) if share else self.policy.least_labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """The course from now on, and what is said."""

    course: Course
    events: tuple[Event, ...] = ()
