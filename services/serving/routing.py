"""Which arm answers a row: the same entity meets the same arm for as long as a rollout lasts.

Entities lie on a circle, thrown there by the salt. Each challenger begins at a place of its own,
which salt and version decide, and takes its weight from there clockwise; what another challenger
holds already it passes over. The champion answers the rest. Therefore:

- While weights grow and arms are added, nobody who met a challenger goes back to the champion: the
  part that challengers hold together only grows.
- A new arm that stands last takes its share from the champion alone, and one that goes gives its
  share back to the champion; an earlier arm that grows moves only those later ones whom it meets.
  So whoever writes the arms keeps their order, the oldest challenger first, and one salt.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.events import Arm

_CIRCLE: Final = 2**64
_Span = tuple[int, int]
"""From the first up to, without, the second."""


def point_of(salt: str, key: str) -> float:
    """Where an entity lies between 0 and 1; another salt throws all entities anew."""
    seen = hashlib.sha256(salt.encode() + b"\x00" + key.encode()).digest()
    return int.from_bytes(seen[:8]) / 2.0**64


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How the circle is shared among the arms that are seen.

    Attributes:
        starts: where the parts begin, rising.
        holders: index of the arm that answers in each part.
        is_shared: whether more than one arm may answer.
    """

    starts: tuple[int, ...]
    holders: tuple[int, ...]

    @property
    def is_shared(self) -> bool:
        """Whether more than one arm may answer."""
        return len(self.starts) > 1

    def arm_at(self, point: float) -> int:
        """Index of the arm that answers at a point between 0 and 1."""
        place = min(int(point * _CIRCLE), _CIRCLE - 1)
        return self.holders[bisect_right(self.starts, place) - 1]


def split_of(arms: Sequence[Arm], salt: str) -> Split:
    """Share the circle among the arms; shadows have no part, and without an arm nobody has.

    The holder of what no challenger takes is the champion, without one the last of the others, and
    `len(arms)` where no arm is seen at all.
    """
    held: list[tuple[_Span, int]] = []
    for index, arm in enumerate(arms):
        if arm.role == "challenger":
            start = int(point_of(salt, f"version {arm.version}") * _CIRCLE)
            taken = _claimed([span for span, _ in held], start, int(arm.weight * _CIRCLE))
            held += [(span, index) for span in taken]
    return _laid_out(sorted(held), _holder_of_the_rest(arms))


def _holder_of_the_rest(arms: Sequence[Arm]) -> int:
    seen = [index for index, arm in enumerate(arms) if arm.role != "shadow"]
    champions = [index for index in seen if arms[index].role == "champion"]
    return champions[0] if champions else seen[-1] if seen else len(arms)


def _claimed(held: Sequence[_Span], start: int, width: int) -> list[_Span]:
    """The first free places clockwise from the start, as many as wanted and there are."""
    claimed: list[_Span] = []
    for first, last in _free(held, start, _CIRCLE) + _free(held, 0, start):
        if width <= 0:
            break
        end = min(last, first + width)
        claimed.append((first, end))
        width -= end - first
    return claimed


def _free(held: Sequence[_Span], first: int, last: int) -> list[_Span]:
    """What nobody holds between two places."""
    free: list[_Span] = []
    for begun, ended in sorted(held):
        if first < min(begun, last):
            free.append((first, min(begun, last)))
        first = max(first, ended)
    if first < last:
        free.append((first, last))
    return free


def _laid_out(held: Sequence[tuple[_Span, int]], rest: int) -> Split:
    parts: list[tuple[int, int]] = []
    place = 0
    for (first, last), index in held:
        if place < first:
            parts.append((place, rest))
        parts.append((first, index))
        place = last
    if place < _CIRCLE:
        parts.append((place, rest))
    return Split(starts=tuple(s for s, _ in parts), holders=tuple(h for _, h in parts))
