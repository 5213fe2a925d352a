"""Evidence as the pictures need it: one number per row and predictor, beside what came true."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from services.evaluator.card.plots import Floats, Outlook, Side
from services.evaluator.evidence import Evidence
from shared.events import Json
from shared.pictures import Role
from shared.plain_text import plain

_SHOWN: Final[tuple[Role, ...]] = ("candidate", "champion", "baseline")


def outlook_of(evidence: Evidence, said: Json) -> Outlook | None:
    """Candidate, champion and baseline; None without answers of the candidate."""
    if "candidate" not in evidence.answers or not len(evidence):
        return None
    names = _names(said)
    shown = [role for role in _SHOWN if role in evidence.answers]
    if evidence.task == "regression":
        sides = [_number(evidence, role, names[role]) for role in shown]
        return _outlook("regression", sides, "the outcome", "Mean absolute error", evidence)
    classes = evidence.classes.get("candidate", ())
    if len(classes) == 2:
        event = classes[1]
        sides = [_chance(evidence, role, names[role], event) for role in shown]
        of = f"{plain(event)}"
        return _outlook("binary", sides, of, "Brier loss", evidence)
    sides = [_confidence(evidence, role, names[role]) for role in shown]
    return _outlook("classes", sides, "the likeliest class", "Share of mistakes", evidence)


def _outlook(kind: Any, sides: list[Side], of: str, loss: str, evidence: Evidence) -> Outlook:
    return Outlook(kind=kind, sides=tuple(sides), of=of, loss=loss, times=evidence.times)


def _names(said: Json) -> Mapping[Role, str]:
    champion = said.get("champion")
    return {
        "candidate": f"candidate (version {said.get('version')})",
        "champion": "champion" if champion is None else f"champion (version {champion})",
        "baseline": "baseline",
    }


def _number(evidence: Evidence, role: Role, name: str) -> Side:
    answers = evidence.answers[role]
    outcomes: Floats = np.asarray(evidence.y, dtype=np.float64)
    losses = np.abs(outcomes - answers)
    return Side(name=name, role=role, answers=answers, outcomes=outcomes, losses=losses)


def _chance(evidence: Evidence, role: Role, name: str, event: Any) -> Side:
    places = [p for p, label in enumerate(evidence.classes.get(role, ())) if label == event]
    shares = evidence.answers[role]
    answers: Floats = shares[:, places[0]] if places else np.zeros(len(evidence))
    came_true = [label == event for label in evidence.y.tolist()]
    outcomes = np.array(came_true, dtype=np.float64)
    losses: Floats = np.square(outcomes - answers)
    return Side(name=name, role=role, answers=answers, outcomes=outcomes, losses=losses)


def _confidence(evidence: Evidence, role: Role, name: str) -> Side:
    classes, shares = evidence.classes.get(role, ()), evidence.answers[role]
    best = shares.argmax(axis=1)
    pairs = zip(best.tolist(), evidence.y.tolist(), strict=True)
    outcomes = np.array([classes[place] == label for place, label in pairs], dtype=np.float64)
    answers: Floats = shares.max(axis=1)
    return Side(name=name, role=role, answers=answers, outcomes=outcomes, losses=1 - outcomes)
