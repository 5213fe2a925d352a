"""The drift monitor as a process."""

import gc
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from services.drift_monitor import api, reports, streams
from services.drift_monitor.api import brakes as brake_routes
from services.drift_monitor.brake import Limits
from services.drift_monitor.handlers import (
    Ageing,
    Brakes,
    Courses,
    Judging,
    Labels,
    Predictions,
    Profiles,
    Settling,
    Telling,
    Versions,
)
from services.drift_monitor.handlers.retiring import Retiring
from services.drift_monitor.handlers.vitals import Vitals
from services.drift_monitor.settings import Settings
from services.drift_monitor.store import PostgresStore, Reading, Reporting
from services.drift_monitor.store.vitals import VitalsTable
from services.drift_monitor.worker import (
    Ager,
    Forgetter,
    Looker,
    Reporter,
    Retirer,
    Settler,
    Teller,
)
from shared import clock, dead_letters, http, idempotency, running
from shared.artifacts import ArtifactStore
from shared.bus import Bus
from shared.confined import Confined
from shared.events import GroundTruthObserved, PredictionsLogged
from shared.jobs import Jobs
from shared.postgres import Database
from shared.reactions import on

MIGRATIONS: Final = Path(__file__).parent / "migrations"
TEMPLATE_IDLE_SECONDS: Final = 60.0
NEW_OBJECTS: Final = 20_000
"""Made between two looks for garbage. A transaction of telemetry makes some ten thousand and drops
them all; Python's own seven hundred would have a tenth of its time spent on looking."""


def limits_of(settings: Settings) -> Limits:
    """What decisions to retrain need of the settings."""
    return Limits(
        budget=settings.retrainings_per_hour,
        fleet_share=settings.brake_fleet_share,
        source_share=settings.brake_source_share,
        least_confirmed=settings.brake_least_models,
        least_watched=settings.brake_least_watched,
        span=timedelta(seconds=settings.brake_span_seconds),
        settle=timedelta(seconds=settings.settle_seconds),
        unseen=timedelta(seconds=settings.unseen_seconds),
    )


async def serve(settings: Settings) -> None:
    """Put the parts together and run until told to stop."""
    gc.set_threshold(NEW_OBJECTS)
    database = await Database.lazily(
        settings.database.get_secret_value(), "drift_monitor", size=settings.pool_size
    )
    artifacts = ArtifactStore(settings.artifacts)
    store, reading, reporting = PostgresStore(database), Reading(database), Reporting(database)
    profiles = Profiles(artifacts.aget, settings.profiles_megabytes * 2**20)
    limits = limits_of(settings)
    judging = Judging(
        store=store, profiles=profiles, now=clock.now, alpha=settings.alpha, limits=limits
    )
    telling = Telling(store=store)
    predictions = Predictions(store=store, judging=judging, telling=telling)
    labels = Labels(store=store, judging=judging, telling=telling)
    versions = Versions(store=store, predictions=predictions, fetch=artifacts.aget)
    ageing = Ageing(predictions=predictions)
    courses = Courses(deciding=judging.deciding)
    brakes = Brakes(store=store, deciding=judging.deciding, now=clock.now, limits=limits)
    facts = [*versions.reactions(), *courses.reactions()]
    jobs = Jobs(database, "report")
    reporter = Reporter(
        jobs=jobs,
        store=store,
        reading=reading,
        reporting=reporting,
        profiles=profiles,
        artifacts=artifacts,
        confined=Confined(reports.LIBRARIES, idle_seconds=TEMPLATE_IDLE_SECONDS),
        seconds=settings.report_seconds,
        megabytes=settings.report_megabytes,
    )
    horizon = timedelta(days=settings.label_horizon_days)
    windows = timedelta(days=settings.window_horizon_days)
    forgetter = Forgetter(store=store, now=clock.now, horizon=horizon, windows=windows)
    telemetry = [
        on(PredictionsLogged, predictions.take_one),
        on(GroundTruthObserved, labels.take_one),
    ]
    bus = Bus(
        database,
        settings.kafka,
        "drift_monitor",
        facts,
        topic_prefix=settings.topic_prefix,
        replica=settings.replica,
        carried=telemetry,
    )
    carrier = streams.carry(
        database,
        settings.kafka,
        predictions,
        labels,
        topic_prefix=settings.topic_prefix,
        replica=settings.replica,
    )

    def ready() -> Mapping[str, Any]:
        state, carried = bus.state(), carrier.state()
        return {
            **state,
            "streams": carried,
            "ready": bool(state["connected"] and carried["running"]),
        }

    app = http.build(
        "drift_monitor",
        settings,
        [
            api.router(store, reading, reporting, jobs, judging.measuring, reporter.page),
            brake_routes.router(brakes),
            dead_letters.router(database, [*facts, *telemetry]),
        ],
        ready=ready,
    )
    await running.run(
        settings,
        app,
        [
            bus.run,
            carrier.run,
            reporter.run,
            reporter.look,
            forgetter.run,
            Looker(brakes=brakes, every=settings.look_seconds).run,
            Ager(ageing=ageing, versions=versions).run,
            Retirer(Retiring(ageing=ageing, horizon=horizon)).run,
            Settler(settling=Settling(store=store, judging=judging)).run,
            partial(idempotency.forgetting, database),
            Teller(vitals=Vitals(VitalsTable(database), clock.now)).run,
        ],
        prepare=lambda: database.prepare([MIGRATIONS]),
        finish=database.close,
    )


def main() -> None:
    """Start the drift monitor."""
    running.start(Settings, serve)


if __name__ == "__main__":
    main()
