"""One step about one endpoint: decide, save, say.

Events are said here instead of returned, because one step may concern rollouts of several cascades
and each event belongs to the cascade of its own rollout.
"""

from dataclasses import dataclass

from services.deployer.domain import OVER, Change, Due, Endpoint, Happening, Limits
from services.deployer.rollout import step
from services.deployer.routing import due_at
from services.deployer.store import Store
from shared import telemetry
from shared.clock import Clock
from shared.events import Event, Heard
from shared.postgres import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an action of a person led to."""

    endpoint: Endpoint
    said: tuple[Heard[Event], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """Takes steps of the state machine in the open transaction."""

    store: Store
    now: Clock
    limits: Limits

    async def act(
        self, endpoint: Endpoint, happened: Happening, cause: Cause, *, said_as: str = ""
    ) -> Outcome:
        """Take one step about a locked endpoint.

        Args:
            said_as: tells what is said apart from what the same cause led to before.

        Raises:
            Conflict, NotPermitted: a person asked for what the state or the rules do not allow.
        """
        now = self.now()
        change = step(endpoint, happened, now, self.limits)
        if change.endpoint is endpoint and not change.ended and not isinstance(happened, Due):
            return Outcome(endpoint=endpoint, said=())
        await self.store.save(
            endpoint,
            change.endpoint,
            change.ended,
            due_at=due_at(change.endpoint, now, self.limits),
            now=now,
        )
        said = [(_cause_of(event, cause, endpoint, change), event) for event in change.events]
        spoken = await self.store.say(said, step=said_as)
        _tell(change)
        return Outcome(endpoint=change.endpoint, said=tuple(spoken))


def _cause_of(event: Event, cause: Cause, before: Endpoint, change: Change) -> Cause:
    """The cause of a step, in the cascade of the rollout that the event is about."""
    rollouts = [*change.ended, before.rollout, before.awaiting, change.endpoint.rollout]
    about = getattr(event, "rollout", None)
    found = next((r for r in rollouts if r is not None and r.id == about), None)
    if found is None:
        return cause
    return Cause(id=cause.id, correlation=found.correlation, traceparent=cause.traceparent)


def _tell(change: Change) -> None:
    for rollout in change.ended:
        if rollout.stage in OVER:
            telemetry.count("tidewheel_rollouts_total", outcome=str(rollout.stage))
            telemetry.log(
                "rollout_ended",
                model=change.endpoint.model,
                version=rollout.version,
                outcome=str(rollout.stage),
                detail=rollout.detail,
            )
