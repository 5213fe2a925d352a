"""What every chapter has at hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from local.demo.data import Series, write_csv
from local.demo.live import MODEL, Live
from local.demo.log import Event, Log, is_a, of_cascade
from local.demo.screen import Held, Screen
from local.demo.stack import DemoStack
from tidewheel import Client, Failure
from tidewheel.narrate import data_of, ends_with, interval, short_type

DATASET = "pipeline/flow"
SPECS = Path(__file__).parent / "specs"
CANARY_PER_SECOND = 12.0
"""Slow enough that a canary sees no more of the series than it needs."""


@dataclass(slots=True)
class World:
    """The system, its callers, its log, and what was found so far."""

    stack: DemoStack
    client: Client
    log: Log
    live: Live
    series: Series
    screen: Screen
    rows: list[Held] = field(default_factory=list)
    accepted: list[dict[str, Any]] = field(default_factory=list)
    """Receipts of dataset versions that the registry took."""

    def promise(self, text: str, *, held: bool, evidence: str) -> None:
        self.rows.append(Held(promise=text, held=held, evidence=evidence))

    def run(self, *arguments: str, shown: str = "") -> tuple[int, Any]:
        """A command with --json, shown as a person would type it: exit code and answer."""
        self.screen.command(shown or " ".join(arguments))
        ran = self.stack.tidewheel(*arguments, "--json")
        if ran.code != 0:
            answer = _plain(ran.err)
            self.screen.said(_told_refusal(ran.code, answer) or ran.err)
            return ran.code, answer
        return 0, _plain(ran.out)

    def apply(self, name: str) -> str:
        """Define the model by one of the specifications here; the cascade that it starts."""
        file = SPECS / f"{name}.yaml"
        code, answer = self.run(
            "apply", "-f", str(file), shown=f"apply -f local/demo/specs/{file.name}"
        )
        _stop_unless_done(code, answer)
        return str(answer["cascade"])

    def publish(self, name: str, until: datetime) -> str:
        """The series up to a moment as the next dataset version; its cascade."""
        file = write_csv(self.stack.files / f"{name}.csv", self.series.rows_until(until))
        shown = f"publish {DATASET} {file.name}"
        code, receipt = self.run("publish", DATASET, str(file), shown=shown)
        _stop_unless_done(code, receipt)
        self.accepted.append(receipt)
        return str(receipt["cascade"])

    def end_of(self, cascade: str, *, seconds: float = 40.0) -> Event | None:
        """The event that ended a cascade for the model."""
        return self.log.wait(self.ended(cascade), seconds=seconds)

    def ended(self, cascade: str) -> Any:
        return of_cascade(cascade, lambda e: e.get("subject") == MODEL and ends_with(e) is not None)

    def canary(self, cascade: str, until: datetime, *, seconds: float = 40.0) -> Event | None:
        """Let callers meet the canary hour by hour until it is decided; how it ended."""
        started = self.log.wait(
            of_cascade(cascade, lambda e: _starts_canary(e) or self.ended(cascade)(e)),
            seconds=seconds,
        )
        if started is None or self.ended(cascade)(started):
            return started
        self.applied(started)
        ended = self.ended(cascade)
        self.live.play(
            until, per_second=CANARY_PER_SECOND, stop=lambda: bool(self.log.found(ended))
        )
        return self.end_of(cascade, seconds=20)

    def applied(self, desired: Event) -> None:
        """Return when a replica answers by what this event decided."""
        generation = data_of(desired)["generation"]
        self.log.wait(
            lambda e: short_type(e) == "serving.applied" and data_of(e)["generation"] >= generation
        )

    def verdict(self, cascade: str) -> Event | None:
        found = self.log.found(of_cascade(cascade, is_a("evaluation.completed")))
        return found[-1] if found else None


def _told_refusal(code: int, answer: dict[str, Any]) -> str:
    why = [f"  {reason}" for reason in answer.get("why", ())]
    return "\n".join([f"{answer['error']} (exit {code})", *why]) if "error" in answer else ""


def _stop_unless_done(code: int, answer: dict[str, Any]) -> None:
    """What was not taken has no consequences to wait for."""
    if code != 0:
        raise Failure(str(answer.get("error")), why=tuple(answer.get("why", ())))


def _starts_canary(event: Event) -> bool:
    arms = data_of(event).get("arms") or [] if short_type(event) == "deployment.desired" else []
    return any(arm["role"] == "challenger" for arm in arms)


def _plain(text: str) -> Any:
    lines = text.strip().splitlines()
    try:
        return json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}


def told_gates(verdict: Event | None) -> str:
    """The verdict's intervals and its event, for the table."""
    if verdict is None:
        return "no verdict"
    gates = "; ".join(interval(gate) for gate in data_of(verdict)["gates"])
    return f"{gates}\nverdict {verdict['id']}"


def is_end(event: Event | None, kind: str) -> bool:
    return event is not None and short_type(event) == kind


def ids(*events: Event | None) -> str:
    """The ids of events, for the table."""
    return "\n".join(str(event["id"]) if event else "missing" for event in events)
