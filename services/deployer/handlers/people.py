"""What people ask for, whichever door they came through."""

from dataclasses import dataclass

from services.deployer.domain import Decided, RollbackAsked
from services.deployer.handlers.acting import Acting, Outcome
from shared.errors import NotFound, NotPermitted
from shared.events import ModelName, RolloutId
from shared.postgres import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Approve, deny, roll back."""

    acting: Acting

    async def decide(self, rollout: RolloutId, *, granted: bool, by: str, comment: str) -> Outcome:
        """Grant or deny an approval.

        Raises:
            NotFound: there is no such rollout.
            NotPermitted: who defined the model may not approve its versions.
            Conflict: it waits for no approval.
        """
        model = await self.acting.store.model_of(rollout)
        endpoint = await self.acting.store.lock(model) if model else None
        if endpoint is None:
            raise NotFound(f"There is no rollout {rollout}.")
        if granted and await self.acting.store.author_of(endpoint.model) == by:
            raise NotPermitted(
                "You defined this model, so somebody else has to approve its versions.",
                code="self_approval",
            )
        decided = Decided(rollout=rollout, granted=granted, by=by, comment=comment)
        correlation = endpoint.rollout.correlation if endpoint.rollout else None
        return await self.acting.act(endpoint, decided, Cause.outside(correlation))

    async def roll_back(
        self, model: ModelName, *, by: str, reason: str, to: int | None = None
    ) -> Outcome:
        """Let the previous champion, or the named one, answer again.

        Raises:
            NotFound: nothing is known of this model.
            Conflict: there is no such former champion.
        """
        endpoint = await self.acting.store.lock(model)
        if endpoint is None:
            raise NotFound(f"No version of {model} was ever rolled out.")
        asked = RollbackAsked(by=by, reason=reason, to=to)
        return await self.acting.act(endpoint, asked, Cause.outside())
