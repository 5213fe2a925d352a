"""Where numbers lie and how wide they are: rank tests, and by how much either has moved."""

from dataclasses import dataclass
from math import isnan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.detection.prepared import Numbers
from shared import cells
from shared.lumps import deviate_for, normal_deviates
from shared.probability import t_quantile
from shared.tails import pearson_quantiles, pearson_tails, t_tails

LEAST_TOLD: Final = 1e-9
"""Of a row about how wide a number is: two values of one share each tell nothing."""
_SQUARES: Final = 8.0
"""Squared skewness of a squared normal number."""
_LUMPY: Final = 0.01
"""Squared skewness of a sum up to which a normal tail is near enough."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Summed:
    """Rows per cell of windows, and together with those of the reference.

    Attributes:
        counts, totals: of the windows, and of both together, (S, F, C) each.
        before, all_before: rows before each cell, see `cells.reached`, of both.
        known: the reference.
    """

    counts: Floats
    totals: Floats
    before: Floats
    all_before: Floats
    known: Numbers

    @classmethod
    def of(cls, present: NDArray[np.int64], known: Numbers) -> "Summed":
        """Of rows per cell of the windows."""
        counts, before = present.astype(np.float64), cells.reached(present)
        return cls(
            counts=counts,
            totals=counts + known.present,
            before=before,
            all_before=before + known.before,
            known=known,
        )

    def ranks(self, scores: Floats) -> cells.Ranks:
        """The windows among all rows, by these scores of cells."""
        window, total = self.before[..., -1], self.all_before[..., -1]
        return cells.Ranks.scored(self.counts, self.totals, scores, window, total)

    def moved(self, scores: Floats, told: Floats) -> tuple[Floats, Floats]:
        """Mean scores of the windows by the reference, and the standard error; NaN if not told.

        Args:
            scores: of the cells, (F, C); `told` is what they tell per row, (F,).
        """
        window, rows = self.before[..., -1], self.known.rows
        with np.errstate(divide="ignore", invalid="ignore"):
            effect = np.vecdot(self.counts, scores) / window / told
            error = np.sqrt((1 / window + 1 / rows) / told)
        is_told = (told > LEAST_TOLD) & (window > 0) & (rows > 0)
        return np.where(is_told, effect, 0.0), np.where(is_told, error, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranked:
    """One rank test of all numbers at all scales, (S, F) each.

    Attributes:
        z: standard errors above chance; `p` counts both sides.
        effect: by how many standard deviations of the reference it moved, or by which logarithm of
            their ratio; `error` its standard error, NaN where nothing is told.
        skewness: of the sum by chance; None where rows resemble their neighbours.
        df: degrees of freedom of what is known of chance.
        lumpy: how much single rows decide, see `lumps`, below 0 where they make falls longer;
            None without neighbours, where the skewness says it.
    """

    z: Floats
    p: Floats
    effect: Floats
    error: Floats
    skewness: Floats | None
    df: Floats
    lumpy: Floats | None = None

    def interval(self, s: int, f: int, level: float) -> tuple[float | None, float | None]:
        """Of the effect, as wide as its test is strict."""
        effect, error = float(self.effect[s, f]), float(self.error[s, f])
        if isnan(error):
            return None, None
        if self.skewness is None:
            usual = t_quantile(level / 2, float(self.df[s, f]))
            lumpy = float(self.lumpy[s, f]) if self.lumpy is not None else 0.0
            far = deviate_for(usual, abs(lumpy), 1.0)
            low, high = (-usual, far) if lumpy > 0 else (-far, usual)
        else:
            low, high = pearson_quantiles(level / 2, float(self.skewness[s, f]))
        return effect - high * error, effect - low * error


def rank_tests(summed: Summed, factors: dict[str, Floats], *, is_free: bool) -> dict[str, Ranked]:
    """Where numbers lie, `location`, and how wide they are, `scale`.

    Args:
        factors: what is known of chance, by name, (S, F) each.
        is_free: whether rows know nothing of each other.
    """
    known = summed.known
    scores = cells.scores_of_ranks(summed.totals, summed.all_before)
    given = {
        "location": (scores, known.location, known.location_told),
        "scale": (np.square(scores), known.scale, known.scale_told),
    }
    ranked = _independent if is_free else _alike
    return {
        test: ranked(test, summed.ranks(own), summed.moved(scale, told), factors)
        for test, (own, scale, told) in given.items()
    }


def _independent(
    test: str, ranks: cells.Ranks, moved: tuple[Floats, Floats], factors: dict[str, Floats]
) -> Ranked:
    # A sum of squares is lopsided by chance, the more so the fewer rows there are.
    z, skewness = ranks.z() / factors[test], ranks.skewness()
    return Ranked(
        z=z,
        p=pearson_tails(z, skewness),
        effect=moved[0],
        error=factors[test] * moved[1],
        skewness=skewness,
        df=factors[f"{test}_df"],
    )


def _alike(
    test: str, ranks: cells.Ranks, moved: tuple[Floats, Floats], factors: dict[str, Floats]
) -> Ranked:
    z, df = ranks.z() / factors[test], factors[f"{test}_df"]
    if test == "scale":
        # Few independent rows make a sum of squares lopsided; fewer degrees cover that.
        df = 1 / (1 / df + 1 / np.maximum(ranks.window / factors["clump"], 1.0))
    lumpy = _lumpy(test, ranks, factors[test])
    # A sum of rare flags rises by single rows; it cannot fall further than to none of them.
    held = np.where(lumpy * z > 0, np.abs(lumpy), 0.0)
    return Ranked(
        z=z,
        p=np.minimum(2 * t_tails(np.abs(normal_deviates(z, held, np.sign(z))), df), 1.0),
        effect=moved[0],
        error=factors[test] * moved[1],
        skewness=None,
        df=df,
        lumpy=lumpy,
    )


def _lumpy(test: str, ranks: cells.Ranks, factor: Floats) -> Floats:
    """How much single rows decide and which way; 0 where they hardly do.

    Neighbours come in larger lumps.
    """
    usual = _SQUARES / np.maximum(ranks.window, 1.0) if test == "scale" else 0.0
    skewness = ranks.skewness()
    found = np.square(skewness) - usual
    lumpy = np.copysign(found * np.square(factor), skewness)
    return np.asarray(np.where(found > _LUMPY, lumpy, 0.0))
