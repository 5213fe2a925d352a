"""Candidate, champion and baseline on the same held-out rows, in a child process.

Loads models, so it never runs in the service itself. Whatever is wrong with the input comes back
as a reason; nothing is guessed.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from services.evaluator.baselines import answers_of
from services.evaluator.comparison import (
    Compared,
    Differences,
    TooFewRows,
    block_means,
    bootstrap_t,
    is_finite,
    linearised_roots,
    paired_mistakes,
    plain,
)
from shared import models
from shared.errors import TidewheelError, Unprocessable
from shared.events import Json
from shared.holdout import Holdout, overlap, read_holdout
from shared.losses import metric_value, row_losses
from shared.manifest import Manifest, read_manifest
from shared.models import Answers

FORMAT: Final = "tidewheel/evidence/v1"
MODEL_FILE: Final = "model.skops"
_SUM_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One predictor's answers, checked to be usable."""

    answers: Answers
    classes: tuple[str | float | bool, ...]


class CannotCompare(Exception):
    """The champion cannot be scored on these rows; the candidate is not to blame."""


def score(argument: Mapping[str, Any]) -> dict[str, Any]:
    """Score and compare; the entry of the child.

    Args:
        argument: `manifest`, `model` and `holdout` of the candidate (bytes), the same as `champion`
            or None, `gates` as plain rules, `ordered`, `seed`.

    Returns:
        `rows`, `evidence` (bytes) and `comparisons`, one per gate; or a `problem` with `detail`.
    """
    try:
        return _scored(argument)
    except CannotCompare as error:
        return {"problem": "cannot_compare", "detail": str(error)}
    except TidewheelError as error:
        return {"problem": "invalid_input", "detail": str(error)}


def _scored(argument: Mapping[str, Any]) -> dict[str, Any]:
    manifest = read_manifest(argument["manifest"])
    held = read_holdout(argument["holdout"])
    if not len(held):
        raise Unprocessable("there are no held-out rows")
    candidate = _answered(manifest, argument["model"], held)
    predictors = {"candidate": candidate, "baseline": _baseline(manifest, held)}
    if argument["champion"] is not None:
        predictors["champion"] = _champion(argument["champion"], held)
    order = _order(held)
    return {
        "rows": len(held),
        "evidence": evidence(held, predictors, order),
        "comparisons": _comparisons(argument, held, predictors, order),
    }


def _order(held: Holdout) -> NDArray[np.intp]:
    """Rows by time, ties by hash: the same whatever order the file has."""
    keys = [held.row_hashes] if held.times is None else [held.row_hashes, held.times]
    return np.lexsort(keys)


def _answered(manifest: Manifest, model: bytes, held: Holdout) -> Scored:
    answers = models.predict(models.load(model), held.matrix(manifest.columns), manifest.task)
    check_answers(answers, manifest)
    return Scored(answers=answers, classes=manifest.classes)


def _baseline(manifest: Manifest, held: Holdout) -> Scored:
    answers = answers_of(manifest.baseline, held.rows(), manifest.classes)
    check_answers(answers, manifest)
    return Scored(answers=answers, classes=manifest.classes)


def _champion(files: Mapping[str, bytes], held: Holdout) -> Scored:
    try:
        manifest = read_manifest(files["manifest"])
        both = overlap(held, read_holdout(files["holdout"]).train_hashes)
        if both:
            raise CannotCompare(f"the champion was fitted on {both} of the held-out rows")
        return _answered(manifest, files["model"], held)
    except TidewheelError as error:
        raise CannotCompare(f"the champion cannot be scored: {error}") from error


def check_answers(answers: Answers, manifest: Manifest) -> None:
    """See that answers are numbers, and probabilities are such.

    Raises:
        Unprocessable: they are not; says how many and where first.
    """
    if manifest.task == "regression":
        _refuse(~np.isfinite(answers.values.astype(np.float64)), "an answer that is not finite")
        return
    shares = answers.probabilities
    if shares is None:
        raise Unprocessable("the model gives no probabilities")
    usable = np.isfinite(shares).all(axis=1)
    usable &= (shares >= 0).all(axis=1) & (shares <= 1 + _SUM_TOLERANCE).all(axis=1)
    with np.errstate(invalid="ignore"):
        usable &= np.abs(shares.sum(axis=1) - 1) <= _SUM_TOLERANCE
    _refuse(~usable, "probabilities that are none")


def _refuse(wrong: NDArray[np.bool_], what: str) -> None:
    if wrong.any():
        raise Unprocessable(f"{int(wrong.sum())} rows have {what}, first row {int(wrong.argmax())}")


# --- comparisons ------------------------------------------------------------------------------


def _comparisons(
    argument: Mapping[str, Any],
    held: Holdout,
    predictors: Mapping[str, Scored],
    order: NDArray[np.intp],
) -> dict[str, Any]:
    """One entry per gate, by its place in the list."""
    losses = _Losses(held=held, predictors=predictors, order=order)
    gates: Sequence[Json] = argument["gates"]
    pairs = {str(n): losses.pair(gate) for n, gate in enumerate(gates) if _applies(gate, argument)}
    names = {name: gates[int(name)] for name in pairs}
    compared = _compared(
        {name: pair.differences for name, pair in pairs.items()},
        names,
        ordered=bool(argument["ordered"]),
        seed=int(argument["seed"]),
    )
    return {
        name: {
            **compared[name],
            "candidate_value": pair.candidate_value,
            "other_value": pair.other_value,
        }
        for name, pair in pairs.items()
    }


def _applies(gate: Json, argument: Mapping[str, Any]) -> bool:
    return gate["vs"] != "champion" or argument["champion"] is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Paired differences of one gate, and the metric of both sides."""

    differences: Differences
    candidate_value: float
    other_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Losses:
    held: Holdout
    predictors: Mapping[str, Scored]
    order: NDArray[np.intp]

    def pair(self, gate: Json) -> Pair:
        metric, versus = gate["metric"], gate["vs"]
        own = self.of("candidate", metric)
        if versus == "absolute":
            # The other side is a predictor that loses exactly the limit on every row.
            limit = float(gate["max"])
            other = np.full_like(own, limit * limit if metric == "rmse" else limit)
        else:
            other = self.of(versus, metric)
        is_root = metric == "rmse"
        return Pair(
            differences=linearised_roots(other, own) if is_root else other - own,
            candidate_value=metric_value(metric, own),
            other_value=metric_value(metric, other),
        )

    def of(self, name: Literal["candidate", "champion", "baseline"], metric: str) -> Differences:
        scored = self.predictors[name]
        try:
            losses = row_losses(metric, self.held.y, scored.answers, scored.classes)[self.order]
            _refuse(~np.isfinite(losses), f"a loss of the {name} that is not finite")
        except Unprocessable as error:
            if name == "champion":
                raise CannotCompare(f"the champion cannot be scored: {error}") from error
            raise
        return losses


def _compared(
    differences: Mapping[str, Differences],
    gates: Mapping[str, Json],
    *,
    ordered: bool,
    seed: int,
) -> dict[str, dict[str, Any]]:
    resampled = [name for name in differences if not ordered and not _are_mistakes(gates[name])]
    try:
        drawn = (
            bootstrap_t(
                {name: differences[name] for name in resampled},
                {name: gates[name]["confidence"] for name in resampled},
                seed,
            )
            if resampled
            else {}
        )
    except TooFewRows as error:
        return {name: {"insufficient": str(error)} for name in differences}
    return {
        name: _told(drawn.get(name), d, gates[name]["confidence"], ordered=ordered)
        for name, d in differences.items()
    }


def _are_mistakes(gate: Json) -> bool:
    """Whether a difference is -1, 0 or 1: both sides are right or wrong."""
    return bool(gate["metric"] == "accuracy" and gate["vs"] != "absolute")


def _told(
    drawn: Compared | None, d: Differences, confidence: float, *, ordered: bool
) -> dict[str, Any]:
    try:
        compared = drawn or (
            block_means(d, confidence) if ordered else paired_mistakes(d, confidence)
        )
    except TooFewRows as error:
        return {"insufficient": str(error)}
    if not is_finite([compared.estimate, compared.lower, compared.upper, compared.se]):
        return {"insufficient": "the interval is not finite"}
    return plain(compared)


# --- evidence ---------------------------------------------------------------------------------


def evidence(held: Holdout, predictors: Mapping[str, Scored], order: NDArray[np.intp]) -> bytes:
    """Row ids, outcomes and all answers in one npz file; the same input gives the same bytes.

    Numbers are little-endian float64. Labels are codes into the header's lists.
    """
    arrays: dict[str, NDArray[Any]] = {"row_hashes": held.row_hashes[order]}
    header: dict[str, Any] = {"format": FORMAT, "task": held.task, "classes": {}}
    if held.task == "regression":
        arrays["y"] = held.y[order].astype("<f8")
    else:
        labels = sorted({*held.y.tolist()}, key=lambda label: (type(label).__name__, label))
        place = {label: code for code, label in enumerate(labels)}
        header["labels"] = labels
        arrays["y"] = np.array([place[label] for label in held.y[order].tolist()], dtype="<i4")
    for name, scored in sorted(predictors.items()):
        shares = scored.answers.probabilities
        found = scored.answers.values if shares is None else shares
        arrays[name] = found[order].astype("<f8")
        header["classes"][name] = list(scored.classes)
    text = orjson.dumps(header, option=orjson.OPT_SORT_KEYS)
    arrays["header"] = np.frombuffer(text, dtype=np.uint8)
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()
