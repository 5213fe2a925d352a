"""What runs in the child: everybody on the same held-out rows, the verdict, and its card.

Loads models, so it never runs in the service itself. Whatever is wrong with the input comes back
as a reason; nothing is guessed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from timeit import default_timer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.evaluator import parts
from services.evaluator.card import card_of
from services.evaluator.checks import checked
from services.evaluator.domain import verdict_to_plain
from services.evaluator.evidence import Evidence, Predictor, read_evidence
from services.evaluator.metrics import Insufficient, measure_of
from services.evaluator.predictors import (
    Candidate,
    CannotCompare,
    Scored,
    baseline_on,
    candidate_on,
    other_on,
    own_losses,
    own_metric,
)
from services.evaluator.verdict import GateTerms, Given, Rules, decide, given_of, rules_of
from services.evaluator.verdict.validity import flaw_of
from shared.errors import TidewheelError, Unprocessable
from shared.events import Check, LeftOutFigures
from shared.holdout import Holdout, read_holdout
from shared.manifest import read_manifest
from shared.spec_gate import Checks

Argument = Mapping[str, Any]


def score(argument: Argument) -> dict[str, Any]:
    """Score everybody and decide; the entry of the child.

    Args:
        argument: `candidate`, `champion` and `anchor` as files of a version (the latter two or
            None), `held` as bytes of other held-out rows or None for the candidate's own, `rules`
            and `given` as plain values, `metric_packages` that may be imported.

    Returns:
        `verdict`, `evidence` (bytes), `rows`, `left_out`; or a `problem` with `detail` and `rows`.
    """
    rows = 0
    try:
        held = _rows(argument)
        rows = len(held)
        found = evidence_of(argument, held)
        verdict = decide(found, rules_of(argument["rules"]), given_of(argument["given"]))
    except CannotCompare as error:
        return {"problem": "cannot_compare", "detail": str(error), "rows": rows}
    except TidewheelError as error:
        return {"problem": "invalid_input", "detail": str(error), "rows": rows}
    return {
        "verdict": verdict_to_plain(verdict),
        "evidence": found.to_bytes(),
        "rows": rows,
        "left_out": [asdict(one) for one in on_left_out(argument)],
    }


def _rows(argument: Argument) -> Holdout:
    """The held-out rows by time, ties by hash: the same whatever order the file has."""
    held = read_holdout(argument["held"] or argument["candidate"]["holdout"])
    if not len(held):
        raise Unprocessable("there are no held-out rows")
    keys: list[NDArray[Any]] = [held.row_hashes]
    if held.times is not None:
        keys.append(held.times)
    order = np.lexsort(keys)
    return held.taken(order)


def evidence_of(argument: Argument, held: Holdout) -> Evidence:
    """Everything that a verdict is computed from.

    Raises:
        Unprocessable: the candidate, its baseline or the rules do not fit the rows.
        CannotCompare: the champion or the anchor does not.
    """
    rules = rules_of(argument["rules"])
    candidate = candidate_on(held, argument["candidate"])
    predictors: dict[Predictor, Scored] = {
        "candidate": candidate.scored,
        "baseline": baseline_on(held, candidate.manifest),
    }
    if argument["champion"] is not None:
        predictors["champion"] = other_on(held, argument["champion"], "champion")
    if argument["anchor"] is not None:
        predictors["anchor"] = other_on(held, argument["anchor"], "anchor")
    return Evidence(
        task=held.task,
        ordered=rules.split == "time",
        y=held.y,
        row_hashes=held.row_hashes,
        times=held.times,
        entities=parts.entities(rules.entity, held),
        classes={name: scored.classes for name, scored in predictors.items()},
        answers={name: scored.numbers for name, scored in predictors.items()},
        slices=parts.declared(rules.conditions, held),
        found=parts.found(held),
        own_losses=_own_losses(rules, held, predictors, argument["metric_packages"]),
        checks=_checks(rules, candidate, held),
    )


def _checks(rules: Rules, candidate: Candidate, held: Holdout) -> tuple[Check, ...]:
    return tuple(checked(Checks.model_validate(rules.checks), candidate, held, default_timer))


def _own_losses(
    rules: Rules, held: Holdout, predictors: Mapping[Predictor, Scored], allowed: Sequence[str]
) -> dict[tuple[str, str], NDArray[np.float64]]:
    names = {gate.metric for gate in rules.gates} | {part.metric for part in rules.slices}
    found: dict[tuple[str, str], NDArray[np.float64]] = {}
    for name in sorted(name for name in names if ":" in name):
        loss = own_metric(name, allowed)
        for predictor, scored in predictors.items():
            try:
                found[predictor, name] = own_losses(name, loss, held, scored)
            except Unprocessable as error:
                kind = CannotCompare if predictor in ("champion", "anchor") else Unprocessable
                raise kind(f"the {predictor} cannot be judged: {error}") from error
    return found


# --- what was left out --------------------------------------------------------------------------


def on_left_out(argument: Argument) -> list[LeftOutFigures]:
    """Losses on the rows that the candidate was spared, by metric; empty where there are none.

    Nothing depends on them, so whatever is wrong with them, or with somebody's answers to them, is
    a missing figure and no reason against the candidate.
    """
    data = argument["candidate"].get("left_out")
    if data is None:
        return []
    metrics = {gate.metric for gate in rules_of(argument["rules"]).gates if ":" not in gate.metric}
    try:
        held = read_holdout(data)
        candidate = candidate_on(held, {**argument["candidate"], "holdout": data})
        baseline = baseline_on(held, candidate.manifest)
        champion = _spared_champion(argument["champion"], held)
        return [
            _figures(metric, held, candidate.scored, baseline, champion)
            for metric in sorted(metrics)
        ]
    except (TidewheelError, Insufficient, ValueError):
        return []


def _spared_champion(files: Any, held: Holdout) -> tuple[Holdout, Scored] | None:
    """The champion on those of the rows that it was not fitted on; it would know the others."""
    if files is None:
        return None
    fitted = read_holdout(files["holdout"]).train_hashes
    unknown = held.taken(~np.isin(held.row_hashes, fitted))
    try:
        return (unknown, other_on(unknown, files, "champion")) if len(unknown) else None
    except CannotCompare:
        return None


def _figures(
    metric: str,
    held: Holdout,
    candidate: Scored,
    baseline: Scored,
    champion: tuple[Holdout, Scored] | None,
) -> LeftOutFigures:
    return LeftOutFigures(
        metric=metric,
        rows=len(held),
        candidate=_mean(metric, held, candidate),
        baseline=_mean(metric, held, baseline),
        champion=_mean(metric, *champion) if champion else None,
        champion_rows=len(champion[0]) if champion else 0,
    )


def _mean(metric: str, held: Holdout, scored: Scored) -> float:
    sides: tuple[Predictor, ...] = ("candidate",)
    found = Evidence(
        task=held.task,
        ordered=False,
        y=held.y,
        row_hashes=held.row_hashes,
        classes=dict.fromkeys(sides, scored.classes),
        answers=dict.fromkeys(sides, scored.numbers),
    )
    return float(measure_of(found, "candidate", metric).of_weights(np.ones((1, len(held))))[0])


# --- the best of several ----------------------------------------------------------------------


def loss(argument: Argument) -> dict[str, Any]:
    """The loss of one version on some version's held-out rows; an entry of the child.

    Args:
        argument: `candidate` and `held` as in `score`, `metric`, `metric_packages`.

    Returns:
        `loss`; or a `problem` with `detail`.
    """
    try:
        held = _rows(argument)
        return {"loss": _loss(argument["metric"], held, argument)}
    except TidewheelError as error:
        return {"problem": "invalid_input", "detail": str(error)}


def _loss(metric: str, held: Holdout, argument: Argument) -> float:
    scored = candidate_on(held, argument["candidate"]).scored
    own = {}
    if ":" in metric:
        own[metric] = own_losses(
            metric, own_metric(metric, argument["metric_packages"]), held, scored
        )
    # Nobody is compared here; beside itself a version is seen to be usable and no more.
    sides: tuple[Predictor, ...] = ("candidate", "baseline")
    found = Evidence(
        task=held.task,
        ordered=False,
        y=held.y,
        row_hashes=held.row_hashes,
        classes=dict.fromkeys(sides, scored.classes),
        answers=dict.fromkeys(sides, scored.numbers),
        own_losses={(side, name): losses for side in sides for name, losses in own.items()},
    )
    rules = Rules(gates=(GateTerms(metric=metric, vs="baseline"),))
    flaw = flaw_of(found, rules, Given(mode="first"))
    if flaw:
        raise Unprocessable(flaw.detail)
    return float(measure_of(found, "candidate", metric).of_weights(np.ones((1, len(held))))[0])


# --- cards ------------------------------------------------------------------------------------


def card(argument: Argument) -> dict[str, bytes]:
    """The model card of a verdict; an entry of the child.

    Args:
        argument: `event` as plain fields, `evidence` and `manifest` as bytes.
    """
    made = card_of(
        argument["event"], read_evidence(argument["evidence"]), read_manifest(argument["manifest"])
    )
    return {"markdown": made.markdown.encode(), "html": made.html.encode()}
