"""A trainer's worker as a process of its own, to be killed: `DATABASE_URL ARTIFACTS_URL LEASE`."""

import asyncio
import sys
from datetime import timedelta

from services.trainer.app import KIND
from services.trainer.store import PostgresStore
from services.trainer.worker import PRELOAD, WITHOUT, Workshop
from shared import clock
from shared.artifacts import ArtifactStore
from shared.confined import Confined
from shared.jobs import Jobs
from shared.postgres import Database


async def main(url: str, artifacts: str, lease_seconds: float) -> None:
    database = await Database.open(url, "trainer")
    await Workshop(
        store=PostgresStore(database),
        jobs=Jobs(database, KIND, lease=timedelta(seconds=lease_seconds)),
        artifacts=ArtifactStore(artifacts),
        confined=Confined(PRELOAD, without=WITHOUT),
        now=clock.now,
        allowed=("sklearn", "tests.support.odd_estimators"),
    ).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
