"""Tests of shares: missing rows, rows outside what was seen, levels never seen. All are exact."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared import probability

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Truth = NDArray[np.bool_]
_KINDS: Final[tuple[type, ...]] = (np.int64, np.int64, np.int64, np.int64, np.float64)


@dataclass(slots=True)
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
        marked = self.x // self.factor + ceil(self.y / self.factor)
        total = (self.rows + self.others) / self.factor
        return probability.hypergeometric_sf(
            self.x // self.factor, total, marked, self.rows / self.factor
        )

    def either(self) -> float:
        """P(as many or as few by chance), both sides together."""
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shares:
    """The same for n kinds at S scales, (S, n) each."""

    x: Whole
    rows: Whole
    y: Whole
    others: Whole
    factor: Floats

    @classmethod
    def beside(cls, parts: Sequence["Shares"]) -> "Shares":
        """Kinds of several tests in one; what is of the reference alone may have one row."""
        scales, size = parts[0].x.shape
        found: list[NDArray[Any]] = [
            np.empty((scales, size * len(parts)), dtype=kind) for kind in _KINDS
        ]
        for place, part in enumerate(parts):
            mine = slice(place * size, (place + 1) * size)
            given = (part.x, part.rows, part.y, part.others, part.factor)
            for whole, one in zip(found, given, strict=True):
                whole[:, mine] = one
        x, rows, y, others, factor = found
        return cls(x=x, rows=rows, y=y, others=others, factor=factor)

    def at(self, s: int, n: int) -> Share:
        """One kind at one scale."""
        x, rows, y, others = (int(a[s, n]) for a in (self.x, self.rows, self.y, self.others))
        return Share(x, rows, y, others, float(self.factor[s, n]))

    def effect(self) -> Floats:
        """By how much each share is larger than in the reference."""
        return np.asarray(self.x / np.maximum(self.rows, 1) - self.y / np.maximum(self.others, 1))

    def tails(self, either: Truth, wanted: Truth | None = None) -> Floats:
        """P(as many by chance) of each, or on both sides; 1 where nobody would ask.

        Args:
            either: those with both sides, (S, n) or (n,).
            wanted: who is asked for at all; everybody by default.
        """
        is_odd = self._is_unusual()
        asked = np.where(either, is_odd, (self.x > 0) & (is_odd | (self.y == 0)))
        asked = asked if wanted is None else asked & wanted
        both = np.broadcast_to(either, asked.shape)
        found = np.ones(self.x.shape)
        for s, n in np.argwhere(asked & both).tolist():
            found[s, n] = self.at(s, n).either()
        found[asked & ~both] = self._more(asked & ~both)
        return found

    def _more(self, asked: Truth) -> list[float]:
        """See `Share.more`."""
        rows, factor = self.rows[asked], self.factor[asked]
        x, total = self.x[asked] // factor, (rows + self.others[asked]) / factor
        given = (x, total, x + np.ceil(self.y[asked] / factor), rows / factor)
        return list(map(probability.hypergeometric_sf, *(part.tolist() for part in given)))

    def _is_unusual(self) -> Truth:
        """Within two standard errors nothing has to be worked out exactly."""
        rows, others = np.maximum(self.rows, 1), np.maximum(self.others, 1)
        share = (self.x + self.y) / np.maximum(self.rows + self.others, 1)
        spread = share * (1 - share) * (1 / rows + 1 / others)
        return np.asarray(np.square(self.effect()) > 4 * spread * self.factor)
