"""Puts the registry together; the only module with side effects."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from services.registry.api import (
    annotations,
    audit,
    datasets,
    events,
    freshness,
    models,
    production,
    provenance,
    requests,
    uploads,
)
from services.registry.handlers import Intake, Registry
from services.registry.handlers.annotations import Annotations
from services.registry.handlers.registry import ANY_AGE, OFFERS
from services.registry.handlers.requests import Requests
from services.registry.handlers.vitals import Vitals
from services.registry.lineage.code import Lock
from services.registry.profiling.examiner import Examiner
from services.registry.profiling.limits import Limits
from services.registry.settings import Settings
from services.registry.store import MIGRATIONS, Store
from services.registry.store.roots import Roots
from services.registry.store.uploads import Uploads
from services.registry.worker import OfferWorker
from shared import clock, dead_letters, http, idempotency, running, telemetry
from shared.artifacts import ArtifactStore
from shared.bus import Bus
from shared.errors import StoreUnavailable
from shared.jobs import Jobs
from shared.postgres import Database
from shared.signing import Seal, Signers

_TIDY_SECONDS: Final = 600.0
_VITALS_SECONDS: Final = 10.0


async def serve(settings: Settings) -> None:
    """Run the registry until it is told to stop."""
    database = await Database.lazily(
        settings.database.get_secret_value(), "registry", size=settings.pool_size
    )
    store = Store.over(database)
    jobs = Jobs(database, OFFERS)
    # The log keeps who said what whenever that is heard; whether it came in time, others decide.
    signers = Signers(Path(settings.keys_file), max_age=ANY_AGE)
    registry = Registry(store, jobs, Lock.read(settings.lock), signers)
    artifacts = ArtifactStore(settings.artifacts)
    files = Uploads(settings.uploads / settings.replica, settings.upload_limit_bytes)
    examiner = Examiner.of(_limits(settings), settings.profile_together)
    intake = Intake(registry, files, Roots(settings.roots), artifacts, examiner)
    bus = Bus(
        database,
        settings.kafka,
        "registry",
        registry.reactions(),
        topic_prefix=settings.topic_prefix,
        replica=settings.replica,
    )
    app = http.build(
        "registry",
        settings,
        [
            uploads.router(intake, database, seconds=settings.upload_seconds),
            annotations.router(
                Annotations(store=store, artifacts=artifacts, examiner=examiner, now=clock.now)
            ),
            datasets.router(store, artifacts),
            models.router(registry, store, artifacts),
            events.router(store.log, clock.now),
            audit.router(store, clock.now),
            production.router(store, clock.now),
            freshness.router(store, clock.now),
            provenance.router(store, artifacts, clock.now),
            requests.router(Requests(store, Seal(settings.signing_key))),
            dead_letters.router(database, registry.reactions()),
        ],
        ready=bus.state,
        unlimited=uploads.UNLIMITED,
    )
    worker = OfferWorker(intake, jobs, settings.offer_workers)

    async def prepare() -> None:
        await database.prepare([MIGRATIONS])
        await asyncio.to_thread(files.sweep)

    async def tidy() -> None:
        await idempotency.forget(database)
        await store.log.forget(await database.now())

    await running.run(
        settings,
        app,
        [
            bus.run,
            worker.run,
            lambda: _every(_TIDY_SECONDS, tidy),
            lambda: _every(settings.anchor_seconds, registry.anchor),
            lambda: _every(_VITALS_SECONDS, Vitals(store, clock.now).tell),
        ],
        prepare=prepare,
        finish=examiner.confined.close,
    )


async def _every(seconds: float, step: Callable[[], Awaitable[object]]) -> None:
    """Until cancelled; what the database keeps from being done is done the next time."""
    while True:
        try:
            await step()
        except StoreUnavailable as error:
            telemetry.log("not_tidied", level="warning", reason=str(error))
        await asyncio.sleep(seconds)


def _limits(settings: Settings) -> Limits:
    return Limits(
        columns=settings.most_columns,
        cells=settings.most_cells,
        seconds=settings.profile_seconds,
        megabytes=settings.profile_megabytes,
    )


def main() -> None:
    """Start the registry."""
    running.start(Settings, serve)


if __name__ == "__main__":
    main()
