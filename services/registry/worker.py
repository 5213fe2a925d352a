"""Offers: the file behind a reference is fetched, looked at, and settled like an upload."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from services.registry.domain.datasets import refuse
from services.registry.handlers import Intake
from shared.events import DatasetName, Digest, Event, Reason
from shared.jobs import Job, Jobs, run_worker

ATTEMPTS: Final = 1_000
"""A file cannot end this process, so attempts are spent on roots and stores that do not answer:
at most a minute apart, these are more than half a day. Other offers take their turn meanwhile."""


@dataclass(frozen=True, slots=True)
class OfferWorker:
    """Claims offers and settles each in one transaction with the end of its job."""

    intake: Intake
    jobs: Jobs
    concurrency: int

    async def run(self) -> None:
        """Work until cancelled."""
        await run_worker(
            self.jobs,
            self.work,
            concurrency=self.concurrency,
            attempts=ATTEMPTS,
            gave_up=gave_up,
        )

    async def work(self, job: Job) -> None:
        """Settle one offer."""
        offer = job.payload
        digest = Digest(offer["digest"]) if offer["digest"] else None
        async with self.intake.fetched(offer["uri"], digest) as arrived:
            look = await self.intake.look(
                DatasetName(offer["dataset"]),
                arrived,
                offered_by=offer["source"],
                offer=UUID(offer["offer"]),
            )

            async def settled() -> None:
                await self.intake.settle(look, job.cause)

            await self.jobs.complete(job, [], effect=settled)


def gave_up(job: Job, detail: str) -> Sequence[Event]:
    """An offer that could not be settled is refused: no silence."""
    reason = Reason(pointer="/uri", detail=detail, hint="offer it again")
    return [
        refuse(
            DatasetName(job.payload["dataset"]),
            [reason],
            digest=None,
            offered_by=job.payload["source"],
            offer=UUID(job.payload["offer"]),
        )
    ]
