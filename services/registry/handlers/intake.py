"""From bytes to a version: what happens before the transaction, wherever the bytes come from.

Order matters when the process dies between two lines: the file is only in a temporary folder until
it has been looked at; its bytes and its profile are kept before the transaction that names them;
and the transaction holds number, event and outbox row. Whoever tries again meets either nothing or
the first receipt.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from services.registry.domain.datasets import File
from services.registry.handlers.registry import Receipt, Refusal, Registry
from services.registry.profiling.examiner import Examiner
from services.registry.profiling.profile import Profile
from services.registry.store.roots import BadReference, Roots
from services.registry.store.uploads import Arrived, Uploads
from shared.artifacts import ArtifactStore, digest_of
from shared.errors import TooLarge
from shared.events import DatasetName, Digest, Reason
from shared.postgres import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was found out about bytes: a file that may become a version, or why it cannot."""

    dataset: DatasetName
    digest: Digest | None
    offered_by: str
    offer: UUID | None
    found: File | Receipt | tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes files in."""

    registry: Registry
    uploads: Uploads
    roots: Roots
    artifacts: ArtifactStore
    examiner: Examiner

    @asynccontextmanager
    async def fetched(self, uri: str, digest: Digest | None) -> AsyncIterator[Arrived | Reason]:
        """The file behind a reference, copied here; or why there is none."""
        try:
            async with self.uploads.receive(self.roots.read(uri)) as arrived:
                if digest is not None and digest != arrived.digest:
                    detail = f"the bytes have the digest {arrived.digest}, not the one offered"
                    yield Reason(pointer="/digest", detail=detail, hint="offer it again")
                else:
                    yield arrived
        except BadReference as error:
            yield error.reason
        except TooLarge as error:
            yield Reason(pointer="/uri", detail=error.detail)

    async def look(
        self,
        dataset: DatasetName,
        arrived: Arrived | Reason,
        *,
        offered_by: str,
        offer: UUID | None = None,
    ) -> Look:
        """Find out what the bytes are, and keep them if they may become a version."""
        if isinstance(arrived, Reason):
            return _look(dataset, None, offered_by, offer, (arrived,))
        known = await self.registry.known(dataset, arrived.digest)
        if known is not None:
            return _look(dataset, arrived.digest, offered_by, offer, known)
        profile = await self.examiner.examine(arrived.path)
        if not isinstance(profile, Profile):
            return _look(dataset, arrived.digest, offered_by, offer, tuple(profile))
        file = _file(dataset, arrived, profile, offered_by, offer)
        objections = await self.registry.objections(file)
        if objections:
            return _look(dataset, arrived.digest, offered_by, offer, objections)
        await self._keep(arrived, profile)
        return _look(dataset, arrived.digest, offered_by, offer, file)

    async def _keep(self, arrived: Arrived, profile: Profile) -> None:
        await asyncio.gather(
            self.artifacts.aput_file(arrived.path, arrived.digest),
            self.artifacts.aput(profile.to_bytes()),
        )

    async def settle(self, look: Look, cause: Cause, *, owner: str = "") -> Receipt | Refusal:
        """The receipt or the refusal, in the open transaction; `owner` of a dataset that is new."""
        match look.found:
            case Receipt():
                return look.found
            case File():
                return await self.registry.accept(look.found, cause, owner=owner)
            case _:
                return await self.registry.refuse(
                    look.dataset,
                    look.found,
                    cause,
                    digest=look.digest,
                    offered_by=look.offered_by,
                    offer=look.offer,
                )


def _look(
    dataset: DatasetName,
    digest: Digest | None,
    offered_by: str,
    offer: UUID | None,
    found: File | Receipt | Sequence[Reason],
) -> Look:
    kept = found if isinstance(found, File | Receipt) else tuple(found)
    return Look(dataset=dataset, digest=digest, offered_by=offered_by, offer=offer, found=kept)


def _file(
    dataset: DatasetName,
    arrived: Arrived,
    profile: Profile,
    offered_by: str,
    offer: UUID | None,
) -> File:
    return File(
        dataset=dataset,
        digest=arrived.digest,
        size_bytes=arrived.size_bytes,
        profile=profile,
        profile_digest=digest_of(profile.to_bytes()),
        offered_by=offered_by,
        offer=offer,
    )
