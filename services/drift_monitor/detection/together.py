"""The tests of how numbers move together: each pair by itself, and all numbers at once."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.detection.finding import Finding
from services.drift_monitor.detection.prepared import Prepared
from services.drift_monitor.detection.scaling import Merged
from shared.probability import t_quantile
from shared.tails import quantiles, t_tails
from shared.together import Together, correlations, pair_z, waves_apart, waves_tail

Floats = NDArray[np.float64]

TOGETHER = "(all numbers together)"


def joint_findings(base: Prepared, scales: Sequence[Merged], shift: float) -> list[Finding]:
    """The worst pair, all numbers at once, and every other that shows a drift."""
    known = base.reference.together
    tested = [scale for scale in scales if scale.pairs > 0 and scale.sketch.joint]
    if known is None or not tested:
        return []
    found = [one for scale in tested for one in _pairs(base, known, scale, shift)]
    waves = [_waves(known, scale) for scale in tested]
    worst = [min(part, key=lambda one: one.surprise) for part in (found, waves)]
    others = [one for one in (*found, *waves) if one.surprise <= 1 and one not in worst]
    return [*worst, *others]


def _pairs(base: Prepared, known: Together, scale: Merged, shift: float) -> list[Finding]:
    joint, layout = scale.sketch.joint, base.reference.layout
    basis = layout.basis
    assert joint is not None and basis is not None  # noqa: S101, PT018 - for the type checker
    here = correlations(joint.moments, joint.pairs, scale.sketch.counts @ base.paired)
    there = _usual(known)
    z, error = pair_z(here, joint.pairs, there, known.joint.pairs, np.array(known.spread))
    factors = np.array(scale.known.pairs) if scale.known.pairs else np.ones(len(z))
    z, df = z / factors, scale.known.pairs_df
    p = np.minimum(2 * t_tails(np.abs(z), df), 1.0)
    level = scale.pairs / len(p)
    wanted = {int(np.argmin(p)), *np.flatnonzero(p <= level).tolist()}
    reach = t_quantile(level / 2, df) * error * factors
    names = [layout.features[place].name for place in basis.features]
    first, second = np.triu_indices(len(names), 1)
    found = []
    for pair in sorted(wanted):
        low, high = _apart(here[pair], there[pair], reach[pair])
        is_real = bool(p[pair] <= level)
        found.append(
            Finding(
                feature=f"{names[first[pair]]} and {names[second[pair]]}",
                test="correlation",
                statistic=float(z[pair]),
                p=float(p[pair]),
                level=level,
                effect=float(here[pair] - there[pair]),
                scale=scale.windows,
                low=low,
                high=high,
                is_large=is_real and (low > shift or high < -shift),
            )
        )
    return found


@lru_cache(maxsize=256)
def _usual(known: Together) -> Floats:
    """The correlations of the reference; the same for every window."""
    return correlations(known.joint.moments, known.joint.pairs, known.firsts)


def _apart(here: float, there: float, reach: float) -> tuple[float, float]:
    """The interval of a difference of correlations, from that of the transformed one."""
    middle = float(np.arctanh(here))
    low, high = float(np.tanh(middle - reach)), float(np.tanh(middle + reach))
    return low - float(there), high - float(there)


def _waves(known: Together, scale: Merged) -> Finding:
    joint, rows = scale.sketch.joint, float(scale.sketch.rows)
    assert joint is not None  # noqa: S101 - for the type checker
    apart = waves_apart(joint.waves, np.array(rows), known.joint.waves, np.array(float(known.rows)))
    eigenvalues = np.array(known.eigenvalues)
    fair = apart / scale.known.waves
    usual = float(eigenvalues.sum()) + 2 * float(np.sqrt(2 * np.sum(np.square(eigenvalues))))
    # Nobody asks how likely it is to be near to what is expected.
    tail = waves_tail(np.atleast_1d(fair), eigenvalues) if fair > usual else np.ones(1)
    if fair > usual and (scale.known.waves_spread > 1 or scale.known.waves_df < 1e9):
        tail = t_tails(-quantiles(tail) / scale.known.waves_spread, scale.known.waves_df)
    return Finding(
        feature=TOGETHER,
        test="together",
        statistic=float(fair),
        p=float(tail[0]),
        level=scale.together,
        effect=float(apart * (1 / rows + 1 / known.rows)) ** 0.5,
        scale=scale.windows,
    )
