"""Cursors, as both doors of the trainer read them."""

from datetime import UTC, datetime
from uuid import UUID

from shared.errors import Fault, InvalidInput


def cursor_of(queued: datetime, job: UUID) -> str:
    """The place after this item."""
    return f"{queued.isoformat()}_{job}"


def read_cursor(cursor: str) -> tuple[datetime, UUID]:
    """The place that a cursor names.

    Raises:
        InvalidInput: it was not given by a list of ours.
    """
    moment, _, job = cursor.partition("_")
    try:
        # A plus sign arrives as a space where it was not escaped.
        return datetime.fromisoformat(moment.replace(" ", "+")).astimezone(UTC), UUID(job)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            "This cursor was not given by this list.",
            [Fault("/query/cursor", "not a cursor", "leave it out to begin anew")],
        ) from error
