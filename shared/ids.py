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


def derived(cause: UUID | None, *parts: object) -> UUID:
    """The same id for the same cause and parts, so that a repeated step repeats its id."""
    return uuid5(cause or NAMESPACE, "\x1f".join(str(part) for part in parts))
