"""What a round says of somebody it had to leave for later."""

from datetime import timedelta
from typing import Final

from shared import telemetry
from shared.errors import TidewheelError

AFTER_FAILURE: Final = timedelta(minutes=5)
"""What failed is tried again; meanwhile it costs nobody anything."""


def tell(event: str, model: str, error: Exception, **more: str | int) -> None:
    """Log it: in a sentence what was foreseen, with its trace what was not."""
    trace = {} if isinstance(error, TidewheelError) else {"exc_info": error}
    reason = f"{type(error).__name__}: {error}"
    telemetry.log(event, level="error", model=model, **more, reason=reason, **trace)
