"""How often a key may ask: so many at once, and then evenly.

Each key has a moment at which all that it has asked is paid for. A request moves it on by the time
that one request takes at the rate of the key, and is refused where it lies too far ahead. So
whoever was quiet may ask `burst` times at once, and over any length of time nobody asks more often
than `burst + per_second * seconds`. This is a bucket of tokens told by one number.

Source: ITU-T I.371, generic cell rate algorithm, the virtual scheduling form.
"""

import struct
from hashlib import blake2b
from mmap import mmap
from typing import Final

from shared.access import Rate

SLOTS: Final = 16_384
"""Keys that are told apart; beyond, the one that was quiet longest begins anew."""
_PROBES: Final = 8
_SLOT: Final = struct.Struct("=8sd")
PAGE_BYTES: Final = SLOTS * _SLOT.size


class Rates:
    """What the keys have asked of late, in a page that several processes may share.

    Nothing is locked: two processes that admit a request of one key within the same microsecond
    may count it once.

    Args:
        page: of `PAGE_BYTES`, zeros at first; written in place.
    """

    def __init__(self, page: bytearray | memoryview | mmap) -> None:
        self._page = page

    def take(self, name: str, rate: Rate, now: float) -> float:
        """Admit a request of this key; 0 when it may come in, else the seconds until it may.

        Args:
            now: seconds of a clock that never goes back and that all processes share.
        """
        key = blake2b(name.encode(), digest_size=8).digest()
        place, paid_at = self._find(key)
        ahead = max(0.0, paid_at - now)
        waits = ahead - (rate.burst - 1) / rate.per_second
        # What is a rounding away from now is now: whoever waited as long as told is let in.
        if waits > 1e-9 * (1 + now):
            return waits
        _SLOT.pack_into(self._page, place, key, now + ahead + 1 / rate.per_second)
        return 0.0

    def _find(self, key: bytes) -> tuple[int, float]:
        """The place of a key, and until when it is paid for; a free or the quietest one if new."""
        first = int.from_bytes(key, "little")
        quietest, least = 0, float("inf")
        for probe in range(_PROBES):
            place = (first + probe) % SLOTS * _SLOT.size
            held, paid_at = _SLOT.unpack_from(self._page, place)
            if held == key:
                return place, paid_at
            if paid_at < least:
                quietest, least = place, paid_at
        return quietest, 0.0
