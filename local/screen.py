"""What the commands print: one table of what runs, and where to go from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from local.paths import Places, default_places
from local.ports import DEFAULTS

console = Console(highlight=False)


def show_status(status: dict[str, Any], to: Console = console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, side in _COLUMNS:
        table.add_column(title, justify=side, no_wrap=True)
    for part in status["parts"]:
        table.add_row(*_row(part, part["address"], part["state"] == "running"))
    for service in status["services"]:
        table.add_row(*_row(service, service["url"], service["ready"]))
    to.print(table)


_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("service", "left"),
    ("address", "left"),
    ("ready", "left"),
    ("ready after", "right"),
    ("PSS", "right"),
    ("restarts", "right"),
)


def _row(one: dict[str, Any], address: str, ready: bool) -> tuple[str, ...]:
    colour = "green" if ready else "red"
    said = "yes" if ready else str(one["state"]) if one["state"] != "running" else "no"
    after = one.get("ready_ms")
    return (
        one["name"],
        address,
        f"[{colour}]{said}[/]",
        f"{after} ms" if after is not None else "",
        f"{one['memory_mb']:.0f} MB" if one["pid"] else "",
        str(one["restarts"] or ""),
    )


def show_next_steps(
    status: dict[str, Any], places: Places, to: Console = console, *, ran_before: bool = False
) -> None:
    """Where to go from here; the verbs of `make` are about the usual folder alone."""
    services = status["services"]
    memory = sum(one["memory_mb"] for one in services)
    seconds = status["up_seconds"]
    took = f"up in {seconds:.1f} s, " if seconds is not None else ""
    how = "it was up already, " if ran_before else took
    is_usual = places == default_places()
    to.print(f"\n{how}{len(services)} services use {memory:.0f} MB together")
    if is_usual and (elsewhere := _unusual(services)):
        to.print(f"ports    not the usual ones, which were taken: {', '.join(elsewhere)}")
    to.print(f"keys     {places.plain_keys} (one per role, yours alone to read)", soft_wrap=True)
    also = " (or: make logs)" if is_usual else ""
    to.print(f"logs     {places.logs}{also}", soft_wrap=True)
    if is_usual:
        to.print("next     .venv/bin/tidewheel status", soft_wrap=True)


def _unusual(services: Sequence[Mapping[str, Any]]) -> list[str]:
    """The services whose ports are not those that documents name."""
    return [one["name"] for one in services if not one["url"].endswith(f":{DEFAULTS[one['name']]}")]
