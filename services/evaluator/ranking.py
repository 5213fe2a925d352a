"""The best registered version: several on the same rows, and the winner before the gate."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from services.evaluator.concluding import Found
from services.evaluator.domain import Question, Standing, ranked_question, spec_of
from services.evaluator.telling import unreadable
from services.evaluator.verdict import Verdict, refused
from services.evaluator.worker import MOST_GIVEN_BACK, Judge, files_of, patiently
from shared import telemetry
from shared.confined import Done
from shared.errors import ArtifactCorrupt, NotFound, Unprocessable
from shared.events import BestAsked, BestRefused, Event, Gate, ModelRegistered
from shared.jobs import Job, Jobs, run_worker

LOSS: Final = "services.evaluator.scoring:loss"
MOST_VERSIONS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Does one request for the best version after another."""

    judge: Judge
    jobs: Jobs

    async def run(self) -> None:
        """Until cancelled."""
        await run_worker(self.jobs, self.work, given_back=MOST_GIVEN_BACK, gave_up=_gave_up)

    async def work(self, job: Job) -> None:
        """Rank the newest versions and judge the winner."""
        await patiently(lambda: self._rank(job))

    async def _rank(self, job: Job) -> None:
        store = self.judge.store
        versions = await store.newest(job.payload["model"], MOST_VERSIONS)
        standing = await store.standing(versions[0].model)
        losses = [(one, await self._loss(one, versions[0], job)) for one in versions]
        ranking = sorted(losses, key=_by_loss)
        asked = BestAsked(
            by=job.payload["by"],
            metric=job.payload["metric"],
            reason=job.payload["reason"],
            ranking=tuple((one.version, loss) for one, loss in ranking),
        )
        winner, loss = ranking[0]
        question = await self._question(winner, versions[0], standing, asked, job)
        verdict = _without_rows(question, loss, len(versions))
        found = Found(verdict=verdict) if verdict else await self.judge.find(job, question)
        await self.judge.conclusion.conclude(self.jobs, job, question, found)

    async def _question(
        self,
        winner: ModelRegistered,
        newest: ModelRegistered,
        standing: Standing,
        asked: BestAsked,
        job: Job,
    ) -> Question:
        spec = spec_of(newest.spec)
        if spec is None:
            return replace(unreadable(winner, standing), best=asked)
        uses = await self.judge.store.uses(newest.model, newest.split)
        return ranked_question(winner, newest, spec, standing, asked, uses, str(job.id))

    async def _loss(self, one: ModelRegistered, newest: ModelRegistered, job: Job) -> float | None:
        """None where a version cannot be scored on these rows; the others can do without it."""
        judge = self.judge
        try:
            argument: dict[str, Any] = {
                "candidate": await files_of(judge.artifacts, one.manifest),
                "held": (await files_of(judge.artifacts, newest.manifest))["holdout"],
                "metric": job.payload["metric"],
                "metric_packages": list(judge.metric_packages),
            }
        except (NotFound, ArtifactCorrupt, Unprocessable, KeyError) as error:
            telemetry.log("version_not_ranked", version=one.version, reason=str(error))
            return None
        outcome = await judge.confined.run(
            LOSS, argument, seconds=judge.score_seconds, megabytes=judge.score_megabytes
        )
        if isinstance(outcome, Done) and "loss" in outcome.result:
            return float(outcome.result["loss"])
        reason = outcome.result["detail"] if isinstance(outcome, Done) else str(outcome)
        telemetry.log("version_not_ranked", version=one.version, reason=reason)
        return None


def _gave_up(job: Job, detail: str) -> Sequence[Event]:
    """A search that failed every time ends in a word, too."""
    asked = job.payload
    refused = BestRefused(
        model=asked["model"],
        metric=asked["metric"],
        by=asked["by"],
        code="gave_up",
        detail=detail,
    )
    return (refused,)


def _by_loss(item: tuple[ModelRegistered, float | None]) -> tuple[bool, float, int]:
    """Best first, those without a loss last; of equals the newest."""
    one, loss = item
    return (loss is None, loss or 0.0, -one.version)


def _without_rows(question: Question, loss: float | None, versions: int) -> Verdict | None:
    """What is clear before the gate is asked."""
    if question.policy == "unreadable":
        return refused("invalid_input", "the newest version's specification cannot be read")
    if loss is None:
        return refused("invalid_input", f"none of {versions} versions could be scored")
    champion = question.champion
    if champion is None or champion.version != question.candidate.version:
        return None
    metric = question.best.metric if question.best else ""
    told = f"the champion is the best of the newest {versions} versions by {metric}"
    gate = Gate(
        metric=metric, versus="champion", passed=False, estimate=0.0, lower=0.0, upper=0.0,
        confidence=0.0, margin=0.0, rows=0, test="none", detail=told,
    )  # fmt: skip
    return Verdict(accepted=False, reason="not_shown_better", gates=(gate,))
