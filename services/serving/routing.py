"""Which arm answers a row: the same entity meets the same arm for as long as a rollout lasts."""

import hashlib
from collections.abc import Sequence

from shared.events import Arm


def point_of(salt: str, key: str) -> float:
    """Where an entity lies between 0 and 1; another salt throws all entities anew."""
    seen = hashlib.sha256(salt.encode() + b"\x00" + key.encode()).digest()
    return int.from_bytes(seen[:8]) / 2.0**64


def choose_arm(arms: Sequence[Arm], point: float) -> int:
    """Index of the arm that answers at this point.

    Challengers take the lower end, each its weight, and the champion the rest: while a weight only
    grows, nobody who met the challenger goes back.
    """
    taken = 0.0
    for index, arm in enumerate(arms):
        if arm.role != "champion":
            taken += arm.weight
            if point < taken:
                return index
    return next((i for i, arm in enumerate(arms) if arm.role == "champion"), len(arms) - 1)
