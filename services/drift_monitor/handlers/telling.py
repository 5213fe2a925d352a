"""Tells the losses of versions that are compared, in the transaction that joins their labels."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.drift_monitor.comparison import Unseen, tell, versions_of
from services.drift_monitor.store import PostgresStore
from services.drift_monitor.windows import Kept
from shared.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """Looks up what belongs to labelled rows; the caller holds the lock of their models."""

    store: PostgresStore

    async def tell(self, rows: Sequence[Kept]) -> list[Event]:
        """Say the losses of these rows and of their shadows that were not told before."""
        labelled = [row for row in rows if row.label is not None]
        if not labelled:
            return []
        unseen = await self.store.unseen_of([row.id for row in labelled])
        concerned = [row for row in labelled if row.arms or row.id in unseen]
        if not concerned:
            return []
        every = [one for some in unseen.values() for one in some]
        versions = await self.store.versions(versions_of(concerned, every))
        told = tell(concerned, unseen, versions)
        await self.store.mark_told(told.predictions, told.unseen)
        return list(told.events)

    async def tell_late(self, unseen: Sequence[Unseen], known: Sequence[Kept]) -> list[Event]:
        """Shadows whose answers came now; of `known` the seen rows are at hand."""
        at_hand = {row.id for row in known}
        missing = [one.seen for one in unseen if one.seen not in at_hand]
        before = await self.store.predictions(missing) if missing else {}
        return await self.tell([*known, *before.values()])

    async def tell_since_known(self, model: str, version: int) -> list[Event]:
        """Everything that only waited for this version to be known."""
        return await self.tell(await self.store.untold(model, version))
