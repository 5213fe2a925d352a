"""What a round says of somebody it had to leave for later."""

from shared import telemetry
from shared.errors import TidewheelError


def tell(event: str, model: str, error: Exception) -> None:
    """Log it: in a sentence what was foreseen, with its trace what was not."""
    trace = {} if isinstance(error, TidewheelError) else {"exc_info": error}
    reason = f"{type(error).__name__}: {error}"
    telemetry.log(event, level="error", model=model, reason=reason, **trace)
