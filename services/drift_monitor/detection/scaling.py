"""Windows taken together: which scales of a history can be tested against a reference."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.budget import SCALES, family_parts, scale_parts
from shared.calibration import LEAST_MERGED, Scale
from shared.reference import Reference
from shared.sketch import Sketch


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """Some of the newest windows taken together.

    Attributes:
        windows: how many.
        sketch: their sum.
        known: what is known of chance for so many rows.
        level: the part of alpha for features by themselves, for pairs, and for all numbers at once.
    """

    windows: int
    sketch: Sketch
    known: Scale
    each: float
    pairs: float
    together: float


def merged_windows(
    reference: Reference, history: Sequence[Sketch], alpha: float
) -> tuple[Merged, ...]:
    """The scales that can be tested; none when not even the newest window can.

    Args:
        history: sketches of windows, the newest one first.
    """
    found: list[tuple[int, Sketch, Scale]] = []
    for scale in SCALES:
        if scale > len(history):
            break
        total = history[0]
        for sketch in history[1:scale]:
            total += sketch
        known = reference.scale_for(total.rows)
        if known is None or not total.rows or total.rows > reference.rows:
            break
        if scale > 1 and 0 < known.blocks < LEAST_MERGED:
            break
        found.append((scale, total, known))
    parts = scale_parts(_possible(reference, history))
    return tuple(
        _with_levels(reference, *one, alpha * part) for one, part in zip(found, parts, strict=False)
    )


def _possible(reference: Reference, history: Sequence[Sketch]) -> list[int]:
    """The scales that a longer history would let be tested; levels do not depend on its length."""
    rows = history[0].rows
    scales = [1]
    for scale in list(SCALES)[1:]:
        known = reference.scale_for(rows * scale)
        if known is None or rows * scale > reference.rows or 0 < known.blocks < LEAST_MERGED:
            break
        scales.append(scale)
    return scales


def _with_levels(
    reference: Reference, windows: int, sketch: Sketch, known: Scale, level: float
) -> Merged:
    has_pairs = bool(sketch.joint and reference.together and (known.pairs or known.blocks == 0))
    each, pairs, together = family_parts(1 if has_pairs else 0)
    return Merged(
        windows=windows,
        sketch=sketch,
        known=known,
        each=level * each,
        pairs=level * pairs,
        together=level * together,
    )
