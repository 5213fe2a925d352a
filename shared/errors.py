"""Errors say what happens next.

TidewheelError
├── Unavailable      retried in place until it passes; never parked
│   ├── BrokerUnavailable
│   └── StoreUnavailable
├── NotReady         retried for a bounded time, then parked
├── Unprocessable    parked at once: the same input would fail again
│   ├── UnknownType
│   ├── InvalidEvent
│   └── ArtifactCorrupt
├── Refused          answered to the caller; nothing has changed
│   ├── InvalidInput
│   ├── NotFound
│   ├── Conflict
│   ├── Unauthenticated
│   ├── NotPermitted
│   ├── TooLarge
│   ├── TooMany
│   └── Saturated
└── OutOfSequence    this subject stops and an alert fires: an event is missing
"""

from collections.abc import Sequence
from dataclasses import dataclass


class TidewheelError(Exception):
    """Everything that Tidewheel itself raises."""


class Unavailable(TidewheelError):
    """A part of the system does not answer; the same call works once it is back."""


class BrokerUnavailable(Unavailable):
    """Kafka does not answer."""


class StoreUnavailable(Unavailable):
    """A database or an object store does not answer."""


class NotReady(TidewheelError):
    """Something this step needs has not arrived yet."""


class Unprocessable(TidewheelError):
    """The same input would fail again."""


class UnknownType(Unprocessable):
    """An event type, or a version of one, that this code does not know."""

    def __init__(self, event_type: str) -> None:
        super().__init__(f"{event_type!r} is not a type this service knows; upgrade it and retry")


class InvalidEvent(Unprocessable):
    """The bytes are not the event they claim to be."""


class ArtifactCorrupt(Unprocessable):
    """Bytes do not have the digest by which they were asked for."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"artifact {expected} has the digest {found}; it is not used")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with an input: where, what, and how to mend it."""

    pointer: str
    detail: str
    hint: str = ""


class Refused(TidewheelError):
    """The caller is answered; nothing has changed."""

    status = 400
    code = "refused"
    retry_after_seconds: int | None = None
    """When the same call is worth trying again; None where waiting mends nothing."""

    def __init__(self, detail: str, faults: Sequence[Fault] = (), *, code: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)
        self.code = code or type(self).code


class InvalidInput(Refused):
    """The input breaks a rule; each fault says which and where."""

    status = 422
    code = "invalid_input"


def wrong_things(faults: Sequence[Fault], what: str = "the input") -> str:
    """As in: 1 thing is wrong with the input."""
    count = "1 thing is" if len(faults) == 1 else f"{len(faults)} things are"
    return f"{count} wrong with {what}."


class NotFound(Refused):
    """There is no such thing, or the caller may not see it."""

    status = 404
    code = "not_found"


class Conflict(Refused):
    """The state does not allow this now."""

    status = 409
    code = "conflict"


class Unauthenticated(Refused):
    """The caller has not said who it is."""

    status = 401
    code = "unauthenticated"


class NotPermitted(Refused):
    """The caller may not do this."""

    status = 403
    code = "not_permitted"


class TooLarge(Refused):
    """The body is larger than the stated limit."""

    status = 413
    code = "too_large"


class TooMany(Refused):
    """The caller asks more often than its key may; the same call works a little later."""

    status = 429
    code = "too_many_requests"

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class Saturated(Refused):
    """The queue is full; the same call works a little later."""

    status = 503
    code = "saturated"
    retry_after_seconds = 1


class OutOfSequence(TidewheelError):
    """An event between the last one seen and this one is missing."""

    def __init__(self, topic: str, subject: str, expected: int, found: int) -> None:
        super().__init__(
            f"{topic}/{subject}: expected sequence {expected}, found {found}; this subject stops"
        )
        self.expected = expected
        self.found = found
