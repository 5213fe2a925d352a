from __future__ import annotations

from shared.patience import Patience


def test_waits_grow_to_a_ceiling_and_start_anew_after_a_success() -> None:
    patience = Patience(first_seconds=0.05, longest_seconds=5.0)

    waits = [patience.next_seconds() for _ in range(12)]
    patience.reset()

    assert 0.025 <= waits[0] <= 0.075
    assert all(2.5 <= wait <= 7.5 for wait in waits[8:])
    assert patience.next_seconds() <= 0.075


def test_patience_is_spent_after_so_many_tries_or_so_much_time() -> None:
    patience = Patience()

    unspent = patience.is_spent(tries=2, seconds=60)
    patience.next_seconds()
    by_time = patience.is_spent(tries=2, seconds=0)
    patience.next_seconds()

    assert not unspent
    assert by_time
    assert patience.is_spent(tries=2, seconds=60)
