"""Somebody wants a whole dataset version answered: which version, which rows, do they fit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from services.trainer.batch.store import Asked, BatchStore
from shared.artifacts import ArtifactStore
from shared.errors import Conflict, Fault, InvalidInput, NotFound
from shared.events import Digest, Event, Heard, ModelRegistered
from shared.jobs import Jobs
from shared.manifest import Column, Manifest, read_manifest
from shared.postgres import Cause, Row
from shared.reactions import Reaction, on

KIND: Final = "batch"
_FITTING: Final[Mapping[str, tuple[str, ...]]] = {
    "number": ("integer", "number", "boolean"),
    "boolean": ("boolean", "integer", "number"),
    "text": ("text",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """Takes orders for batches, and remembers which artifact each version is."""

    store: BatchStore
    jobs: Jobs
    artifacts: ArtifactStore

    def reactions(self) -> list[Reaction]:
        """What has to be heard for that."""
        return [on(ModelRegistered, self.note_version)]

    async def note_version(self, heard: Heard[ModelRegistered]) -> Iterable[Event]:
        """A version can be asked for by its number from now on."""
        said = heard.event
        await self.store.note_version(said.model, said.version, said.manifest)
        return ()

    async def ask(
        self,
        model: str,
        version: int | None,
        dataset: str,
        dataset_version: int | None,
        by: str,
    ) -> UUID:
        """Queue a batch; the same one again is the same job, unless it has failed.

        Raises:
            NotFound, Conflict: there is no such version, or none at all yet.
            InvalidInput: the dataset lacks columns that the version needs.
        """
        number, manifest = await self._version(model, version)
        rows = await self.store.dataset(dataset, dataset_version)
        if rows is None:
            what = f"version {dataset_version} of {dataset}" if dataset_version else dataset
            raise NotFound(f"{what} was never published.")
        described = read_manifest(await self.artifacts.aget(manifest))
        check_columns(described, dict(rows["columns"]))
        asked = Asked(
            model=model,
            version=number,
            dataset=dataset,
            dataset_version=rows["version"],
            requested_by=by,
            rows=rows["rows"],
        )
        return await self._queue(asked, manifest, described, rows)

    async def _version(self, model: str, version: int | None) -> tuple[int, Digest]:
        number = version or await self.store.champion(model)
        if number is None:
            raise Conflict(f"{model} has no champion yet; name a version.")
        manifest = await self.store.manifest_of(model, number)
        if manifest is None:
            raise NotFound(f"Version {number} of {model} is not known here.")
        return number, manifest

    async def _queue(self, asked: Asked, manifest: Digest, described: Manifest, rows: Row) -> UUID:
        tries = await self.store.failures_of(asked)
        place = (asked.model, asked.version, asked.dataset, asked.dataset_version, tries)
        payload = {
            "model": asked.model,
            "version": asked.version,
            "manifest": manifest,
            "file": described.files["model.skops"].digest,
            "dataset": asked.dataset,
            "dataset_version": asked.dataset_version,
            "dataset_digest": rows["digest"],
            "format": rows["format"],
            "columns": rows["columns"],
            "requested_by": asked.requested_by,
        }
        async with self.store.database.transaction():
            key = "/".join(map(str, place))
            job, is_new = await self.jobs.add(key, asked.model, payload, Cause.outside())
            if is_new:
                await self.store.add(job, asked)
        return job


def check_columns(manifest: Manifest, kinds: Mapping[str, str]) -> None:
    """Whether a dataset has what a version needs.

    Raises:
        InvalidInput: a column is missing or of another kind, each named.
    """
    faults = [fault for column in manifest.columns if (fault := _fault(column, kinds))]
    if faults:
        raise InvalidInput("This dataset does not have what the version needs.", faults)


def _fault(column: Column, kinds: Mapping[str, str]) -> Fault | None:
    kind = kinds.get(column.name)
    if kind is None:
        return Fault("/dataset", f"it has no column {column.name!r}", "choose another dataset")
    if kind not in _FITTING[column.kind]:
        told = f"its column {column.name!r} is {kind}, the version needs {column.kind}"
        return Fault("/dataset", told, "choose another dataset")
    return None
