"""The trainer as a process."""

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from services.trainer import api, batch
from services.trainer.handlers import Trainer
from services.trainer.settings import Settings
from services.trainer.store import PostgresStore
from services.trainer.worker import PRELOAD, WITHOUT, Schedules, Workshop
from shared import clock, dead_letters, http, idempotency, running
from shared.artifacts import ArtifactStore
from shared.bus import Bus
from shared.confined import Confined
from shared.jobs import Jobs
from shared.postgres import Database

MIGRATIONS: Final = Path(__file__).parent / "migrations"
KIND: Final = "training"


async def serve(settings: Settings) -> None:
    """Put the parts together and run until told to stop."""
    database = await Database.lazily(
        settings.database.get_secret_value(), "trainer", size=settings.pool_size
    )
    store = PostgresStore(database)
    jobs = Jobs(database, KIND, lease=timedelta(seconds=settings.lease_seconds))
    trainer = Trainer(store=store, jobs=jobs, now=clock.now)
    artifacts = ArtifactStore(settings.artifacts)
    confined = Confined(PRELOAD, without=WITHOUT)
    workshop = Workshop(
        store=store,
        jobs=jobs,
        artifacts=artifacts,
        confined=confined,
        now=clock.now,
        allowed=settings.allowed_modules,
        memory_ceiling=settings.memory_ceiling,
        inline_bytes=settings.inline_bytes,
        concurrency=settings.concurrency,
    )
    batch_jobs = Jobs(database, batch.KIND, lease=timedelta(seconds=settings.lease_seconds))
    batch_store = batch.BatchStore(database)
    batches = batch.Batches(store=batch_store, jobs=batch_jobs, artifacts=artifacts)
    answering = batch.BatchWorker(
        store=batch_store,
        jobs=batch_jobs,
        artifacts=artifacts,
        confined=confined,
        now=clock.now,
        seconds=settings.batch_seconds,
        megabytes=settings.batch_megabytes,
    )
    reactions = [*trainer.reactions(), *batches.reactions()]
    schedules = Schedules(database, store, trainer, clock.now)
    bus = Bus(
        database,
        settings.kafka,
        "trainer",
        reactions,
        topic_prefix=settings.topic_prefix,
        replica=settings.replica,
    )
    app = http.build(
        "trainer",
        settings,
        [
            api.router(store, trainer),
            batch.router(store, batch_store, batches, artifacts),
            dead_letters.router(database, reactions),
        ],
        ready=bus.state,
    )

    async def finish() -> None:
        await confined.close()
        await database.close()

    await running.run(
        settings,
        app,
        [
            bus.run,
            workshop.run,
            answering.run,
            schedules.run,
            partial(idempotency.forgetting, database),
        ],
        prepare=lambda: database.prepare([MIGRATIONS]),
        finish=finish,
    )


def main() -> None:
    """Start the trainer."""
    running.start(Settings, serve)


if __name__ == "__main__":
    main()
