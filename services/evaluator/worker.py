"""Judges: reads the files of everybody who is compared and has them scored in a child."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from services.evaluator.concluding import Conclusion, Found
from services.evaluator.domain import Question, Standing, question_of, spec_of, verdict_of
from services.evaluator.store import PostgresStore, registered_from
from services.evaluator.telling import said, unreadable
from services.evaluator.verdict import refused
from shared import telemetry
from shared.artifacts import ArtifactStore
from shared.clock import Clock
from shared.confined import Confined, Crashed, Done, Failed, OutOfMemory, TimedOut
from shared.errors import ArtifactCorrupt, NotFound, Unavailable, Unprocessable
from shared.events import Digest, Event, Json, LeftOutFigures
from shared.jobs import Job, Jobs, run_worker
from shared.manifest import read_manifest
from shared.patience import Patience

SCORE: Final = "services.evaluator.scoring:score"
_CRASHES: Final = 3
"""A child that died so often without a word is the candidate's doing."""
MOST_GIVEN_BACK: Final = 25
"""So often a champion may change, or this process be stopped, while one candidate is judged."""


class ChildCrashed(Exception):
    """The child ended without a word; another attempt may do better."""


class MissingFile(Exception):
    """A file of a version is not there or is not what it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Does one job after another.

    Attributes:
        metric_packages: whose functions may be metrics; imported in children only.
        fleet_minimum: models; a smaller fleet shares no false-discovery budget.
    """

    store: PostgresStore
    jobs: Jobs
    artifacts: ArtifactStore
    confined: Confined
    now: Clock
    score_seconds: float
    score_megabytes: int
    concurrency: int = 1
    metric_packages: tuple[str, ...] = ()
    fleet_minimum: int = 100

    @property
    def conclusion(self) -> Conclusion:
        """What becomes of a verdict."""
        return Conclusion(
            store=self.store,
            artifacts=self.artifacts,
            confined=self.confined,
            now=self.now,
            seconds=self.score_seconds,
            megabytes=self.score_megabytes,
            fleet_minimum=self.fleet_minimum,
        )

    async def run(self) -> None:
        """Until cancelled."""
        await run_worker(
            self.jobs,
            self.work,
            concurrency=self.concurrency,
            given_back=MOST_GIVEN_BACK,
            gave_up=gave_up,
        )

    async def work(self, job: Job) -> None:
        """Judge one candidate; what does not answer says nothing about it and is waited for."""
        await patiently(lambda: self._judge(job))

    async def _judge(self, job: Job) -> None:
        """Against whoever is champion now, once."""
        registered = registered_from(job.payload)
        spec = spec_of(registered.spec)
        standing = await self.store.standing(registered.model)
        champion = standing.champion
        if champion is not None and champion.version == registered.version:
            # It became champion while the job waited; against itself there is nothing to judge.
            await self.jobs.complete(job, [])
            return
        if spec is None:
            question = unreadable(registered, standing)
            verdict = refused("invalid_input", "the specification cannot be read")
            await self.conclusion.conclude(self.jobs, job, question, Found(verdict=verdict))
            return
        uses = await self.store.uses(registered.model, registered.split)
        question = question_of(registered, spec, standing, uses)
        earlier = await self.store.earlier(question)
        if earlier is not None and earlier.reign == standing.reign:
            await self.jobs.complete(job, [])
            return
        event_id = earlier.event_id if earlier else None
        event = await self.store.evaluation(event_id) if event_id else None
        if event is not None:
            await self.conclusion.say_again(self.jobs, job, question, event)
            return
        found = await self.find(job, question)
        await self.conclusion.conclude(self.jobs, job, question, found)

    async def find(self, job: Job, question: Question) -> Found:
        """The verdict, from the files of everybody who is compared."""
        if question.holdout_use > question.rules.uses:
            told = (
                f"these held-out rows have given {question.uses_before} verdicts and "
                f"evaluation.uses allows {question.rules.uses}; publish a new dataset version"
            )
            return Found(verdict=refused("holdout_exhausted", told))
        try:
            own = await self._files("the candidate", question.candidate.manifest)
            held = await self._other_rows(question)
        except MissingFile as error:
            return Found(verdict=refused("invalid_input", str(error)))
        try:
            champion, anchor = question.champion, question.anchor
            argument = {
                "candidate": own,
                "champion": await self._files("the champion", champion.manifest)
                if champion
                else None,
                "anchor": await self._files("the anchor", anchor.manifest) if anchor else None,
                "held": held,
                "rules": question.rules.to_plain(),
                "given": question.given().to_plain(),
                "metric_packages": list(self.metric_packages),
            }
        except MissingFile as error:
            return Found(verdict=refused("cannot_compare", str(error)))
        return await self._score(job, argument)

    async def _other_rows(self, question: Question) -> bytes | None:
        """Held-out rows of another version; None for the candidate's own."""
        if question.rows_of == question.candidate.manifest:
            return None
        return (await self._files("the newest version", question.rows_of))["holdout"]

    async def _files(self, who: str, digest: Digest) -> dict[str, bytes]:
        try:
            return await files_of(self.artifacts, digest)
        except (NotFound, ArtifactCorrupt, Unprocessable, KeyError) as error:
            raise MissingFile(f"{who}: {error}") from error

    async def _score(self, job: Job, argument: Json) -> Found:
        outcome = await self.confined.run(
            SCORE, argument, seconds=self.score_seconds, megabytes=self.score_megabytes
        )
        match outcome:
            case Done(result=result, seconds=seconds):
                telemetry.observe("tidewheel_child_seconds", seconds, what="score")
                return replace(_found(result), seconds=seconds)
            case Crashed(detail=detail) if job.counted < _CRASHES:
                raise ChildCrashed(detail)
            case Crashed(detail=detail):
                told = f"scoring crashed {_CRASHES} times: {detail}"
            case TimedOut(seconds=seconds):
                told = f"scoring took more than {seconds:g} seconds"
            case OutOfMemory(megabytes=megabytes):
                told = f"scoring wanted more than {megabytes} megabytes"
            case Failed(kind=kind, detail=detail, trace=trace):
                telemetry.log("scoring_failed", level="error", kind=kind, trace=trace)
                told = f"{kind}: {detail}"
        return Found(verdict=refused("invalid_input", told))


async def patiently(attempt: Callable[[], Awaitable[None]]) -> None:
    """Until the stores answer; waiting costs no attempt."""
    patience = Patience()
    while True:
        try:
            await attempt()
        except Unavailable as error:
            telemetry.log("worker_waits", level="warning", reason=str(error))
            await asyncio.sleep(patience.next_seconds())
        else:
            return


async def files_of(artifacts: ArtifactStore, digest: Digest) -> dict[str, bytes]:
    """Manifest, model and held-out rows of a version.

    Raises:
        NotFound, ArtifactCorrupt, Unprocessable, KeyError: one of them is not there.
    """
    data = await artifacts.aget(digest)
    manifest = read_manifest(data)
    model, held = await asyncio.gather(
        artifacts.aget(manifest.files["model.skops"].digest), artifacts.aget(manifest.holdout)
    )
    files = {"manifest": data, "model": model, "holdout": held}
    spared = manifest.left_out.rows_blob if manifest.left_out else None
    return files | ({"left_out": await artifacts.aget(spared)} if spared else {})


def _found(result: Any) -> Found:
    if "problem" in result:
        return Found(verdict=refused(result["problem"], result["detail"], rows=result["rows"]))
    return Found(
        verdict=verdict_of(result["verdict"]),
        evidence=result["evidence"],
        left_out=tuple(LeftOutFigures(**one) for one in result["left_out"]),
    )


def gave_up(job: Job, detail: str) -> Sequence[Event]:
    """A job that failed every time still ends in a verdict: no.

    Who was never compared with a champion that stayed is not to blame for it.
    """
    question = unreadable(registered_from(job.payload), Standing())
    is_blameless = job.given_back > MOST_GIVEN_BACK
    verdict = refused("cannot_compare" if is_blameless else "invalid_input", detail)
    return [said(question, verdict)]
