"""Two versions of a dataset side by side: what to know before trusting the new one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from services.registry.profiling.profile import ColumnProfile, Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class KindChange:
    """A column that is something else than before."""

    column: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How one column moved.

    Attributes:
        size: the measure by which columns are ordered: `mean_in_deviations` for numbers,
            `share_moved` for text and booleans, or the change of the missing share if larger.
        mean_in_deviations: (new mean - old mean) / old standard deviation.
        deviation_ratio: new over old standard deviation.
        quantiles_in_deviations: by probability, (new - old) / old standard deviation.
        share_moved: total variation over the most frequent values, 0 to 1.
        missing_share: old and new.
    """

    column: str
    kind: str
    size: float
    missing_share: tuple[float, float]
    range_old: tuple[object, object]
    range_new: tuple[object, object]
    mean_in_deviations: float | None = None
    deviation_ratio: float | None = None
    quantiles_in_deviations: Mapping[str, float] | None = None
    share_moved: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The whole picture; shifts are ordered, largest first."""

    rows_old: int
    rows_new: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[KindChange, ...]
    shifts: tuple[Shift, ...]


def compare(
    old: Profile,
    new: Profile,
    *,
    old_kinds: Mapping[str, str],
    new_kinds: Mapping[str, str],
) -> Comparison:
    """What changed from one version to the other; kinds are those of the versions."""
    was = {column.name: column for column in old.columns}
    common = [(was[column.name], column) for column in new.columns if column.name in was]
    shifts = [_shift(a, b, old.rows, new.rows, new_kinds[b.name]) for a, b in common]
    return Comparison(
        rows_old=old.rows,
        rows_new=new.rows,
        added=tuple(name for name in new_kinds if name not in old_kinds),
        removed=tuple(name for name in old_kinds if name not in new_kinds),
        changed=tuple(_changes(old_kinds, new_kinds)),
        shifts=tuple(sorted(shifts, key=lambda shift: (-shift.size, shift.column))),
    )


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[KindChange]:
    for name, kind in new.items():
        if name in old and old[name] != kind:
            yield KindChange(column=name, old=old[name], new=kind)


def _shift(old: ColumnProfile, new: ColumnProfile, rows: int, new_rows: int, kind: str) -> Shift:
    missing = (_share(old.missing, rows), _share(new.missing, new_rows))
    shift = Shift(
        column=new.name,
        kind=kind,
        size=abs(missing[1] - missing[0]),
        missing_share=missing,
        range_old=(old.minimum, old.maximum),
        range_new=(new.minimum, new.maximum),
    )
    if kind in ("integer", "number"):
        return _numeric(shift, old, new)
    moved = _moved(old, new)
    return replace(shift, share_moved=moved, size=max(shift.size, moved or 0.0))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _numeric(shift: Shift, old: ColumnProfile, new: ColumnProfile) -> Shift:
    if old.mean is None or new.mean is None:
        return shift
    # A column that never varied moves by its own size instead.
    unit = old.deviation or abs(old.mean) or 1.0
    moved = (new.mean - old.mean) / unit
    quantiles = {
        name: (value - (old.quantiles or {})[name]) / unit
        for name, value in (new.quantiles or {}).items()
        if name in (old.quantiles or {})
    }
    ratio = (new.deviation or 0.0) / old.deviation if old.deviation else None
    return replace(
        shift,
        size=max(shift.size, abs(moved)),
        mean_in_deviations=moved,
        deviation_ratio=ratio,
        quantiles_in_deviations=quantiles,
    )


def _moved(old: ColumnProfile, new: ColumnProfile) -> float | None:
    if new.kind == "boolean" and old.mean is not None and new.mean is not None:
        return abs(new.mean - old.mean)
    if not old.top or not new.top:
        return None
    return _total_variation(old.top, new.top)


def _total_variation(old: Sequence[tuple[str, float]], new: Sequence[tuple[str, float]]) -> float:
    """Half the sum of the differences; whatever is not among the top is one value."""
    was, now = dict(old), dict(new)
    rest = (1 - sum(now.values())) - (1 - sum(was.values()))
    moved = sum(abs(now.get(name, 0.0) - was.get(name, 0.0)) for name in was | now)
    return min(1.0, (moved + abs(rest)) / 2)
