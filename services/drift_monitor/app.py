"""The drift monitor as a process."""

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI

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
from services.drift_monitor.handlers.fetching import Fetching
from services.drift_monitor.handlers.retiring import Retiring
from services.drift_monitor.handlers.vitals import Vitals
from services.drift_monitor.settings import Settings
from services.drift_monitor.store import PostgresStore, Reading, Reporting
from services.drift_monitor.store.vitals import VitalsTable
from services.drift_monitor.worker import (
    Ager,
    Arrears,
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
from shared.reactions import Reaction, on

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """What all parts of the process share: its database, and who judges, counts and joins."""

    settings: Settings
    database: Database
    judging: Judging
    predictions: Predictions
    labels: Labels
    versions: Versions
    brakes: Brakes
    jobs: Jobs
    reporter: Reporter

    @classmethod
    def of(cls, settings: Settings, database: Database) -> "Monitor":
        """As these settings want it, on this database."""
        artifacts, store = ArtifactStore(settings.artifacts), PostgresStore(database)
        judging = Judging(
            store=store,
            profiles=Profiles(artifacts.aget, settings.profiles_megabytes * 2**20),
            now=clock.now,
            alpha=settings.alpha,
            limits=limits_of(settings),
        )
        telling = Telling(store=store)
        predictions = Predictions(store=store, judging=judging, telling=telling)
        jobs = Jobs(database, "report")
        return cls(
            settings=settings,
            database=database,
            judging=judging,
            predictions=predictions,
            labels=Labels(store=store, judging=judging, telling=telling),
            versions=Versions(
                store=store,
                predictions=predictions,
                fetch=partial(Fetching().get, load=artifacts.aget),
            ),
            brakes=Brakes(
                store=store,
                deciding=judging.deciding,
                now=clock.now,
                limits=judging.limits,
            ),
            jobs=jobs,
            reporter=Reporter(
                jobs=jobs,
                store=store,
                reading=Reading(database),
                reporting=Reporting(database),
                profiles=judging.profiles,
                artifacts=artifacts,
                confined=Confined(reports.LIBRARIES, idle_seconds=TEMPLATE_IDLE_SECONDS),
                seconds=settings.report_seconds,
                megabytes=settings.report_megabytes,
            ),
        )

    def facts(self) -> list[Reaction]:
        """To events that come one by one."""
        courses = Courses(deciding=self.judging.deciding)
        return [*self.versions.reactions(), *courses.reactions()]

    def telemetry(self) -> list[Reaction]:
        """To what streams carry, where it is tried again as a dead letter."""
        return [
            on(PredictionsLogged, self.predictions.take_one),
            on(GroundTruthObserved, self.labels.take_one),
        ]

    def rounds(self) -> list[running.Part]:
        """What is done again and again, by what is due."""
        settings, store = self.settings, self.judging.store
        ageing = Ageing(predictions=self.predictions)
        horizon = timedelta(days=settings.label_horizon_days)
        windows = timedelta(days=settings.window_horizon_days)
        return [
            self.reporter.run,
            self.reporter.look,
            Forgetter(store=store, now=store.database.now, horizon=horizon, windows=windows).run,
            Looker(brakes=self.brakes, every=settings.look_seconds).run,
            Ager(ageing=ageing, versions=self.versions).run,
            Arrears(self.predictions.verdicts).run,
            Retirer(Retiring(ageing=ageing, horizon=horizon)).run,
            Settler(settling=Settling(store=store, judging=self.judging)).run,
            partial(idempotency.forgetting, self.database),
            Teller(vitals=Vitals(VitalsTable(self.database), clock.now)).run,
        ]

    def door(self, ready: Callable[[], Mapping[str, Any]]) -> FastAPI:
        """What people and programs ask."""
        reporter = self.reporter
        routes = [
            api.router(
                self.judging.store,
                reporter.reading,
                reporter.reporting,
                self.jobs,
                self.judging.measuring,
                reporter.page,
            ),
            brake_routes.router(self.brakes),
            dead_letters.router(self.database, [*self.facts(), *self.telemetry()]),
        ]
        return http.build("drift_monitor", self.settings, routes, ready=ready)


async def serve(settings: Settings) -> None:
    """Put the parts together and run until told to stop."""
    gc.set_threshold(NEW_OBJECTS)
    database = await Database.lazily(
        settings.database.get_secret_value(), "drift_monitor", size=settings.pool_size
    )
    monitor = Monitor.of(settings, database)
    bus = Bus(
        database,
        settings.kafka,
        "drift_monitor",
        monitor.facts(),
        topic_prefix=settings.topic_prefix,
        replica=settings.replica,
        carried=monitor.telemetry(),
    )
    carrier = streams.carry(
        database,
        settings.kafka,
        monitor.predictions,
        monitor.labels,
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

    await running.run(
        settings,
        monitor.door(ready),
        [bus.run, carrier.run, *monitor.rounds()],
        prepare=lambda: database.prepare([MIGRATIONS]),
        finish=database.close,
    )


def main() -> None:
    """Start the drift monitor."""
    running.start(Settings, serve)


if __name__ == "__main__":
    main()
