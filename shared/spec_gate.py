"""The part of a specification that says when a candidate is good enough."""

import re
from typing import Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from shared.names import ColumnNameText, ModelNameText
from shared.predicates import read_predicate
from shared.spec_parts import Duration, Part

ROW_METRICS: Final = frozenset({"mae", "mse", "rmse", "mape", "log_loss", "brier", "accuracy"})
"""Means of one loss per row (rmse: a root of one); they can also be watched on single answers."""
SCORES: Final = frozenset(
    {"accuracy", "balanced_accuracy", "f1", "roc_auc", "average_precision", "r2"}
)
"""Higher is better; their loss is one minus the score."""
METRICS: Final = ROW_METRICS | SCORES
OF_TASK: Final = {
    "regression": frozenset({"mae", "mse", "rmse", "mape", "r2"}),
    "classification": frozenset(
        {
            "log_loss",
            "brier",
            "accuracy",
            "balanced_accuracy",
            "f1",
            "roc_auc",
            "average_precision",
        }
    ),
}
"""Beside them `pinball@q` judges regressions, and a user's own metric what it is made for."""
_PINBALL: Final = re.compile(r"pinball@0\.\d{1,4}")
_OWN: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_row_metric(metric: str) -> bool:
    """Whether it is a mean over single rows, known to every service."""
    return metric in ROW_METRICS or bool(_PINBALL.fullmatch(metric))


def judges(metric: str, task: str) -> bool:
    """Whether a metric fits a task; of a user's own nobody else knows."""
    if _PINBALL.fullmatch(metric):
        return task == "regression"
    return metric in OF_TASK[task] or ":" in metric


def check_metric(metric: str) -> str:
    """The metric, if it is one.

    Raises:
        ValueError: it is not; names those that are.
    """
    if metric in METRICS or _PINBALL.fullmatch(metric) or _OWN.fullmatch(metric):
        return metric
    raise ValueError(
        f"{metric!r} is no metric; there are {', '.join(sorted(METRICS))}, pinball@0.9 for the "
        "quantile 0.9, and package.module:function of an installed and allowed package"
    )


class GateRule(Part):
    """A rule that a candidate must pass on the held-out rows."""

    metric: str
    vs: Literal["champion", "baseline", "absolute"]
    margin: float | None = Field(default=None, ge=0)
    """Loss, in the metric's unit, that may be given away; 0 asks for superiority; none given is
    10 % of the champion's proven gain over the baseline."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    max: float | None = None
    """For `absolute`: the most loss allowed (for scores: one minus the score)."""
    min: float | None = None
    """For `absolute` and a score such as roc_auc: the least score allowed."""
    slice: str | None = None
    """Only these rows: the name of a slice, or a condition such as `load > 80`."""

    _metric_exists = field_validator("metric")(check_metric)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.vs == "absolute") != (self.max is not None or self.min is not None):
            raise ValueError("`max` or `min` belongs to `vs: absolute`, and that needs one of them")
        if self.min is not None and (self.max is not None or self.metric not in SCORES):
            raise ValueError(
                "`min` is for scores such as accuracy or roc_auc; for losses say `max`"
            )
        return self

    @property
    def most_loss(self) -> float | None:
        """The limit of an absolute gate as a loss."""
        return 1 - self.min if self.min is not None else self.max


class Slice(Part):
    """Rows on which a candidate must not do worse than the champion."""

    name: ModelNameText
    where: str
    """A condition on columns, such as `season == 'winter' and load > 80`."""
    role: Literal["required", "watched"] = "required"
    """Required: shown to be no worse. Watched, for few rows: blocks when shown to be worse."""
    metric: str | None = None
    """By default the metric of the first gate."""
    margin: float | None = Field(default=None, ge=0)
    """Loss that may be given away in this slice; by default the margin of the gate."""
    min_rows: int = Field(default=50, ge=10)
    min_positives: int = Field(default=0, ge=0)
    """For classification: least rows of the rarer class."""

    @field_validator("where")
    @classmethod
    def _can_be_read(cls, value: str) -> str:
        read_predicate(value)
        return value

    @field_validator("metric")
    @classmethod
    def _metric_exists(cls, value: str | None) -> str | None:
        return value if value is None else check_metric(value)


class Probe(Part):
    """A row whose answer is known to lie somewhere."""

    name: ModelNameText
    row: dict[str, float | str | bool | None]
    min: float | None = None
    max: float | None = None
    answer: str | float | bool | None = None
    """The exact answer, for classification."""

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.min is None and self.max is None and self.answer is None:
            raise ValueError("a probe needs `min`, `max` or `answer`")
        return self


class Checks(Part):
    """What must hold of the answers whatever the losses are."""

    bounds: tuple[float, float] | None = None
    """Every answer (for classification: every probability) on held-out rows lies between."""
    monotone: dict[ColumnNameText, Literal["increasing", "decreasing"]] = Field(
        default_factory=dict
    )
    """When this column rises and nothing else changes, the answer never does the opposite."""
    probes: tuple[Probe, ...] = ()
    latency: Duration | None = None
    """Most time for one row, 95th percentile, in the evaluator's child."""
    size_mb: float | None = Field(default=None, gt=0)
    """Most megabytes of the candidate's files."""

    @field_validator("bounds")
    @classmethod
    def _bounds_rise(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError("the first of the bounds is the lower one")
        return value


class Evaluation(Part):
    """How held-out rows may be used."""

    entity: ColumnNameText | None = None
    """Rows of one entity depend on each other: entities are compared instead of rows."""
    uses: int = Field(default=20, ge=1, le=1000)
    """Verdicts that the same held-out rows may give; the k-th spends alpha / (k (k + 1))."""
    anchor: bool = True
    """Compare with the best champion so far, too, so that small losses do not add up."""
    fleet: ModelNameText | Literal["none"] | None = None
    """Models that share a false-discovery budget; by default those of one owner and definition."""


def effective_slices(slices: tuple[Slice, ...], gates: tuple[GateRule, ...]) -> dict[str, str]:
    """Condition by the name that gates and slices use for it.

    Raises:
        ValueError: a gate names a slice that is neither declared nor a condition.
    """
    found: dict[str, str] = {part.name: part.where for part in slices}
    for gate in gates:
        if gate.slice is not None and gate.slice not in found:
            read_predicate(gate.slice)
            found[gate.slice] = gate.slice
    return found


def no_duplicates(names: list[str], what: str) -> None:
    """See that names are unique.

    Raises:
        ValueError: one is there twice.
    """
    twice: Any = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{what} {twice!r} is there twice")
