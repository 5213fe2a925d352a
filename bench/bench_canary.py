"""Whether the canary keeps its promises when it is looked at all the time, beside common rules.

Every decision is the deployer's own (`services.deployer.canary`, `shadow`); the requests are made
up, and the common rules see the same ones. The evidence is read after every batch that holds both
arms: at a share of 10 % that is after almost every request of the canary.

Usage: python -m bench.bench_canary [scale] [seed]; 1 is the whole size.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.progress import track

from bench.canary_rules import (
    LOOKS,
    is_below_success,
    is_high_by_ranks,
    z_at_the_end,
    z_peeked,
)
from bench.canary_runs import MINIMUM_REQUESTS, End, life
from bench.canary_shadow import ALPHA, shadows, singles
from bench.canary_traffic import (
    Make,
    changing,
    clustered,
    heavy,
    once_per_entity,
    steady,
)
from bench.simulation import (
    Rate,
    chance,
    figures_of,
    median,
    print_environment,
    print_json,
    print_table,
    screen,
)
from services.deployer.domain import Limits

SEED = 20_260_102
LIMITS = Limits(alpha=ALPHA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Canaries of one kind.

    Attributes:
        decides: False follows a canary over its whole life, past the moment of its promotion.
    """

    name: str
    make: Make
    requests: int
    decides: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How the canaries of a case ended, and how many each common rule would have aborted."""

    ends: tuple[End, ...]
    aborted_by: Mapping[str, int]

    def rate(self, outcome: str) -> Rate:
        return Rate(hits=sum(end.outcome == outcome for end in self.ends), runs=len(self.ends))

    def requests_to(self, outcome: str) -> float | None:
        return median([end.requests for end in self.ends if end.outcome == outcome])

    def by(self, rule: str) -> Rate:
        return Rate(hits=self.aborted_by[rule], runs=len(self.ends))


def run(case: Case, runs: int, seed: int, limits: Limits = LIMITS) -> Found:
    """All canaries of a case; the rules beside them see the same requests."""
    ends = []
    aborted = dict.fromkeys(("z peeked", "z at the end", "success < 95 %", "Mann-Whitney"), 0)
    for number in range(runs):
        traffic = case.make(chance(seed, case.name, number), case.requests)
        ends.append(life(traffic, limits, decides=case.decides))
        aborted["z peeked"] += z_peeked(traffic)
        aborted["z at the end"] += z_at_the_end(traffic)
        aborted["success < 95 %"] += is_below_success(traffic, 100)
        aborted["Mann-Whitney"] += is_high_by_ranks(traffic, 20)
    return Found(ends=tuple(ends), aborted_by=aborted)


def _table(title: str, cases: list[Case], runs: int, seed: int) -> dict[str, Found]:
    found, rows = {}, []
    for case in track(cases, title, console=screen, transient=True):
        seen = found[case.name] = run(case, runs, seed)
        rows.append(
            {
                "canary": case.name,
                "abort": seen.rate("abort"),
                "promote": "" if not case.decides else f"{seen.rate('promote').share:.3f}",
                "requests to abort / promote": _pair(seen),
                **{rule: f"{seen.by(rule).share:.3f}" for rule in seen.aborted_by},
            }
        )
    print_table(f"{title}, {runs} canaries each", rows)
    return found


def _pair(seen: Found) -> str:
    words = [seen.requests_to("abort"), seen.requests_to("promote")]
    return " / ".join("-" if value is None else f"{value:.0f}" for value in words)


def null_canaries(runs: int, seed: int) -> dict[str, Any]:
    """Healthy ones over their whole life, errors and slow answers both watched."""
    cases = [
        Case(
            name="2 % errors, 5 % slow, 10 % share",
            make=steady(share=0.1, champion=0.02, canary=0.02, slow=0.05),
            requests=20_000,
            decides=False,
        ),
        Case(
            name="2 % errors, 5 % slow, 50 % share",
            make=steady(share=0.5, champion=0.02, canary=0.02, slow=0.05),
            requests=6_000,
            decides=False,
        ),
        Case(
            name="share and errors change",
            make=changing(),
            requests=20_000,
            decides=False,
        ),
        Case(
            name="one heavy entity",
            make=heavy(share=0.1, rate=0.02),
            requests=20_000,
            decides=False,
        ),
        Case(
            name="errors in clusters, each counted",
            make=clustered(share=0.1, rate=0.02),
            requests=20_000,
            decides=False,
        ),
        Case(
            name="errors in clusters, once per visit",
            make=once_per_entity(share=0.1, rate=0.02),
            requests=100_000,
            decides=False,
        ),
    ]
    found = _table("healthy canaries, aborted at any time", cases, runs, seed)
    names = ("", "_half", "_changing", "_heavy", "_clustered_raw", "_clustered_once")
    figures: dict[str, Any] = {}
    for word, seen in zip(names, found.values(), strict=True):
        figures |= figures_of(f"false_abort_rate{word}", seen.rate("abort"))
        figures |= figures_of(f"z_peeked_false_abort_rate{word}", seen.by("z peeked"))
    return figures | {
        "z_at_the_end_false_abort_rate": next(iter(found.values())).by("z at the end").share,
    }


_RATES = {"equal": 0.02, "better": 0.016, "border": 0.03, "4 %": 0.04, "6 %": 0.06, "10 %": 0.1}


def decisions(runs: int, seed: int) -> dict[str, Any]:
    """To the first decision, at 10 % of many requests."""
    cases = [
        Case(
            name=f"2 % against {100 * rate:g} %",
            make=steady(share=0.1, champion=0.02, canary=rate),
            requests=200_000,
        )
        for rate in _RATES.values()
    ]
    found = _table("200,000 requests, 10 % share", cases, runs, seed)
    figures: dict[str, Any] = {}
    for name, seen in zip(_RATES, found.values(), strict=True):
        word = name.replace(" %", "pct")
        figures[f"aborted_{word}"] = round(seen.rate("abort").share, 4)
        figures[f"promoted_{word}"] = round(seen.rate("promote").share, 4)
        figures[f"requests_to_abort_{word}"] = seen.requests_to("abort")
        figures[f"requests_to_promote_{word}"] = seen.requests_to("promote")
        figures[f"z_peeked_{word}"] = round(seen.by("z peeked").share, 4)
        figures[f"mann_whitney_{word}"] = round(seen.by("Mann-Whitney").share, 4)
        figures[f"success_threshold_{word}"] = round(seen.by("success < 95 %").share, 4)
    border = list(found.values())[list(_RATES).index("border")]
    return figures_of("false_promotion_rate", border.rate("promote")) | figures


def low_traffic(runs: int, seed: int) -> dict[str, Any]:
    """Few requests: mostly undecided, and still never wrong more often than promised."""
    cases = [
        Case(
            name=f"{share:.0%} share, 2 % against {100 * rate:g} %",
            make=steady(share=share, champion=0.02, canary=rate),
            requests=10_000,
        )
        for share in (0.1, 0.5)
        for rate in (0.02, 0.03, 0.06)
    ]
    found = _table("10,000 requests", cases, runs, seed)
    figures: dict[str, Any] = {}
    for case, seen in zip(cases, found.values(), strict=True):
        word = case.name.replace(" share, 2 % against ", "_").replace(" %", "pct").replace("%", "")
        for outcome in ("abort", "promote", "undecided"):
            figures[f"low_{word}_{outcome}"] = round(seen.rate(outcome).share, 4)
    return figures


def main() -> None:
    """Run everything, print tables, and one line of JSON."""
    scale = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else SEED

    def sized(whole: int) -> int:
        return max(int(whole * scale), 2)

    environment = print_environment(
        seed,
        scale=scale,
        alpha=LIMITS.alpha,
        delta=LIMITS.delta,
        event_limit=LIMITS.event_limit,
        minimum_requests=MINIMUM_REQUESTS,
        looks_of_z=LOOKS,
    )
    began = time.process_time()
    figures: dict[str, Any] = {"alpha": LIMITS.alpha, "canaries": sized(1_000)}
    for part, runs in (
        (null_canaries, 1_000),
        (decisions, 1_000),
        (low_traffic, 1_000),
        (shadows, 500),
        (singles, 150),
    ):
        before = time.process_time()
        figures |= part(sized(runs), seed)
        screen.print(f"{time.process_time() - before:.0f} s of CPU", style="dim")
    figures["cpu_seconds"] = round(time.process_time() - began)
    print_json({**figures, "environment": environment})


if __name__ == "__main__":
    main()
