"""Bets on losses in simulated traffic: how often they are wrong, and that they see harm."""

from __future__ import annotations

import random
from math import exp, inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.deployer.shadow import (
    Losses,
    Moments,
    Wealth,
    log_bet,
    reached,
    with_pair,
    with_single,
)

ALPHA = 0.05
RUNS = 150
MARGIN = 0.01
THREE_ERRORS = ALPHA + 3 * (ALPHA * (1 - ALPHA) / RUNS) ** 0.5


def paired(seed: str, *, better_by: float, rows: int, margin: float = MARGIN) -> Losses:
    """Losses of two versions on the same requests, with what happens on most of them in common."""
    draw, losses = random.Random(seed), Losses()
    for _ in range(rows):
        champion = min(max(draw.gauss(0.3, 0.2), 0), 1)
        challenger = champion - better_by + draw.gauss(0, 0.1)
        losses = with_pair(losses, champion, challenger, cap=1.0, margin=margin)
    return losses


def crossed(seed: str, which: str, *, better_by: float, rows: int, margin: float = MARGIN) -> bool:
    """Whether a process was ever high enough, looked at after every row."""
    draw, losses = random.Random(seed), Losses()
    for _ in range(rows):
        difference = better_by + draw.gauss(0, 0.1)
        losses = with_pair(losses, difference, 0.0, cap=1.0, margin=margin)
        if reached(getattr(losses.pairs, which), ALPHA):
            return True
    return False


@pytest.mark.parametrize(
    ("which", "better_by"), [("harmless", -MARGIN), ("better", 0.0), ("worse", 0.0)]
)
def test_at_its_border_a_process_crosses_at_most_as_often_as_promised(
    seed: int, which: str, better_by: float
) -> None:
    wrong = [
        crossed(f"{seed} {which} {run}", which, better_by=better_by, rows=600)
        for run in range(RUNS)
    ]

    assert sum(wrong) / RUNS <= THREE_ERRORS


def test_an_equal_version_is_shown_to_do_no_harm() -> None:
    losses = paired("an equal version", better_by=0.0, rows=6000)

    assert reached(losses.pairs.harmless, ALPHA)
    assert not reached(losses.pairs.worse, ALPHA)


def test_a_better_version_is_shown_to_be_better(seed: int) -> None:
    losses = paired(str(seed), better_by=0.05, rows=800)

    assert reached(losses.pairs.better, ALPHA)


def test_a_worse_version_is_shown_to_be_worse(seed: int) -> None:
    losses = paired(str(seed), better_by=-0.1, rows=800)

    assert reached(losses.pairs.worse, ALPHA)
    assert not reached(losses.pairs.harmless, ALPHA)


def test_a_version_better_by_less_than_the_margin_is_not_much_better(seed: int) -> None:
    little, much = (paired(str(seed), better_by=by, rows=800, margin=0.05) for by in (0.03, 0.15))

    assert not reached(little.pairs.much_better, ALPHA)
    assert reached(much.pairs.much_better, ALPHA)


def entities(
    seed: str, *, times: float, rows: int, share: float = 0.25, margin: float = 0.05
) -> Losses:
    """One answer per entity; the challenger's losses are so many times the champion's."""
    draw, losses = random.Random(seed), Losses()
    for row in range(rows):
        chosen = draw.random() < share
        loss = abs(draw.gauss(0.25 * (times if chosen else 1.0), 0.1))
        losses = with_single(
            losses,
            f"entity {row}",
            loss,
            on_challenger=chosen,
            share=share,
            cap=1.0,
            margin=margin,
        )
    return losses


def test_entities_of_both_arms_show_harm_without_any_shadow(seed: int) -> None:
    assert reached(entities(str(seed), times=2.0, rows=500).singles.worse, ALPHA)


def test_entities_of_equal_arms_show_that_there_is_no_harm(seed: int) -> None:
    losses = entities(str(seed), times=1.0, rows=1500)

    assert reached(losses.singles.harmless, ALPHA)
    assert not reached(losses.singles.worse, ALPHA)


@pytest.mark.parametrize("which", ["better", "worse"])
def test_entities_of_equal_arms_cross_at_most_as_often_as_promised(seed: int, which: str) -> None:
    wrong = [
        reached(getattr(entities(f"{seed} {run}", times=1.0, rows=150).singles, which), ALPHA)
        for run in range(RUNS)
    ]

    assert sum(wrong) / RUNS <= THREE_ERRORS


def test_a_change_of_the_share_on_the_way_is_no_evidence(seed: int) -> None:
    draw, losses = random.Random(seed), Losses()
    for row in range(1200):
        share = (0.05, 0.25, 0.5)[row // 400]
        losses = with_single(
            losses,
            str(row),
            abs(draw.gauss(0.3, 0.1)),
            on_challenger=draw.random() < share,
            share=share,
            cap=1.0,
            margin=0.05,
        )

    assert not reached(losses.singles.worse, ALPHA)
    assert not reached(losses.singles.better, ALPHA)


def test_an_entity_counts_once_however_often_it_is_labelled() -> None:
    losses = Losses()
    for loss in (0.9, 0.9, 0.9):
        losses = with_single(
            losses, "pump 7", loss, on_challenger=True, share=0.1, cap=1.0, margin=0.01
        )

    assert losses.rows == 1


@pytest.mark.parametrize("loss", [nan, inf, -inf])
def test_what_is_no_number_is_refused_and_counted(loss: float) -> None:
    losses = with_pair(Losses(), loss, 0.1, cap=1.0, margin=MARGIN)
    losses = with_single(losses, "a", loss, on_challenger=True, share=0.1, cap=1.0, margin=MARGIN)

    assert losses == Losses(refused=2)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, nan])
def test_a_share_that_cannot_be_is_refused(share: float) -> None:
    losses = with_single(
        Losses(), "a", 0.5, on_challenger=True, share=share, cap=1.0, margin=MARGIN
    )

    assert losses == Losses(refused=1)


def test_losses_beyond_the_cap_count_as_the_cap() -> None:
    wild = with_pair(Losses(), 1e300, 0.0, cap=2.0, margin=MARGIN)

    assert wild == with_pair(Losses(), 2.0, 0.0, cap=2.0, margin=MARGIN)


@given(
    past=st.lists(st.floats(-1, 1), max_size=30),
    border=st.floats(-0.5, 0.5),
    high=st.floats(0.51, 1),
)
def test_a_bet_at_its_border_is_fair(past: list[float], border: float, high: float) -> None:
    moments = Moments()
    for value in past:
        moments = moments.with_one(value)
    chance = (border + 1) / (high + 1)

    won = exp(log_bet(moments, high, border=border, least=-1.0))
    lost = exp(log_bet(moments, -1.0, border=border, least=-1.0))

    assert chance * won + (1 - chance) * lost == pytest.approx(1)
    assert lost >= 0.5 - 1e-12


def test_both_kinds_of_rows_multiply_and_a_void_shadow_is_left_out() -> None:
    losses = Losses(pairs=Wealth(worse=2.0), singles=Wealth(worse=1.0))

    assert losses.wealth().worse == 3.0
    assert losses.wealth(pairs=False).worse == 1.0


def test_an_impossible_alpha_is_refused() -> None:
    with pytest.raises(ValueError, match="no chance"):
        reached(1.0, 0.0)
