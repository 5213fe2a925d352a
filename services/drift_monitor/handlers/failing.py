"""What a round says of somebody it had to leave for later."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared import telemetry
from shared.errors import TidewheelError, Unavailable

AFTER_FAILURE: Final = timedelta(minutes=5)
"""What failed is tried again; meanwhile it costs nobody anything."""


@dataclass(slots=True)
class Tried:
    """What became of somebody's turn; `error` says why it failed."""

    error: Exception | None = None


@contextmanager
def left_out(event: str, model: str, **more: str | int) -> Iterator[Tried]:
    """One of many: whatever fails in it is told, and the others do not wait.

    Raises:
        Unavailable: the database is away, for the others too.
    """
    tried = Tried()
    try:
        yield tried
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it was
        tried.error = error
        tell(event, model, error, **more)


def tell(event: str, model: str, error: Exception, **more: str | int) -> None:
    """Log it: in a sentence what was foreseen, with its trace what was not."""
    trace = {} if isinstance(error, TidewheelError) else {"exc_info": error}
    reason = f"{type(error).__name__}: {error}"
    telemetry.log(event, level="error", model=model, **more, reason=reason, **trace)
