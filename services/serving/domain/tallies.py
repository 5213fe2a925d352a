"""What an arm did since it was last measured."""

from dataclasses import dataclass, field

from shared.latency import CELLS, cell_of


@dataclass(slots=True, kw_only=True)
class ArmTally:
    """What one arm did since the last measure."""

    requests: int = 0
    errors: int = 0
    counts: list[int] = field(default_factory=lambda: [0] * CELLS)

    def add(self, rows: int, errors: int, seconds: float) -> None:
        """So many rows were routed here; `errors` of them a lower rung had to answer."""
        self.requests += rows
        self.errors += errors
        self.counts[cell_of(seconds)] += rows
