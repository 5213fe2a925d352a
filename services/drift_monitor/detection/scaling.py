"""Windows taken together: which scales of a history can be tested against a reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.detection.chances import FACTORS, Chance
from services.drift_monitor.detection.prepared import Prepared
from shared.budget import SCALES, family_parts, scale_parts
from shared.calibration import LEAST_MERGED
from shared.joint import Joint
from shared.reference import Reference
from shared.sketch import Sketch

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

_ENDS: Final = list(SCALES)
"""Where the windows end that each scale takes together."""


@dataclass(frozen=True, slots=True, eq=False)
class Scales:
    """Some of the newest windows taken together, at all S scales that can be tested.

    Attributes:
        windows: how many at each scale.
        chances: what is known of chance for so many rows.
        rows, counts: of their sums, (S,) and (S, cells of all).
        joint: how numbers move together in the first of the scales; None in none of them.
        each, pairs, together: the part of alpha for features by themselves, for pairs, and for all
            numbers at once, (S,).
        tested, table: of all features, (S, F) and (factors, S, F).
    """

    windows: tuple[int, ...]
    chances: tuple[Chance, ...]
    rows: Whole
    counts: Whole
    joint: Joint | None
    each: Floats
    pairs: Floats
    together: Floats
    tested: NDArray[np.bool_]
    table: Floats

    def factors(self, features: Whole) -> dict[str, Floats]:
        """The factors of these features at all scales, by their names, (S, features) each."""
        return dict(zip(FACTORS, self.table.take(features, axis=2), strict=True))


def merged_windows(
    reference: Reference, base: Prepared, history: Sequence[Sketch], alpha: float
) -> Scales | None:
    """The scales that can be tested; None when not even the newest window can.

    Args:
        history: sketches of windows, the newest one first.
    """
    rows = list(accumulate(sketch.rows for sketch in history))
    there = [scale for scale in SCALES if scale <= len(history)]
    found = _known(reference, base, {scale: rows[scale - 1] for scale in there})
    # Levels do not depend on how long the history is already.
    possible = _known(reference, base, {scale: rows[0] * scale for scale in SCALES})
    parts = scale_parts(list(possible)) if possible else []
    windows = tuple(found)[: len(parts)]
    if not windows:
        return None
    chances = tuple(found[scale] for scale in windows)
    tested, table = base.tables(chances)
    joint = _joint([sketch.joint for sketch in history[: windows[-1]]], len(windows))
    shares = [
        family_parts(1 if _has_pairs(joint, reference, chance, place) else 0)
        for place, chance in enumerate(chances)
    ]
    level = alpha * np.array(parts[: len(windows)])
    each, pairs, together = (level * np.array(part) for part in zip(*shares, strict=True))
    return Scales(
        windows=windows,
        chances=chances,
        rows=np.array([rows[scale - 1] for scale in windows], dtype=np.int64),
        counts=_sums([sketch.counts for sketch in history[: windows[-1]]], len(windows)),
        joint=joint,
        each=each,
        pairs=pairs,
        together=together,
        tested=tested,
        table=table,
    )


def _known(reference: Reference, base: Prepared, rows: dict[int, int]) -> dict[int, Chance]:
    """What is known of each scale, up to the first of which too little is."""
    found: dict[int, Chance] = {}
    for scale, count in rows.items():
        chance = base.chance(reference, count) if count else None
        if chance is None or (scale > 1 and 0 < chance.blocks < LEAST_MERGED):
            break
        found[scale] = chance
    return found


def _has_pairs(joint: Joint | None, reference: Reference, chance: Chance, place: int) -> bool:
    is_there = joint is not None and place < len(joint.waves)
    is_known = reference.together is not None and (len(chance.pairs) or chance.blocks == 0)
    return bool(is_there and is_known)


def _joint(parts: Sequence[Joint | None], scales: int) -> Joint | None:
    """Sums of the scales in which every window knows how numbers move together."""
    known = list(takewhile(bool, parts))
    number = sum(scale <= len(known) for scale in _ENDS[:scales])
    if not number:
        return None
    some = [part for part in known[: _ENDS[number - 1]] if part]
    return Joint(
        _sums([part.moments for part in some], number),
        _sums([part.pairs for part in some], number),
        _sums([part.waves for part in some], number),
    )


def _sums(parts: Sequence[Whole], scales: int) -> Whole:
    """Sums of the newest 1, 2, 4, ... of these arrays, one after the other."""
    found = np.empty((scales, *parts[0].shape), dtype=np.int64)
    added, start = np.zeros(parts[0].shape, dtype=np.int64), 0
    for place, end in enumerate(_ENDS[:scales]):
        for part in parts[start:end]:
            added += part
        found[place], start = added, end
    return found
