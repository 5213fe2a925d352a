"""What rows hold, as values and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import TypeAdapter

from services.evaluator.verdict import proven_gains
from shared import codec
from shared.events import EvaluationCompleted, Gate, Heard, ModelRegistered, as_kind

State = Literal["waiting", "accepted", "rejected", "promoted", "ended"]

_REGISTERED: Final = TypeAdapter(ModelRegistered)
GATES: Final = TypeAdapter(tuple[Gate, ...])


def registered_from(plain: Any) -> ModelRegistered:
    """The registration in a job or a row."""
    return _REGISTERED.validate_python(plain)


def registered_to_plain(registered: ModelRegistered) -> dict[str, Any]:
    """As JSON; `registered_from` reads it back."""
    plain: dict[str, Any] = _REGISTERED.dump_python(registered, mode="json")
    return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A numbered version and the cascade that it belongs to."""

    registered: ModelRegistered
    correlation: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """The same comparison was made before: which event said so, and in which reign last."""

    event_id: UUID | None
    reign: int


def proven(gates: Any) -> dict[str, float]:
    """What a stored verdict has shown its version to gain over the baseline."""
    return proven_gains(GATES.validate_python(gates or []))


def verdicts_in(payloads: Sequence[bytes]) -> list[Heard[EvaluationCompleted]]:
    """The verdicts among what was said; anchors' events are passed over."""
    heard = (as_kind(codec.decode(payload), EvaluationCompleted) for payload in payloads)
    return [one for one in heard if one is not None]
