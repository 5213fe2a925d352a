"""Requests on the bus: what is proved to be somebody's is done as if it were asked over HTTP.

That person may no more than there. What is not done is said to be refused and why; nothing else
happens then.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from services.deployer.handlers.people import Looked, People
from shared import telemetry
from shared.access import Principal
from shared.errors import Refused
from shared.events import ApprovalGiven, Event, Heard, RequestRefused, RollbackRequested
from shared.names import is_model_name
from shared.reactions import Reaction, on
from shared.requests import Askers, readable

Asked = ApprovalGiven | RollbackRequested


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Does what signed requests ask for, or refuses it."""

    people: People
    askers: Askers

    def reactions(self) -> list[Reaction]:
        """All that it does about what it hears."""
        return [on(ApprovalGiven, self.decide), on(RollbackRequested, self.roll_back)]

    async def decide(self, heard: Heard[ApprovalGiven]) -> Iterable[Event]:
        """Somebody approves or denies."""
        asked = heard.event
        looked = Looked(
            manifest=asked.manifest,
            evaluation=asked.evaluation,
            model=asked.model,
            version=asked.version,
        )

        async def action(who: Principal) -> object:
            return await self.people.decide(
                asked.rollout,
                who,
                "grant" if asked.granted else "deny",
                comment=asked.comment,
                looked=looked,
                request=heard,
            )

        return await self._answer(heard, "approval" if asked.granted else "denial", action)

    async def roll_back(self, heard: Heard[RollbackRequested]) -> Iterable[Event]:
        """Somebody wants a former champion back."""
        asked = heard.event

        async def action(who: Principal) -> object:
            return await self.people.roll_back(
                asked.model, who, reason=asked.reason, to=asked.to, request=heard
            )

        return await self._answer(heard, "rollback", action)

    async def _answer(
        self, heard: Heard[Asked], kind: str, action: Callable[[Principal], Awaitable[object]]
    ) -> Iterable[Event]:
        try:
            who = await self.askers.believe(heard, heard.event.by)
            if who is not None:
                await action(who)
        except Refused as refusal:
            # Raised before anything but the request's id was written.
            return await self._refused(heard, kind, refusal)
        return ()

    async def _refused(self, heard: Heard[Asked], kind: str, refusal: Refused) -> Iterable[Event]:
        """Said of models that there are; anybody may have made up the others."""
        telemetry.count("tidewheel_requests_refused_total", kind=kind, code=refusal.code)
        telemetry.log(
            "request_refused",
            level="warning",
            kind=kind,
            code=refusal.code,
            by=readable(heard.event.by),
            request=str(heard.id),
        )
        model = heard.event.model
        if not is_model_name(model) or not await self.people.is_known(model):
            return ()
        refused = RequestRefused(
            model=model,
            request=heard.id,
            kind=kind,
            by=readable(heard.event.by),
            code=refusal.code,
            detail=readable(refusal.detail, longest=2000),
        )
        return (refused,)
