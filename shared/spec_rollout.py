"""The part of a specification that says how an accepted version comes to answer requests."""

from datetime import timedelta
from typing import Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from shared.calendar_rules import read_earliest, read_freeze
from shared.spec_parts import Duration, Part
from shared.windows import read_window

_WORDS: Final[dict[str, dict[str, Any]]] = {
    "auto": {"needed": 0},
    "one": {"needed": 1, "four_eyes": False},
    "manual": {"needed": 1},
    "four_eyes": {"needed": 1},
    "quorum": {"needed": 2},
}


class Approval(Part):
    """Whether people must agree, how many, and who may not."""

    needed: int = Field(default=1, ge=0, le=10)
    """People who must approve; 0 asks nobody."""
    four_eyes: bool = True
    """Whoever wrote the specification, published the data or asked for the training may not."""
    expires: Duration = timedelta(days=7)
    """A rollout that is not approved by then ends."""

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in _WORDS:
            raise ValueError(f"approval is one of {', '.join(_WORDS)}, or needed/four_eyes/expires")
        return _WORDS[value]

    @property
    def word(self) -> str:
        """How people call it."""
        if not self.needed:
            return "auto"
        if self.needed == 1:
            return "four_eyes" if self.four_eyes else "one"
        return "quorum"


class Shadow(Part):
    """The candidate answers real requests that nobody sees."""

    share: float = Field(default=1.0, gt=0, le=1)
    run_for: Duration = timedelta(minutes=10)
    minimum_requests: int = Field(default=100, ge=1)
    minimum_labels: int = Field(default=0, ge=0)
    """Labels that must have come before it goes on; above 0 the loss must be shown no worse."""


class Loss(Part):
    """How the losses of both versions are compared as labels come."""

    cap: float | None = Field(default=None, gt=0)
    """Losses are divided by this and cut at 1; by default 4 times the champion's held-out loss,
    and 1 for brier and accuracy."""
    margin: float = Field(default=0.01, ge=0, le=1)
    """Part of the cap that may be given away."""
    required: bool = False
    """Whether nothing is promoted before the loss is shown to be no worse."""


class Exposure(Part):
    """The most that a challenger may touch before it is decided; reaching a cap gives it up."""

    requests: int | None = Field(default=None, ge=1)
    entities: int | None = Field(default=None, ge=1)
    harm: int | None = Field(default=None, ge=1)
    """Errors above what the champion would have made of as many requests."""


class Experiment(Part):
    """The challenger stays on a share beside the champion and other challengers (A/B/n)."""

    share: float = Field(default=0.1, gt=0, lt=1)
    run_for: Duration = timedelta(days=14)
    arms: int = Field(default=2, ge=1, le=8)
    """Most challengers at a time; a newer one takes the place of the oldest."""
    then: Literal["promote_if_better", "end"] = "promote_if_better"
    """At its end, promoted if its loss is shown to be smaller; or ended whatever was seen."""


class Rollout(Part):
    """How an accepted version comes to answer requests."""

    strategy: Literal["canary", "direct", "shadow", "shadow_canary", "experiment"] = "canary"
    steps: tuple[float, ...] = (0.05, 0.25, 0.5)
    """Shares of the canary; full traffic is promotion."""
    step_for: Duration = timedelta(minutes=10)
    """Least time in a step."""
    minimum_requests: int = Field(default=100, ge=0)
    """Least requests that the canary answers in a step."""
    minimum_entities: int = Field(default=0, ge=0)
    """Least entities that the canary answers in a step."""
    give_up_after: Duration = timedelta(days=1)
    """A shadow or canary without a decision by then ends without promotion."""
    low_traffic: Literal["give_up", "widen", "direct"] = "give_up"
    """What happens then when there were too few requests to decide: end; once more at the largest
    share for as long; or promotion on the gate's word alone, with probation."""
    shadow: Shadow = Shadow()
    loss: Loss = Loss()
    exposure: Exposure = Exposure()
    experiment: Experiment = Experiment()
    window: tuple[str, ...] = ()
    """When changes are allowed, `Mon-Thu 08:00-16:00 Europe/Berlin` or
    `0 8 * * 1-5 for 8h Europe/Berlin`; one or a list; always when there is none."""
    freeze: tuple[str, ...] = ()
    """When they are not, `2026-12-20..2027-01-06 Europe/Berlin`; first and last day."""
    not_before: str | None = None
    """A moment with its offset, `month_start Europe/Berlin`, or `dataset billing/closed`: not
    before a version of that dataset is published."""
    approval: Approval = Approval(needed=0)
    probation: Duration = timedelta(hours=1)
    """How long after promotion errors, slow answers or degraded quality roll back by themselves."""

    @model_validator(mode="after")
    def _steps_rise(self) -> Self:
        rising = all(a < b for a, b in zip(self.steps, self.steps[1:], strict=False))
        if not rising or not all(0 < step < 1 for step in self.steps):
            raise ValueError("steps rise and lie between 0 and 1; full traffic is promotion")
        return self

    @field_validator("window", "freeze", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if value is None:
            return ()
        return (value,) if isinstance(value, str) else value

    @field_validator("window")
    @classmethod
    def _windows_can_be_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            read_window(text)
        return value

    @field_validator("freeze")
    @classmethod
    def _freezes_can_be_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            read_freeze(text)
        return value

    @field_validator("not_before")
    @classmethod
    def _earliest_can_be_read(cls, value: str | None) -> str | None:
        if value is None:
            return None
        read_earliest(value)
        return " ".join(value.split())
