"""How often a key may ask, and how much may wait: refused at once, and told when to come again."""

from __future__ import annotations

import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serving.domain.rates import PAGE_BYTES, SLOTS, Rates
from services.serving.handlers.admission import Admission
from shared.access import Principal, Rate, hash_of, read_keys
from shared.artifacts import ArtifactStore
from shared.errors import Saturated, TooMany
from tests.serving.building import (
    A_ROW,
    FLOW,
    KEY,
    Replica,
    a_desired,
    a_replica,
    a_version,
    settings_for,
)
from tests.serving.test_compiled import a_compiled_version

PATH = f"/v1/models/{FLOW}/predict"
SLOW_KEY = "tw_test-slow"


@given(
    per_second=st.floats(0.1, 1_000),
    burst=st.floats(1, 50),
    steps=st.lists(st.floats(0, 3), min_size=1, max_size=60),
)
def test_nobody_asks_more_often_than_burst_and_rate_allow(
    per_second: float, burst: float, steps: Sequence[float]
) -> None:
    rate = Rate(per_second=per_second, burst=burst)
    rates = no_rates()
    now, taken = 1e5, 0
    for step in steps:
        now += step
        waits = rates.take("one", rate, now)
        taken += waits == 0.0

        assert taken <= burst + per_second * (now - 1e5) * (1 + 1e-6) + 1e-2
        assert 0.0 <= waits <= 1 / per_second + 1e-3


@given(per_second=st.floats(0.1, 1_000), burst=st.integers(1, 50))
def test_whoever_was_quiet_may_ask_so_often_at_once_and_then_waits(
    per_second: float, burst: int
) -> None:
    rates, rate = no_rates(), Rate(per_second=per_second, burst=burst)

    waits = [rates.take("one", rate, 1e5) for _ in range(burst + 1)]

    assert waits[:-1] == [0.0] * burst
    assert waits[-1] == pytest.approx(1 / per_second, rel=1e-3, abs=1e-6)


def test_whoever_waits_as_long_as_told_is_let_in() -> None:
    rate = Rate(per_second=3, burst=1)
    rates = no_rates()
    rates.take("one", rate, 7e6)

    waits = rates.take("one", rate, 7e6 + 0.1)

    assert 0 < waits < 1 / 3
    assert rates.take("one", rate, 7e6 + 0.1 + waits) == 0.0


def test_processes_that_share_a_page_share_what_a_key_may_ask() -> None:
    rate = Rate(per_second=1, burst=4)
    with mmap.mmap(-1, PAGE_BYTES) as page:
        both = [Rates(page), Rates(page)]

        waits = [both[number % 2].take("one", rate, 10.0) for number in range(6)]

    assert [one == 0.0 for one in waits] == [True] * 4 + [False] * 2


def test_thousands_of_keys_are_told_apart_and_the_quietest_is_forgotten_first() -> None:
    rates, rate = no_rates(), Rate(per_second=0.001, burst=1)
    names = [str(number) for number in range(SLOTS // 3)]

    first = [rates.take(name, rate, 10.0) for name in names]
    again = [rates.take(name, rate, 10.0) for name in names]

    assert set(first) == {0.0}
    assert sum(one > 0 for one in again) >= len(names) - 5


def no_rates() -> Rates:
    return Rates(bytearray(PAGE_BYTES))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def a_principal(key: str = "one", rate: Rate | None = None, name: str = "somebody") -> Principal:
    return Principal(name=name, key=key, grants={}, rate=rate)


def an_admission(clock: Clock, rate: Rate | None = None) -> Admission:
    return Admission(rate=rate, rates=no_rates(), monotonic=clock, most_requests=2, most_bytes=100)


def may_ask(admission: Admission, principal: Principal) -> bool:
    try:
        admission.check(principal)
    except TooMany:
        return False
    return True


def test_each_key_has_its_own_bucket_and_its_own_rate_where_it_names_one() -> None:
    admission = an_admission(Clock(), Rate(per_second=1, burst=2))
    generous = a_principal("two", Rate(per_second=1, burst=5))

    asked = [may_ask(admission, a_principal()) for _ in range(3)]
    others = [may_ask(admission, generous) for _ in range(6)]

    assert asked == [True, True, False]
    assert others == [True] * 5 + [False]


def test_people_with_tokens_are_told_apart_by_their_names() -> None:
    admission = an_admission(Clock(), Rate(per_second=1, burst=1))

    assert may_ask(admission, a_principal("token", name="ann"))
    assert may_ask(admission, a_principal("token", name="bob"))
    with pytest.raises(TooMany) as refused:
        admission.check(a_principal("token", name="ann"))
    assert refused.value.retry_after_seconds == 1


def test_what_waits_is_bounded_in_number_and_in_bytes_and_one_always_may() -> None:
    admission = an_admission(Clock())

    admission.enter(1_000)
    with pytest.raises(Saturated):
        admission.enter(1)
    admission.leave(1_000)
    admission.enter(50)
    admission.enter(50)
    with pytest.raises(Saturated):
        admission.enter(0)

    assert (admission.requests, admission.bytes) == (2, 100)


# --- at the door ----------------------------------------------------------------------------


def add_key(keys_file: str, **more: Any) -> None:
    place = Path(keys_file)
    document = json.loads(place.read_text())
    entry = {"id": "slow", "hash": hash_of(SLOW_KEY), "roles": ["predictor"], "principal": "slow"}
    place.write_text(json.dumps({"keys": [*document["keys"], entry | more]}))


async def asked(replica: Replica, key: str, path: str = PATH) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return await replica.client.post(path, json={"rows": [A_ROW]}, headers=headers)


@pytest.mark.parametrize("path", [PATH, f"{PATH}?explain=false", f"/v1/models/{FLOW}/explain"])
@pytest.mark.parametrize("is_compiled", [True, False], ids=["quick", "careful"])
async def test_a_key_over_its_rate_is_told_its_limit_and_others_are_unaffected(
    tmp_path: Path, *, path: str, is_compiled: bool
) -> None:
    settings = settings_for(tmp_path)
    add_key(settings.keys_file, rate={"per_second": 0.01, "burst": 3})
    store = ArtifactStore(settings.artifacts)
    version = a_compiled_version(store, 2) if is_compiled else a_version(store, 2)
    async with a_replica(settings) as replica:
        await replica.want(a_desired(1, version))

        replies = [await asked(replica, SLOW_KEY, path) for _ in range(5)]
        other = await asked(replica, KEY, path)

    assert [one.status_code for one in replies] == [200, 200, 200, 429, 429]
    assert other.status_code == 200
    problem = replies[-1].json()
    assert (problem["code"], problem["status"]) == ("too_many_requests", 429)
    assert "0.01 times per second, 3 at once" in problem["detail"]
    assert 1 <= int(replies[-1].headers["retry-after"]) <= 100
    assert replies[-1].headers["x-request-id"] == problem["request_id"]
    assert replies[-1].headers["cache-control"] == "no-store"


async def test_a_replica_may_limit_all_keys_alike(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, requests_per_second=0.01, requests_burst=2)
    async with a_replica(settings) as replica:
        await replica.want(a_desired(1, a_version(ArtifactStore(settings.artifacts), 2)))

        statuses = [(await asked(replica, KEY)).status_code for _ in range(3)]

    assert statuses == [200, 200, 429]


@pytest.mark.parametrize("is_compiled", [True, False], ids=["quick", "careful"])
async def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(
    tmp_path: Path, *, is_compiled: bool
) -> None:
    settings = settings_for(tmp_path, waiting_requests=1)
    store = ArtifactStore(settings.artifacts)
    version = a_compiled_version(store, 2) if is_compiled else a_version(store, 2)
    async with a_replica(settings) as replica:
        await replica.want(a_desired(1, version))
        replica.serving.admission.enter(10)

        refused = await asked(replica, KEY)
        replica.serving.admission.leave(10)
        taken = await asked(replica, KEY)

        assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
        assert refused.headers["retry-after"] == "1"
        assert taken.status_code == 200
        assert (replica.serving.admission.requests, replica.serving.admission.bytes) == (0, 0)


@pytest.mark.parametrize(
    "rate",
    [5, {}, {"per_second": 0}, {"per_second": "x"}, {"per_second": 1, "burst": 0}, {"burst": 3}],
)
def test_a_file_of_keys_with_a_rate_that_is_none_is_not_taken(rate: Any) -> None:
    entry = {"id": "k", "hash": "0" * 64, "roles": ["predictor"], "principal": "p", "rate": rate}

    with pytest.raises(ValueError, match=r"rate|form|convert|number"):
        read_keys(json.dumps({"keys": [entry]}).encode())
