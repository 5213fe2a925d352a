"""Whether what a version is asked with is what it was made for: types, gaps, ranges, new levels.

These checks need no calibration, so they are made where nothing else can be said. They say what is
broken, not what has drifted: an alarm needs a share of the rows that matters and that chance does
not explain, and it ends only after several windows well below that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from shared.probability import hypergeometric_sf
from shared.reference import ANSWER, SCORE, Reference
from shared.sketch import CategoryCells, Cells, Counts, NumberCells, Sketch

Kind = Literal["schema", "missing", "range", "unseen"]
KINDS: Final[tuple[Kind, ...]] = ("schema", "missing", "range", "unseen")

LEAST_EXCESS: Final = 0.05
"""Share of the rows beyond the usual share: less may be drift, but nothing is broken."""
CALM: Final = 0.5
"""An alarm ends below this part of `LEAST_EXCESS`."""
CHANCE: Final = 1e-6
"""What is more likely than this by chance is no alarm; small, because neighbouring rows are alike
and ten of them may count as one."""
MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """What stands about one kind of trouble.

    Attributes:
        window: in which it was raised.
        clean: windows without it since.
    """

    kind: Kind
    window: int
    detail: str
    clean: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One kind of trouble in one window.

    Attributes:
        is_bad: it is there.
        is_calm: it is surely not there; between the two nothing changes.
    """

    kind: Kind
    is_bad: bool
    is_calm: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What becomes of an alarm; `said` is whether that is worth a word."""

    kind: Kind
    alarm: Alarm | None
    said: Literal["raised", "cleared"] | None


def inspect(reference: Reference, sketch: Sketch, absent: Mapping[str, int]) -> list[Finding]:
    """All kinds of trouble in a window, in the order of `KINDS`.

    Args:
        sketch: of the window, in the layout of the reference.
        absent: rows that came without a column, by its name; their values count as missing.
    """
    features = [
        (cells, counts, known)
        for cells, counts, known in zip(
            reference.layout.features,
            reference.layout.split(sketch.counts),
            reference.counts,
            strict=True,
        )
        # Answers are the model's own; what they say about it is not said about the data.
        if cells.name not in (ANSWER, SCORE)
    ]
    names = [cells.name for cells in reference.layout.features]
    return [
        _of_types(sketch, names, absent),
        *(
            _of_cells(kind, sketch.rows, reference.rows, features)
            for kind in ("missing", "range", "unseen")
        ),
    ]


def _of_types(sketch: Sketch, names: Sequence[str], absent: Mapping[str, int]) -> Finding:
    """A value of a wrong type is never chance: one is enough."""
    wrong = {
        name: int(count)
        for name, count in zip(names, sketch.invalid.tolist(), strict=True)
        if count and name not in (ANSWER, SCORE)
    }
    words = [f"{name}: {count} of a wrong type" for name, count in _worst(wrong)]
    words += [f"{name}: {count} rows without it" for name, count in _worst(absent)]
    return Finding(
        kind="schema",
        is_bad=bool(words),
        is_calm=not words,
        detail="; ".join(words[:MOST_NAMED]),
    )


def _worst(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))


def _of_cells(
    kind: Literal["missing", "range", "unseen"],
    rows: int,
    known_rows: int,
    features: Sequence[tuple[Cells, Counts, Counts]],
) -> Finding:
    excesses: list[tuple[float, str, bool]] = []
    for cells, counts, known in features:
        places = _places(kind, cells)
        if not places or not rows or not known_rows:
            continue
        there, usual = int(counts[places].sum()), int(known[places].sum())
        excess = there / rows - usual / known_rows
        is_real = excess >= LEAST_EXCESS and _is_no_chance(there, usual, rows, known_rows)
        said = f"{cells.name}: {there / rows:.1%} {_WORDS[kind]}, {usual / known_rows:.1%} usually"
        excesses.append((excess, said, is_real))
    worst = sorted((one for one in excesses if one[2]), key=lambda one: (-one[0], one[1]))
    return Finding(
        kind=kind,
        is_bad=bool(worst),
        is_calm=all(excess < LEAST_EXCESS * CALM for excess, _, _ in excesses),
        detail="; ".join(said for _, said, _ in worst[:MOST_NAMED]),
    )


_WORDS: Final = {"missing": "missing", "range": "out of range", "unseen": "of other levels"}


def _places(kind: Literal["missing", "range", "unseen"], cells: Cells) -> list[int]:
    """The cells of a feature that are counted; none where the kind means nothing."""
    match kind, cells:
        case "missing", _:
            return [-1]
        case "range", NumberCells(edges=edges) if edges:
            return [0, -2]
        case "unseen", CategoryCells():
            return [-2]
        case _:
            return []


def _is_no_chance(there: int, usual: int, rows: int, known_rows: int) -> bool:
    chance = hypergeometric_sf(there, rows + known_rows, there + usual, rows)
    return chance <= CHANCE


def step(alarm: Alarm | None, finding: Finding, window: int, patience: int) -> Change:
    """What a window means for an alarm that stands, or does not.

    Args:
        patience: calm windows in a row that end an alarm.
    """
    kind = finding.kind
    if finding.is_bad:
        if alarm is None:
            raised = Alarm(kind=kind, window=window, detail=finding.detail)
            return Change(kind=kind, alarm=raised, said="raised")
        again = Alarm(kind=kind, window=alarm.window, detail=finding.detail)
        return Change(kind=kind, alarm=again, said=None)
    if alarm is None:
        return Change(kind=kind, alarm=None, said=None)
    clean = alarm.clean + 1 if finding.is_calm else 0
    if clean >= patience:
        return Change(kind=kind, alarm=None, said="cleared")
    kept = Alarm(kind=kind, window=alarm.window, detail=alarm.detail, clean=clean)
    return Change(kind=kind, alarm=kept, said=None)
