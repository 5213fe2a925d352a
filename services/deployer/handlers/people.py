"""What people ask for, whichever door they came through.

Roles and teams are checked here and not at the doors, so that a request on the bus may no more than
the same request over HTTP; who may approve what is checked by the state machine itself.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from services.deployer.domain import Decided, Endpoint, Overridden, RollbackAsked
from services.deployer.handlers.acting import Acting, Outcome
from services.deployer.permission import Decision
from shared.access import Principal, Role, act
from shared.errors import Conflict, Fault, InvalidInput, NotFound
from shared.events import Digest, Event, Heard, ModelName, RolloutId
from shared.postgres import Cause

APPROVERS: Final = frozenset({Role.APPROVER})
OPERATORS: Final = frozenset({Role.OPERATOR})
LONGEST_WORDS: Final = 2000
"""Characters of a comment or a reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a person looked at before deciding, as far as was said."""

    manifest: Digest | None = None
    evaluation: UUID | None = None
    model: ModelName | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Approve, deny, take an approval back, open a closed window, roll back."""

    acting: Acting

    async def decide(
        self,
        rollout: RolloutId,
        who: Principal,
        decision: Decision,
        *,
        comment: str = "",
        looked: Looked | None = None,
        request: Heard[Event] | None = None,
    ) -> Outcome:
        """Say whether a rollout may go on.

        Args:
            request: the signed request, where it came over the bus.

        Raises:
            InvalidInput: the comment cannot be kept.
            NotFound: there is no such rollout, or it is another team's.
            NotPermitted: the role is not held, or it is the person's own work.
            Conflict: it waits for nobody, or for another decision than this.
        """
        check_words("comment", comment)
        looked = looked or Looked()
        endpoint = await self._endpoint_of(rollout, who, APPROVERS)
        _check_same(endpoint, looked, rollout)
        decided = Decided(
            rollout=rollout,
            decision=decision,
            by=who.name,
            comment=comment,
            manifest=looked.manifest,
            evaluation=looked.evaluation,
            request=request.id if request else None,
        )
        return await self.acting.act(endpoint, decided, _cause(endpoint, request))

    async def override(self, rollout: RolloutId, who: Principal, reason: str) -> Outcome:
        """Break-glass: let a rollout go on although it is not the time for changes.

        Raises:
            InvalidInput: no reason is given.
            NotFound: there is no such rollout, or it is another team's.
            NotPermitted: the role is not held.
            Conflict: it does not wait for a time.
        """
        check_words("reason", reason, needed=True)
        endpoint = await self._endpoint_of(rollout, who, OPERATORS)
        asked = Overridden(rollout=rollout, by=who.name, reason=reason)
        return await self.acting.act(endpoint, asked, _cause(endpoint, None))

    async def roll_back(
        self,
        model: ModelName,
        who: Principal,
        *,
        reason: str,
        to: int | None = None,
        request: Heard[Event] | None = None,
    ) -> Outcome:
        """Let the previous champion, or the named one, answer again.

        Raises:
            InvalidInput: no reason is given.
            NotFound: nothing is known of this model, or it is another team's.
            NotPermitted: the role is not held.
            Conflict: there is no such former champion.
        """
        check_words("reason", reason, needed=True)
        endpoint = await self.acting.lock(model)
        nothing = f"No version of {model} was ever rolled out."
        act(who, endpoint.owner if endpoint else None, OPERATORS, nothing)
        if endpoint is None:
            raise NotFound(nothing)
        asked = RollbackAsked(by=who.name, reason=reason, to=to)
        cause = Cause.of(request) if request else Cause.outside()
        return await self.acting.act(endpoint, asked, cause)

    async def is_known(self, model: ModelName) -> bool:
        """Whether anything was ever heard of a model."""
        owners = await self.acting.governance.owners_of([model])
        return model in owners or await self.acting.lock(model) is not None

    async def _endpoint_of(
        self, rollout: RolloutId, who: Principal, roles: frozenset[Role]
    ) -> Endpoint:
        """The locked endpoint of a rollout that this person may decide about."""
        nothing = f"There is no rollout {rollout}."
        model = await self.acting.store.model_of(rollout)
        if model is None:
            await self._explain_rejection(rollout, who, nothing)
            raise NotFound(nothing)
        endpoint = await self.acting.lock(model)
        act(who, endpoint.owner if endpoint else None, roles, nothing)
        if endpoint is None:
            raise NotFound(nothing)
        return endpoint

    async def _explain_rejection(self, rollout: RolloutId, who: Principal, nothing: str) -> None:
        verdict = await self.acting.governance.rejected(rollout)
        if verdict is not None:
            owners = await self.acting.governance.owners_of([verdict.model])
            act(who, owners.get(verdict.model), APPROVERS | OPERATORS, nothing)
            raise Conflict(
                f"Version {verdict.version} of {verdict.model} was rejected by the evaluator "
                f"({verdict.reason}); nobody can approve it.",
                code="rejected_by_evaluator",
            )


def _check_same(endpoint: Endpoint, looked: Looked, rollout: RolloutId) -> None:
    if looked.model is not None and looked.model != endpoint.model:
        raise NotFound(f"There is no rollout {rollout} of {looked.model}.")
    active = endpoint.rollout
    if looked.version is None or active is None or active.id != rollout:
        return
    if looked.version != active.version:
        raise Conflict(
            f"This rollout is about version {active.version}, not {looked.version}.",
            code="other_artifact",
        )


def _cause(endpoint: Endpoint, request: Heard[Event] | None) -> Cause:
    if request is not None:
        return Cause.of(request)
    return Cause.outside(endpoint.rollout.correlation if endpoint.rollout else None)


def check_words(name: str, text: str, *, needed: bool = False) -> None:
    """Check a comment or a reason.

    Raises:
        InvalidInput: it is missing where it is needed, too long, or cannot be kept.
    """
    detail = ""
    if needed and not text.strip():
        detail = "it is missing; say why"
    elif len(text) > LONGEST_WORDS:
        detail = f"it has more than {LONGEST_WORDS} characters"
    elif "\0" in text:
        detail = "the database keeps no zero characters"
    if detail:
        raise InvalidInput(f"The {name} cannot be taken.", [Fault(f"/{name}", detail)])
