"""Evidence, rules and what was known before, into a verdict: pure, and the same bit for bit."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from services.evaluator.evidence import Evidence, read_evidence
from shared.events import Check, Gate, Json, SliceVerdict
from shared.spec import ModelSpec

ENGINE: Final = "tidewheel/verdict/1"
"""Another name may give other last digits from the same evidence."""
DRAWS: Final = 4_999

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
class SliceTerms:
    """A slice with its defaults worked out."""

    name: str
    where: str
    role: Literal["required", "watched"]
    metric: str
    margin: float | None = None
    """None: a tenth of the champion's proven gain in the metric."""
    confidence: float = 0.95
    min_rows: int = 50
    min_positives: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Everything in a specification that a verdict depends on."""

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
    fleet_alpha: float = 0.05

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A recorded verdict computed again."""

    same: bool
    differences: tuple[str, ...]
    """Names of the fields that came out otherwise."""
    verdict: Verdict


def rules_from(spec: ModelSpec, draws: int = DRAWS) -> Rules:
    """The rules of a specification, defaults worked out."""
    raise NotImplementedError


def rules_of(plain: Json) -> Rules:
    """Rules from what `Rules.to_plain` gave."""
    raise NotImplementedError


def given_of(plain: Json) -> Given:
    """What was known, from what `Given.to_plain` gave."""
    raise NotImplementedError


def decide(evidence: Evidence, rules: Rules, given: Given) -> Verdict:
    """Accepted when every rule holds; else the reason of the first that does not."""
    raise NotImplementedError


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


def proven_gains(gates: tuple[Gate, ...]) -> dict[str, float]:
    """Per metric, how much better than the baseline a verdict has shown its version to be."""
    raise NotImplementedError


def is_shown_superior(gates: tuple[Gate, ...], versus: Literal["champion", "anchor"]) -> bool:
    """Whether all gates on whole hold-outs against it have a lower bound above 0."""
    raise NotImplementedError


def replayed(event: Mapping[str, Any], evidence: bytes) -> Replay:
    """Compute the verdict of a recorded event again, from its policy and its evidence.

    Args:
        event: the fields of the recorded `EvaluationCompleted`, as plain JSON.

    Raises:
        Unprocessable: the evidence or the policy cannot be read.
    """
    read_evidence(evidence)
    rules_of(event["policy"]["rules"])
    raise NotImplementedError
