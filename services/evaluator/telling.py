"""A verdict as it is said: every field that its reader needs to compute it again."""

from typing import Final

from pydantic import TypeAdapter

from services.evaluator.domain import Question, Standing, mode_of
from services.evaluator.verdict import Rules, Verdict
from shared.events import (
    Digest,
    EvaluationCompleted,
    FleetClaim,
    Json,
    LeftOutFigures,
    ModelRegistered,
)

_EVENT: Final = TypeAdapter(EvaluationCompleted)


def plain(event: EvaluationCompleted) -> Json:
    """The fields of a verdict as JSON."""
    fields: Json = _EVENT.dump_python(event, mode="json")
    return fields


def said(
    question: Question,
    verdict: Verdict,
    *,
    evidence: Digest | None = None,
    asked: FleetClaim | None = None,
    seconds: float = 0.0,
    spends: bool = False,
    left_out: tuple[LeftOutFigures, ...] = (),
) -> EvaluationCompleted:
    """The verdict as an event; a fleet that is not convinced turns an accepted one down.

    Args:
        spends: whether it takes a use of the held-out rows.
        left_out: figures that are told and decide nothing.
    """
    registered, given = question.candidate, question.given()
    turned_down = verdict.accepted and asked is not None and not asked.passed
    return EvaluationCompleted(
        model=registered.model,
        version=registered.version,
        accepted=verdict.accepted and not turned_down,
        reason="fleet_fdr" if turned_down else verdict.reason,
        mode=question.mode,
        gates=verdict.gates,
        manifest=registered.manifest,
        champion=question.champion.version if question.champion else None,
        champion_manifest=question.champion.manifest if question.champion else None,
        dataset=registered.dataset,
        dataset_version=registered.dataset_version,
        dataset_digest=registered.dataset_digest,
        split=question.split,
        evidence=evidence,
        spec=question.spec,
        rows=verdict.rows,
        seed=given.seed,
        seconds=seconds,
        slices=verdict.slices,
        checks=verdict.checks,
        anchor=question.anchor.version if question.anchor else None,
        anchor_manifest=question.anchor.manifest if question.anchor else None,
        champion_below_baseline=verdict.champion_below_baseline,
        policy={"rules": question.rules.to_plain(), "given": given.to_plain()},
        policy_digest=question.rules.digest(),
        holdout_use=question.holdout_use if spends else question.uses_before,
        fleet=asked,
        draws=verdict.draws,
        engine=verdict.engine,
        authors=registered.authors,
        best=question.best,
        left_out=left_out,
    )


def unreadable(registered: ModelRegistered, standing: Standing) -> Question:
    """The question about a version whose specification cannot be read; nothing answers it."""
    return Question(
        candidate=registered,
        standing=standing,
        spec=registered.spec,
        rules=Rules(gates=()),
        policy="unreadable",
        mode=mode_of(registered.code_digest, standing.champion),
        split=registered.split,
        rows_of=registered.manifest,
    )
