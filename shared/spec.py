"""The specification of a model: policy and wiring, with the estimator left open.

Only `apiVersion`, `name`, `owner`, `task`, `data.dataset` and `data.target` must be given.
"""

import hashlib
import json
from datetime import timedelta
from typing import Any, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, model_validator

from shared.events import Digest
from shared.names import ColumnNameText, DatasetNameText, ModelNameText
from shared.spec_gate import (
    Checks,
    Evaluation,
    GateRule,
    Slice,
    effective_slices,
    is_row_metric,
    no_duplicates,
)
from shared.spec_parts import AT_DOOR, Duration, Part, parse_duration, write_duration
from shared.spec_rollout import Rollout

__all__ = [
    "Baseline",
    "Candidate",
    "Data",
    "GateRule",
    "ModelSpec",
    "Range",
    "Rollout",
    "parse_duration",
    "read_spec",
    "write_duration",
]


class Data(Part):
    """Which rows, which column is to be predicted, and how rows are held out."""

    dataset: DatasetNameText
    target: ColumnNameText
    time: ColumnNameText | None = None
    """Column of the row's moment; with it rows are held out by time."""
    features: tuple[ColumnNameText, ...] | None = None
    """Columns the model sees; by default all but target, time and entity."""
    split: Literal["time", "random"] | None = None
    """By default `time` when `time` is given, else `random`."""
    holdout: float = Field(default=0.2, ge=0.05, le=0.5)
    """Share of the rows that judges candidates and is never fitted on."""
    label_delay: Duration = timedelta(0)
    """How long after a prediction its outcome is known; also the gap before the hold-out."""
    leave_out: tuple[Literal["transient", "corrupt", "held_out", "new_regime"], ...] = (
        "transient",
        "corrupt",
        "held_out",
    )
    """Annotated periods with these tags are not learned from; `transient` ones are when
    `monitor.transient` is `adapt`."""

    @model_validator(mode="after")
    def _split_fits(self) -> Self:
        if self.split == "time" and self.time is None:
            raise ValueError("split: time needs data.time, the column of the row's moment")
        return self

    @property
    def split_kind(self) -> Literal["time", "random"]:
        """How rows are held out, with the default worked out."""
        return self.split or ("time" if self.time else "random")


class Candidate(Part):
    """An estimator by import path, its fixed arguments and the ranges to search."""

    use: str = Field(pattern=r"^[A-Za-z_][\w.]*(?::[A-Za-z_]\w*)?$")
    arguments: dict[str, Any] = Field(default_factory=dict, alias="with")
    search: dict[str, "Range | list[Any]"] = Field(default_factory=dict)


class Range(Part):
    """A range to search: integers when both ends are integers."""

    low: float | int
    high: float | int
    log: bool = False


class Baseline(Part):
    """The simple predictor every candidate must beat; computable from the request alone."""

    rule: Literal[
        "mean",
        "median",
        "majority",
        "constant",
        "last_value",
        "seasonal_naive",
        "column",
        "expression",
    ]
    column: ColumnNameText | None = None
    """The feature that is the answer: for `last_value` the last known outcome, for
    `seasonal_naive` the outcome one season ago, for `column` any."""
    value: float | str | bool | None = None
    """For `constant`."""
    expression: str | None = Field(default=None, max_length=500)
    """For `expression`: arithmetic over numeric columns."""

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return {"rule": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        name = _NEEDED.get(self.rule)
        if name and getattr(self, name) is None:
            raise ValueError(f"baseline rule {self.rule} needs {name}{_HINTS.get(self.rule, '')}")
        if self.column is not None and self.lag is None:
            raise ValueError(f"baseline rule {self.rule} reads no column; take `column` out")
        return self

    @property
    def lag(self) -> str | None:
        """The feature that the rule answers with; None for a rule that needs none."""
        return self.column if _NEEDED.get(self.rule) == "column" else None


_NEEDED: Final = {
    "constant": "value",
    "last_value": "column",
    "seasonal_naive": "column",
    "column": "column",
    "expression": "expression",
}
_HINTS: Final = {
    "last_value": ", the feature that holds the last known outcome, like load_1h_ago",
    "seasonal_naive": ", the feature that holds the outcome one season ago, like load_24h_ago",
}


class Train(Part):
    """Which candidates are fitted and how long the search may take."""

    candidates: tuple[Candidate, ...] = ()
    """By default a short list for the task."""
    trials: int = Field(default=20, ge=1, le=1000)
    """Most trials of a search, all candidates together."""
    folds: int = Field(default=1, ge=1, le=20)
    """More than one orders the candidates by repeated cross-validation, for random splits; a
    candidate further down the list must be surely better than those before it."""
    repeats: int = Field(default=3, ge=1, le=20)
    """How often the rows are parted into folds."""
    budget: Duration = timedelta(minutes=5)
    """Wall time of one run; it is killed at the end of it."""
    memory: int = Field(default=4096, ge=256, le=1_000_000)
    """Megabytes that one run may use."""
    seed: int = Field(default=7, ge=0)
    baseline: Baseline | None = None
    """By default median for regression and majority for classification."""


class Triggers(Part):
    """What starts a training."""

    dataset: Literal["material_change", "any", "off"] = "material_change"
    code: bool = True
    drift: bool = True
    quality: bool = True
    schedule: str | None = None
    """Five cron fields, in `timezone`."""
    timezone: str = "UTC"
    cooldown: Duration = timedelta(minutes=10)
    """Least time between two trainings; the newest version is trained at its end."""
    minimum_rows: int = Field(default=1, ge=1)
    """New rows that make a change material, together with 5 % of the champion's rows."""

    @model_validator(mode="after")
    def _zone_exists(self) -> Self:
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{self.timezone!r} is no time zone, like Europe/Rome") from error
        return self


class Serving(Part):
    """How the endpoint answers."""

    entity: ColumnNameText | None = None
    """Column that identifies the entity; the arms are sticky by it."""
    lineage: Literal["required", "best_effort"] = "best_effort"
    """`required` answers 503 when predictions cannot be logged."""
    bounds: tuple[float, float] | None = None
    """Answers outside count as errors and the rung below answers."""
    objective: Duration = timedelta(milliseconds=100)
    """Latency that an answer should keep."""


class Monitor(Part):
    """What is watched."""

    window: int = Field(default=1000, ge=20)
    """Rows per window."""
    tolerance: float = Field(default=0.1, ge=0)
    """Relative worsening of the loss that is not worth a word."""
    confirm: int = Field(default=2, ge=1, le=20)
    """Windows in a row that must agree before a retraining is asked for."""
    cooldown: Duration = timedelta(hours=24)
    """Least time between two requests to retrain; it doubles, up to a week, while they are vain."""
    shift: float = Field(default=0.05, ge=0)
    """Reference standard deviations that no drift counts as critical below."""
    season: Literal["hour_of_day", "hour_of_week", "month"] | None = None
    """What windows and reference must have in common to be compared."""
    close_after: Duration | None = None
    """A window with enough rows closes at this age even if it is not full."""
    least_labels: int = Field(default=1000, ge=1)
    """New labelled rows that make a retraining worth its while, or a fifth of the training rows."""
    transient: Literal["ignore", "adapt", "fallback"] = "ignore"
    """During a passing disturbance: leave the champion, retrain on it, or let the rung below answer
    while the champion is worse."""
    horizon: Duration = timedelta(days=7)
    """What lasts longer is no passing disturbance but the new normal."""
    freshness: Duration | None = None
    """Newest published data may be unserved for so long; older is stale."""


class ModelSpec(Part):
    """One model: the only truth behind YAML, API and command."""

    api_version: Literal["tidewheel/v1"] = Field(alias="apiVersion")
    kind: Literal["Model"] = "Model"
    name: ModelNameText
    owner: ModelNameText
    task: Literal["regression", "classification"]
    data: Data
    train: Train = Train()
    gates: tuple[GateRule, ...] = ()
    """By default the champion and the baseline on the task's metric."""
    slices: tuple[Slice, ...] = ()
    checks: Checks = Checks()
    evaluation: Evaluation = Evaluation()
    rollout: Rollout = Rollout()
    triggers: Triggers = Triggers()
    serving: Serving = Serving()
    monitor: Monitor = Monitor()

    @model_validator(mode="after")
    def _folds_fit(self) -> Self:
        if self.train.folds > 1 and self.data.split_kind == "time":
            raise ValueError("train.folds would let rows judge those before them: split: random")
        return self

    @model_validator(mode="after")
    def _slices_are_known(self) -> Self:
        no_duplicates([part.name for part in self.slices], "slice")
        no_duplicates([probe.name for probe in self.checks.probes], "probe")
        effective_slices(self.slices, self.gates)
        return self

    @property
    def metric(self) -> str:
        """The loss that orders candidates and is watched: a gate's, if a mean over rows."""
        named = (gate.metric for gate in self.gates if is_row_metric(gate.metric))
        return next(named, _METRICS[self.task])

    @property
    def conditions(self) -> dict[str, str]:
        """The condition behind each slice that a gate or a slice names."""
        return effective_slices(self.slices, self.gates)

    @property
    def effective_gates(self) -> tuple[GateRule, ...]:
        """The gates with the mandatory baseline and, when none is named, the champion."""
        gates = self.gates or (GateRule(metric=_METRICS[self.task], vs="champion"),)
        if not any(gate.vs == "champion" for gate in gates):
            gates = (GateRule(metric=gates[0].metric, vs="champion"), *gates)
        if not any(gate.vs == "baseline" for gate in gates):
            gates = (*gates, GateRule(metric=gates[0].metric, vs="baseline"))
        return gates

    @property
    def effective_baseline(self) -> Baseline:
        """The baseline rule, with the task's default worked out."""
        default: Literal["median", "majority"] = (
            "median" if self.task == "regression" else "majority"
        )
        return self.train.baseline or Baseline(rule=default)

    def canonical(self) -> dict[str, Any]:
        """The whole specification as plain JSON, defaults filled in."""
        return self.model_dump(mode="json", by_alias=True)

    def digest(self) -> Digest:
        """Digest of the canonical form."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return Digest(hashlib.sha256(text.encode()).hexdigest())


_METRICS: Final[dict[str, Literal["mae", "log_loss"]]] = {
    "regression": "mae",
    "classification": "log_loss",
}

Candidate.model_rebuild()


def read_spec(plain: Any, *, is_new: bool = False) -> ModelSpec:
    """A specification from plain data, validated.

    Args:
        is_new: somebody has just written it: bounds hold that were not always there.

    Raises:
        pydantic.ValidationError: every fault at once, each with its place.
    """
    return ModelSpec.model_validate(plain, context=AT_DOOR if is_new else None)
