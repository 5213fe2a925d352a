"""Brakes end by themselves or by a person; courses are looked at when their moment has come."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from services.drift_monitor.brake import (
    FLEET,
    PAUSE,
    USUAL,
    Brake,
    Limits,
    lifted_by,
    release,
    scope_of,
)
from services.drift_monitor.handlers import failing
from services.drift_monitor.handlers.deciding import Deciding
from services.drift_monitor.store import PostgresStore
from shared import telemetry
from shared.access import EVERY_TEAM, Principal, Role, act
from shared.clock import Clock
from shared.errors import NotFound, NotPermitted
from shared.events import BrakeLifted, DatasetName, Event, Heard, Json, ModelName
from shared.ids import derived
from shared.postgres import Cause

MAY_RELEASE: Final = frozenset({Role.OPERATOR})
"""Who may say that models change for reasons of their own."""
_SOURCE: Final = scope_of(DatasetName(""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Brakes:
    """What the clock and people do about brakes."""

    store: PostgresStore
    deciding: Deciding
    now: Clock
    limits: Limits = USUAL

    async def look(self) -> int:
        """Lift the brakes that are over; how many are set. In a transaction of its own."""
        async with self.store.database.transaction(Cause.outside()) as transaction:
            await self.store.lock_fleet()
            set_now = await self.store.brakes()
            lifted: list[BrakeLifted] = []
            held = {FLEET: 0}
            for brake in set_now:
                crowd = await self.store.crowd(brake.scope, self.now())
                held[brake.scope] = crowd.confirmed
                said = release(brake, crowd, self.limits, self.now())
                if said is not None:
                    await self.store.lift_brake(said, self.now())
                    await transaction.say([said], base=_id_of(brake))
                    lifted.append(said)
                    held[brake.scope] = 0
            waiting = await self.store.held() if len(set_now) > len(lifted) else 0
        # All of them anew: a brake may have been lifted by a person, or by another monitor.
        told = [({"scope": scope}, models) for scope, models in held.items()]
        telemetry.gauges("tidewheel_brake_models", told)
        telemetry.gauge("tidewheel_models_held", waiting)
        for said in lifted:
            telemetry.log("brake_lifted", scope=said.scope, reason=said.reason, by=said.by)
        return len(set_now) - len(lifted)

    async def look_at_one(self) -> bool:
        """Look at one course whose moment has come; whether there was one.

        One that cannot be looked at is due again a little later, and nobody waits for it.

        Raises:
            Unavailable: the database is away.
        """
        model = await self.store.due_course(self.now())
        if model is None:
            return False
        try:
            await self._look_at(model)
        except Exception as error:  # noqa: BLE001 - the others do not wait, whatever it was
            failing.tell("looking_failed", model, error)
            # Fails where it is the database that is away; then the round is over.
            async with self.store.database.transaction():
                await self.store.lock([model])
                await self.store.due_again(model, self.now() + PAUSE)
        return True

    async def _look_at(self, model: ModelName) -> None:
        async with self.store.database.transaction(Cause.outside()) as transaction:
            await self.store.lock([model])
            kept = await self.store.course(model)
            # Somebody else may have looked at it while the lock was waited for.
            if kept.due_at is None or kept.due_at > self.now():
                return
            said = await self.deciding.look(model, kept)
            await transaction.say(said, base=derived(None, "look", model, kept.due_at))

    async def listed(self, who: Principal, limit: int) -> list[Json]:
        """The brakes that concern what this person may see."""
        found = await self.store.every_brake(limit)
        seen: list[Json] = []
        for brake in found:
            owners = await self.store.owners_in(brake["scope"])
            if any(who.may_see(owner) for owner in owners) or who.may_see(EVERY_TEAM):
                seen.append(brake)
        return seen

    async def lift(self, scope: str, who: Principal, reason: str) -> Heard[Event]:
        """A person lets the models of a brake be retrained, in the open transaction.

        Raises:
            NotFound: no such brake is set, or it holds only models of other teams.
            NotPermitted: the role is not held in every team whose models it holds.
        """
        await self.store.lock_fleet()
        brake = next((one for one in await self.store.brakes() if one.scope == scope), None)
        owners = await self.store.owners_in(scope)
        if brake is None:
            raise NotFound(f"No brake of {scope} is set.")
        self._check_may(who, scope, owners)
        said = lifted_by(brake, who.name, "released", reason)
        await self.store.lift_brake(said, self.now())
        async with self.store.database.transaction() as transaction:
            (heard,) = await transaction.say([said], base=_id_of(brake))
        telemetry.log("brake_lifted", scope=scope, reason="released", by=who.name)
        return heard

    def _check_may(self, who: Principal, scope: str, owners: Sequence[str]) -> None:
        if scope == FLEET and not who.may_in(EVERY_TEAM, MAY_RELEASE):
            raise NotPermitted(
                "Only an operator of all teams may release the brake of the fleet.",
                code="not_all_teams",
            )
        if not any(who.may_see(owner) for owner in owners):
            raise NotFound(f"No brake of {scope} is set.")
        for owner in owners:
            act(who, owner, MAY_RELEASE, f"No brake of {scope} is set.")


def _id_of(brake: Brake) -> UUID:
    """What its end is told under, whoever or whatever ends it: it ends once."""
    return derived(None, "brake", brake.scope, brake.set_at)


def is_scope(text: str) -> bool:
    """Whether this can be the scope of a brake."""
    return text == FLEET or (text.startswith(_SOURCE) and len(text) > len(_SOURCE))
