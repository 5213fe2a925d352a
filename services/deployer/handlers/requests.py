"""Requests on the bus: whoever may write to the topic may say anything, so each is checked here.

The signature must be a known key's over exactly these words; its holder must be allowed to speak
for the person named; and that person may no more than over HTTP. What is not done is said to be
refused and why; nothing else happens then.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from services.deployer.handlers.people import Looked, People
from shared import telemetry
from shared.access import Keys, Principal
from shared.errors import NotPermitted, Refused
from shared.events import ApprovalGiven, Event, Heard, ModelName, RequestRefused, RollbackRequested
from shared.names import model_name
from shared.reactions import Reaction, on
from shared.signing import Signers

Asked = ApprovalGiven | RollbackRequested

_LONGEST_TOLD: Final = 200
"""Characters of a stranger's words that are repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Does what signed requests ask for, or refuses it."""

    people: People
    signers: Signers
    keys: Keys

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
            await action(self._who(heard))
        except Refused as refusal:
            # Raised before anything was written, so the transaction holds nothing but this.
            return _refused(heard, kind, refusal)
        return ()

    def _who(self, heard: Heard[Asked]) -> Principal:
        """The person in whose name this is asked, with all that this person may do.

        Raises:
            BadSignature: nobody known signed this.
            NotPermitted: the signer may not speak for that person, or there is no such person.
        """
        signer, by = self.signers.verify(heard), heard.event.by
        if not signer.speaks_for(by):
            raise NotPermitted(
                f"{signer.principal} signed this and may not speak for {plain(by)}.",
                code="may_not_speak_for",
            )
        who = self.keys.named(by)
        if who is None:
            raise NotPermitted(f"Nobody is known as {plain(by)}.", code="nobody_known")
        return who


def _refused(heard: Heard[Asked], kind: str, refusal: Refused) -> list[Event]:
    telemetry.count("tidewheel_requests_refused_total", kind=kind, code=refusal.code)
    telemetry.log(
        "request_refused",
        level="warning",
        kind=kind,
        code=refusal.code,
        by=plain(heard.event.by),
        request=str(heard.id),
    )
    if not _is_name(heard.event.model):
        return []
    return [
        RequestRefused(
            model=heard.event.model,
            request=heard.id,
            kind=kind,
            by=plain(heard.event.by),
            code=refusal.code,
            detail=plain(refusal.detail, longest=2000),
        )
    ]


def _is_name(model: ModelName) -> bool:
    """Whether this can be a model at all; nothing is said about what cannot."""
    try:
        model_name(model)
    except ValueError:
        return False
    return True


def plain(text: str, *, longest: int = _LONGEST_TOLD) -> str:
    """A stranger's words, fit to be repeated."""
    return "".join(c if c.isprintable() else "?" for c in text[:longest])
