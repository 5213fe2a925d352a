"""A hundred retrains in a row: where the true quality of the champion ends.

Every version has a true loss, known here and unknown to the gate. Each retrain is judged on fresh
held-out rows in time; losses are in margins, so that figures mean the same whatever the metric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from rich.progress import track

from bench.gate_promises import rules_for
from bench.simulation import Rate, chance, figures_of, print_table, screen
from services.evaluator.evidence import Evidence
from services.evaluator.verdict import Given, Mode, decide, is_shown_superior
from shared.events import Gate

RETRAINS = 100
ROWS = 400
MARGIN = 0.05
_OWN_NOISE = 0.35
"""Of each version's answers on each row, so that differences of losses have a spread."""
_STEP_MEAN, _STEP_SPREAD = -0.2, 0.4
"""In margins: a retrain derived from the champion is a little worse on average."""
_FRESH_SPREAD = 0.5
"""In margins: spread of retrains that owe nothing to the champion."""

Policy = Literal["bigger wins", "superiority", "no worse than champion", "and than the anchor"]
POLICIES: tuple[Policy, ...] = (
    "bigger wins",
    "superiority",
    "no worse than champion",
    "and than the anchor",
)
Kind = Literal["derived", "independent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """How one chain of retrains ended.

    Attributes:
        final: true quality against the start, in margins.
        promotions, worse: how often somebody was promoted, and was truly worse.
    """

    final: float
    promotions: int
    worse: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one policy says of one retrain."""

    promotes: bool
    gates: tuple[Gate, ...] = ()


def judged(
    draw: np.random.Generator, qualities: dict[str, float], policy: Policy, seed: int
) -> Judgement:
    """One retrain against champion and anchor, by the service's own decision where it is asked.

    Answers miss by the row's own error, by the version's noise and by what the version lacks in
    quality; outcomes are in the order of time.
    """
    y = draw.normal(size=ROWS)
    misses = {name: _misses(draw, quality) for name, quality in qualities.items()}
    if policy == "bigger wins":
        return Judgement(promotes=bool((misses["champion"] - misses["candidate"]).mean() > 0))
    evidence = Evidence(
        task="regression",
        ordered=True,
        y=y,
        row_hashes=np.arange(ROWS, dtype=np.uint64),
        times=np.arange(ROWS, dtype=np.int64),
        answers={name: y + miss for name, miss in misses.items()} | {"baseline": y + 50.0},
    )
    has_anchor = policy == "and than the anchor" and "anchor" in qualities
    rules = rules_for("mae", MARGIN, split="time", anchor=has_anchor)
    mode: Mode = "change" if policy == "superiority" else "refresh"
    verdict = decide(evidence, rules, Given(mode=mode, anchor=has_anchor, seed=seed))
    return Judgement(promotes=verdict.accepted, gates=verdict.gates)


def _misses(draw: np.random.Generator, quality: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Errors whose mean size is 1 - quality · margin, different for each version."""
    size = 1 - quality * MARGIN
    return size * (1 + _OWN_NOISE * draw.uniform(-1, 1, ROWS))


def run_chain(policy: Policy, kind: Kind, seed: int, run: int, retrains: int = RETRAINS) -> Chain:
    """One chain, from a first champion that is also the anchor."""
    draw = chance(seed, kind, run)
    champion = anchor = 0.0
    promotions = worse = 0
    is_anchor = True
    for step in range(retrains):
        made = (
            champion + draw.normal(_STEP_MEAN, _STEP_SPREAD)
            if kind == "derived"
            else draw.normal(0.0, _FRESH_SPREAD)
        )
        sides = {"candidate": made, "champion": champion} | (
            {} if is_anchor else {"anchor": anchor}
        )
        judgement = judged(chance(seed, kind, run, step), sides, policy, step)
        if not judgement.promotes:
            continue
        promotions += 1
        worse += made < champion
        if is_shown_superior(judgement.gates, "champion" if is_anchor else "anchor"):
            anchor, is_anchor = made, True
        else:
            is_anchor = False
        champion = made
    return Chain(final=champion, promotions=promotions, worse=worse)


def creep(chains: int, seed: int) -> dict[str, Any]:
    """All policies on the same seeds."""
    figures: dict[str, Any] = {}
    rows = []
    kinds: tuple[Kind, ...] = ("derived", "independent")
    for kind, policy in track(
        [(kind, policy) for kind in kinds for policy in POLICIES],
        "a hundred retrains",
        console=screen,
        transient=True,
    ):
        found = [run_chain(policy, kind, seed, run) for run in range(chains)]
        finals = [chain.final for chain in found]
        promoted = sum(chain.promotions for chain in found)
        below = Rate(hits=sum(final < -1 for final in finals), runs=chains)
        row = {
            "retrains": kind,
            "policy": policy,
            "final, mean": float(np.mean(finals)),
            "final, 5 % quantile": float(np.quantile(finals, 0.05)),
            "more than a margin below the start": below,
            "promotions per 100": promoted / chains,
            "truly worse among them": sum(chain.worse for chain in found) / max(promoted, 1),
        }
        rows.append(row)
        name = f"creep_{kind}_{policy.replace(' ', '_')}"
        figures[f"{name}_mean"] = round(float(np.mean(finals)), 3)
        figures |= figures_of(f"{name}_lost_a_margin", below)
        figures[f"{name}_q05"] = round(float(np.quantile(finals, 0.05)), 3)
    print_table(f"true quality after {RETRAINS} retrains, in margins, {chains} chains", rows)
    return figures
