"""Recorded verdicts computed again, by the same rules or by others, from the record alone."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from services.evaluator.store import PostgresStore
from services.evaluator.telling import plain
from shared.artifacts import ArtifactStore
from shared.confined import Confined, Done
from shared.errors import ArtifactCorrupt, Conflict, Fault, InvalidInput, NotFound, wrong_things
from shared.events import EvaluationCompleted, Heard, Json, as_kind
from shared.names import ModelNameText
from shared.spec_gate import Checks, Evaluation, GateRule, Slice
from shared.spec_parts import Part

REPLAY: Final = "services.evaluator.rejudging:replay"
REJUDGE: Final = "services.evaluator.rejudging:rejudge"
_PAGE: Final = 100
_STEP: Final = re.compile(r"[^.\[\]]+")


class Policy(Part):
    """Parts of a specification that take the place of every model's own."""

    gates: tuple[GateRule, ...] | None = None
    slices: tuple[Slice, ...] | None = None
    checks: Checks | None = None
    evaluation: Evaluation | None = None

    def changes(self) -> Json:
        """What it changes, as a specification has it."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Backtest(Part):
    """What a changed policy would have decided."""

    policy: Policy = Policy()
    model: ModelNameText | None = None
    """Only this model's verdicts; by default those of every model."""


_BACKTEST: Final = TypeAdapter(Backtest)


def read_backtest(body: Any) -> Backtest:
    """What is asked for.

    Raises:
        InvalidInput: it is not understood; says what and where.
    """
    try:
        return _BACKTEST.validate_python(body)
    except ValidationError as error:
        faults = [
            Fault("/" + "/".join(str(part) for part in fault["loc"]), fault["msg"])
            for fault in error.errors()
        ]
        raise InvalidInput(wrong_things(faults, "the policy"), faults) from error


@dataclass(slots=True, kw_only=True)
class Summary:
    """What came of a backtest."""

    verdicts: int = 0
    same: int = 0
    newly_accepted: int = 0
    newly_rejected: int = 0
    other_reason: int = 0
    not_judged: dict[str, int] = field(default_factory=dict)
    """By their reason."""

    def to_plain(self) -> Json:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Computes recorded verdicts again, each in a child."""

    store: PostgresStore
    artifacts: ArtifactStore
    confined: Confined
    seconds: float
    megabytes: int

    async def replay(self, heard: Heard[EvaluationCompleted]) -> Json:
        """Whether a verdict comes out the same, and what does not.

        Raises:
            Conflict: no row was looked at, or the evidence is gone.
        """
        event = heard.event
        if event.evidence is None:
            raise Conflict(
                f"This verdict ({event.reason}) was given before any held-out row was looked at; "
                "there is nothing to compute again."
            )
        found = await self._run(REPLAY, event, {})
        if "problem" in found:
            raise Conflict(f"This verdict cannot be computed again: {found['problem']}.")
        now = plain(event) | found["verdict"]
        return {
            "event_id": heard.id,
            "same": found["same"],
            "differences": [
                {"field": name, "recorded": _at(plain(event), name), "now": _at(now, name)}
                for name in found["differences"]
            ],
        }

    async def _run(self, function: str, event: EvaluationCompleted, extra: Json) -> Json:
        if event.evidence is None:
            return {"problem": f"{event.reason}: no row was looked at"}
        try:
            evidence = await self.artifacts.aget(event.evidence)
        except (NotFound, ArtifactCorrupt) as error:
            return {"problem": f"the evidence cannot be read: {error}"}
        outcome = await self.confined.run(
            function,
            {"event": plain(event), "evidence": evidence, **extra},
            seconds=self.seconds,
            megabytes=self.megabytes,
        )
        if isinstance(outcome, Done):
            found: Json = outcome.result
            return found
        return {"problem": f"the computation ended early ({type(outcome).__name__})"}

    # --- other rules --------------------------------------------------------------------------

    async def backtest(self, asked: Backtest, owners: list[str] | None) -> AsyncIterator[Json]:
        """Every verdict on record by the changed rules: what differs, and a summary at the end.

        Args:
            owners: whose models the reader may see; None for all.
        """
        summary = Summary()
        changes = asked.policy.changes()
        async for heard in self._recorded(asked.model, owners):
            told = await self._compared(heard, changes, summary)
            yield told or {"progress": {"verdicts": summary.verdicts}}
        yield {"summary": summary.to_plain()}

    async def _recorded(
        self, model: str | None, owners: list[str] | None
    ) -> AsyncIterator[Heard[EvaluationCompleted]]:
        place = ("", 0)
        while page := await self.store.after(place, _PAGE, model, owners):
            for heard in page:
                if verdict := as_kind(heard, EvaluationCompleted):
                    yield verdict
            place = (page[-1].event.subject, page[-1].sequence or 0)

    async def _compared(
        self, heard: Heard[EvaluationCompleted], changes: Json, summary: Summary
    ) -> Json | None:
        event = heard.event
        summary.verdicts += 1
        found = await self._run(REJUDGE, event, {"policy": changes})
        if "problem" in found:
            reason = found["problem"]
            summary.not_judged[reason] = summary.not_judged.get(reason, 0) + 1
            return {"not_judged": _named(heard) | {"why": reason}}
        now = _with_fleet(event, found)
        if now == (event.accepted, event.reason):
            summary.same += 1
            return None
        kind = _kind(event.accepted, now[0])
        setattr(summary, kind, getattr(summary, kind) + 1)
        recorded = {"accepted": event.accepted, "reason": event.reason}
        return {
            "differs": _named(heard)
            | {"recorded": recorded, "now": {"accepted": now[0], "reason": now[1]}}
        }


def _kind(before: bool, after: bool) -> Literal["newly_accepted", "newly_rejected", "other_reason"]:
    if before == after:
        return "other_reason"
    return "newly_accepted" if after else "newly_rejected"


def _with_fleet(event: EvaluationCompleted, found: Json) -> tuple[bool, str]:
    """A fleet's threshold stays what it was when the claim was made."""
    if found["accepted"] and event.fleet and found["e_value"] < event.fleet.threshold:
        return False, "fleet_fdr"
    return found["accepted"], found["reason"]


def _named(heard: Heard[EvaluationCompleted]) -> Json:
    event = heard.event
    return {
        "event_id": heard.id,
        "model": event.model,
        "version": event.version,
        "judged_at": heard.time,
    }


def _at(fields: Any, place: str) -> Any:
    """What stands at a place like `gates[0].lower`."""
    for part in _STEP.findall(place):
        if fields is None:
            return None
        fields = fields[int(part)] if isinstance(fields, list) else fields[part]
    return fields
