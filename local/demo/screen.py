"""What the demo shows: chapters, facts as they are said, the clock, and the table at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from local.demo.tally import Tally
from tidewheel.narrate import data_of, short_type, told
from tidewheel.screen import short

if TYPE_CHECKING:
    from rich.status import Status


_WIDE = 110
_NARROW_PROMISE = 22
"""Columns; what is left of a narrow screen holds an event id on one line."""
_QUIET = frozenset(
    {
        "replica.announced",
        "serving.measured",
        "window.evaluated",
        "quality.measured",
        "serving.applied",
        "deployment.desired",
        "rollout.proposed",
        "predictions.logged",
        "ground_truth.observed",
        "losses.observed",
    }
)
_COLOURS = {
    "model.promoted": "bold green",
    "rollout.aborted": "bold red",
    "deployment.rolled_back": "bold yellow",
    "dataset.refused": "red",
    "drift.detected": "yellow",
    "quality.degraded": "yellow",
    "retraining.requested": "yellow",
    "retraining.withheld": "yellow",
    "serving.fell_back": "red",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A promise, whether it held, and by what one can see that."""

    promise: str
    held: bool
    evidence: str


class Screen:
    """Prints from any thread."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._began = time.monotonic()
        self._status: Status | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def chapter(self, title: str, why: str) -> None:
        self._quiet()
        self._console.print(f"\n[bold]{title}[/]  [dim]{self.seconds:.0f} s[/]")
        self._console.print(why, style="dim", markup=False)

    def command(self, line: str) -> None:
        self._console.print(f"  $ tidewheel {line}", style="cyan", markup=False)

    def said(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            self._console.print(f"    {line}", markup=False)

    def event(self, event: Mapping[str, Any]) -> None:
        """One line per fact that a person would want to see."""
        kind = short_type(event)
        if kind in _QUIET:
            return
        line = Text(f"  {self.seconds:5.1f} s  ")
        line.append(f"{kind:<22}", style=_colour(event))
        line.append(f" {told(event)}  ")
        line.append(short(event.get("id")), style="dim")
        self._console.print(line)

    def clock(self, at: datetime, tally: Tally) -> None:
        """The moving line; only where there is a screen to move on."""
        if not self._console.is_terminal:
            return
        text = f"{at:%a %d %b %H:%M}   {len(tally.asked)} answered   {_counts(tally.versions)}"
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(text)

    def stretch(self, tally: Tally, seconds: float) -> None:
        self._quiet()
        self._console.print(
            f"  {self.seconds:5.1f} s  {len(tally.asked)} hours predicted over HTTP in "
            f"{seconds:.1f} s by {_counts(tally.versions)} ({_counts(tally.rungs)}), "
            f"{tally.observed} ground truths followed, {len(tally.refused)} refused",
            markup=False,
        )

    def outcomes(self, rows: Sequence[Held], figures: str) -> None:
        self._quiet()
        table = Table(box=box.SIMPLE_HEAD, title="What was promised", title_justify="left")
        narrow = self._console.is_terminal and self._console.width < _WIDE
        table.add_column("promise", max_width=_NARROW_PROMISE if narrow else 2 * _NARROW_PROMISE)
        table.add_column("held")
        table.add_column("evidence", overflow="fold")
        for row in rows:
            mark = "[green]yes[/]" if row.held else "[bold red]NO[/]"
            table.add_row(Text(row.promise), mark, Text(row.evidence))
        width = None if self._console.is_terminal else 160
        Console(highlight=False, width=width).print(table)
        self._console.print(figures, markup=False)

    def line(self, text: str) -> None:
        self._quiet()
        self._console.print(text, markup=False)

    def _quiet(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def _colour(event: Mapping[str, Any]) -> str:
    kind = short_type(event)
    if kind == "evaluation.completed":
        return "green" if data_of(event).get("accepted") else "bold red"
    return _COLOURS.get(kind, "")


def _counts(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "nobody"
