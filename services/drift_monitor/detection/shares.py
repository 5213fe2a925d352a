"""Tests of shares: missing rows, rows outside what was seen, levels never seen. All are exact."""

from dataclasses import dataclass

import numpy as np

from shared import probability


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Rows of a kind in the window and in the reference.

    Attributes:
        x, rows: in the window; `y`, `others` in the reference.
        factor: neighbours resemble each other, so that so many rows count as one.
    """

    x: int
    rows: int
    y: int
    others: int
    factor: float

    @property
    def effect(self) -> float:
        """By how much the share is larger than in the reference."""
        return self.x / max(self.rows, 1) - self.y / max(self.others, 1)

    def more(self) -> float:
        """P(as many by chance), given how many there are in both together."""
        if not self.x or (self.y and self._is_usual()):
            return 1.0
        marked = self.x // self.factor + np.ceil(self.y / self.factor)
        total = (self.rows + self.others) / self.factor
        return probability.hypergeometric_sf(
            self.x // self.factor, total, marked, self.rows / self.factor
        )

    def either(self) -> float:
        """P(as many or as few by chance), both sides together."""
        if self._is_usual():
            return 1.0
        drawn = round(self.rows / self.factor)
        total = round((self.rows + self.others) / self.factor)
        marked = min(round((self.x + self.y) / self.factor), total)
        more = probability.hypergeometric_sf(self.x // self.factor, total, marked, drawn)
        few = (self.rows - self.x) // self.factor
        fewer = probability.hypergeometric_sf(few, total, total - marked, drawn)
        return min(1.0, 2 * min(more, fewer))

    def interval(self, level: float) -> tuple[float, float]:
        """Of the difference of the shares; each share is wrong with half of the level."""
        f = self.factor
        low, high = probability.share_interval(int(self.x // f), int(self.rows / f), level / 2)
        least, most = probability.share_interval(int(self.y // f), int(self.others / f), level / 2)
        return low - most, high - least

    def _is_usual(self) -> bool:
        """Within two standard errors nothing has to be worked out exactly."""
        share = (self.x + self.y) / max(self.rows + self.others, 1)
        spread = share * (1 - share) * (1 / max(self.rows, 1) + 1 / max(self.others, 1))
        return self.effect**2 <= 4 * spread * self.factor
