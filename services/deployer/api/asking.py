"""What all routes of the deployer ask of a request alike."""

from typing import Annotated, Final

from fastapi import Depends, Query

from shared.access import Principal, Role
from shared.errors import Fault, InvalidInput
from shared.http import allow

READERS: Final = allow(Role.VIEWER, Role.DATA_SCIENTIST, Role.APPROVER, Role.OPERATOR, Role.AUDITOR)
Looking = Annotated[Principal, Depends(READERS)]
Approver = Annotated[Principal, Depends(allow(Role.APPROVER))]
Operator = Annotated[Principal, Depends(allow(Role.OPERATOR))]
Limit = Annotated[int, Query(ge=1, le=1000)]
NEWEST: Final = 2**62
PLAIN: Final = r"^[^\x00]*$"
"""The database keeps no text with zero characters."""


def text_of(value: str) -> str:
    """A name in a path, or a cursor, that the database can be asked for."""
    if "\0" in value:
        raise InvalidInput(
            "Names hold no control characters.", [Fault("/path", "control character")]
        )
    return value


def number_of(cursor: str) -> int:
    """A cursor that is a number."""
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise InvalidInput(
            "This cursor was not given by this list.",
            [Fault("/query/cursor", "not a cursor", "leave it out to begin anew")],
        )
    return int(cursor)
