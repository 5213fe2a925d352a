"""Which arm answers: by weight, and the same one for the same entity."""

import hashlib
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from services.serving.routing import choose_arm, point_of
from shared.events import Arm, Digest

Role = Literal["champion", "challenger"]
weights = st.floats(0.0, 1.0, allow_nan=False)
points = st.floats(0.0, 1.0, allow_nan=False)


def arms(weight: float) -> tuple[Arm, Arm]:
    def arm(role: Role, version: int, share: float) -> Arm:
        return Arm(role=role, version=version, manifest=Digest("0" * 64), weight=share)

    return arm("champion", 1, 1 - weight), arm("challenger", 2, weight)


def test_the_point_is_the_first_eight_bytes_of_the_hash_of_salt_and_entity() -> None:
    digest = hashlib.sha256(b"salt\x00pump-7").hexdigest()

    assert point_of("salt", "pump-7") == int(digest[:16], 16) / 2**64


@given(salt=st.text(max_size=20), entity=st.text(max_size=20))
def test_an_entity_always_lies_at_the_same_point_between_0_and_1(salt: str, entity: str) -> None:
    assert 0 <= point_of(salt, entity) <= 1
    assert point_of(salt, entity) == point_of(salt, entity)


@given(weight=weights, point=points)
def test_the_challenger_answers_exactly_below_its_weight(weight: float, point: float) -> None:
    assert (choose_arm(arms(weight), point) == 1) == (point < weight)


@given(first=weights, second=weights, point=points)
def test_nobody_goes_back_to_the_champion_while_the_weight_grows(
    first: float, second: float, point: float
) -> None:
    low, high = sorted((first, second))

    if choose_arm(arms(low), point) == 1:
        assert choose_arm(arms(high), point) == 1


@given(
    parts=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5),
    champion=st.integers(0, 4),
    point=points,
)
def test_some_arm_always_answers(parts: list[float], champion: int, point: float) -> None:
    total = sum(parts)
    several = [
        Arm(
            role="champion" if i == champion else "challenger",
            version=i,
            manifest=Digest("0" * 64),
            weight=part / total,
        )
        for i, part in enumerate(parts)
    ]

    assert 0 <= choose_arm(several, point) < len(several)


def test_entities_are_split_as_the_weights_say() -> None:
    chosen = [choose_arm(arms(0.25), point_of("rollout", f"pump-{i}")) for i in range(20_000)]

    assert abs(sum(chosen) / len(chosen) - 0.25) < 0.015


def test_another_salt_makes_other_entities_the_first_to_meet_the_challenger() -> None:
    def early(salt: str) -> set[int]:
        return {i for i in range(5_000) if choose_arm(arms(0.1), point_of(salt, str(i))) == 1}

    both = len(early("a") & early("b"))

    assert both < 0.02 * 5_000
