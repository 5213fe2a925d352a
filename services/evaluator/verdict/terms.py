"""What a verdict depends on, and what it says."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError

from services.evaluator.slices import SliceTerms
from shared.errors import Unprocessable
from shared.events import Check, Gate, Json, SliceVerdict
from shared.spec import GateRule, ModelSpec
from shared.spec_gate import Slice

ENGINE: Final = "tidewheel/verdict/1"
"""Another name may give other last digits from the same evidence."""
DRAWS: Final = 4_999
FLEET_ALPHA: Final = 0.05

Read = TypeVar("Read")

Mode = Literal["first", "refresh", "change"]
Reason = Literal[
    "accepted",
    "worse",
    "not_shown_better",
    "not_shown_noninferior",
    "below_baseline",
    "slice_harmed",
    "check_failed",
    "limit",
    "insufficient",
    "cannot_compare",
    "invalid_input",
    "holdout_exhausted",
    "fleet_fdr",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateTerms:
    """A gate with its defaults worked out; `limit` is the most loss of an absolute one."""

    metric: str
    vs: Literal["champion", "baseline", "absolute"]
    margin: float | None = None
    confidence: float = 0.95
    limit: float | None = None
    slice: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Everything in a specification that a verdict depends on."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    gates: tuple[GateTerms, ...]
    slices: tuple[SliceTerms, ...] = ()
    checks: Json = field(default_factory=dict)
    """As the specification has them; what came of them is part of the evidence."""
    conditions: Json = field(default_factory=dict)
    """The condition behind each slice that a gate or a slice names."""
    split: Literal["time", "random"] = "random"
    entity: str | None = None
    anchor: bool = True
    uses: int = 20
    draws: int = DRAWS
    fleet_alpha: float = FLEET_ALPHA

    def to_plain(self) -> Json:
        """As JSON; `rules_of` reads it back."""
        plain: Json = orjson.loads(orjson.dumps(self))
        return plain

    def digest(self) -> str:
        """Digest of all of it."""
        text = orjson.dumps(self, option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(text).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What was known before the candidate was scored.

    Attributes:
        champion_proven, anchor_proven: per metric, the lower bound of its own gain over the
            baseline in its own verdict.
        anchor: whether there is an anchor that is not the champion.
        holdout_use: which verdict on these held-out rows this is, from 1.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    mode: Mode
    champion_proven: Mapping[str, float] = field(default_factory=dict)
    anchor: bool = False
    anchor_proven: Mapping[str, float] = field(default_factory=dict)
    holdout_use: int = 1
    seed: int = 0

    def to_plain(self) -> Json:
        """As JSON; `given_of` reads it back."""
        plain: Json = orjson.loads(orjson.dumps(self))
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was decided before the fleet is asked, and every figure of it."""

    accepted: bool
    reason: Reason
    gates: tuple[Gate, ...] = ()
    slices: tuple[SliceVerdict, ...] = ()
    checks: tuple[Check, ...] = ()
    champion_below_baseline: bool = False
    e_value: float = 0.0
    """Least evidence among the gates that must hold; what a fleet's stream is asked with."""
    rows: int = 0
    units: int = 0
    """Rows, entities or blocks of the first gate that are independent of each other."""
    draws: int = 0
    engine: str = ENGINE


_RULES: Final = TypeAdapter(Rules)
_GIVEN: Final = TypeAdapter(Given)


def rules_from(spec: ModelSpec, draws: int = DRAWS, fleet_alpha: float = FLEET_ALPHA) -> Rules:
    """The rules of a specification, defaults worked out."""
    gates = spec.effective_gates
    return Rules(
        gates=tuple(
            GateTerms(
                metric=gate.metric,
                vs=gate.vs,
                margin=gate.margin,
                confidence=gate.confidence,
                limit=gate.most_loss,
                slice=gate.slice,
            )
            for gate in gates
        ),
        slices=tuple(_slice_terms(part, gates) for part in spec.slices),
        checks=spec.checks.model_dump(mode="json"),
        conditions=dict(spec.conditions),
        split=spec.data.split_kind,
        entity=spec.evaluation.entity,
        anchor=spec.evaluation.anchor,
        uses=spec.evaluation.uses,
        draws=draws,
        fleet_alpha=fleet_alpha,
    )


def _slice_terms(part: Slice, gates: Sequence[GateRule]) -> SliceTerms:
    """Where nothing is said: metric, margin and confidence of the gate against the champion."""
    metric = part.metric or gates[0].metric
    against = [gate for gate in gates if gate.vs == "champion"]
    gate = next((gate for gate in against if gate.metric == metric), None)
    return SliceTerms(
        name=part.name,
        where=part.where,
        role=part.role,
        metric=metric,
        margin=part.margin if part.margin is not None or gate is None else gate.margin,
        confidence=(gate or gates[0]).confidence,
        min_rows=part.min_rows,
        min_positives=part.min_positives,
    )


def rules_of(plain: Json) -> Rules:
    """Rules from what `Rules.to_plain` gave.

    Raises:
        Unprocessable: they are none, or have a key that is not known here.
    """
    return _read(_RULES, plain, "rules of a verdict")


def given_of(plain: Json) -> Given:
    """What was known, from what `Given.to_plain` gave.

    Raises:
        Unprocessable: it is something else.
    """
    return _read(_GIVEN, plain, "what a verdict was given")


def _read(adapter: TypeAdapter[Read], plain: Any, what: str) -> Read:
    try:
        return adapter.validate_python(plain)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Unprocessable(f"these are not the {what}: {place}: {first['msg']}") from error


def refused(
    reason: Literal["invalid_input", "cannot_compare", "holdout_exhausted"],
    detail: str,
    *,
    rows: int = 0,
    checks: tuple[Check, ...] = (),
) -> Verdict:
    """A verdict without any comparison; its one gate carries why."""
    gate = Gate(
        metric="none",
        versus="champion" if reason == "cannot_compare" else "absolute",
        passed=False,
        estimate=None,
        lower=None,
        upper=None,
        confidence=0.0,
        margin=0.0,
        rows=rows,
        test="none",
        detail=detail,
    )
    return Verdict(accepted=False, reason=reason, gates=(gate,), checks=checks, rows=rows)


def proven_gains(gates: Sequence[Gate]) -> dict[str, float]:
    """Per metric, how much better than the baseline a verdict has shown its version to be."""
    return {
        gate.metric: gate.lower
        for gate in gates
        if gate.versus == "baseline" and gate.slice is None
        if gate.lower is not None and gate.lower > 0
    }


def is_shown_superior(gates: Sequence[Gate], versus: Literal["champion", "anchor"]) -> bool:
    """Whether all gates on whole hold-outs against it have a lower bound above 0."""
    lowers = [gate.lower for gate in gates if gate.versus == versus and gate.slice is None]
    return bool(lowers) and all(lower is not None and lower > 0 for lower in lowers)
