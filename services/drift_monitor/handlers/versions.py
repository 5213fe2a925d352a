"""Which versions there are, who is champion: what the facts topics say."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.drift_monitor.domain import Policy, Watch
from services.drift_monitor.handlers import failing
from services.drift_monitor.handlers.courses import Courses
from services.drift_monitor.handlers.predictions import Predictions
from services.drift_monitor.layouts import Grid
from services.drift_monitor.memory import interned
from services.drift_monitor.store import Key, PostgresStore
from services.drift_monitor.windows import Kept, Plan, Watched
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
        said += await self._count_first(version)
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

    async def _count_first(self, version: Watched) -> list[Event]:
        """Count rows that came before the version was known; if there are many the rest is later.

        Meanwhile newer ones wait behind them.
        """
        key = (str(version.model), version.version)
        rows = await self.store.claim_unclaimed(*key, self.together)
        _, said = await self._count(version, rows, await self.store.plans([key]))
        if len(rows) == self.together:
            await self.store.mark_behind([key])
        return said

    async def _count(
        self, version: Watched, rows: Sequence[Kept], plans: Mapping[Key, Plan]
    ) -> tuple[int, list[Event]]:
        """Count rows that have waited; how many have a window by now."""
        placed = await self.predictions.placing.place(rows, plans)
        await self.store.place_predictions(placed.windows)
        said = await self.predictions.conclude(placed.closed)
        said += await self.predictions.labels.adopt(placed.rows, version)
        # Losses that nobody could weigh before may have to wait for their age.
        await self.store.wake(version.model)
        return len(placed.windows), said

    async def count_waiting(self) -> int:
        """Count what waits for versions that could not be read, or had too much; how many rows.

        Each page has a transaction of its own, and a version that fails keeps no other waiting.

        Raises:
            Unavailable: the database is away.
        """
        counted = 0
        for key in await self.store.behind():
            with failing.left_out("counting_failed", key[0], version=key[1]):
                counted += await self._catch_up(key)
        return counted

    async def _catch_up(self, key: Key) -> int:
        counted = 0
        if await self._can_be_planned(key):
            while (page := await self._count_page(key)) is not None:
                counted += page
        return counted

    async def _can_be_planned(self, key: Key) -> bool:
        """Asked with nothing locked: an artifact store may take minutes to say no."""
        version = (await self.store.versions([key])).get(key)
        if version is None:
            return False
        if not await self.store.without_cells([key]):
            return True
        return await self.predictions.judging.profiles.failure(version) is None

    async def _count_page(self, key: Key) -> int | None:
        """Rows first, in their order, then labels; None when nothing more can be done.

        Killed in between, the next round goes on with what still waits.
        """
        async with self.store.database.transaction() as transaction:
            await self.store.lock([key[0]])
            version = (await self.store.versions([key])).get(key)
            plans = await self._plans(key, version)
            if version is None or not plans:
                return None
            rows = await self.store.claim_unclaimed(*key, self.together)
            if rows:
                counted, said = await self._count(version, rows, plans)
                await transaction.say(said, base=derived(None, "counted", *key, rows[0].id))
                return counted or None  # else they would be claimed again
            waiting = await self.store.joinable(key, self.together)
            if waiting:
                said = await self.predictions.labels.join_waiting([key[0]], waiting)
            else:
                await self.store.caught_up(key)
                said = await self.predictions.telling.tell_since_known(*key)
            # The same version may be behind once more.
            now = self.predictions.judging.now()
            await transaction.say(said, base=derived(None, "caught up", *key, now.isoformat()))
        return 0 if waiting else None

    async def _plans(self, key: Key, version: Watched | None) -> dict[Key, Plan]:
        """How a version is cut into windows while rows wait for it, which it is marked for."""
        if version is not None and await self.store.without_cells([key]):
            await self.predictions.placing.plan_old(version)
            # With a plan, newer rows would be counted before those that are left.
            await self.store.mark_behind([key])
        return await self.store.plans([key], behind=True)

    async def crown(self, heard: Heard[ModelPromoted]) -> Iterable[Event]:
        await self.store.lock([heard.event.model])
        await self.store.crown(heard.event.model, heard.event.version, heard.time)
        return await self._courses.note_promoted(heard.event)

    async def crown_again(self, heard: Heard[DeploymentRolledBack]) -> Iterable[Event]:
        await self.store.lock([heard.event.model])
        await self.store.crown(heard.event.model, heard.event.to_version, heard.time)
        return await self._courses.note_rollback(heard.event)
