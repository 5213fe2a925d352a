"""How often the gate is wrong where it is known what is right, and how often it sees a gain."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from rich.progress import track

from bench.gate_worlds import SWAPPED, WORLDS, World
from bench.simulation import Rate, chance, figures_of, print_table, screen
from services.evaluator.evidence import Evidence
from services.evaluator.verdict import GateTerms, Given, Mode, Rules, Verdict, decide
from shared.events import Gate

ALPHA = 0.05
"""Of all verdicts on the same held-out rows together; the first one spends half of it."""
DRAWS = 999
"""Of a bootstrap; services use 4,999. Fewer make no test more generous, only less exact."""
_THRESHOLD_SHARE = 0.01
"""A common rule promotes at one per cent less loss than the champion's."""


def rules_for(metric: str, margin: float, draws: int = DRAWS, **changes: Any) -> Rules:
    """A specification's rules: no worse than the champion, better than the baseline."""
    return Rules(
        gates=(
            GateTerms(metric=metric, vs="champion", margin=margin, confidence=1 - ALPHA),
            GateTerms(metric=metric, vs="baseline", confidence=1 - ALPHA),
        ),
        draws=draws,
        **changes,
    )


def verdict_of(
    evidence: Evidence, metric: str, mode: Mode, seed: int, margin: float = 0.0, draws: int = DRAWS
) -> Verdict:
    """The service's own decision."""
    split = "time" if evidence.ordered else "random"
    rules = rules_for(metric, margin, draws, split=split)
    return decide(evidence, rules, Given(mode=mode, seed=seed))


def against_champion(verdict: Verdict) -> Gate:
    """The comparison with the champion on all rows."""
    return next(gate for gate in verdict.gates if gate.versus == "champion" and not gate.slice)


@dataclass(slots=True)
class Tally:
    """How often each rule promoted, of so many retrains."""

    runs: int = 0
    gate: int = 0
    bigger: int = 0
    threshold: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, verdict: Verdict) -> None:
        gate = against_champion(verdict)
        self.runs += 1
        self.gate += verdict.accepted
        self.reasons[verdict.reason] = self.reasons.get(verdict.reason, 0) + 1
        if gate.estimate is not None:
            least = _THRESHOLD_SHARE * abs(gate.other_value or 0.0)
            self.bigger += gate.estimate > 0
            self.threshold += gate.estimate > least

    def rates(self) -> tuple[Rate, Rate, Rate]:
        return (
            Rate(hits=self.gate, runs=self.runs),
            Rate(hits=self.bigger, runs=self.runs),
            Rate(hits=self.threshold, runs=self.runs),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Many retrains of one kind."""

    name: str
    metric: str
    mode: Mode
    world: World
    rows: int
    gain: float = 0.0
    margin: float = 0.0

    def run(self, runs: int, seed: int) -> Tally:
        tally = Tally()
        for run in range(runs):
            draw = chance(seed, self.name, self.mode, self.gain, run)
            evidence = self.world(draw, self.rows, self.gain)
            tally.add(verdict_of(evidence, self.metric, self.mode, run, self.margin))
        return tally


def false_promotions(runs: int, seed: int) -> dict[str, Any]:
    """Equally good retrains in `change` mode: whoever is promoted was only lucky."""
    trials = [
        Trial(name=name, metric=metric, mode="change", world=world(), rows=rows)
        for name, (metric, world, rows, _) in WORLDS.items()
    ] + [
        Trial(name=name, metric=metric, mode="change", world=world(), rows=rows)
        for name, (metric, world, rows) in SWAPPED.items()
    ]
    return _of_trials("false_promotion_rate", "A/A retrains called better", trials, runs, seed)


def acceptances_at_the_margin(runs: int, seed: int) -> dict[str, Any]:
    """Retrains that are worse by exactly the margin in `refresh` mode."""
    trials = [
        Trial(
            name=name,
            metric=metric,
            mode="refresh",
            world=world(),
            rows=rows,
            gain=-margin,
            margin=margin,
        )
        for name, (metric, world, rows, margin) in WORLDS.items()
    ]
    title = "retrains worse by exactly the margin, accepted"
    return _of_trials("accepted_at_margin_rate", title, trials, runs, seed)


def _of_trials(
    figure: str, title: str, trials: list[Trial], runs: int, seed: int
) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    rows = []
    hits = 0
    for trial in track(trials, figure, console=screen, transient=True):
        gate, bigger, threshold = trial.run(runs, seed).rates()
        rows.append(
            {
                "metric": trial.name,
                "rows": trial.rows,
                f"gate, alpha {ALPHA}": gate,
                "bigger number wins": bigger,
                "bigger by 1 %": threshold,
            }
        )
        figures |= figures_of(f"{figure}_{_name(trial.name)}", gate)
        figures |= figures_of(f"{figure}_{_name(trial.name)}_bigger_wins", bigger)
        figures |= figures_of(f"{figure}_{_name(trial.name)}_threshold", threshold)
        hits += gate.hits
    print_table(f"{title}, {runs} of each", rows)
    return {**figures_of(figure, Rate(hits=hits, runs=runs * len(trials))), **figures}


def _name(text: str) -> str:
    return text.replace(", ", "_").replace(" ", "_")


def power(runs: int, seed: int) -> dict[str, Any]:
    """How often a true gain is called better; equal models in `refresh` mode stand beside it."""
    figures: dict[str, Any] = {}
    rows = []
    for name, (metric, world, count, margin) in track(
        list(WORLDS.items()), "power", console=screen, transient=True
    ):
        trial = Trial(name=name, metric=metric, mode="change", world=world(), rows=count)
        refresh = replace(trial, mode="refresh", margin=margin)
        row: dict[str, object] = {"metric": name, "rows": count}
        for times in (0.5, 1.0, 2.0):
            gate, bigger, _ = replace(trial, gain=times * margin).run(runs, seed).rates()
            row[f"+{times:g} margins: gate (bigger wins)"] = (
                f"{gate.share:.3f} ({bigger.share:.3f})"
            )
            figures[f"power_{_name(name)}_{times:g}_margins"] = round(gate.share, 3)
        equal, _, _ = refresh.run(runs, seed).rates()
        row["equal, as refresh"] = f"{equal.share:.3f}"
        figures[f"accepted_equal_{_name(name)}"] = round(equal.share, 3)
        rows.append(row)
    print_table(f"power, {runs} of each", rows)
    return figures
