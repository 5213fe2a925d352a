"""What the doors of the monitor have alike: who may look, and whose a model is."""

from typing import Annotated, Final

from fastapi import Depends

from services.drift_monitor.store import PostgresStore
from services.drift_monitor.windows import Watched
from shared.access import Principal, Role
from shared.errors import NotFound
from shared.http import allow

Looking = Annotated[
    Principal,
    Depends(allow(Role.VIEWER, Role.DATA_SCIENTIST, Role.APPROVER, Role.OPERATOR, Role.AUDITOR)),
]
SHOWN_VERSIONS: Final = 20


async def versions_of(store: PostgresStore, model: str, principal: Principal) -> list[Watched]:
    """The watched versions of a model, newest first.

    Raises:
        NotFound: none is watched, or it is another team's.
    """
    found = await store.newest_versions(model, SHOWN_VERSIONS)
    if not found or not principal.may_see(await store.owner(model)):
        raise NotFound(f"No version of {model} is watched.")
    return found
