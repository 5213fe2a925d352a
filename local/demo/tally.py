"""What callers of the endpoint saw."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """What callers saw in a stretch of the story.

    Attributes:
        asked: prediction ids in the order of the hours.
        rungs: answers by what gave them, such as `champion` or `baseline`.
        refused: hours without an answer, with the reason.
        observed: ground truths that were sent and taken.
        slowest_seconds: of any answer.
    """

    asked: list[str] = field(default_factory=list)
    rungs: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    observed: int = 0
    slowest_seconds: float = 0.0

    def with_more(self, other: Tally) -> Tally:
        """Both stretches together."""
        return Tally(
            asked=self.asked + other.asked,
            rungs=self.rungs + other.rungs,
            versions=self.versions + other.versions,
            refused=self.refused + other.refused,
            observed=self.observed + other.observed,
            slowest_seconds=max(self.slowest_seconds, other.slowest_seconds),
        )
