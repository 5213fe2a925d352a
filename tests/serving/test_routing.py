"""Which arm answers: by weight, the same one for the same entity, and hardly ever another one."""

import hashlib
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serving.routing import point_of, split_of
from shared.events import Arm, Digest

weights = st.floats(0.0, 1.0, allow_nan=False)
points = st.floats(0.0, 1.0, allow_nan=False)
salts = st.text(max_size=8)
shares = st.lists(st.floats(0.0, 0.24), min_size=1, max_size=4)
GRID = [i / 997 for i in range(997)]


def arms(challengers: Sequence[float], first: int = 2, shadow: float | None = None) -> list[Arm]:
    """A champion, challengers of these weights whose versions count up, and perhaps a shadow."""
    none = Digest("0" * 64)
    found = [Arm(role="champion", version=1, manifest=none, weight=1 - sum(challengers))]
    found += [
        Arm(role="challenger", version=first + i, manifest=none, weight=share)
        for i, share in enumerate(challengers)
    ]
    if shadow is not None:
        found.insert(1, Arm(role="shadow", version=99, manifest=none, weight=shadow))
    return found


def versions_met(given_arms: Sequence[Arm], salt: str) -> list[int]:
    split = split_of(given_arms, salt)
    return [given_arms[split.arm_at(point)].version for point in GRID]


def test_the_point_is_the_first_eight_bytes_of_the_hash_of_salt_and_entity() -> None:
    digest = hashlib.sha256(b"salt\x00pump-7").hexdigest()

    assert point_of("salt", "pump-7") == int(digest[:16], 16) / 2**64


@given(salt=st.text(max_size=20), entity=st.text(max_size=20))
def test_an_entity_always_lies_at_the_same_point_between_0_and_1(salt: str, entity: str) -> None:
    assert 0 <= point_of(salt, entity) <= 1
    assert point_of(salt, entity) == point_of(salt, entity)


@given(weight=weights, salt=salts)
def test_a_challenger_holds_exactly_its_weight_from_its_own_place_on(
    weight: float, salt: str
) -> None:
    split = split_of(arms([weight]), salt)
    edges = [*split.starts, 2**64]
    held = sum(
        b - a for (a, b), arm in zip(pairwise(edges), split.holders, strict=True) if arm == 1
    )

    assert held == int(weight * 2**64)
    if weight > 1e-12:
        assert split.arm_at(point_of(salt, "version 2")) == 1


@given(shares=shares, salt=salts)
def test_every_arm_holds_exactly_its_weight(shares: list[float], salt: str) -> None:
    split = split_of(arms(shares), salt)
    edges = [*split.starts, 2**64]

    for index, share in enumerate(shares, 1):
        parts = zip(pairwise(edges), split.holders, strict=True)
        assert sum(b - a for (a, b), arm in parts if arm == index) == int(share * 2**64)


@given(before=shares, more=st.lists(st.floats(0, 1), min_size=4, max_size=4), salt=salts)
def test_nobody_goes_back_to_the_champion_while_weights_grow_and_arms_are_added(
    before: list[float], more: list[float], salt: str
) -> None:
    padded = before + [0.0] * (4 - len(before))
    after = [a + (0.25 - a) * b for a, b in zip(padded, more, strict=True)]

    met = zip(versions_met(arms(before), salt), versions_met(arms(after), salt), strict=True)

    assert not any(first != 1 and second == 1 for first, second in met)


@given(before=shares, weight=st.floats(0, 0.04), salt=salts)
def test_an_arm_that_is_added_last_takes_its_share_from_the_champion_alone(
    before: list[float], weight: float, salt: str
) -> None:
    added = 1 + len(before) + 1

    met = zip(
        versions_met(arms(before), salt), versions_met(arms([*before, weight]), salt), strict=True
    )

    assert all(
        second in (first, added) and (second == first or first == 1) for first, second in met
    )


@given(before=shares, growth=st.floats(0, 1), salt=salts)
def test_a_last_arm_that_grows_moves_nobody_of_the_others(
    before: list[float], growth: float, salt: str
) -> None:
    last = before[-1] + (0.25 - before[-1]) * growth
    version = 1 + len(before)

    met = zip(
        versions_met(arms(before), salt),
        versions_met(arms([*before[:-1], last]), salt),
        strict=True,
    )

    assert all(first == second or (first, second) == (1, version) for first, second in met)


def test_the_oldest_arm_that_goes_leaves_almost_everybody_where_they_were() -> None:
    moved = 0
    for salt in map(str, range(50)):
        three = versions_met(arms([0.1, 0.1, 0.1]), salt)
        two = versions_met(arms([0.1, 0.1], first=3), salt)
        moved += sum(a not in (2, b) for a, b in zip(three, two, strict=True))

    assert moved < 0.04 * 50 * len(GRID)


@given(shares=shares, shadow=weights, point=points, salt=salts)
def test_a_shadow_changes_nothing_about_who_is_seen(
    shares: list[float], shadow: float, point: float, salt: str
) -> None:
    alone, beside = arms(shares), arms(shares, shadow=shadow)

    seen = beside[split_of(beside, salt).arm_at(point)]

    assert seen == alone[split_of(alone, salt).arm_at(point)]
    assert seen.role != "shadow"


@pytest.mark.parametrize("shadows", [[], [0.5]])
def test_without_an_arm_that_is_seen_nobody_is_chosen(shadows: list[float]) -> None:
    unseen = [Arm(role="shadow", version=1, manifest=Digest("0" * 64), weight=w) for w in shadows]

    split = split_of(unseen, "salt")

    assert (split.arm_at(0.3), split.is_shared) == (len(unseen), False)


def test_entities_are_split_as_the_weights_say() -> None:
    split = split_of(arms([0.25, 0.1]), "rollout")
    chosen = [split.arm_at(point_of("rollout", f"pump-{i}")) for i in range(20_000)]

    assert abs(chosen.count(1) / len(chosen) - 0.25) < 0.015
    assert abs(chosen.count(2) / len(chosen) - 0.1) < 0.01


def test_another_salt_makes_other_entities_the_first_to_meet_the_challenger() -> None:
    def early(salt: str) -> set[int]:
        split = split_of(arms([0.1]), salt)
        return {i for i in range(5_000) if split.arm_at(point_of(salt, str(i))) == 1}

    both = len(early("a") & early("b"))

    assert both < 0.02 * 5_000
