"""The canary's tests on simulated traffic: how often they are wrong, and that they see harm."""

from __future__ import annotations

import random
from math import comb, exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.deployer.canary import (
    gathered,
    log_mixture,
    log_odds_ratio,
    log_ratio,
    lower_rate,
    upper_rate,
    weigh,
)
from services.deployer.domain import Counts, Evidence, Guard, Limits

LIMITS = Limits()
RUNS = 300


def added(
    evidence: Evidence, sequence: int, canary: Counts, champion: Counts, replica: str = "0"
) -> Evidence:
    return gathered(
        evidence,
        replica=replica,
        sequence=sequence,
        challenger=canary,
        champion=champion,
        limits=LIMITS,
    )


def events(draw: random.Random, requests: int, rate: float) -> int:
    return sum(draw.random() < rate for _ in range(requests))


def ends(seed: int, *, canary_rate: float, champion_rate: float, batches: int = 80) -> str:
    """How a canary ends that gets 20 of 100 requests per batch, looked at after every batch."""
    draw = random.Random(seed)
    evidence = Evidence()
    for sequence in range(1, batches + 1):
        evidence = added(
            evidence,
            sequence,
            Counts(requests=20, errors=events(draw, 20, canary_rate)),
            Counts(requests=80, errors=events(draw, 80, champion_rate)),
        )
        if weigh(evidence, LIMITS).abort:
            return "abort"
        if log_mixture(evidence.errors.promote) >= 3.0:
            return "promote"
    return "undecided"


def share(outcome: str, first_seed: int, *, canary_rate: float, champion_rate: float) -> float:
    found = [
        ends(first_seed + run, canary_rate=canary_rate, champion_rate=champion_rate)
        for run in range(RUNS)
    ]
    return found.count(outcome) / RUNS


def test_a_harmless_canary_is_aborted_at_most_as_often_as_promised(seed: int) -> None:
    aborted = share("abort", seed, canary_rate=0.05, champion_rate=0.05)

    # Three standard errors of 300 runs above alpha.
    assert aborted <= LIMITS.alpha + 3 * (0.05 * 0.95 / RUNS) ** 0.5


def test_a_canary_at_the_border_of_harm_is_promoted_at_most_as_often_as_promised(
    seed: int,
) -> None:
    promoted = share("promote", seed, canary_rate=0.075, champion_rate=0.05)

    assert promoted <= LIMITS.alpha + 3 * (0.05 * 0.95 / RUNS) ** 0.5


def test_a_harmful_canary_is_seen(seed: int) -> None:
    assert share("abort", seed, canary_rate=0.2, champion_rate=0.05) > 0.95


def test_more_requests_on_one_arm_alone_say_nothing() -> None:
    evidence = added(Evidence(), 1, Counts(requests=50, errors=50), Counts())

    assert log_mixture(evidence.errors.abort) == 0
    assert evidence.errors.events == (50, 0)


def test_the_same_batch_changes_nothing_the_second_time() -> None:
    batch = (3, Counts(requests=10, errors=2), Counts(requests=10))
    once = added(Evidence(), *batch)

    assert added(once, *batch) is once
    assert added(once, *batch, replica="1") is not once


def test_without_any_event_the_minimum_of_requests_is_enough() -> None:
    evidence = added(Evidence(), 1, Counts(requests=10), Counts(requests=10))

    weighed = weigh(evidence, LIMITS)

    assert weighed.advance
    assert 0.2 < weighed.figures["guards"]["errors"]["upper_rate"] < 0.6


def test_a_near_miss_holds_the_canary() -> None:
    suspicious = Guard(abort=(2.0,), promote=(4.0,), requests=(100, 900), events=(8, 40))

    weighed = weigh(Evidence(errors=suspicious), LIMITS)

    assert not weighed.abort
    assert not weighed.advance


def test_the_upper_rate_is_right_at_all_times_at_once(seed: int) -> None:
    wrong = 0
    for run in range(RUNS):
        draw, found = random.Random(f"{seed} {run}"), 0
        for requests in range(1, 201):
            found += draw.random() < 0.1
            if requests % 5 == 0 and upper_rate(found, requests, 0.05) < 0.1:
                wrong += 1
                break

    assert wrong / RUNS <= 0.05 + 3 * (0.05 * 0.95 / RUNS) ** 0.5


@pytest.mark.parametrize(("requests", "bound"), [(0, 1.0), (100, 0.0571), (1000, 0.0070)])
def test_the_upper_rate_without_events_shrinks_with_requests(requests: int, bound: float) -> None:
    assert upper_rate(0, requests, 0.05) == pytest.approx(bound, rel=0.02)


@given(
    ratio=st.floats(0.05, 30),
    requests=st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)),
    border=st.floats(1, 3),
)
def test_a_likelihood_ratio_has_mean_one_at_its_border(
    ratio: float, requests: tuple[int, int], border: float
) -> None:
    share_of_canary = border * requests[0] / (requests[1] + border * requests[0])
    canary = 2.718281828459045 ** log_ratio(ratio, border, requests, (1, 0))
    champion = 2.718281828459045 ** log_ratio(ratio, border, requests, (0, 1))

    assert share_of_canary * canary + (1 - share_of_canary) * champion == pytest.approx(1)


def test_overwhelming_evidence_does_not_overflow() -> None:
    canary, champion = Counts(requests=10**6, errors=10**6), Counts(requests=10**6, errors=1)

    assert weigh(added(Evidence(), 1, canary, champion), LIMITS).abort


@given(
    odds=st.floats(0.05, 30),
    requests=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    border=st.floats(1, 3),
    data=st.data(),
)
def test_where_events_are_common_the_ratio_of_odds_has_mean_one_at_its_border(
    odds: float, requests: tuple[int, int], border: float, data: st.DataObject
) -> None:
    events = data.draw(st.integers(1, sum(requests)))
    counts = range(max(0, events - requests[1]), min(events, requests[0]) + 1)
    ways = [comb(requests[0], x) * comb(requests[1], events - x) * border**x for x in counts]

    ratios = [exp(log_odds_ratio(odds, border, requests, (x, events - x))) for x in counts]

    mean = sum(w * r for w, r in zip(ways, ratios, strict=True)) / sum(ways)
    assert mean == pytest.approx(1, rel=1e-6)


def test_common_events_of_an_equal_canary_abort_at_most_as_often_as_promised(seed: int) -> None:
    aborted = share("abort", seed, canary_rate=0.4, champion_rate=0.4)

    assert aborted <= LIMITS.alpha + 3 * (0.05 * 0.95 / RUNS) ** 0.5


def test_common_events_that_become_more_are_seen(seed: int) -> None:
    assert share("abort", seed, canary_rate=0.6, champion_rate=0.4) > 0.9


def test_the_odds_of_many_common_events_take_no_time() -> None:
    assert abs(log_odds_ratio(1.5, 1.0, (10**6, 10**6), (5 * 10**5, 5 * 10**5))) < 10**6


@pytest.mark.parametrize(("events_seen", "bound"), [(0, 0.0), (500, 0.446), (1000, 0.993)])
def test_the_lower_rate_mirrors_the_upper_one(events_seen: int, bound: float) -> None:
    assert lower_rate(events_seen, 1000, 0.05) == pytest.approx(bound, abs=0.01)
