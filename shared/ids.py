"""Ids: random ones that sort by time, and ones that are a function of their cause."""

import secrets
from typing import Final
from uuid import UUID, uuid5

from shared import clock

NAMESPACE: Final = UUID("6f0c1d2e-71de-5e11-8a5e-71de00000001")


def uuid7() -> UUID:
    """A new UUIDv7: 48 bits of milliseconds, then chance.

    Source: RFC 9562, section 5.7.
    """
    milliseconds = int(clock.now().timestamp() * 1000)
    value = (milliseconds << 80) | secrets.randbits(80)
    value = (value & ~(0xF000 << 64)) | (0x7000 << 64)
    return UUID(int=(value & ~(0xC000 << 48)) | (0x8000 << 48))


def uuid7_texts(count: int) -> list[str]:
    """New UUIDv7s as 32 digits each: many for the price of one reading of clock and chance."""
    milliseconds = f"{int(clock.now().timestamp() * 1000):012x}7"
    drawn = secrets.token_hex(10 * count)
    return [
        f"{milliseconds}{drawn[i : i + 3]}{_VARIANT[drawn[i + 3]]}{drawn[i + 4 : i + 19]}"
        for i in range(0, 20 * count, 20)
    ]


_VARIANT: Final = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def id_said(base: UUID, event_type: str, subject: str, step: str = "", place: int = 0) -> UUID:
    """The id of an event: a function of what it came of and of its place among what came of it.

    Args:
        step: tells sayings of one cause in several transactions apart.
        place: how many events of the same base were said before it in its transaction.
    """
    return derived(base, event_type, subject, step, place)


def derived(cause: UUID | None, *parts: object) -> UUID:
    """The same id for the same cause and parts, so that a repeated step repeats its id."""
    return uuid5(cause or NAMESPACE, "\x1f".join(str(part) for part in parts))
