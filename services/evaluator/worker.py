"""Judges: reads the files, has them scored in a child, decides, keeps the evidence, says it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from services.evaluator.domain import (
    Champion,
    Judgement,
    judge,
    mode_of,
    policy_digest,
    refused,
    seed_of,
    spec_of,
)
from services.evaluator.store import PostgresStore, Verdict, registered_from
from shared import telemetry
from shared.artifacts import ArtifactStore
from shared.clock import Clock
from shared.confined import Confined, Crashed, Done, Failed, OutOfMemory, TimedOut
from shared.errors import ArtifactCorrupt, NotFound, Unavailable, Unprocessable
from shared.events import Digest, EvaluationCompleted, Event, ModelRegistered
from shared.jobs import Job, Jobs, run_worker
from shared.manifest import read_manifest
from shared.patience import Patience
from shared.spec import ModelSpec

SCORE: Final = "services.evaluator.scoring:score"
_CRASHES: Final = 3
"""A child that died so often without a word is the candidate's doing."""


class ChampionMoved(Exception):
    """Somebody else became champion while the candidate was being judged."""


class ChildCrashed(Exception):
    """The child ended without a word; another attempt may do better."""


class _Missing(Exception):
    """A file of a version is not there or is not what it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A judgement with what it rests on."""

    judgement: Judgement
    evidence: bytes | None = None
    rows: int = 0
    seconds: float = 0.0
    """Wall time of the child."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Does one job after another."""

    store: PostgresStore
    jobs: Jobs
    artifacts: ArtifactStore
    confined: Confined
    now: Clock
    score_seconds: float
    score_megabytes: int
    concurrency: int = 1

    async def run(self) -> None:
        """Until cancelled."""
        await run_worker(self.jobs, self.work, concurrency=self.concurrency, gave_up=_gave_up)

    async def work(self, job: Job) -> None:
        """Judge one candidate; what does not answer says nothing about it and is waited for."""
        patience = Patience()
        while True:
            try:
                await self._judge(job)
            except Unavailable as error:
                telemetry.log("worker_waits", level="warning", reason=str(error))
                await asyncio.sleep(patience.next_seconds())
            else:
                return

    async def _judge(self, job: Job) -> None:
        """Against whoever is champion now, once."""
        registered = registered_from(job.payload)
        champion = await self.store.champion(registered.model)
        version = champion.version if champion else None
        spec = spec_of(registered.spec)
        policy = policy_digest(spec)
        if await self.store.has_verdict(registered, version, policy):
            await self.jobs.complete(job, [])
            return
        seed = seed_of(
            registered.manifest, champion.manifest if champion else "", registered.split, policy
        )
        found = await self._find(job, registered, spec, champion, seed)
        event = await self._event(registered, champion, found, seed)
        verdict = Verdict(
            model=registered.model,
            version=registered.version,
            champion=version,
            policy=policy,
            job=job.id,
            accepted=event.accepted,
            gates=event.gates,
            judged_at=self.now(),
        )
        await self._complete(job, event, verdict)

    async def _complete(self, job: Job, event: EvaluationCompleted, verdict: Verdict) -> None:
        async def keep() -> None:
            if not await self.store.champion_is_still(verdict.model, verdict.champion):
                raise ChampionMoved
            await self.store.add_verdict(verdict)

        try:
            completed = await self.jobs.complete(job, [event], effect=keep)
        except ChampionMoved:
            # The verdict would be stale when it is heard, so it is made anew instead.
            await self.jobs.release(job)
            return
        if completed:
            telemetry.count("tidewheel_verdicts_total", outcome=event.reason)
            telemetry.log(
                "candidate_judged",
                model=event.model,
                version=event.version,
                accepted=event.accepted,
                reason=event.reason,
                seconds=event.seconds,
            )

    async def _event(
        self,
        registered: ModelRegistered,
        champion: Champion | None,
        found: Found,
        seed: int,
    ) -> EvaluationCompleted:
        evidence = await self.artifacts.aput(found.evidence) if found.evidence else None
        return _said(
            registered,
            champion,
            found.judgement,
            evidence=evidence,
            rows=found.rows,
            seed=seed,
            seconds=found.seconds,
        )

    async def _find(
        self,
        job: Job,
        registered: ModelRegistered,
        spec: ModelSpec | None,
        champion: Champion | None,
        seed: int,
    ) -> Found:
        if spec is None:
            return Found(judgement=refused("invalid_input", "the specification cannot be read"))
        try:
            own = await self._files(registered.manifest)
        except _Missing as error:
            return Found(judgement=refused("invalid_input", f"the candidate: {error}"))
        try:
            other = await self._files(champion.manifest) if champion else None
        except _Missing as error:
            return Found(judgement=refused("cannot_compare", f"the champion: {error}"))
        argument = {
            **own,
            "champion": other,
            "gates": [rule.model_dump(mode="json") for rule in spec.effective_gates],
            "ordered": spec.data.split_kind == "time",
            "seed": seed,
        }
        mode = mode_of(registered.code_digest, champion)
        return await self._score(job, argument, spec, mode_champion=(mode, champion))

    async def _score(
        self,
        job: Job,
        argument: Any,
        spec: ModelSpec,
        *,
        mode_champion: tuple[Any, Champion | None],
    ) -> Found:
        outcome = await self.confined.run(
            SCORE, argument, seconds=self.score_seconds, megabytes=self.score_megabytes
        )
        match outcome:
            case Done(result=result, seconds=seconds):
                telemetry.observe("tidewheel_child_seconds", seconds, what="score")
                return replace(_found(result, spec, *mode_champion), seconds=seconds)
            case Crashed(detail=detail) if job.attempt < _CRASHES:
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
        return Found(judgement=refused("invalid_input", told))

    async def _files(self, digest: Digest) -> dict[str, bytes]:
        try:
            data = await self.artifacts.aget(digest)
            manifest = read_manifest(data)
            model, held = await asyncio.gather(
                self.artifacts.aget(manifest.files["model.skops"].digest),
                self.artifacts.aget(manifest.holdout),
            )
        except (NotFound, ArtifactCorrupt, Unprocessable, KeyError) as error:
            raise _Missing(str(error)) from error
        return {"manifest": data, "model": model, "holdout": held}


def _found(result: Any, spec: ModelSpec, mode: Any, champion: Champion | None) -> Found:
    if "problem" in result:
        return Found(judgement=refused(result["problem"], result["detail"]))
    return Found(
        judgement=judge(spec, result["comparisons"], mode, champion),
        evidence=result["evidence"],
        rows=result["rows"],
    )


def _said(
    registered: ModelRegistered,
    champion: Champion | None,
    judgement: Judgement,
    *,
    evidence: Digest | None = None,
    rows: int = 0,
    seed: int = 0,
    seconds: float = 0.0,
) -> EvaluationCompleted:
    return EvaluationCompleted(
        model=registered.model,
        version=registered.version,
        accepted=judgement.accepted,
        reason=judgement.reason,
        mode=mode_of(registered.code_digest, champion),
        gates=judgement.gates,
        manifest=registered.manifest,
        champion=champion.version if champion else None,
        champion_manifest=champion.manifest if champion else None,
        dataset=registered.dataset,
        dataset_version=registered.dataset_version,
        dataset_digest=registered.dataset_digest,
        split=registered.split,
        evidence=evidence,
        spec=registered.spec,
        rows=rows,
        seed=seed,
        seconds=seconds,
    )


def _gave_up(job: Job, detail: str) -> Sequence[Event]:
    """A job that failed every time still ends in a verdict: no."""
    return [_said(registered_from(job.payload), None, refused("invalid_input", detail))]
