"""The service's side: a file is looked at in a child, whose end is the file's refusal at worst."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.registry.profiling.formats import format_of
from services.registry.profiling.limits import Limits
from services.registry.profiling.profile import Profile, read_profile
from shared import telemetry
from shared.confined import Confined, Crashed, Done, Failed, Outcome, OutOfMemory, TimedOut
from shared.errors import Saturated
from shared.events import Reason

CHILD: Final = "services.registry.profiling.child"


@dataclass(frozen=True, slots=True)
class Examiner:
    """Looks at files, a few at a time."""

    confined: Confined
    limits: Limits
    slots: asyncio.Semaphore

    @classmethod
    def of(cls, limits: Limits, together: int) -> "Examiner":
        return cls(Confined(preload=[CHILD]), limits, asyncio.Semaphore(together))

    async def examine(self, path: Path) -> Profile | Sequence[Reason]:
        """The profile of a file, or everything that is wrong with it.

        Raises:
            Saturated: no child can be started; the file may be fine.
        """
        name = await asyncio.to_thread(format_of, path)
        if isinstance(name, Reason):
            return [name]
        argument = {"path": str(path), "format": name, "limits": self.limits.plain()}
        async with self.slots:
            outcome = await self.confined.run(
                f"{CHILD}:examine",
                argument,
                seconds=self.limits.seconds,
                megabytes=self.limits.megabytes,
            )
        return _found(outcome)


def _found(outcome: Outcome) -> Profile | Sequence[Reason]:
    match outcome:
        case Done(result=result, seconds=seconds):
            telemetry.observe("tidewheel_child_seconds", seconds, what="profile")
            return _answer(result)
        case OutOfMemory(megabytes=megabytes):
            return [_refusal(f"looking at the file takes more than {megabytes} MB")]
        case TimedOut(seconds=seconds):
            return [_refusal(f"looking at the file takes longer than {seconds:.0f} s")]
        case Crashed(detail=detail) if "template" in detail:
            raise Saturated("No process can be started that looks at the file; try again shortly.")
        case Crashed(detail=detail):
            telemetry.log("examination_crashed", level="warning", detail=detail)
            return [_refusal("reading the file ends the process that reads it")]
        case Failed(kind=kind, detail=detail, trace=trace):
            telemetry.log("examination_failed", level="error", kind=kind, said=detail, trace=trace)
            return [_refusal(f"the file cannot be read ({kind})")]


def _refusal(detail: str) -> Reason:
    return Reason(pointer="", detail=detail, hint="check that the file is what it is meant to be")


def _answer(result: Any) -> Profile | Sequence[Reason]:
    if "profile" in result:
        return read_profile(result["profile"])
    return [Reason(**fault) for fault in result["faults"]]
