"""Who is answered now: each key as often as it may ask, all together as far as there is room.

What waits lies in memory, so it is bounded in requests and in bytes: beyond that, refusing at once
is the honest answer. 429 is about the key that asks, 503 about everybody.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from services.serving.domain.rates import Rates
from shared import telemetry
from shared.access import Principal, Rate
from shared.errors import Saturated, TooMany


@dataclass(slots=True, kw_only=True)
class Admission:
    """The limits of one replica.

    Attributes:
        rate: for keys whose own entry names none; None for no limit.
        rates: what each key has asked of late, of all processes that answer on one address.
        most_requests, most_bytes: of bodies that were read and are not answered.
    """

    rate: Rate | None
    rates: Rates
    most_requests: int
    most_bytes: int
    monotonic: Callable[[], float]
    requests: int = 0
    bytes: int = 0

    def check(self, principal: Principal) -> None:
        """Count a request of a key.

        Raises:
            TooMany: it has asked too often.
        """
        rate = principal.rate or self.rate
        if rate is None:
            return
        name = principal.name if principal.key == "token" else principal.key
        seconds = self.rates.take(name, rate, self.monotonic())
        if seconds:
            telemetry.count("tidewheel_requests_limited_total", reason="rate")
            raise TooMany(
                f"This key may ask {rate.per_second:g} times per second, {rate.burst:g} at once.",
                ceil(seconds),
            )

    def has_room(self, size: int) -> bool:
        """Whether a request with such a body may wait; a single one always may."""
        return self.requests == 0 or (
            self.requests < self.most_requests and self.bytes + size <= self.most_bytes
        )

    def enter(self, size: int) -> None:
        """One more request, with a body of so many bytes, is worked on.

        Raises:
            Saturated: too many are.
        """
        if not self.has_room(size):
            telemetry.count("tidewheel_requests_limited_total", reason="queue")
            raise Saturated(
                f"{self.requests} requests wait here already; try again shortly.",
                code="queue_full",
            )
        self.requests += 1
        self.bytes += size

    def leave(self, size: int) -> None:
        """It is answered."""
        self.requests -= 1
        self.bytes -= size
