"""How long to wait before the next try: longer each time, never in step with others."""

import random
import time
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Patience:
    """Counts tries and the time since the first of them; waits double from try to try."""

    first_seconds: float = 0.05
    longest_seconds: float = 5.0
    tries: int = 0
    since: float = field(default_factory=time.monotonic)

    def next_seconds(self) -> float:
        """The wait before the next try, with jitter of a half either way."""
        if self.tries == 0:
            self.since = time.monotonic()
        wait = min(self.longest_seconds, self.first_seconds * 2.0 ** min(self.tries, 20))
        self.tries += 1
        return wait * random.uniform(0.5, 1.5)  # noqa: S311 - spreads retries

    def is_spent(self, *, tries: int, seconds: float) -> bool:
        """Whether so many tries were made, or so much time has passed since the first."""
        return self.tries >= tries or (self.tries > 0 and time.monotonic() - self.since >= seconds)

    def reset(self) -> None:
        """It worked; the next failure starts from the beginning."""
        self.tries = 0
