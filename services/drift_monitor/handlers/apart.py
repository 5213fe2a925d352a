"""Several things in one transaction, of which one that fails undoes nothing of the others."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from shared.postgres import Database, passes

T = TypeVar("T")
U = TypeVar("U")
Do = Callable[[Sequence[T]], Awaitable[list[U]]]
Failed = Callable[[T, Exception], Awaitable[None]]


async def apart(
    database: Database, things: Sequence[T], do: Do[T, U], failed: Failed[T]
) -> list[U]:
    """Do them together; where that fails each by itself, so that only what fails is left out.

    Returns what came of those that were done.

    Args:
        do: is called again for fewer of them after it failed, with nothing done.
        failed: is told what cannot be done, in the same transaction.

    Raises:
        Exception: the database failed in a way that passes; the transaction is tried again.
    """
    if not things:
        return []
    async with database.transaction() as transaction:
        try:
            async with transaction.apart():
                return await do(things)
        except Exception as error:
            if passes(error):
                raise
            if len(things) == 1:
                await failed(things[0], error)
                return []
        said: list[U] = []
        for one in things:
            said += await apart(database, [one], do, failed)
        return said
