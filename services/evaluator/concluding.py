"""From a verdict to what is said of it: the fleet's word, the card, and one transaction.

Everything a verdict takes, a use of held-out rows or a place in a fleet's stream, it takes in the
transaction that says it; if somebody else was faster, it is made anew.
"""

import asyncio
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from services.evaluator.domain import Question, Stream, fleet_of, spec_of, stream_of
from services.evaluator.fleet import claim
from services.evaluator.store import PostgresStore
from services.evaluator.telling import plain, said
from services.evaluator.verdict import Verdict
from shared import telemetry
from shared.artifacts import ArtifactStore
from shared.clock import Clock
from shared.coarse import coarse
from shared.confined import Confined, Done
from shared.events import EvaluationCompleted, LeftOutFigures
from shared.ids import derived
from shared.jobs import Job, Jobs

REFUSALS: Final = frozenset({"invalid_input", "cannot_compare", "holdout_exhausted"})
"""Verdicts that tell nothing about the held-out rows, so they take nothing from them."""
CARD: Final = "services.evaluator.scoring:card"


class Moved(Exception):
    """Somebody was crowned, or the held-out rows were used, while the candidate was judged."""


class StreamMoved(Exception):
    """Somebody else claimed in the fleet's stream meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A verdict with what it rests on; without evidence no row was looked at.

    Attributes:
        seconds: wall time of the child.
        left_out: losses on rows whose period is annotated.
    """

    verdict: Verdict
    evidence: bytes | None = None
    seconds: float = 0.0
    left_out: tuple[LeftOutFigures, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """Ends jobs with a verdict."""

    store: PostgresStore
    artifacts: ArtifactStore
    confined: Confined
    now: Clock
    seconds: float
    megabytes: int
    fleet_minimum: int

    async def conclude(self, jobs: Jobs, job: Job, question: Question, found: Found) -> None:
        """Ask the fleet, write the card, and say it; anew if somebody else claimed meanwhile."""
        verdict = found.verdict
        digest = await self.artifacts.aput(found.evidence) if found.evidence else None
        has_looked = digest is not None and verdict.reason not in REFUSALS
        while True:
            stream = await self._stream(question) if has_looked else None
            alpha = question.rules.fleet_alpha
            asked = (
                claim(verdict.e_value, stream.state, alpha, stream=stream.name) if stream else None
            )
            event = said(
                question,
                verdict,
                evidence=digest,
                asked=asked,
                seconds=found.seconds,
                spends=has_looked,
                left_out=found.left_out,
            )
            event = await self._with_card(event, found)
            keeping = _Keeping(
                store=self.store,
                job=job,
                question=question,
                event=event,
                stream=stream,
                spends=has_looked,
                now=self.now,
            )
            try:
                await _complete(jobs, keeping)
            except StreamMoved:
                continue
            return

    async def say_again(
        self, jobs: Jobs, job: Job, question: Question, event: EvaluationCompleted
    ) -> None:
        """The champion has come back: the same figures say the same, and take nothing."""
        await _complete(
            jobs,
            _Keeping(
                store=self.store,
                job=job,
                question=question,
                event=event,
                stream=None,
                spends=False,
                now=self.now,
            ),
        )

    async def _stream(self, question: Question) -> Stream | None:
        """The fleet's budget of this quarter; small fleets have none."""
        spec = spec_of(question.spec)
        fleet = fleet_of(spec) if spec else None
        if fleet is None or await self.store.fleet_size(fleet) < self.fleet_minimum:
            return None
        name = stream_of(fleet, self.now())
        return Stream(name=name, state=await self.store.stream(name))

    async def _with_card(self, event: EvaluationCompleted, found: Found) -> EvaluationCompleted:
        """The event with its card, which tells figures as any reader may see them."""
        if found.evidence is None:
            return event
        argument = {
            "event": coarse(plain(event)),
            "evidence": found.evidence,
            "manifest": await self.artifacts.aget(event.manifest),
        }
        outcome = await self.confined.run(
            CARD, argument, seconds=self.seconds, megabytes=self.megabytes
        )
        if not isinstance(outcome, Done):
            telemetry.log("card_failed", level="error", outcome=str(outcome))
            return event
        markdown, html = await asyncio.gather(
            self.artifacts.aput(outcome.result["markdown"]),
            self.artifacts.aput(outcome.result["html"]),
        )
        return replace(event, card=markdown, card_html=html)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keeping:
    """What a verdict changes, in the transaction that says it."""

    store: PostgresStore
    job: Job
    question: Question
    event: EvaluationCompleted
    stream: Stream | None
    spends: bool
    now: Clock

    async def keep(self) -> None:
        """Keep it all, or nothing.

        Raises:
            Moved: the comparison is not the one that would be made now.
            StreamMoved: only the claim is not.
        """
        question, event = self.question, self.event
        if not await self.store.stands(question):
            raise Moved
        if self.spends and not await self.store.take_uses(
            event.model, question.split, question.uses_before, question.holdout_use
        ):
            raise Moved
        if self.stream is not None:
            name = self.stream.name
            if await self.store.locked_stream(name) != self.stream.state:
                raise StreamMoved
            await self.store.add_claim(name, accepted=event.accepted)
        await self.store.add_verdict(
            question, event, event_id_of(self.job), self.job.id, self.now()
        )


def event_id_of(job: Job) -> UUID:
    """The id under which the verdict of a job is said."""
    return derived(job.id, EvaluationCompleted.TYPE, job.subject, "done", 0)


async def _complete(jobs: Jobs, keeping: _Keeping) -> None:
    event = keeping.event
    try:
        completed = await jobs.complete(keeping.job, [event], effect=keeping.keep)
    except Moved:
        # The verdict would be stale when it is heard, so it is made anew instead.
        await jobs.give_back(keeping.job, "the champion or the use of the rows had changed by then")
        return
    if completed:
        verdict = "accepted" if event.accepted else "rejected"
        telemetry.count("tidewheel_gate_verdicts_total", verdict=verdict, reason=event.reason)
        telemetry.log(
            "candidate_judged",
            model=event.model,
            version=event.version,
            accepted=event.accepted,
            reason=event.reason,
            seconds=event.seconds,
        )
