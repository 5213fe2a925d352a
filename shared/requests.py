"""Requests on the bus: whoever may write to the topic may say anything, so each is checked.

The signature must be a known key's over exactly these words, its holder must be allowed to speak
for the person named, and the person must be known. Only then does a request's id count: a forged
one may have any id, and it keeps nobody else's request from being done.
"""

from dataclasses import dataclass
from typing import Final

from shared import telemetry
from shared.access import Keys, Principal
from shared.errors import NotPermitted
from shared.events import Event, Heard
from shared.ids import derived
from shared.once import is_first
from shared.postgres import Database
from shared.signing import Signer, Signers
from shared.topics import REQUESTS

_LONGEST_NAME: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Askers:
    """Who asks for something over the bus, as far as that is proved."""

    database: Database
    signers: Signers
    keys: Keys

    async def believe(self, heard: Heard[Event], by: str) -> Principal | None:
        """The person in whose name this is asked; None when the same was asked before.

        To be called once, within the transaction of what follows from the request.

        Raises:
            BadSignature: nobody known signed this.
            NotPermitted: the signer may not speak for that person, or there is no such person.
        """
        signer = signer_of(heard, by, self.signers)
        who = self.keys.named(by)
        if who is None:
            raise NotPermitted(f"Nobody is known as {readable(by)}.", code="nobody_known")
        # Per signer: who may sign for itself alone must not use up another's id either.
        once = derived(None, "request", signer.principal, heard.id)
        service = self.database.service
        if not await is_first(self.database, service, REQUESTS.name, once):
            telemetry.log("request_repeated", request=str(heard.id), by=readable(by))
            return None
        return who


def signer_of(heard: Heard[Event], by: str, signers: Signers) -> Signer:
    """Who signed a request in the name of a person.

    Raises:
        BadSignature: nobody known signed this.
        NotPermitted: the signer may not speak for that person.
    """
    signer = signers.verify(heard)
    if signer.speaks_for(by):
        return signer
    raise NotPermitted(
        f"{signer.principal} signed this and may not speak for {readable(by)}.",
        code="may_not_speak_for",
    )


def readable(text: str, *, longest: int = _LONGEST_NAME) -> str:
    """A stranger's words, fit to be repeated."""
    return "".join(c if c.isprintable() else "?" for c in text[:longest])
