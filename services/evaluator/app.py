"""The evaluator as a process."""

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from services.evaluator import api
from services.evaluator.handlers import Evaluator
from services.evaluator.ranking import Ranking
from services.evaluator.replaying import Again
from services.evaluator.settings import Settings
from services.evaluator.store import PostgresStore
from services.evaluator.worker import Judge
from shared import clock, dead_letters, http, idempotency, running
from shared.access import Keys
from shared.artifacts import ArtifactStore
from shared.bus import Bus
from shared.confined import Confined
from shared.jobs import Jobs
from shared.postgres import Database
from shared.requests import Askers
from shared.signing import Signers

MIGRATIONS: Final = Path(__file__).parent / "migrations"


async def serve(settings: Settings) -> None:
    """Put the parts together and run until told to stop."""
    database = await Database.lazily(
        settings.database.get_secret_value(), "evaluator", size=settings.pool_size
    )
    jobs, best_jobs = Jobs(database, "verdict"), Jobs(database, "best")
    store = PostgresStore(database, jobs, best_jobs)
    artifacts = ArtifactStore(settings.artifacts)
    keys = Path(settings.keys_file)
    signers = Signers(keys, max_age=timedelta(seconds=settings.request_age_seconds))
    askers = Askers(database=database, signers=signers, keys=Keys(keys))
    evaluator = Evaluator(store, askers)
    # The libraries that models need are loaded in the template, never in this process.
    confined = Confined(
        [
            "services.evaluator.scoring",
            "services.evaluator.rejudging",
            "shared.models:warm_up",
        ],
        without=("pandas", "pyarrow"),
    )
    judge = Judge(
        store=store,
        jobs=jobs,
        artifacts=artifacts,
        confined=confined,
        now=clock.now,
        score_seconds=settings.score_seconds,
        score_megabytes=settings.score_megabytes,
        concurrency=settings.concurrency,
        metric_packages=settings.metric_packages,
        fleet_minimum=settings.fleet_minimum,
    )
    again = Again(
        store=store,
        artifacts=artifacts,
        confined=confined,
        seconds=settings.score_seconds,
        megabytes=settings.score_megabytes,
    )
    bus = Bus(
        database,
        settings.kafka,
        "evaluator",
        evaluator.reactions(),
        topic_prefix=settings.topic_prefix,
        replica=settings.replica,
    )
    app = http.build(
        "evaluator",
        settings,
        [
            api.router(store, artifacts, again, clock.now),
            dead_letters.router(database, evaluator.reactions()),
        ],
        ready=bus.state,
    )

    async def prepare() -> None:
        await database.prepare([MIGRATIONS])
        await store.know_all()

    async def finish() -> None:
        await confined.close()
        await database.close()

    await running.run(
        settings,
        app,
        [
            bus.run,
            judge.run,
            Ranking(judge=judge, jobs=best_jobs).run,
            partial(idempotency.forgetting, database),
        ],
        prepare=prepare,
        finish=finish,
    )


def main() -> None:
    """Start the evaluator."""
    running.start(Settings, serve)


if __name__ == "__main__":
    main()
