from __future__ import annotations

import random

import pytest

from services.deployer.balance import entities, is_off, log_evidence, noted
from services.deployer.domain import Balance

ALPHA = 0.05
RUNS = 200


def met(draw: random.Random, count: int, share: float) -> tuple[int, int]:
    challenger = sum(draw.random() < share for _ in range(count))
    return challenger, count - challenger


def split(seed: str, *, real: float, asked: float = 0.1, looks: int = 60) -> bool:
    """Whether a split was ever found to be off, looked at after every measure of two replicas."""
    draw, balance = random.Random(seed), Balance()
    for look in range(looks):
        balance = noted(
            balance,
            generation=4,
            replica=str(look % 2),
            met=met(draw, 20, real),
            share=asked,
        )
        if is_off(balance, ALPHA):
            return True
    return False


def test_a_split_as_asked_for_is_called_off_at_most_as_often_as_promised(seed: int) -> None:
    wrong = sum(split(f"{seed} {run}", real=0.1) for run in range(RUNS))

    assert wrong / RUNS <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / RUNS) ** 0.5


@pytest.mark.parametrize("real", [0.03, 0.2])
def test_a_split_that_is_not_as_asked_for_is_found(seed: int, real: float) -> None:
    assert all(split(f"{seed} {run}", real=real) for run in range(20))


def test_one_wrong_replica_among_two_is_found() -> None:
    balance = Balance()
    for _ in range(30):
        balance = noted(balance, generation=4, replica="0", met=(2, 18), share=0.1)
        balance = noted(balance, generation=4, replica="1", met=(10, 10), share=0.1)

    assert is_off(balance, ALPHA)


def test_a_new_generation_begins_anew_and_an_old_one_says_nothing() -> None:
    before = noted(Balance(), generation=4, replica="0", met=(50, 50), share=0.1)
    after = noted(before, generation=5, replica="0", met=(1, 9), share=0.5)

    assert after.seen == {"0": (1, 9)}
    assert noted(after, generation=4, replica="0", met=(9, 9), share=0.1) is after


def test_entities_that_several_replicas_meet_count_once() -> None:
    balance = noted(Balance(), generation=1, replica="0", met=(7, 70), share=0.1)
    balance = noted(balance, generation=1, replica="1", met=(5, 70), share=0.1)

    assert entities(balance) == 7


def test_before_anybody_was_met_nothing_is_known() -> None:
    assert log_evidence(Balance()) == 0
    assert entities(Balance()) == 0
