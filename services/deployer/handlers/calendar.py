"""What decides when changes are allowed: freezes that operators declare, and what datasets do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from services.deployer.handlers.people import OPERATORS, check_words
from services.deployer.store import Governance, KeptFreeze
from shared.access import EVERY_TEAM, Principal, act
from shared.calendar_rules import LONGEST_FREEZE
from shared.clock import Clock
from shared.errors import Conflict, Fault, InvalidInput, NotFound, NotPermitted
from shared.events import (
    DatasetPublished,
    Event,
    FreezeDeclared,
    FreezeLifted,
    Heard,
    ModelDefined,
)
from shared.ids import uuid7
from shared.reactions import Reaction, on

MOST_MODELS: Final = 1000
"""Models in one freeze; whoever freezes more freezes all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendars:
    """Freezes, publications and definitions."""

    governance: Governance
    now: Clock

    def reactions(self) -> list[Reaction]:
        """All that it does about what it hears."""
        return [on(DatasetPublished, self.note_published), on(ModelDefined, self.note_definition)]

    async def note_published(self, heard: Heard[DatasetPublished]) -> Iterable[Event]:
        """A dataset has a new version: a rollout may have waited for it."""
        await self.governance.hold_alone()
        await self.governance.publish(heard, self.now())
        return ()

    async def note_definition(self, heard: Heard[ModelDefined]) -> Iterable[Event]:
        """Somebody defined a model, and may therefore not approve its versions."""
        await self.governance.note_definition(heard.event)
        return ()

    async def declare(
        self,
        who: Principal,
        *,
        models: Sequence[str],
        starts_at: datetime | None,
        ends_at: datetime,
        reason: str,
    ) -> Heard[Event]:
        """Allow no changes for a time.

        Args:
            models: none means all, which only an operator of all teams may freeze.
            starts_at: None means now.

        Raises:
            InvalidInput: there is no such time, or no reason.
            NotFound: there is no such model, or it is another team's.
            NotPermitted: the role is not held.
        """
        check_words("reason", reason, needed=True)
        now = self.now()
        begins = starts_at or now
        _check_times(begins, ends_at, now)
        await self._check_may(who, models)
        said = FreezeDeclared(
            freeze=str(uuid7()),
            models=tuple(dict.fromkeys(models)),
            starts_at=begins,
            ends_at=ends_at,
            by=who.name,
            reason=reason,
        )
        await self.governance.hold_alone()
        await self.governance.declare(said, now)
        return await self.governance.say(said)

    async def lift(self, freeze: str, who: Principal, reason: str) -> Heard[Event]:
        """End a freeze before its time.

        Raises:
            InvalidInput: no reason is given.
            NotFound: there is no such freeze, or it is about other teams' models.
            NotPermitted: the role is not held.
            Conflict: it is over.
        """
        check_words("reason", reason, needed=True)
        now = self.now()
        await self.governance.hold_alone()
        kept = await self.governance.freeze(freeze)
        if kept is None or not await self.seen_by(who, [kept]):
            raise NotFound(f"There is no freeze {freeze}.")
        await self._check_may(who, kept.models)
        if kept.lifted_at is not None or kept.ends_at <= now:
            raise Conflict("This freeze is over.", code="freeze_over")
        said = FreezeLifted(freeze=freeze, by=who.name, reason=reason)
        await self.governance.lift(said, now)
        return await self.governance.say(said)

    async def seen_by(self, who: Principal, freezes: Sequence[KeptFreeze]) -> list[KeptFreeze]:
        """The freezes that concern what this person may see, naming nothing else."""
        models = {model for freeze in freezes for model in freeze.models}
        owners = await self.governance.owners_of(sorted(models))
        seen = {model for model in models if who.may_see(owners.get(model, ""))}
        return [
            replace(freeze, models=tuple(model for model in freeze.models if model in seen))
            for freeze in freezes
            if not freeze.models or not seen.isdisjoint(freeze.models)
        ]

    async def _check_may(self, who: Principal, models: Sequence[str]) -> None:
        if not models and not who.may_in(EVERY_TEAM, OPERATORS):
            raise NotPermitted(
                "Only an operator of all teams may freeze all models; name yours.",
                code="not_all_teams",
            )
        owners = await self.governance.owners_of(list(models))
        for model in models:
            act(who, owners.get(model), OPERATORS, f"There is no model {model}.")


def _check_times(begins: datetime, ends_at: datetime, now: datetime) -> None:
    faults = []
    if ends_at <= begins:
        faults.append(Fault("/ends_at", "it lies before the start"))
    elif ends_at <= now:
        faults.append(Fault("/ends_at", "it is over already"))
    elif ends_at - begins > LONGEST_FREEZE:
        faults.append(Fault("/ends_at", f"a freeze has at most {LONGEST_FREEZE.days} days"))
    if faults:
        raise InvalidInput("There is no such time.", faults)
