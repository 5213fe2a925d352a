"""What was used last is kept, as far as it fits into its bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from shared.recent import Recent


def a_shelf(*sizes: int, most: int = 100) -> Recent[int, str]:
    shelf: Recent[int, str] = Recent(most)
    for key, size in enumerate(sizes):
        shelf.keep(key, f"value {key}", size)
    return shelf


def test_what_nobody_has_used_for_longest_goes_first() -> None:
    shelf = a_shelf(40, 40)
    assert shelf.get(0) == "value 0"

    shelf.keep(2, "value 2", 40)

    assert [shelf.get(key) for key in range(3)] == ["value 0", None, "value 2"]
    assert (len(shelf), shelf.size_bytes) == (2, 80)


def test_exactly_as_many_bytes_as_are_allowed_stay() -> None:
    assert len(a_shelf(50, 50)) == 2
    assert len(a_shelf(50, 51)) == 1


def test_one_large_value_takes_the_place_of_many() -> None:
    shelf = a_shelf(10, 10, 10, 90)

    assert [key in shelf for key in range(4)] == [False, False, True, True]
    assert shelf.size_bytes == 100


def test_what_is_larger_than_all_is_kept_alone_until_the_next_comes() -> None:
    shelf = a_shelf(10, 500)
    alone = list(map(shelf.get, range(2)))

    shelf.keep(2, "value 2", 10)

    assert alone == [None, "value 1"]
    assert (len(shelf), shelf.size_bytes) == (1, 10)


def test_a_value_in_place_of_another_is_counted_once() -> None:
    shelf = a_shelf(60)

    shelf.keep(0, "another", 70)

    assert (shelf.get(0), shelf.size_bytes) == ("another", 70)


def test_asking_whether_it_is_here_is_no_use_of_it() -> None:
    shelf = a_shelf(50, 50)
    assert 0 in shelf

    shelf.keep(2, "value 2", 50)

    assert 0 not in shelf


def test_threads_leave_the_sum_as_it_is(seed: int) -> None:
    shelf: Recent[int, int] = Recent(1000)

    def use(thread: int) -> None:
        for turn in range(2000):
            key = (seed + thread * 7 + turn * 13) % 50
            if shelf.get(key) is None:
                shelf.keep(key, key, 10 + key)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(8)))

    assert shelf.size_bytes == sum(10 + key for key in range(50) if key in shelf) <= 1000
