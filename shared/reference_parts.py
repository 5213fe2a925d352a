"""The statistics of a reference, of all its rows and of each season, and how they are stored."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.calibration import (
    LEAST_LENGTH,
    Calibration,
    Factors,
    Mode,
    Scale,
    Source,
    calibrate,
)
from shared.joint import Basis, Joint
from shared.sketch import Counts, Layout
from shared.stacks import counts_per_block
from shared.together import Moved, Together

MOST_KEPT: Final = 64
"""Blocks whose counts are kept, the newest ones."""
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """What is known of rows that windows can be compared with.

    Attributes:
        counts: one row of counts per feature.
        together: how numbers move together; None with fewer than two.
        calibration: what is known of chance.
        blocks: rows of counts of the newest blocks of window size, in the order of time.
    """

    counts: tuple[Counts, ...]
    rows: int
    together: Together | None
    calibration: Calibration
    blocks: Whole


def part_of(
    layout: Layout, places: Sequence[Counts], window: int, *, is_ordered: bool, refusal: str = ""
) -> Part:
    """The statistics of these rows.

    Args:
        places: the cell of every row, per feature, in the order of time.
        window: rows of a full window.
        refusal: why windows must not be tested whatever the rows say; empty otherwise.
    """
    moved = None
    if layout.basis and len(places[layout.basis.features[0]]):
        among = np.stack([places[i] for i in layout.basis.features], axis=1)
        moved = Moved.of(layout.basis, among)
    together = moved.together() if moved else None
    source = Source(layout, places, moved, together, is_ordered)
    calibration = Calibration(mode="insufficient", reason=refusal, scales=())
    sizes = [cell.size for cell in layout.features]
    return Part(
        counts=tuple(np.bincount(p, minlength=n) for p, n in zip(places, sizes, strict=True)),
        rows=source.rows,
        together=together,
        calibration=calibration if refusal else calibrate(source, window),
        blocks=_newest_blocks(layout, places, max(window, LEAST_LENGTH)),
    )


def _newest_blocks(layout: Layout, places: Sequence[Counts], window: int) -> Whole:
    rows = max((len(place) for place in places), default=0)
    columns = [place if len(place) == rows else place[:0] for place in places]
    if rows < window:
        return np.zeros((0, layout.size), dtype=np.int64)
    return counts_per_block(columns, layout, window, MOST_KEPT)


def plain_part(part: Part) -> dict[str, Any]:
    """A part as JSON."""
    calibration = part.calibration
    return {
        "counts": [counts.tolist() for counts in part.counts],
        "rows": part.rows,
        "mode": calibration.mode,
        "calibrated": calibration.mode != "insufficient",
        "reason": calibration.reason,
        "scales": [asdict(scale) for scale in calibration.scales],
        "together": _plain_together(part.together),
        "blocks": _packed(part.blocks),
    }


def read_part(plain: Mapping[str, Any], layout: Layout) -> Part:
    """A part from JSON, of the first format as well."""
    scales = tuple(_read_scale(scale) for scale in plain["scales"])
    mode: Mode = plain.get("mode") or ("block" if scales else "insufficient")
    together = plain.get("together")
    return Part(
        counts=tuple(np.array(counts, dtype=np.int64) for counts in plain["counts"]),
        rows=int(plain["rows"]),
        together=_read_together(together) if together else None,
        calibration=Calibration(mode=mode, reason=str(plain["reason"]), scales=scales),
        blocks=_unpacked(plain.get("blocks", ""), layout.size),
    )


def plain_basis(basis: Basis | None) -> dict[str, Any] | None:
    """A basis as JSON."""
    if basis is None:
        return None
    return {
        "features": list(basis.features),
        "scores": [list(scores) for scores in basis.scores],
        "width": basis.width,
        "seed": basis.seed,
    }


def read_basis(plain: Mapping[str, Any] | None) -> Basis | None:
    """A basis from JSON."""
    if not plain:
        return None
    return Basis(
        features=tuple(plain["features"]),
        scores=tuple(tuple(scores) for scores in plain["scores"]),
        width=plain["width"],
        seed=plain["seed"],
    )


def _plain_together(together: Together | None) -> dict[str, Any] | None:
    if together is None:
        return None
    upper = np.triu_indices(len(together.firsts))
    return {
        "rows": together.rows,
        "moments": together.joint.moments[upper].tolist(),
        "pairs": together.joint.pairs[upper].tolist(),
        "waves": together.joint.waves.tolist(),
        "firsts": together.firsts.tolist(),
        "spread": list(together.spread),
        "eigenvalues": list(together.eigenvalues),
    }


def _read_together(plain: Mapping[str, Any]) -> Together:
    firsts = np.array(plain["firsts"], dtype=np.int64)
    return Together(
        rows=plain["rows"],
        joint=Joint(
            _square(plain["moments"], len(firsts)),
            _square(plain["pairs"], len(firsts)),
            np.array(plain["waves"], dtype=np.int64),
        ),
        firsts=firsts,
        spread=tuple(plain["spread"]),
        eigenvalues=tuple(plain["eigenvalues"]),
    )


def _square(upper: Sequence[int], size: int) -> Whole:
    square = np.zeros((size, size), dtype=np.int64)
    rows, columns = np.triu_indices(size)
    square[rows, columns] = upper
    square[columns, rows] = upper
    return square


def _read_scale(plain: Mapping[str, Any]) -> Scale:
    known = {name: value for name, value in plain.items() if name not in ("factors", "pairs")}
    return Scale(
        factors=tuple(_read_factors(found) for found in plain["factors"]),
        pairs=tuple(plain.get("pairs", ())),
        **known,
    )


def _read_factors(plain: Mapping[str, float] | None) -> Factors | None:
    if not plain:
        return None
    if "fine" in plain:
        return Factors(**plain)
    # Profiles of the first format know few groups of cells only; many vary as these do.
    fine = {name.replace("shape", "fine"): plain[name] for name in plain if "shape" in name}
    return Factors(**plain, **fine)


def _packed(blocks: Whole) -> str:
    return base64.b64encode(zlib.compress(blocks.astype("<u4").tobytes(), 6)).decode()


def _unpacked(text: str, size: int) -> Whole:
    if not text:
        return np.zeros((0, size), dtype=np.int64)
    plain = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<u4")
    return plain.astype(np.int64).reshape(-1, size)
