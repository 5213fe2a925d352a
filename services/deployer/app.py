"""The deployer as a process."""

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from services.deployer.api import approvals, deciding, freezes, reading
from services.deployer.domain import Limits
from services.deployer.handlers import Acting, Calendars, People, Requests, Rollouts, counting
from services.deployer.settings import Settings
from services.deployer.store import Governance, PostgresStore
from services.deployer.worker import Timers
from shared import clock, dead_letters, http, idempotency, running
from shared.access import Keys
from shared.artifacts import ArtifactStore
from shared.bus import Bus
from shared.events import Digest, Json
from shared.manifest import read_manifest
from shared.postgres import Database
from shared.requests import Askers
from shared.signing import Signers

MIGRATIONS: Final = Path(__file__).parent / "migrations"


def limits_of(settings: Settings) -> Limits:
    """What decisions need of the settings."""
    return Limits(
        alpha=settings.canary_alpha,
        delta=settings.canary_delta,
        event_limit=settings.canary_event_limit,
        error_limit=settings.young_error_limit,
    )


async def serve(settings: Settings) -> None:
    """Put the parts together and run until told to stop."""
    database = await Database.lazily(
        settings.database.get_secret_value(), "deployer", size=settings.pool_size
    )
    store = PostgresStore(database)
    artifacts = ArtifactStore(settings.artifacts)

    async def rule_of(manifest: Digest) -> Json:
        return read_manifest(await artifacts.aget(manifest)).baseline

    counting.begin()
    governance = Governance(database)
    acting = Acting(store=store, governance=governance, now=clock.now, limits=limits_of(settings))
    rollouts = Rollouts(acting=acting, rule_of=rule_of)
    people = People(acting=acting)
    calendars = Calendars(governance=governance, now=clock.now)
    keys_file = Path(settings.keys_file)
    signers = Signers(keys_file, max_age=timedelta(seconds=settings.request_age_seconds))
    askers = Askers(database=database, signers=signers, keys=Keys(keys_file))
    requests = Requests(people=people, askers=askers)
    reactions = [*rollouts.reactions(), *calendars.reactions(), *requests.reactions()]
    bus = Bus(
        database,
        settings.kafka,
        "deployer",
        reactions,
        topic_prefix=settings.topic_prefix,
        replica=settings.replica,
    )
    timers = Timers(database, store, rollouts, clock.now)
    app = http.build(
        "deployer",
        settings,
        [
            reading.router(store, clock.now),
            deciding.router(database, people),
            approvals.router(governance, clock.now),
            freezes.router(calendars, clock.now),
            dead_letters.router(database, reactions),
        ],
        ready=bus.state,
    )
    await running.run(
        settings,
        app,
        [bus.run, timers.run, partial(idempotency.forgetting, database)],
        prepare=lambda: database.prepare([MIGRATIONS]),
        finish=database.close,
    )


def main() -> None:
    """Start the deployer."""
    running.start(Settings, serve)


if __name__ == "__main__":
    main()
