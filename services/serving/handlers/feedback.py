"""Outcomes that people and producers bring to serving's door."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, Final

from services.serving.handlers.predictions import Predictions
from services.serving.handlers.voice import Voice
from services.serving.prediction.reading import as_pointer
from shared.access import Principal, Role
from shared.clock import Clock
from shared.errors import Fault, InvalidInput, wrong_things
from shared.events import GroundTruthObserved, ModelName
from shared.names import model_name
from shared.usable import Label, can_come_true

MOST_OBSERVATIONS: Final = 1_000
OBSERVERS: Final = frozenset({Role.PREDICTOR, Role.PRODUCER})
"""Who may say what came of answers."""
_PREDICTION: Final = re.compile(r"p-[0-9a-f]{32}")
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_KNOWN: Final = frozenset({"prediction_id", "value", "observed_at", "revision"})
Classes = Sequence[Label] | None
"""What answers can be: none for regression; None where a version is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """Takes observations, all of them or none."""

    predictions: Predictions
    voice: Voice
    now: Clock

    def take(self, document: Any, principal: Principal) -> int:
        """Say what was observed; how many observations there were.

        Whether a prediction of this id was ever given is not known here: the monitor joins them.

        Raises:
            InvalidInput: with every fault.
            NotFound: the model is not served here, or not to this team.
            NotPermitted: the principal may see it and not say what came of its answers.
            Saturated: there is no room for them; none was taken.
        """
        model, given = _parts(document)
        self.predictions.check(principal, model, OBSERVERS)
        endpoint = self.predictions.endpoint_of(model)
        now = self.now()
        faults = [
            fault
            for index, one in enumerate(given)
            for fault in _faults_of(one, f"/observations/{index}", endpoint.classes, now)
        ]
        if faults:
            raise InvalidInput(wrong_things(faults), faults[:50])
        self.voice.observed([_observation(model, one, principal.name, now) for one in given])
        return len(given)


def _parts(document: Any) -> tuple[ModelName, Sequence[Any]]:
    faults: list[Fault] = []
    if not isinstance(document, dict):
        raise InvalidInput("The body is no object.", [Fault("", "send model and observations")])
    faults += [Fault(f"/{as_pointer(n)}", "not known") for n in sorted(document.keys() - _TOP)]
    name, given = document.get("model"), document.get("observations")
    if not isinstance(name, str) or not _is_name(name):
        faults.append(Fault("/model", "required, the name of a model"))
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_OBSERVATIONS:
        faults.append(Fault("/observations", f"required, a list of 1 to {MOST_OBSERVATIONS}"))
    if faults or not isinstance(name, str) or not isinstance(given, list):
        raise InvalidInput(wrong_things(faults), faults)
    return ModelName(name), given


_TOP: Final = frozenset({"model", "observations"})


def _is_name(text: str) -> bool:
    try:
        return bool(model_name(text))
    except ValueError:
        return False


def _faults_of(one: Any, pointer: str, classes: Classes, now: datetime) -> Iterator[Fault]:
    if not isinstance(one, dict):
        yield Fault(pointer, "an observation is an object")
        return
    for name in sorted(one.keys() - _KNOWN)[:5]:
        yield Fault(f"{pointer}/{as_pointer(name)}", "not known", f"use {sorted(_KNOWN)}")
    given = one.get("prediction_id")
    if not isinstance(given, str) or not _PREDICTION.fullmatch(given):
        yield Fault(f"{pointer}/prediction_id", "required, the id that came with the answer")
    detail = _value_fault(one.get("value"), classes)
    if detail:
        yield Fault(f"{pointer}/value", detail)
    revision = one.get("revision", 1)
    if isinstance(revision, bool) or not isinstance(revision, int) or not 1 <= revision <= 10**6:
        yield Fault(f"{pointer}/revision", "a whole number from 1 to 1000000")
    if "observed_at" in one and _moment(one["observed_at"], now) is None:
        yield Fault(
            f"{pointer}/observed_at",
            "a moment since 2000 and not in the future, with its time zone",
            "like 2026-01-31T12:00:00Z",
        )


def _value_fault(value: Any, classes: Classes) -> str | None:
    if not isinstance(value, bool | int | float | str):
        return "required, a number, a text or a boolean"
    if isinstance(value, str):
        if not value.isprintable() or not 1 <= len(value) <= 1_000:
            return "1 to 1000 printable characters"
    elif not (-(2**63) <= value < 2**63 if isinstance(value, int) else isfinite(value)):
        return "this number is not finite or too large"
    if classes is None or can_come_true(value, classes):
        return None
    return _kind_of(classes)


def _kind_of(classes: Sequence[Label]) -> str:
    """What is due instead of a value that cannot come true."""
    if not classes:
        return "a finite number is due"
    if any(isinstance(label, str) for label in classes):
        return "a text is due, as the classes of this model are"
    if all(isinstance(label, bool) for label in classes):
        return "true or false is due, as the classes of this model are"
    return "a number is due, as the classes of this model are"


def _moment(value: Any, now: datetime) -> datetime | None:
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            return None
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if _EARLIEST <= moment <= now + timedelta(days=1) else None


def _observation(model: ModelName, one: Any, source: str, now: datetime) -> GroundTruthObserved:
    value = one["value"]
    return GroundTruthObserved(
        model=model,
        prediction=one["prediction_id"],
        value=float(value) if isinstance(value, int) and not isinstance(value, bool) else value,
        observed_at=_moment(one["observed_at"], now) or now if "observed_at" in one else now,
        revision=one.get("revision", 1),
        source=source,
    )
