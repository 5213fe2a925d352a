"""Puts serving together: disk, spool, endpoints, doors, and what goes on beside them."""

import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from math import inf
from typing import Any, Final

from services.serving import api
from services.serving.api import protocols
from services.serving.api.connection import connections_of
from services.serving.api.lane import quick_door
from services.serving.crew import Crew, send_left_behind
from services.serving.domain.rates import PAGE_BYTES, Rates
from services.serving.handlers.admission import Admission
from services.serving.handlers.asking import Asker, Limits
from services.serving.handlers.bringing import Bringer
from services.serving.handlers.deployments import Deployments, Patience
from services.serving.handlers.explaining import Explanations
from services.serving.handlers.feedback import Feedback
from services.serving.handlers.lanes import MOST_ROWS, Lanes
from services.serving.handlers.predictions import Predictions
from services.serving.handlers.proving import Prover, ProvesApart, ProvesInside
from services.serving.handlers.sessions import Sessions
from services.serving.handlers.shadows import ShadowLimits, Shadows
from services.serving.handlers.voice import Voice
from services.serving.handlers.watchdog import Watchdog
from services.serving.settings import Settings
from services.serving.store.disk import Disk, DiskRefused
from services.serving.store.proofs import Proofs
from services.serving.store.spool import Spool
from services.serving.worker import Places, Sender, Upkeep
from shared import clock, http, running, telemetry
from shared.access import Rate
from shared.artifacts import ArtifactStore
from shared.broker import Publisher
from shared.bus import follow
from shared.topics import DEPLOYMENT

FIRST_SIGHT_SECONDS: Final = 5.0
"""A replica with an empty disk waits so long for its first desired states before it is ready."""
WARM_SECONDS: Final = 30.0
"""One with models is ready once what was asked last is open again, or else after so long: until
then other replicas answer by better rungs."""


class Serving:
    """The parts of one replica, wired; tests put it together in the same way."""

    def __init__(self, settings: Settings, rates: Rates | None = None) -> None:
        self.settings = settings
        self.disk = Disk(settings.data, settings.artifacts_folder)
        proofs = Proofs(self.disk.artifacts.with_name("proofs"))
        self.spool = Spool(
            settings.data / "spool.db",
            cap_bytes=settings.spool_bytes,
            now=clock.now,
            sync_seconds=settings.spool_sync_seconds,
            kept=timedelta(hours=settings.spool_hours),
        )
        self.sender = Sender(
            spool=self.spool,
            publisher=Publisher(settings.kafka, settings.topic_prefix),
            replica=settings.replica,
            now=clock.now,
            batch_rows=settings.batch_rows,
            batch_seconds=settings.batch_seconds,
        )
        self.voice = Voice(
            spool=self.spool,
            replica=settings.replica,
            url=settings.url or f"http://{settings.host}:{settings.port}",
            now=clock.now,
            wake=self.sender.wake,
        )
        self.deployments = Deployments(
            self.disk,
            proofs,
            Bringer(
                self.disk,
                _opened_late(settings.artifacts),
                proofs,
                _prover(settings, self.disk),
                fetch_seconds=settings.fetch_seconds,
            ),
            Sessions(
                most_bytes=settings.open_bytes,
                openers=settings.openers,
                seconds=settings.load_seconds,
                asking=self.disk.asking,
            ),
            self.voice,
            Patience(
                opening_seconds=settings.opening_seconds,
                retry_seconds=settings.retry_seconds,
                kept_hours=_kept_hours(settings),
                rest_seconds=settings.rest_seconds,
            ),
            now=clock.now,
            monotonic=time.monotonic,
        )
        self.watchdog = Watchdog(seconds=settings.answer_seconds, mark=self.disk.mark_hung)
        self.asker = Asker(
            Limits(
                answer_seconds=settings.answer_seconds,
                rest_seconds=settings.rest_seconds,
                inline_seconds=settings.inline_seconds,
                threads=settings.answer_threads,
            ),
            time.perf_counter,
            self.watchdog,
            self.deployments.opened,
        )
        self.shadows = Shadows(
            deployments=self.deployments,
            spool=self.spool,
            limits=ShadowLimits(seconds=settings.shadow_seconds, rows=settings.shadow_rows),
            now=clock.now,
            wake=self.sender.wake,
        )
        self.predictions = Predictions(
            deployments=self.deployments,
            spool=self.spool,
            voice=self.voice,
            asker=self.asker,
            shadows=self.shadows,
            now=clock.now,
            monotonic=time.perf_counter,
            wake=self.sender.wake,
        )
        self.lanes = Lanes(
            deployments=self.deployments,
            spool=self.spool,
            asker=self.asker,
            shadows=self.shadows,
            now=clock.now,
            monotonic=time.perf_counter,
            wake=self.sender.wake,
        )
        self.admission = _admission(settings, rates or Rates(bytearray(PAGE_BYTES)))
        self.explanations = Explanations(
            predictions=self.predictions,
            disk=self.disk,
            seconds=settings.answer_seconds,
            opening_seconds=settings.load_seconds,
            monotonic=time.monotonic,
        )
        self.upkeep = Upkeep(
            deployments=self.deployments,
            predictions=self.predictions,
            voice=self.voice,
            spool=self.spool,
            announce_seconds=settings.announce_seconds,
            sync_seconds=settings.spool_sync_seconds,
            forgive=self.disk.asking.forgive,
        )
        self.places = Places(deployments=self.deployments, disk=self.disk)
        self.caught_up = asyncio.Event()
        self.is_ready = False
        self._became_ready = asyncio.Event()

    def app(self) -> http.Application:
        """The public door."""
        feedback = Feedback(predictions=self.predictions, voice=self.voice, now=clock.now)
        routes = api.router(
            self.predictions,
            feedback,
            self.deployments,
            self.explanations,
            self.admission,
            rows_limit=self.settings.rows_limit,
            monotonic=time.perf_counter,
        )
        others = protocols.router(
            self.predictions,
            self.admission,
            rows_limit=self.settings.rows_limit,
            monotonic=time.perf_counter,
            ready=self.state,
            default_model=self.settings.default_model,
        )
        return http.build(
            "serving",
            self.settings,
            [routes, others],
            ready=self.state,
            open_to_clients=True,
            lane=quick_door(
                self.lanes,
                self.predictions,
                self.admission,
                body_limit=self.settings.body_limit_bytes,
                rows_limit=min(self.settings.rows_limit, MOST_ROWS),
                default_model=self.settings.default_model,
            ),
        )

    def parts(self) -> list[running.Part]:
        """What runs until the process stops."""
        return [
            self.watchdog.run,
            self.deployments.run,
            self.deployments.warm_up,
            self.shadows.run,
            self.sender.run,
            self.upkeep.measure,
            self.upkeep.announce,
            self.upkeep.sync,
            self.upkeep.tidy,
            self.places.keep,
            self.follow,
            self.become_ready,
            self.send_left_behind,
        ]

    async def follow(self) -> None:
        """Hear desired states from where this replica stopped."""
        await follow(
            self.settings.kafka,
            [DEPLOYMENT],
            prefix=self.settings.topic_prefix,
            handle=self.places.hear,
            positions=self.places.known(),
            caught_up=self.caught_up,
        )

    async def send_left_behind(self) -> None:
        """The first of a crew sends what workers that it no longer has left in their spools."""
        if self.settings.artifacts_folder is None:
            await send_left_behind(self.settings)

    async def become_ready(self) -> None:
        """Ready once the own disk answers; an empty one first gives the broker a moment.

        What was asked last before the stop is open again by then.
        """
        is_new = not self.deployments.endpoints
        awaited = self.caught_up if is_new else self.deployments.is_warm
        try:
            async with asyncio.timeout(FIRST_SIGHT_SECONDS if is_new else WARM_SECONDS):
                await awaited.wait()
        except TimeoutError:
            telemetry.log("nothing_to_serve_yet" if is_new else "still_opening", level="warning")
        # What start-up made stays for good. The collector would look through all of it again and
        # again: up to a third of the time of small requests, where it was measured.
        gc.collect()
        gc.freeze()
        self.is_ready = True
        self._became_ready.set()

    async def until_ready(self) -> None:
        """Return once it is ready."""
        await self._became_ready.wait()

    def state(self) -> Mapping[str, Any]:
        """For `/ready`: a dead broker is told and does not make the replica unready."""
        connected = self.sender.is_connected
        return {
            "ready": self.is_ready,
            "replica": self.settings.replica,
            "models": len(self.deployments.endpoints),
            "broker": "unknown" if connected is None else "answers" if connected else "silent",
            "caught_up": self.caught_up.is_set(),
            "spool_bytes": self.spool.size_bytes,
            "spool_rows": self.spool.rows,
        }

    async def finish(self) -> None:
        """Let the shadows end, say the last measures, send what can be sent, close the files."""
        await self.shadows.finish()
        self.upkeep.say_measures(all_of_them=True)
        await self.sender.finish()
        self.places.write()
        await self.deployments.finish()
        self.asker.close()
        self.explanations.close()
        self.spool.close()
        self.disk.close()


def _kept_hours(settings: Settings) -> float:
    """Artifacts that others share are theirs to sweep."""
    return settings.artifacts_kept_hours if settings.artifacts_folder is None else inf


def _prover(settings: Settings, disk: Disk) -> Prover:
    if settings.probe == "inside":
        return ProvesInside(disk.read, settings.load_seconds)
    return ProvesApart(
        disk.artifacts, seconds=settings.load_seconds, megabytes=settings.probe_megabytes
    )


def _admission(settings: Settings, rates: Rates) -> Admission:
    per_second = settings.requests_per_second
    burst = settings.requests_burst or max(1.0, 2 * per_second)
    return Admission(
        rate=Rate(per_second=per_second, burst=burst) if per_second else None,
        rates=rates,
        most_requests=settings.waiting_requests,
        most_bytes=settings.waiting_bytes,
        monotonic=time.monotonic,
    )


def _opened_late(url: str) -> Callable[[], ArtifactStore]:
    """The object store is opened with the first fetch: starting must not need it."""

    @cache
    def store() -> ArtifactStore:
        return ArtifactStore(url)

    return store


async def serve(settings: Settings, crew: Crew) -> None:
    try:
        serving = Serving(settings, Rates(crew.rates))
    except DiskRefused as error:
        telemetry.log("disk_refused", level="error", reason=str(error))
        raise SystemExit(78) from None
    app = serving.app()
    await running.run(
        settings,
        app,
        serving.parts(),
        prepare=serving.deployments.restore,
        finish=serving.finish,
        door=crew.door,
        ready=serving.until_ready,
        connection=connections_of(app.lane),
    )


class NotNeeded:
    """Hides what scikit-learn and skops import where they find it, for what no model here does.

    It would add more than a second to the first load, and 70 MB for good.
    """

    def find_spec(self, name: str, *_: object) -> None:
        """Raise for what is hidden; others may look for everything else."""
        if name in ("pandas", "pytest"):
            raise ModuleNotFoundError(f"{name} is not needed here")


def main() -> None:
    sys.meta_path.insert(0, NotNeeded())
    crew = Crew()
    running.start(Settings, lambda settings: serve(settings, crew), loop="auto", share=crew)
    sys.stderr.flush()
    # The interpreter would wait for its threads, and a version may hang in one of them.
    os._exit(0)


if __name__ == "__main__":
    main()
