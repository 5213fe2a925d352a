"""Everybody who answers the held-out rows: candidate, champion, anchor and baseline.

Loads models and the user's own metrics, so it never runs in the service itself. Whatever is wrong
comes back as a sentence; nothing is guessed.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.evaluator.baselines import answers_of
from shared import models
from shared.errors import TidewheelError, Unprocessable
from shared.holdout import Hashes, Holdout, overlap, read_holdout
from shared.losses import Label
from shared.manifest import Manifest, read_manifest
from shared.models import Answers

Files = Mapping[str, bytes]
"""`manifest`, `model` and `holdout` of one version."""


class CannotCompare(Exception):
    """A champion or anchor cannot be scored on these rows; the candidate is not to blame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One predictor's answers; whether they can be compared is for the verdict to see."""

    answers: Answers
    classes: tuple[Label, ...]

    @property
    def numbers(self) -> NDArray[np.float64]:
        """Numbers of a regression, shape (n,); else probabilities, shape (n, classes)."""
        shares = self.answers.probabilities
        found = self.answers.values if shares is None else shares
        return found.astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The version to be judged, loaded."""

    manifest: Manifest
    estimator: Any
    scored: Scored


def candidate_on(held: Holdout, files: Files) -> Candidate:
    """The candidate and its answers.

    Raises:
        Unprocessable: it cannot be loaded, was fitted on the rows, or cannot answer them.
    """
    manifest = read_manifest(files["manifest"])
    refuse_leak(held, read_holdout(files["holdout"]).train_hashes, "the candidate")
    estimator = models.load(files["model"])
    return Candidate(
        manifest=manifest, estimator=estimator, scored=_answered(manifest, estimator, held)
    )


def other_on(held: Holdout, files: Files, who: str) -> Scored:
    """A champion's or an anchor's answers to the candidate's rows.

    Raises:
        CannotCompare: there are none that could be compared.
    """
    try:
        manifest = read_manifest(files["manifest"])
        refuse_leak(held, read_holdout(files["holdout"]).train_hashes, f"the {who}")
        return _answered(manifest, models.load(files["model"]), held)
    except TidewheelError as error:
        raise CannotCompare(f"the {who} cannot be scored: {error}") from error


def baseline_on(held: Holdout, manifest: Manifest) -> Scored:
    """What the candidate's baseline rule answers.

    Raises:
        Unprocessable: a rule that does not fit the task.
    """
    answers = answers_of(manifest.baseline, held.rows(), manifest.classes)
    return Scored(answers=answers, classes=manifest.classes)


def refuse_leak(held: Holdout, fitted: Hashes, who: str) -> None:
    """See that nobody is judged on rows that it was fitted on.

    Raises:
        Unprocessable: some are.
    """
    both = overlap(held, fitted)
    if both:
        raise Unprocessable(f"{who} was fitted on {both} of the held-out rows")


def _answered(manifest: Manifest, estimator: Any, held: Holdout) -> Scored:
    if manifest.task != held.task:
        raise Unprocessable(f"a model for {manifest.task} cannot answer a {held.task}")
    answers = models.predict(estimator, held.matrix(manifest.columns), manifest.task)
    return Scored(answers=answers, classes=manifest.classes)


def refuse(wrong: NDArray[np.bool_], what: str) -> None:
    """See that no row is wrong.

    Raises:
        Unprocessable: says how many are, and which first.
    """
    if wrong.any():
        raise Unprocessable(f"{int(wrong.sum())} rows have {what}, first row {int(wrong.argmax())}")


# --- the user's own metrics -------------------------------------------------------------------

Loss = Callable[..., Any]


def own_metric(name: str, allowed: Sequence[str]) -> Loss:
    """The function behind `package.module:function`.

    Raises:
        Unprocessable: its package is not allowed, or there is no such function.
    """
    module, _, function = name.partition(":")
    if module.partition(".")[0] not in allowed:
        raise Unprocessable(
            f"the metric {name} is of no allowed package; an operator allows packages by the "
            "evaluator's setting metric_packages"
        )
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:
        raise Unprocessable(f"the metric {name} cannot be imported: {_line(error)}") from error
    if not callable(found):
        raise Unprocessable(f"the metric {name} is no function")
    loss: Loss = found
    return loss


def own_losses(name: str, loss: Loss, held: Holdout, scored: Scored) -> NDArray[np.float64]:
    """One loss per row: `function(outcomes, answers, probabilities, classes)`.

    For regression `probabilities` is None and `classes` is empty.

    Raises:
        Unprocessable: it raises, or does not give one finite number per row.
    """
    answers = scored.answers
    given = (held.y.copy(), answers.values.copy(), answers.probabilities, list(scored.classes))
    try:
        with np.errstate(all="ignore"):
            losses = np.asarray(loss(*given), dtype=np.float64)
    except Exception as error:
        raise Unprocessable(f"the metric {name} failed: {_line(error)}") from error
    if losses.shape != (len(held),):
        raise Unprocessable(
            f"the metric {name} gives an array of shape {losses.shape} and not one loss for each "
            f"of {len(held)} rows"
        )
    refuse(~np.isfinite(losses), f"a loss of {name} that is not finite")
    return losses


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:300]
