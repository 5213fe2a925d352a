"""What follows from verdicts and champions: mode, anchor, fleet, and names. Plain values only."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from services.evaluator.fleet import FleetState
from services.evaluator.verdict import (
    Given,
    Mode,
    Rules,
    Verdict,
    is_shown_superior,
    rules_from,
)
from shared.events import BestAsked, Digest, EvaluationCompleted, Json, ModelRegistered
from shared.spec import ModelSpec, read_spec

_VERDICT: Final = TypeAdapter(Verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """A version that candidates are compared with: who answers now, or the best so far.

    Attributes:
        proven: per metric, the lower bound of its own gain over the baseline.
    """

    version: int
    manifest: Digest
    code_digest: str | None = None
    proven: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Who a model's candidates have to face.

    Attributes:
        anchor: the best champion so far, None where that is the champion.
        reign: how often somebody was crowned.
    """

    champion: Champion | None = None
    anchor: Champion | None = None
    reign: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One candidate to be judged, against whom, on which rows and by which rules.

    Attributes:
        split: digest of the held-out rows.
        rows_of: manifest of the version whose held-out rows judge; the candidate's own by default.
        holdout_use: which verdict on these rows this would be.
        new_uses: how many of those it takes itself; more when the candidate was chosen on them.
    """

    candidate: ModelRegistered
    standing: Standing
    spec: Json
    rules: Rules
    policy: str
    mode: Mode
    split: Digest
    rows_of: Digest
    holdout_use: int = 1
    new_uses: int = 1
    best: BestAsked | None = None

    @property
    def uses_before(self) -> int:
        """Verdicts that these rows have given before."""
        return self.holdout_use - self.new_uses

    @property
    def champion(self) -> Champion | None:
        """Who answers now."""
        return self.standing.champion

    @property
    def anchor(self) -> Champion | None:
        """The best so far, where it counts and is somebody else."""
        return self.standing.anchor if self.rules.anchor else None

    def given(self) -> Given:
        """What is known before the candidate is scored."""
        champion, anchor = self.champion, self.anchor
        return Given(
            mode=self.mode,
            champion_proven=dict((champion.proven if champion else None) or {}),
            anchor=anchor is not None,
            anchor_proven=dict((anchor.proven if anchor else None) or {}),
            holdout_use=self.holdout_use,
            seed=seed_of(
                self.candidate.manifest,
                champion.manifest if champion else "",
                anchor.manifest if anchor else "",
                self.split,
                self.rules.digest(),
            ),
        )


def mode_of(code_digest: str, champion: Champion | None) -> Mode:
    """`refresh` when only the data is newer, `change` when anything else is, too."""
    if champion is None:
        return "first"
    return "refresh" if champion.code_digest == code_digest else "change"


def question_of(
    candidate: ModelRegistered, spec: ModelSpec, standing: Standing, uses: int
) -> Question:
    """What is asked when a version has been registered, its rows having judged so often before."""
    rules = rules_from(spec)
    return Question(
        candidate=candidate,
        standing=standing,
        spec=candidate.spec,
        rules=rules,
        policy=rules.digest(),
        mode=mode_of(candidate.code_digest, standing.champion),
        split=candidate.split,
        rows_of=candidate.manifest,
        holdout_use=uses + 1,
    )


def ranked_question(
    winner: ModelRegistered,
    newest: ModelRegistered,
    spec: ModelSpec,
    standing: Standing,
    asked: BestAsked,
    uses: int,
    key: str,
) -> Question:
    """What is asked of the best of several versions, by the newest rows and the newest rules.

    It was chosen on the rows that judge it, so every version that it was chosen from takes a use
    of them: the last one's share of alpha is not more than any other's.

    Args:
        key: tells this request from others.
    """
    rules = rules_from(spec)
    champion = standing.champion.version if standing.champion else None
    chosen_from = sum(loss is not None and version != champion for version, loss in asked.ranking)
    return Question(
        candidate=winner,
        standing=standing,
        spec=newest.spec,
        rules=rules,
        policy=f"{rules.digest()}/best/{key}",
        mode="first" if standing.champion is None else "change",
        split=newest.split,
        rows_of=newest.manifest,
        holdout_use=uses + max(1, chosen_from),
        new_uses=max(1, chosen_from),
        best=asked,
    )


def spec_of(plain: Json) -> ModelSpec | None:
    """The specification; None when it cannot be read, and then nothing can be accepted."""
    try:
        return read_spec(plain)
    except ValidationError:
        return None


def policy_of(plain: Json) -> str:
    """Digest of everything in a specification that a verdict depends on."""
    spec = spec_of(plain)
    return "unreadable" if spec is None else rules_from(spec).digest()


def seed_of(*digests: str) -> int:
    """The seed of a verdict: a function of the digests of all that goes into it."""
    joined = "\x1f".join(digests).encode()
    return int.from_bytes(hashlib.sha256(joined).digest()[:8], "big") >> 1


def natural_key(candidate: ModelRegistered, champion: int | None, reign: int, policy: str) -> str:
    """One job per candidate, champion and policy; a champion who has come back counts anew."""
    return f"{candidate.model}/{candidate.version}/{champion or 'none'}/{reign}/{policy}"


def verdict_to_plain(verdict: Verdict) -> Json:
    """As JSON; `verdict_of` reads it back, bit for bit."""
    plain: Json = _VERDICT.dump_python(verdict, mode="json")
    return plain


def verdict_of(plain: Any) -> Verdict:
    """The verdict that a child gave back."""
    return _VERDICT.validate_python(plain)


# --- anchor -----------------------------------------------------------------------------------


def anchor_moves(
    version: int, anchor: Champion | None, verdict: EvaluationCompleted | None
) -> Literal["first_champion", "shown_better"] | None:
    """Why a promoted version is the best so far; None while that is not shown.

    Args:
        anchor: the best until now; it may be the champion before this one.
        verdict: by which the version was promoted.
    """
    if anchor is None:
        return "first_champion"
    if verdict is None or version != verdict.version or version == anchor.version:
        return None
    if verdict.anchor == anchor.version:
        return "shown_better" if is_shown_superior(verdict.gates, "anchor") else None
    if verdict.anchor is None and verdict.champion == anchor.version:
        return "shown_better" if is_shown_superior(verdict.gates, "champion") else None
    return None


# --- fleets -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A fleet's budget of one quarter, and what was taken from it so far."""

    name: str
    state: FleetState


def fleet_of(spec: ModelSpec) -> str | None:
    """Which models share a false-discovery budget with this one; None for those that share none.

    By default those of one owner whose specifications differ by name and dataset only.
    """
    named = spec.evaluation.fleet
    if named == "none":
        return None
    if named is not None:
        return named
    plain = spec.canonical()
    del plain["name"]
    plain["data"] = {name: value for name, value in plain["data"].items() if name != "dataset"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return f"{spec.owner}/{hashlib.sha256(text.encode()).hexdigest()}"


def stream_of(fleet: str, moment: datetime) -> str:
    """The stream that a fleet's claims belong to; it begins anew each quarter."""
    return f"{fleet}/{moment.year}-Q{(moment.month + 2) // 3}"


# --- held-out rows ----------------------------------------------------------------------------


def is_retired(event: EvaluationCompleted, newest_split: str | None, uses: int) -> bool:
    """Whether a verdict's held-out rows will judge no more, so that its figures may be known.

    Args:
        newest_split: of the model's newest verdict that looked at held-out rows.
        uses: verdicts that these rows have given.
    """
    spec = spec_of(event.spec)
    most = spec.evaluation.uses if spec else 0
    return event.split != newest_split or uses >= most
