"""How often a key may ask: a bucket of tokens that fills evenly.

A request takes a token. The bucket holds `burst` of them and gains `per_second`; so whoever was
quiet may ask `burst` times at once, and over any length of time nobody asks more often than
`burst + per_second * seconds`.
"""

from dataclasses import dataclass

from shared.access import Rate


@dataclass(slots=True)
class Bucket:
    """The tokens of one key.

    Attributes:
        tokens: at the moment `at`, in seconds of any clock that never goes back.
    """

    tokens: float
    at: float

    def take(self, rate: Rate, now: float) -> float:
        """Take a token; 0 when there was one, else the seconds until there is."""
        grown = self.tokens + (now - self.at) * rate.per_second
        self.tokens = min(grown, rate.burst)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) / rate.per_second
