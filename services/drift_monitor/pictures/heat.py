"""Features by time: which of them left the reference, when, and how far."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from math import log10
from typing import Final, Literal

from services.drift_monitor.pictures.sheet import LINE, Entry, head, lines, sheet, shortened, text
from shared.plain_text import html, plain

Tier = Literal["clean", "warning", "critical", "insufficient"]
MOST_ROWS: Final = 40
MOST_COLUMNS: Final = 160
"""Narrower ones could not be told apart: more windows share a column each."""
_LEFT, _HIGH, _PLOT, _FOOT = 220, 18, 640, 46
_WIDTH: Final = _LEFT + _PLOT + 16
_LEAST_P: Final = 1e-12
"""Beyond it a cell is as dark as it gets."""
_MEANINGS: Final[tuple[Entry, ...]] = (
    ("clean", "low", "like the reference"),
    ("warning", "half", "warning"),
    ("critical", "full", "critical"),
    ("insufficient", "middle", "not judged"),
)
_PLACES: Final[Mapping[Tier, tuple[int, int]]] = {
    "clean": (13, 3),
    "warning": (8, 8),
    "critical": (0, 16),
    "insufficient": (7, 2),
}
"""Where in its row a cell begins, and how high it is: what colours say, heights say as well."""
_RANKS: Final[Mapping[Tier, int]] = {"critical": 0, "warning": 1, "clean": 2, "insufficient": 3}
_NAMED: Final = 5
"""Features named to those who do not see the map."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A window, or several that were closed one after the other.

    Attributes:
        first, last: the least and the largest of their numbers, which have gaps between seasons.
        at: end of the last one.
        windows: how many there are.
        unjudged: why none of them was judged at all, which holds for every feature.
    """

    first: int
    last: int
    at: datetime
    windows: int = 1
    unjudged: str = ""

    @property
    def name(self) -> str:
        """Of the window or windows."""
        return _named([self])


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One feature in one column.

    Attributes:
        column: its place, from the left.
        p: of the feature, on the scale on which `alpha` is the level.
        words: what was found, for the one who points at the cell.
    """

    feature: str
    column: int
    p: float
    tier: Tier
    words: str

    @property
    def rank(self) -> tuple[int, float]:
        """The worst one is the least."""
        return _RANKS[self.tier], self.p


def heat(model: str, columns: Sequence[Column], cells: Sequence[Cell], *, alpha: float) -> bytes:
    """The map, worst features on top.

    Args:
        columns: from the left to the right.
        alpha: the level; what is more surprising is drawn in the colour of its tier.
    """
    rows = _worst_first(cells)
    shown = list(rows)[:MOST_ROWS]
    title = f"{model}: drift"
    parts, top = head(title, _WIDTH, _MEANINGS)
    wide = _PLOT / max(len(columns), 1)
    bottom = top + _HIGH * len(shown)
    names: list[str] = []
    for row, name in enumerate(shown):
        y = top + _HIGH * row
        names.append(_name(name, _HIGH * row))
        parts += _row(_with_gaps(rows[name], columns), columns, y, wide, alpha)
    parts.append(_beside(names, top))
    parts += _moments(columns, wide, bottom)
    told = lines(bottom + 36, _below(rows, columns), _WIDTH)
    height = bottom + _FOOT + LINE * max(len(told) - 1, 0)
    return sheet(title, _says(model, columns, rows), _WIDTH, height, [*parts, *told])


def _worst_first(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """The cells of each feature from the left to the right, the worst feature first."""
    found: dict[str, list[Cell]] = defaultdict(list)
    for cell in sorted(cells, key=lambda cell: cell.column):
        found[cell.feature].append(cell)
    worst = {name: min(cell.rank for cell in row) for name, row in found.items()}
    return {name: found[name] for name in sorted(found, key=lambda name: (worst[name], name))}


def _with_gaps(row: Sequence[Cell], columns: Sequence[Column]) -> list[Cell]:
    """A row with what holds for every feature of its column."""
    known = {cell.column: cell for cell in row}
    gaps = [
        Cell(
            feature=row[0].feature,
            column=place,
            p=1.0,
            tier="insufficient",
            words=f"{column.name}: not judged: {column.unjudged}",
        )
        for place, column in enumerate(columns)
        if column.unjudged and place not in known
    ]
    return sorted([*row, *gaps], key=lambda cell: cell.column)


def _row(
    cells: Sequence[Cell], columns: Sequence[Column], y: int, wide: float, alpha: float
) -> Iterator[str]:
    for run in _runs(cells):
        first, count = run[0], len(run)
        begin, high = _PLACES[first.tier]
        words = first.words
        if count > 1:
            state = "like the reference" if first.tier == "clean" else "not judged"
            covered = columns[first.column : run[-1].column + 1]
            words = f"{_named(covered)}: {state}"
        yield (
            f'<rect class="{first.tier}" x="{_LEFT + wide * first.column:.1f}" y="{y + begin}" '
            f'width="{max(wide * count - 1, 0.5):.1f}" height="{high}" '
            f'fill-opacity="{strength(first, alpha):.2f}">'
            f"<title>{html(plain(words))}</title></rect>"
        )


def _named(columns: Sequence[Column]) -> str:
    first, last = min(one.first for one in columns), max(one.last for one in columns)
    return f"window {first}" if first == last else f"windows {first} to {last}"


def _runs(cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    """Neighbours of which there is nothing to say apart are drawn as one."""

    def together(placed: tuple[int, Cell]) -> tuple[str, int]:
        place, cell = placed
        # Neighbours have the same distance to their place in the row.
        alone = cell.tier in ("warning", "critical")
        return cell.tier, -1 - place if alone else cell.column - place

    for _, run in groupby(enumerate(cells), key=together):
        yield [cell for _, cell in run]


def strength(cell: Cell, alpha: float) -> float:
    """How strongly a cell is painted, 0.25 to 1, by how surprising it is beyond the level."""
    if cell.tier in ("clean", "insufficient"):
        return 1.0
    most = log10(alpha) - log10(_LEAST_P)
    beyond = log10(alpha) - log10(max(cell.p, _LEAST_P))
    return min(1.0, 0.55 + 0.45 * beyond / most) if most > 0 else 1.0


# --- words ------------------------------------------------------------------------------------


def _name(name: str, y: int) -> str:
    words = html(plain(shortened(name, _LEFT - 24)))
    return (
        f'<text class="row" x="12" y="{y + _HIGH / 2 - 1:.1f}">{words}'
        f"<title>{html(plain(name))}</title></text>"
    )


def _beside(names: Sequence[str], top: int) -> str:
    """Names of rows in a frame of their own: however wide letters are, cells stay free of them."""
    high = _HIGH * len(names)
    return f'<svg x="0" y="{top}" width="{_LEFT - 6}" height="{high}">{"".join(names)}</svg>'


def _moments(columns: Sequence[Column], wide: float, bottom: float) -> list[str]:
    if not columns:
        return []
    names = [f"{column.at:%Y-%m-%d %H:%M}" for column in columns]
    if len(names) == 1:
        return [text(_LEFT + _PLOT / 2, bottom + 16, names[0], "x")]
    middle = len(names) // 2
    between = [text(_LEFT + wide * (middle + 0.5), bottom + 16, names[middle], "x")]
    return [
        text(_LEFT, bottom + 16, names[0], "start"),
        *(between if len(names) > 2 else ()),
        text(_LEFT + _PLOT, bottom + 16, names[-1], "end"),
    ]


def _below(rows: Mapping[str, Sequence[Cell]], columns: Sequence[Column]) -> str:
    """What the map does not show of itself."""
    said = [] if columns else ["No window has been compared yet."]
    if columns and not rows:
        said.append(f"No window was judged: {columns[-1].unjudged}.")
    if len(rows) > MOST_ROWS:
        said.append(f"{len(rows) - MOST_ROWS} further features are not shown.")
    most = max((column.windows for column in columns), default=1)
    if most > 1:
        said.append(f"A column is of up to {most} windows and shows the worst of them.")
    judged = sum(not column.unjudged for column in columns)
    if any(len(row) < judged for row in list(rows.values())[:MOST_ROWS]):
        said.append("Nothing is drawn where a feature was not tested or not among the worst.")
    return " ".join(said)


def _says(model: str, columns: Sequence[Column], rows: Mapping[str, Sequence[Cell]]) -> str:
    windows = sum(column.windows for column in columns)
    worst = [_story(name, row, columns) for name, row in rows.items()]
    told = [story for story in worst if story]
    more = [f"and {_count(len(told) - _NAMED, 'further feature')}"] if len(told) > _NAMED else []
    stories = "; ".join([*told[:_NAMED], *more])
    if not told:
        tiers = {cell.tier for row in rows.values() for cell in row}
        stories = "no feature left the reference" if "clean" in tiers else "nothing was judged"
    return (
        f"Drift of {model} by feature and window, the worst features on top; "
        f"{_count(windows, 'window')}, {_count(len(rows), 'feature')}: {stories}."
    )


def _story(name: str, row: Sequence[Cell], columns: Sequence[Column]) -> str:
    drifted = [cell for cell in row if cell.tier in ("warning", "critical")]
    if not drifted:
        return ""
    found = [(tier, sum(cell.tier == tier for cell in drifted)) for tier in ("critical", "warning")]
    times = " and ".join(f"{tier} in {count}" for tier, count in found if count)
    of = _count(len(columns), "column")
    return f"{plain(name)} {times} of {of}, last in {columns[drifted[-1].column].name}"


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
