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
ABOVE_ALL: Final = 2**31 - 1
"""No version has a higher number."""


async def admit(store: PostgresStore, model: str, principal: Principal) -> None:
    """Let somebody look at a model.

    Raises:
        NotFound: no version of it is watched, or it is another team's.
    """
    is_watched = bool(await store.newest_versions(model, 1))
    if not is_watched or not principal.may_see(await store.owner(model)):
        raise NotFound(f"No version of {model} is watched.")


async def named(store: PostgresStore, model: str, version: int) -> Watched:
    """A version by its number.

    Raises:
        NotFound: it is not watched.
    """
    found = (await store.versions([(model, version)])).get((model, version))
    if found is None:
        raise NotFound(f"Version {version} of this model is not watched.")
    return found


async def champion_of(store: PostgresStore, model: str) -> Watched | None:
    """The version that answers; None where none does, or nobody watches it yet."""
    number = (await store.standing(model)).champion
    if number is None:
        return None
    return (await store.versions([(model, number)])).get((model, number))


async def chosen(store: PostgresStore, model: str, version: int | None) -> Watched:
    """The version that was named, else the champion, else the newest.

    Raises:
        NotFound: the one that was named is not watched, or none is.
    """
    if version is not None:
        return await named(store, model, version)
    found = await champion_of(store, model)
    if found is None:
        newest = await store.newest_versions(model, 1)
        if not newest:
            raise NotFound(f"No version of {model} is watched.")
        found = newest[0]
    return found
