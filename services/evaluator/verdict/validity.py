"""What must be true of evidence before anything is compared; whatever is wrong ends in a no."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from services.evaluator.evidence import Evidence
from services.evaluator.metrics import ON_LABELS, kind_of, losses_of
from services.evaluator.verdict.terms import Given, Rules
from shared.errors import Unprocessable

SUM_TOLERANCE: Final = 1e-6
_OTHERS: Final = frozenset({"champion", "anchor"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """Why nothing can be compared. A fault of the champion or the anchor is not the candidate's."""

    reason: Literal["invalid_input", "cannot_compare"]
    detail: str


def flaw_of(evidence: Evidence, rules: Rules, given: Given) -> Flaw | None:
    """The first thing that is wrong, None when all is well."""
    return next(_flaws(evidence, rules, given), None)


def _flaws(evidence: Evidence, rules: Rules, given: Given) -> Iterator[Flaw]:
    if not len(evidence):
        yield Flaw(reason="invalid_input", detail="there are no held-out rows")
        return
    yield from _of_rows(evidence)
    needed = ["candidate", "baseline"]
    needed += ["champion"] if given.mode != "first" else []
    needed += ["anchor"] if given.anchor and rules.anchor else []
    for predictor in needed:
        found = _of_predictor(evidence, predictor)
        if found:
            yield _by(predictor, found)
    yield from _of_rules(evidence, rules)
    for predictor in needed:
        for metric in _metrics(rules):
            found = _of_losses(evidence, predictor, metric)
            if found:
                yield _by(predictor, found)


def _by(predictor: str, detail: str) -> Flaw:
    if predictor in _OTHERS:
        return Flaw(reason="cannot_compare", detail=f"the {predictor} cannot be scored: {detail}")
    return Flaw(reason="invalid_input", detail=f"the {predictor}: {detail}")


# --- rows -------------------------------------------------------------------------------------


def _of_rows(evidence: Evidence) -> Iterator[Flaw]:
    vectors: dict[str, Any] = {"row hashes": evidence.row_hashes}
    for name, optional in (("times", evidence.times), ("entities", evidence.entities)):
        vectors |= {} if optional is None else {name: optional}
    vectors |= {f"slice {name}": mask for name, mask in evidence.slices.items()}
    vectors |= {f"part {name}": mask for name, mask in evidence.found.items()}
    for name, vector in vectors.items():
        if len(vector) != len(evidence):
            detail = f"{len(vector)} {name} for {len(evidence)} outcomes"
            yield Flaw(reason="invalid_input", detail=detail)
            return
    twice = len(evidence) - len(np.unique(evidence.row_hashes))
    if twice:
        yield Flaw(reason="invalid_input", detail=f"{twice} held-out rows are there twice")
    if evidence.task == "regression":
        wrong = ~np.isfinite(np.asarray(evidence.y, dtype=np.float64))
        found = _rows(evidence, wrong, "an outcome that is not finite")
        if found:
            yield Flaw(reason="invalid_input", detail=found)


def _rows(evidence: Evidence, wrong: NDArray[np.bool_], what: str) -> str | None:
    """How many rows are wrong, and the hash of the first in the order of decision."""
    if not wrong.any():
        return None
    order = evidence.order()
    first = evidence.row_hashes[order][wrong[order]][0]
    return f"{int(wrong.sum())} rows have {what}, first row {int(first):016x}"


# --- predictors -------------------------------------------------------------------------------


def _of_predictor(evidence: Evidence, predictor: str) -> str | None:
    answers = evidence.answers.get(predictor)
    if answers is None:
        return "there are no answers of it"
    if len(answers) != len(evidence):
        return f"{len(answers)} answers for {len(evidence)} outcomes"
    if evidence.task == "regression":
        if answers.ndim != 1:
            return "answers of more than one number"
        return _rows(evidence, ~np.isfinite(answers), "an answer that is not finite")
    return _of_probabilities(evidence, predictor, answers)


def _of_probabilities(
    evidence: Evidence, predictor: str, answers: NDArray[np.float64]
) -> str | None:
    classes = evidence.classes.get(predictor, ())
    if answers.ndim != 2 or answers.shape[1] != len(classes) or len(classes) < 2:
        return f"answers of shape {answers.shape} for {len(classes)} classes"
    unnamed = [label for label in dict.fromkeys(evidence.y.tolist()) if label not in classes]
    if unnamed:
        return f"the outcome {unnamed[0]!r} is no class of it"
    usable = np.isfinite(answers).all(axis=1)
    usable &= (answers >= 0).all(axis=1) & (answers <= 1 + SUM_TOLERANCE).all(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        usable &= np.abs(answers.sum(axis=1) - 1) <= SUM_TOLERANCE
    return _rows(evidence, ~usable, "probabilities that are none")


# --- rules ------------------------------------------------------------------------------------


def _of_rules(evidence: Evidence, rules: Rules) -> Iterator[Flaw]:
    names = [term.name for term in rules.slices]
    names += [gate.slice for gate in rules.gates if gate.slice is not None]
    for name in names:
        if name not in evidence.slices:
            detail = f"the evidence does not say which rows lie in {name!r}"
            yield Flaw(reason="invalid_input", detail=detail)
    is_constant = len(dict.fromkeys(evidence.y.tolist())) < 2
    for metric in _metrics(rules):
        if is_constant and (metric in ON_LABELS or metric == "r2"):
            detail = f"{metric} needs outcomes that differ, and all {len(evidence)} are alike"
            yield Flaw(reason="invalid_input", detail=detail)


def _metrics(rules: Rules) -> list[str]:
    found = [gate.metric for gate in rules.gates] + [term.metric for term in rules.slices]
    return list(dict.fromkeys(found))


def _of_losses(evidence: Evidence, predictor: str, metric: str) -> str | None:
    """Answers can be finite and their losses not: squares overflow."""
    if metric in ON_LABELS:
        return _of_classes(evidence, predictor, metric)
    asked = "mse" if metric in ("rmse", "r2") else metric
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            losses = losses_of(evidence, predictor, asked)
    except Unprocessable as error:
        return str(error)
    if len(losses) != len(evidence):
        return f"{len(losses)} losses for {len(evidence)} outcomes"
    wrong = ~np.isfinite(losses)
    if metric == "mape":
        wrong &= evidence.y != 0
    return _rows(evidence, wrong, f"a loss ({metric}) that is not finite")


def _of_classes(evidence: Evidence, predictor: str, metric: str) -> str | None:
    if evidence.task == "regression":
        return f"{metric} needs classes"
    known = evidence.classes[predictor]
    unknown = [label for label in evidence.classes["candidate"] if label not in known]
    if unknown and kind_of(metric) in ("area", "precision"):
        return f"the class {unknown[0]!r} is none of its"
    return None
