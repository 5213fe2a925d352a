"""Which versions there are, who is champion: what the facts topics say."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from services.drift_monitor.domain import Policy, Watch
from services.drift_monitor.handlers import failing
from services.drift_monitor.handlers.courses import Courses
from services.drift_monitor.handlers.predictions import Predictions
from services.drift_monitor.layouts import Grid
from services.drift_monitor.memory import interned
from services.drift_monitor.store import Key, PostgresStore
from services.drift_monitor.windows import Plan, Watched
from shared import telemetry
from shared.events import (
    DeploymentRolledBack,
    Digest,
    Event,
    Heard,
    ModelDefined,
    ModelPromoted,
    ModelRegistered,
)
from shared.ids import derived
from shared.manifest import read_manifest
from shared.reactions import Reaction, on
from shared.reference import watched_metric
from shared.spec import read_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """Reactions to facts.

    Attributes:
        together: rows that came before their version was known and are counted at a time.
    """

    store: PostgresStore
    predictions: Predictions
    fetch: Callable[[Digest], Awaitable[bytes]]
    together: int = 5_000

    def reactions(self) -> list[Reaction]:
        return [
            on(ModelDefined, self.note_owner),
            on(ModelRegistered, self.watch),
            on(ModelPromoted, self.crown),
            on(DeploymentRolledBack, self.crown_again),
        ]

    async def note_owner(self, heard: Heard[ModelDefined]) -> Iterable[Event]:
        """Whose the model is from now on decides who may see how it does."""
        await self.store.lock([heard.event.model])
        await self.store.own(heard.event.model, str(heard.event.spec.get("owner", "")))
        return []

    async def watch(self, heard: Heard[ModelRegistered]) -> Iterable[Event]:
        """Watch a version from now on; rows that came before it was known are counted now."""
        told = heard.event
        manifest = read_manifest(await self.fetch(told.manifest))
        version = Watched(
            model=told.model,
            version=told.version,
            manifest=told.manifest,
            reference=manifest.reference,
            columns=tuple(column.name for column in manifest.columns),
            classes=manifest.classes,
            baseline=manifest.baseline,
            metric=watched_metric(manifest.metric, manifest.classes),
            policy=Policy.of(told.spec),
            watch=Watch(),
            registered_at=heard.time,
        )
        await self.store.lock([told.model])
        await self.store.own(told.model, str(told.spec.get("owner", "")))
        await self.store.add_version(version)
        telemetry.begin("tidewheel_label_delay_seconds", model=told.model)
        await self._plan(told, version)
        said = await self._note_if_champion(version)
        _, earlier = await self._count_earlier(version)
        said += earlier
        telling = self.predictions.telling
        return [*said, *await telling.tell_since_known(told.model, told.version)]

    async def _note_if_champion(self, version: Watched) -> list[Event]:
        """Promotions have a topic of their own and may be heard first."""
        if (await self.store.standing(version.model)).champion != version.version:
            return []
        return await self._courses.note_champion(version)

    @property
    def _courses(self) -> Courses:
        return Courses(deciding=self.predictions.judging.deciding)

    async def _plan(self, told: ModelRegistered, version: Watched) -> None:
        """Note how its rows are cut into windows, and what it has learned from."""
        layout = (await self.predictions.judging.profiles.of(version.reference)).layout
        monitor = read_spec(dict(told.spec)).monitor
        key = (str(told.model), told.version)
        plan = Plan(
            columns=interned(version.columns),
            width=len(layout.features),
            window=version.policy.window,
            close_after=monitor.close_after,
            season=monitor.season,
        )
        await self.store.plan_version(key, plan, Grid.of(layout))
        await self.store.note_data(key, told.dataset, told.dataset_version, monitor.freshness)

    async def _count_earlier(self, version: Watched) -> tuple[int, list[Event]]:
        """Count the rows that came before the version was known, so many at a time; how many."""
        counted, said = 0, list[Event]()
        place = (str(version.model), version.version, self.together)
        while rows := await self.store.claim_unclaimed(*place):
            placed = await self.predictions.placing.place(rows)
            await self.store.place_predictions(placed.windows)
            counted += len(placed.windows)
            said += await self.predictions.conclude(placed.closed)
            said += await self.predictions.labels.adopt(placed.rows, version)
            if not placed.windows:
                break  # they would be claimed again
        # Losses that nobody could weigh before may have to wait for their age.
        await self.store.wake(version.model)
        return counted, said

    async def count_waiting(self) -> int:
        """Count rows of versions whose profiles could not be read when they came; how many.

        Each version has a transaction of its own, and one that fails keeps no other waiting.

        Raises:
            Unavailable: the database is away.
        """
        counted = 0
        for key in await self.store.unplanned():
            with failing.left_out("counting_failed", key[0], version=key[1]):
                counted += await self._count_waiting(key)
        return counted

    async def _count_waiting(self, key: Key) -> int:
        version = (await self.store.versions([key]))[key]
        # Asked with nothing locked: an artifact store may take minutes to say no.
        if await self.predictions.judging.profiles.failure(version) is not None:
            return 0
        # One transaction: with a plan, newer rows would be counted before those that are left.
        async with self.store.database.transaction() as transaction:
            await self.store.lock([key[0]])
            if not await self.store.has_unclaimed(key):
                return 0  # somebody else has counted them meanwhile
            version = (await self.store.versions([key]))[key]
            await self.predictions.placing.plan_old(version)
            counted, said = await self._count_earlier(version)
            await transaction.say(said, base=derived(None, "counted", *key))
        return counted

    async def crown(self, heard: Heard[ModelPromoted]) -> Iterable[Event]:
        await self.store.lock([heard.event.model])
        await self.store.crown(heard.event.model, heard.event.version, heard.time)
        return await self._courses.note_promoted(heard.event)

    async def crown_again(self, heard: Heard[DeploymentRolledBack]) -> Iterable[Event]:
        await self.store.lock([heard.event.model])
        await self.store.crown(heard.event.model, heard.event.to_version, heard.time)
        return await self._courses.note_rollback(heard.event)
