"""The same held-out rows asked again and again, parts of them, and folds that share their rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from bench.gate_promises import ALPHA, DRAWS, rules_for
from bench.simulation import Rate, chance, figures_of, print_table, screen
from services.evaluator.evidence import Evidence
from services.evaluator.verdict import Given, SliceTerms, Verdict, decide
from services.trainer.fitting.cross_validation import corrected_t
from shared.probability import t_sf

CHALLENGERS = 50
REUSED_ROWS = 1_000
SLICE_ROWS = 500
_SLICE_MARGIN = 0.15
"""In standard deviations of the losses."""
_ALIKE = 0.7
"""Correlation of two models' losses on the same row."""

Floats = NDArray[np.float64]


def _answers(losses: dict[str, Floats], y: Floats) -> dict[str, Floats]:
    """Answers to regression rows that lose exactly this much, absolutely."""
    return {name: y + loss for name, loss in losses.items()} | {"baseline": y + 99.0}


def _evidence(losses: dict[str, Floats], ordered: bool, **more: Any) -> Evidence:
    rows = len(losses["candidate"])
    y = np.zeros(rows)
    return Evidence(
        task="regression",
        ordered=ordered,
        y=y,
        row_hashes=np.arange(rows, dtype=np.uint64),
        times=np.arange(rows, dtype=np.int64) if ordered else None,
        answers=_answers(losses, y),
        **more,
    )


# --- reuse --------------------------------------------------------------------------------------


def reuse(chains: int, seed: int, *, ordered: bool, draws: int = DRAWS) -> dict[str, Any]:
    """Fifty equally good challengers, one after the other, on one hold-out."""
    rules = ("gate", "paired t", "smaller mean")
    promotions = {rule: [0] * chains for rule in rules}
    for chain in track(range(chains), "one hold-out", console=screen, transient=True):
        draw = chance(seed, "reuse", chain)
        shared = draw.normal(size=REUSED_ROWS)
        champions = {rule: _losses(draw, shared) for rule in rules[:1]} | {
            rule: np.zeros(0) for rule in rules[1:]
        }
        for rule in rules[1:]:
            champions[rule] = champions["gate"]
        for use in range(1, CHALLENGERS + 1):
            candidate = _losses(draw, shared)
            d = {rule: champions[rule] - candidate for rule in rules}
            sides = {"candidate": candidate, "champion": champions["gate"]}
            wins = {
                "gate": _is_promoted(_evidence(sides, ordered), use, draws),
                "paired t": _t(d["paired t"]) > 1.6448536,
                "smaller mean": float(d["smaller mean"].mean()) > 0,
            }
            for rule, won in wins.items():
                promotions[rule][chain] += won
                champions[rule] = candidate if won else champions[rule]
    return _told(promotions, chains, ordered)


def _losses(draw: np.random.Generator, shared: Floats) -> Floats:
    """Of a model that is as good as any other; positive, so that they are absolute errors."""
    own = draw.normal(size=len(shared))
    losses: Floats = 6 + np.sqrt(_ALIKE) * shared + np.sqrt(1 - _ALIKE) * own
    return losses


def _t(d: Floats) -> float:
    return float(d.mean() / (d.std(ddof=1) / np.sqrt(len(d))))


def _is_promoted(evidence: Evidence, use: int, draws: int) -> bool:
    rules = rules_for("mae", 0.0, draws, split="time" if evidence.ordered else "random")
    return decide(evidence, rules, Given(mode="change", holdout_use=use, seed=use)).accepted


def _told(promotions: dict[str, list[int]], chains: int, ordered: bool) -> dict[str, Any]:
    kind = "rows in time" if ordered else "independent rows"
    rows = []
    figures: dict[str, Any] = {}
    for rule, counts in promotions.items():
        any_at_all = Rate(hits=sum(count > 0 for count in counts), runs=chains)
        rows.append(
            {
                "rule": rule,
                "chains with a false promotion": any_at_all,
                "false promotions per chain": sum(counts) / chains,
            }
        )
        name = f"reuse_{kind.replace(' ', '_')}_{rule.replace(' ', '_')}"
        figures |= figures_of(name, any_at_all)
        figures[f"{name}_per_chain"] = round(sum(counts) / chains, 3)
    print_table(f"{CHALLENGERS} equal challengers on one hold-out, {kind}, {chains} chains", rows)
    return figures


# --- slices -------------------------------------------------------------------------------------


def slices(runs: int, seed: int, counts: tuple[int, ...] = (1, 5, 10)) -> dict[str, Any]:
    """Required slices: a candidate worse by the margin in one of them, and one that is equal."""
    rows = []
    figures: dict[str, Any] = {}
    for count in track(counts, "slices", console=screen, transient=True):
        rates = {}
        for harm in (True, False):
            hits = sum(_of_slices(count, harm, seed, run).accepted for run in range(runs))
            rates[harm] = Rate(hits=hits, runs=runs)
        rows.append(
            {
                "slices": count,
                "worse by the margin in one: accepted": rates[True],
                "equal in all: accepted": rates[False],
            }
        )
        figures |= figures_of(f"slices_{count}_harmed_accepted", rates[True])
        figures |= figures_of(f"slices_{count}_equal_accepted", rates[False])
    print_table(f"required slices of {SLICE_ROWS} rows, {runs} runs", rows)
    return figures


def _of_slices(count: int, harm: bool, seed: int, run: int) -> Verdict:
    draw = chance(seed, "slices", count, harm, run)
    total = count * SLICE_ROWS
    shared = draw.normal(size=total)
    losses = {"candidate": _losses(draw, shared), "champion": _losses(draw, shared)}
    member = np.arange(total) // SLICE_ROWS
    losses["candidate"] = losses["candidate"] + _SLICE_MARGIN * harm * (member == 0)
    names = [f"part {place}" for place in range(count)]
    evidence = _evidence(
        losses, ordered=False, slices={name: member == n for n, name in enumerate(names)}
    )
    rules = rules_for(
        "mae",
        _SLICE_MARGIN,
        slices=tuple(
            SliceTerms(name=name, where=name, role="required", metric="mae", margin=_SLICE_MARGIN)
            for name in names
        ),
    )
    return decide(evidence, rules, Given(mode="refresh", seed=run))


# --- cross-validation ---------------------------------------------------------------------------


FOLDS, REPEATS, FOLD_ROWS = 10, 3, 300


def cross_validation(runs: int, seed: int) -> dict[str, Any]:
    """Two equally good models compared over 3 x 10 folds, as inside a training."""
    hits = {"corrected": 0, "plain t": 0}
    for run in track(range(runs), "folds", console=screen, transient=True):
        d = _fold_differences(chance(seed, "folds", run))
        hits["corrected"] += corrected_t(d.tolist(), 1 / (FOLDS - 1)).p <= ALPHA
        hits["plain t"] += t_sf(_t(d), len(d) - 1) <= ALPHA
    rates = {name: Rate(hits=count, runs=runs) for name, count in hits.items()}
    rows = [{"t over folds": name, "false positives": rate} for name, rate in rates.items()]
    print_table(f"{REPEATS} x {FOLDS} folds of {FOLD_ROWS} rows, {runs} data sets", rows)
    return figures_of("folds_corrected", rates["corrected"]) | figures_of(
        "folds_plain_t", rates["plain t"]
    )


def _fold_differences(draw: np.random.Generator) -> Floats:
    """Both models see one of two columns that tell equally much, so neither is better."""
    X = draw.normal(size=(FOLD_ROWS, 2))
    y = X.sum(axis=1) + draw.normal(size=FOLD_ROWS)
    found = []
    for _ in range(REPEATS):
        fold = draw.permutation(FOLD_ROWS) % FOLDS
        for held in range(FOLDS):
            train, test = fold != held, fold == held
            slopes = (X[train] * y[train, None]).sum(axis=0) / np.square(X[train]).sum(axis=0)
            losses = np.square(y[test, None] - X[test] * slopes)
            found.append(float((losses[:, 0] - losses[:, 1]).mean()))
    return np.array(found)
