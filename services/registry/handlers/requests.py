"""What people ask of other services: checked as the other would, signed, and said on the bus."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from services.registry.store import Store
from shared.access import Principal, Role, act
from shared.events import (
    ApprovalGiven,
    BestRequested,
    Event,
    Heard,
    RollbackRequested,
)
from shared.postgres import Cause
from shared.signing import Seal

Request = ApprovalGiven | RollbackRequested | BestRequested

NEEDED: Final[dict[type[Event], frozenset[Role]]] = {
    ApprovalGiven: frozenset({Role.APPROVER}),
    RollbackRequested: frozenset({Role.OPERATOR}),
    BestRequested: frozenset({Role.DATA_SCIENTIST, Role.OPERATOR}),
}
"""The roles that the service which decides asks for too."""


@dataclass(frozen=True, slots=True)
class Requests:
    """Speaks for people whose credentials were seen here."""

    store: Store
    seal: Seal

    async def ask(self, request: Request, principal: Principal) -> Heard[Event]:
        """Say the request in the open transaction; whoever hears it decides.

        Raises:
            NotFound: there is no such model, or none that the principal may see.
            NotPermitted: it has not the role in the model's team.
            Conflict: there is no key to sign with.
        """
        definition = await self.store.models.definition(request.model)
        owner = str(definition.spec["owner"]) if definition else None
        act(principal, owner, NEEDED[type(request)], "There is no such model.")
        async with self.store.database.transaction(Cause.outside()) as transaction:
            (said,) = await transaction.say([request], sign=self.seal.sign)
            await self.store.log.remember([said])
        return said


def receipt(said: Heard[Event]) -> dict[str, str | UUID]:
    """Where the answer will stand: in the cascade of the request."""
    return {
        "event_id": said.id,
        "type": said.event.TYPE,
        "cascade": said.correlation,
        "cascade_url": f"/v1/cascades/{said.correlation}",
    }
