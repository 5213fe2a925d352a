"""Losses of a champion and a challenger as labels come: in pairs, and one answer per request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from bench.canary_rules import t_peeked
from bench.gate_worlds import tilted_world
from bench.simulation import Rate, chance, figures_of, median, print_table, screen
from services.deployer.shadow import Losses, reached, with_pair, with_single
from services.evaluator.metrics import losses_of

ALPHA = 0.05
MARGIN = 0.01
LABELS = 4_000
_BASE = 0.0077
"""Mean square by which the champion's probabilities miss the true ones."""

Floats = NDArray[np.float64]
Pairs = Callable[[np.random.Generator, int, float], tuple[Floats, Floats]]
"""Losses of champion and challenger on so many rows, the challenger's smaller by a gain."""


def brier_pairs(draw: np.random.Generator, rows: int, gain: float) -> tuple[Floats, Floats]:
    """Brier losses of champion and challenger, the challenger's mean smaller by `gain`.

    Both answer the true probability, missed up or down by chance.
    """
    truth = draw.uniform(0.14, 0.86, rows)
    happened = (draw.random(rows) < truth).astype(np.float64)
    losses = []
    for square in (_BASE, _BASE - gain):
        missed = np.sqrt(square) * draw.choice([-1.0, 1.0], rows)
        losses.append(np.square(truth + missed - happened))
    return losses[0], losses[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Labelled rows until the challenger was shown no worse, better or worse; None if never."""

    harmless: int | None
    better: int | None
    worse: int | None


def refits(draw: np.random.Generator, rows: int, gain: float) -> tuple[Floats, Floats]:
    """Brier losses of two refits of one estimator on real rows, tilted to be equally good."""
    evidence = tilted_world("breast_cancer", "brier")(draw, rows, gain)
    return losses_of(evidence, "champion", "brier"), losses_of(evidence, "candidate", "brier")


def follow(champion: Floats, challenger: Floats, until: tuple[str, ...]) -> Shown:
    """Pairs one after the other through the deployer's bets, looked at after each.

    Args:
        until: it ends when all of these were shown.
    """
    losses = Losses()
    first: dict[str, int] = {}
    for row, (one, other) in enumerate(zip(champion.tolist(), challenger.tolist(), strict=True), 1):
        losses = with_pair(losses, one, other, cap=1.0, margin=MARGIN)
        wealth = losses.pairs
        for name in ("harmless", "better", "worse"):
            if name not in first and reached(getattr(wealth, name), ALPHA):
                first[name] = row
        if until and all(name in first for name in until):
            break
    return Shown(
        harmless=first.get("harmless"), better=first.get("better"), worse=first.get("worse")
    )


def shadows(runs: int, seed: int) -> dict[str, Any]:
    """Equal, better, and worse by exactly the margin; the peeked t-test on the same rows."""
    cases: dict[str, tuple[Pairs, float, tuple[str, ...]]] = {
        "refits, equal": (refits, 0.0, ("harmless",)),
        "noisy, equal": (brier_pairs, 0.0, ("harmless",)),
        "noisy, better by .0077": (brier_pairs, _BASE, ("harmless", "better")),
        "noisy, worse by the margin": (brier_pairs, -MARGIN, ()),
    }
    rows = []
    figures: dict[str, Any] = {}
    for name, (make, gain, until) in track(
        list(cases.items()), "shadow", console=screen, transient=True
    ):
        found, peeked = [], 0
        for run in range(runs):
            champion, challenger = make(chance(seed, "shadow", name, run), LABELS, gain)
            found.append(follow(champion, challenger, until))
            peeked += t_peeked(champion - challenger, MARGIN)
        word = "_".join(name.replace(",", "").split(" ")[:2])
        shown = Rate(hits=sum(one.harmless is not None for one in found), runs=runs)
        t_test = Rate(hits=peeked, runs=runs)
        after = median([one.harmless for one in found if one.harmless is not None])
        rows.append(
            {
                "challenger": name,
                "shown no worse than .01 Brier": shown,
                "labelled rows, median": after,
                "shown better": sum(one.better is not None for one in found) / runs,
                "shown worse": sum(one.worse is not None for one in found) / runs,
                "t peeked every 50 rows": t_test,
            }
        )
        figures |= figures_of(f"shadow_{word}_shown_harmless", shown)
        figures |= figures_of(f"shadow_{word}_t_peeked", t_test)
        figures[f"shadow_{word}_median_rows"] = after
    print_table(f"shadow: pairs of Brier losses, up to {LABELS} labels, {runs} runs each", rows)
    return figures


# --- one answer per request ---------------------------------------------------------------------

ENTITIES = 3_000


def follow_singles(
    draw: np.random.Generator, entities: int, share: float, gain: float
) -> tuple[int | None, int | None]:
    """Entities until the challenger is shown no worse, and until it is shown worse."""
    champion, challenger = brier_pairs(draw, entities, gain)
    on_challenger = draw.random(entities) < share
    losses, harmless, worse = Losses(), None, None
    for unit in range(entities):
        mine = bool(on_challenger[unit])
        losses = with_single(
            losses,
            f"entity {unit}",
            float((challenger if mine else champion)[unit]),
            on_challenger=mine,
            share=share,
            cap=1.0,
            margin=0.05,
        )
        rows = losses.single_moments.rows
        if harmless is None and reached(losses.singles.harmless, ALPHA):
            harmless = rows
        if worse is None and reached(losses.singles.worse, ALPHA):
            worse = rows
    return harmless, worse


def singles(runs: int, seed: int) -> dict[str, Any]:
    """Without a shadow: the entity is the row, and its loss is weighted by its arm's share."""
    rows = []
    figures: dict[str, Any] = {}
    cases: list[tuple[str, float, float]] = [
        ("equal", 0.5, 0.0),
        ("equal", 0.1, 0.0),
        ("worse by .05", 0.5, -0.05),
    ]
    for name, share, gain in track(cases, "single answers", console=screen, transient=True):
        found = [
            follow_singles(chance(seed, "single", share, gain, run), ENTITIES, share, gain)
            for run in range(runs)
        ]
        worse = Rate(hits=sum(one[1] is not None for one in found), runs=runs)
        harmless = Rate(hits=sum(one[0] is not None for one in found), runs=runs)
        rows.append(
            {
                "challenger": name,
                "share": share,
                "shown worse": worse,
                "shown no worse than .05": harmless,
                "entities, median": median([one[0] for one in found if one[0] is not None]),
            }
        )
        word = f"singles_{name.split(' ')[0]}_{share:g}"
        figures |= figures_of(f"{word}_shown_worse", worse)
        figures |= figures_of(f"{word}_shown_harmless", harmless)
    print_table(f"one answer per request, {ENTITIES} entities, {runs} runs each", rows)
    return figures
