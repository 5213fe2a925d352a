"""What became of every row that was asked for, as metrics."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from services.serving.domain.endpoints import Endpoint
from services.serving.handlers.log import Prediction
from shared import telemetry
from shared.errors import InvalidInput

_CHAMPION = "champion"


def begin(endpoint: Endpoint) -> None:
    """Let every series of the endpoint exist at 0, so that its first increase can be seen."""
    roles = {_CHAMPION, *(role_of(endpoint, arm) for arm in range(len(endpoint.desired.arms)))}
    for role in roles - {"shadow"}:
        telemetry.begin("tidewheel_predictions_total", model=endpoint.model, role=role)


def role_of(endpoint: Endpoint, arm: int) -> str:
    """Who was to answer; rows that no arm may answer are counted as the champion's."""
    arms = endpoint.desired.arms
    return arms[arm].role if arm < len(arms) else _CHAMPION


def note_answers(endpoint: Endpoint, predictions: Sequence[Prediction]) -> None:
    """Count rows that have an answer, from whoever was to give it or from a rung below."""
    told = Counter((p.arm, p.step.rung) for p in predictions if p.step is not None)
    for (arm, rung), rows in told.items():
        role = role_of(endpoint, arm)
        _count(endpoint, role, "ok" if rung == role else "fallback", rows)


def counter_of(endpoint: Endpoint, arm: int, rung: str) -> Callable[[float], None]:
    """What counts rows that were routed to an arm and answered from a rung."""
    role = role_of(endpoint, arm)
    outcome = "ok" if rung == role else "fallback"
    return telemetry.counter(
        "tidewheel_predictions_total", model=endpoint.model, role=role, outcome=outcome
    )


def note_unanswered(endpoint: Endpoint, arm: int, rows: int) -> None:
    """Count rows that nobody had an answer to."""
    _count(endpoint, role_of(endpoint, arm), "error", rows)


@contextmanager
def rejections(endpoint: Endpoint, rows: int) -> Iterator[None]:
    """Count rows that turn out, inside, to be no rows of this model."""
    try:
        yield
    except InvalidInput:
        _count(endpoint, _CHAMPION, "rejected", rows)
        raise


def _count(endpoint: Endpoint, role: str, outcome: str, rows: int) -> None:
    telemetry.count(
        "tidewheel_predictions_total", rows, model=endpoint.model, role=role, outcome=outcome
    )
