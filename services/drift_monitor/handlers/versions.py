"""Which versions there are, who is champion: what the facts topics say."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from services.drift_monitor.domain import Policy, Watch
from services.drift_monitor.handlers.courses import Courses
from services.drift_monitor.handlers.predictions import Predictions
from services.drift_monitor.quality import is_usable
from services.drift_monitor.store import PostgresStore
from services.drift_monitor.windows import Kept, Watched
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
from shared.manifest import read_manifest
from shared.reactions import Reaction, on
from shared.reference import watched_metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """Reactions to facts."""

    store: PostgresStore
    predictions: Predictions
    fetch: Callable[[Digest], Awaitable[bytes]]

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
        rows = await self.store.claim_unclaimed(told.model, told.version)
        rows = [_with_usable_label(row, version) for row in rows]
        said = await self._count(rows, version) if rows else []
        telling = self.predictions.telling
        return [*said, *await telling.tell_since_known(told.model, told.version, rows)]

    async def _count(self, rows: Sequence[Kept], version: Watched) -> list[Event]:
        versions = {(str(version.model), version.version): version}
        placed, touched = await self.predictions.place(rows, versions)
        await self.store.place_predictions(placed)
        return await self.predictions.conclude(touched, versions)

    async def crown(self, heard: Heard[ModelPromoted]) -> Iterable[Event]:
        await self.store.lock([heard.event.model])
        await self.store.crown(heard.event.model, heard.event.version)
        return await Courses(deciding=self.predictions.judging.deciding).note_promoted(heard.event)

    async def crown_again(self, heard: Heard[DeploymentRolledBack]) -> Iterable[Event]:
        await self.store.lock([heard.event.model])
        await self.store.crown(heard.event.model, heard.event.to_version)
        return []


def _with_usable_label(row: Kept, version: Watched) -> Kept:
    """A label came while nobody knew what labels the version can have."""
    if row.label is None or is_usable(row.label.value, version.classes):
        return row
    telemetry.count("tidewheel_labels_total", outcome="invalid")
    return replace(row, label=None)
