"""The registry's reactions, and the commands that HTTP and Kafka share."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, TypeVar, cast, get_args
from uuid import UUID

from services.registry.domain.datasets import File, decide_version, refusals, refuse
from services.registry.domain.definitions import faults_of
from services.registry.domain.numbering import authors_of, decide_number
from services.registry.domain.teams import AUTHORS, NAME_TAKEN, team_of
from services.registry.lineage.code import Lock, code_digest, modules_of
from services.registry.store import Store
from services.registry.store.datasets import DatasetVersion
from services.registry.store.models import Definition
from shared import telemetry
from shared.access import Principal
from shared.errors import Conflict, Fault, InvalidInput, NotPermitted, Unprocessable, wrong_things
from shared.events import (
    ApprovalGiven,
    AuditAnchored,
    BestRequested,
    DatasetName,
    DatasetOffered,
    DatasetRefused,
    Digest,
    Event,
    EventParked,
    Heard,
    ModelDefined,
    ModelName,
    ModelRegistered,
    Reason,
    RollbackRequested,
    TrainingCompleted,
)
from shared.ids import derived
from shared.jobs import Jobs
from shared.names import dataset_name
from shared.postgres import Cause
from shared.reactions import Reaction, on
from shared.requests import signer_of
from shared.signing import BadSignature, Signers
from shared.spec import ModelSpec
from shared.topics import (
    DATASETS,
    DEPLOYMENT,
    EVALUATION,
    MODELS,
    MONITORING,
    SERVING,
    TRAINING,
)

E = TypeVar("E", bound=Event)
Requested = ApprovalGiven | BestRequested | RollbackRequested
OFFERS: Final = "offer"
LOG: Final = "registry"
"""The name under which the log of events is anchored."""
_FOLDED_TOGETHER: Final = 100
ANY_AGE: Final = timedelta(days=36_500)
"""The log keeps who asked for what, whenever that is heard; whether in time, others decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A version that is there; `created` is false when its bytes were there before."""

    event_id: UUID
    dataset: str
    version: int
    digest: Digest
    rows: int
    cascade: UUID
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """No version, for these reasons, told by this event."""

    event_id: UUID
    dataset: str
    reasons: tuple[Reason, ...]
    cascade: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Defined:
    """A definition that holds; `changed` is false when it held before."""

    model: str
    spec_digest: Digest
    code_digest: Digest
    event_id: UUID
    cascade: UUID
    changed: bool


@dataclass(frozen=True, slots=True)
class Registry:
    """Gives versions their numbers and keeps the log."""

    store: Store
    offers: Jobs
    lock: Lock
    signers: Signers

    def reactions(self) -> list[Reaction]:
        """Everything it hears and what it does about it."""
        return [
            on(DatasetOffered, self.consider_offer),
            on(TrainingCompleted, self.number_candidate),
            on(AuditAnchored, self.note_anchor),
            *(on(kind, self.remember, together=_FOLDED_TOGETHER) for kind in _FOLDED),
            *(on(k, self.remember_request, together=_FOLDED_TOGETHER) for k in get_args(Requested)),
        ]

    async def remember(self, heard: Heard[Event]) -> Iterable[Event]:
        """Keep the fact in the log that people read."""
        await self.store.log.remember([heard])
        return ()

    async def remember_request(self, heard: Heard[Requested]) -> Iterable[Event]:
        """Keep what somebody asked for over the bus, if the signature says who.

        A forged request is nobody's word: it may neither stand in the log nor, with an id that it
        chose, keep another fact out of it.
        """
        try:
            signer = signer_of(heard, heard.event.by, self.signers)
        except (BadSignature, NotPermitted) as error:
            telemetry.log(
                "request_not_remembered", level="warning", request=str(heard.id), code=error.code
            )
            return ()
        # Who may speak for others is one of the services, and its ids are facts' ids: what this
        # registry itself said stands in the log since then.
        return await self.remember(
            replace(heard, key=None) if signer.may_speak_for_others else heard
        )

    async def note_anchor(self, heard: Heard[AuditAnchored]) -> Iterable[Event]:
        """Keep the anchor as it came back from its topic; verifications compare with it."""
        await self.store.audit.note(heard)
        return ()

    async def anchor(self) -> AuditAnchored | None:
        """Tell the head of the chain where others remember it; None when it has not moved."""
        async with self.store.database.transaction() as transaction:
            head = await self.store.audit.head()
            if head is None or not await self.store.audit.tell(head):
                return None
            said = AuditAnchored(log=LOG, position=head.position, chain=Digest(head.chain))
            await transaction.say([said], base=derived(None, LOG, head.position, head.chain))
        return said

    async def consider_offer(self, heard: Heard[DatasetOffered]) -> Iterable[Event]:
        """Queue a look at the file: reading it takes longer than a reaction may."""
        offer = heard.event
        try:
            dataset_name(offer.dataset)
        except ValueError as error:
            raise Unprocessable(f"{offer.dataset[:64]!r} names no dataset: {error}") from error
        payload = {
            "dataset": offer.dataset,
            "uri": offer.uri,
            "digest": offer.digest,
            "source": heard.source,
            "offer": str(heard.id),
        }
        await self.offers.add(str(heard.told_apart_by), offer.dataset, payload, Cause.of(heard))
        await self.store.log.remember([heard])
        return ()

    async def number_candidate(self, heard: Heard[TrainingCompleted]) -> Iterable[Event]:
        """Give the candidate its version number, unless newer data has one already."""
        completed = heard.event
        await self.store.models.lock(completed.model)
        if await self.store.models.is_numbered(completed.run):
            return ()
        definition = await self.store.models.definition_with(
            completed.model, completed.spec_digest, completed.code_digest
        )
        if definition is None:
            raise Unprocessable(
                f"{completed.model} was never defined with specification {completed.spec_digest}"
            )
        newest = await self.store.models.newest(completed.model)
        authors = await self._authors(completed, definition)
        decided = decide_number(completed, newest, dict(definition.spec), authors)
        await self.store.log.remember([heard])
        if isinstance(decided, ModelRegistered):
            said = await self._say(decided, Cause.of(heard))
            await self.store.models.register(said, heard)
        else:
            await self._say(decided, Cause.of(heard))
        return ()

    async def _authors(
        self, completed: TrainingCompleted, definition: Definition
    ) -> Mapping[str, str]:
        data = await self.store.datasets.version(completed.dataset, completed.dataset_version)
        return authors_of(
            spec=definition.defined_by,
            data=data.published_by if data else "",
            training=completed.requested_by,
        )

    async def known(self, dataset: str, digest: Digest) -> Receipt | None:
        """The first receipt of these bytes, if they are a version already."""
        found = await self.store.datasets.of_digest(dataset, digest)
        if found is not None:
            telemetry.count("tidewheel_datasets_total", outcome="same")
        return receipt_of(found, created=False) if found else None

    async def objections(self, file: File) -> tuple[Reason, ...]:
        """Every reason against the file as things stand, before its bytes are kept."""
        before = await self.store.datasets.before(file.dataset)
        consumers = await self.store.datasets.consumers(file.dataset)
        return tuple(refusals(file.profile, before, consumers))

    async def accept(self, file: File, cause: Cause, *, owner: str = "") -> Receipt | Refusal:
        """Make the file the next version, or refuse it, in the open transaction.

        Raises:
            Conflict: another team has claimed the name meanwhile.
        """
        datasets, owners = self.store.datasets, self.store.owners
        await datasets.lock(file.dataset)
        await owners.lock(file.dataset)
        claimed = await owners.dataset(file.dataset)
        if owner and claimed and claimed != owner:
            raise Conflict(NAME_TAKEN, code="name_taken")
        known = await self.known(file.dataset, file.digest)
        if known is not None:
            return known
        decided = decide_version(
            file, await datasets.before(file.dataset), await datasets.consumers(file.dataset)
        )
        if isinstance(decided, DatasetRefused):
            return await self._refuse(decided, cause)
        said = await self._say(replace(decided, owner=claimed or owner), cause)
        await datasets.add(said)
        await owners.claim(file.dataset, said.event.owner, said.time)
        telemetry.count("tidewheel_datasets_total", outcome="published")
        return Receipt(
            event_id=said.id,
            dataset=decided.dataset,
            version=decided.version,
            digest=decided.digest,
            rows=decided.rows,
            cascade=said.correlation,
            created=True,
        )

    async def team_for(self, dataset: str, principal: Principal, asked: str | None) -> str:
        """The team for which this principal may publish this dataset; empty for nobody's.

        Raises:
            Conflict: the name is another team's.
            NotPermitted: the principal may see the dataset and not publish it.
            InvalidInput: it is new, and may belong to several teams of the principal.
        """
        owner = await self.store.owners.dataset(dataset)
        if owner is not None and not principal.may_see(owner):
            raise Conflict(NAME_TAKEN, code="name_taken")
        return team_of(dataset, owner, principal, asked)

    async def check_owner(self, spec: ModelSpec, principal: Principal) -> None:
        """Whether this principal may define this model, in the open transaction.

        Raises:
            Conflict: the name is another team's.
            NotPermitted: the principal may see the model and not define it.
            InvalidInput: the dataset is not for its eyes.
        """
        await self.store.models.lock(spec.name)
        await self.store.owners.lock(spec.data.dataset)
        before = await self.store.owners.model(spec.name)
        if before is not None and not principal.may_see(before):
            raise Conflict(NAME_TAKEN, code="name_taken")
        for owner in {spec.owner, before or spec.owner}:
            if not principal.may_in(owner, AUTHORS):
                raise NotPermitted(f"In team {owner} this needs the role data_scientist.")
        data = await self.store.owners.dataset(spec.data.dataset)
        if data is not None and not principal.may_see(data):
            fault = Fault("/data/dataset", "another team's", "name a dataset that you may read")
            raise InvalidInput("This dataset is not for you to train on.", [fault])

    async def refuse(
        self,
        dataset: DatasetName,
        reasons: Iterable[Reason],
        cause: Cause,
        *,
        digest: Digest | None,
        offered_by: str,
        offer: UUID | None = None,
    ) -> Refusal:
        """Refuse what could not even be looked at, in the open transaction."""
        return await self._refuse(
            refuse(dataset, list(reasons), digest=digest, offered_by=offered_by, offer=offer), cause
        )

    async def _refuse(self, decided: DatasetRefused, cause: Cause) -> Refusal:
        said = await self._say(decided, cause)
        telemetry.count("tidewheel_datasets_total", outcome="refused")
        return Refusal(
            event_id=said.id,
            dataset=decided.dataset,
            reasons=decided.reasons,
            cascade=said.correlation,
        )

    async def define(
        self, spec: ModelSpec, cause: Cause, *, by: str, commit: str | None = None
    ) -> Defined:
        """Make the specification the model's definition, in the open transaction.

        Raises:
            InvalidInput: it cannot be one; every reason at once.
        """
        digest = code_digest(spec, self.lock.versions(modules_of(spec)))
        await self.store.models.lock(spec.name)
        known = await self.store.models.definition(spec.name)
        if known and (known.spec_digest, known.code_digest) == (spec.digest(), digest):
            return Defined(
                model=spec.name,
                spec_digest=known.spec_digest,
                code_digest=known.code_digest,
                event_id=known.event_id,
                cascade=known.cascade,
                changed=False,
            )
        await self._check(spec)
        defined = ModelDefined(
            model=ModelName(spec.name),
            dataset=DatasetName(spec.data.dataset),
            spec=spec.canonical(),
            spec_digest=spec.digest(),
            code_digest=digest,
            defined_by=by,
            commit=commit,
        )
        said = await self._say(defined, cause)
        await self.store.models.define(said)
        await self.store.owners.claim(spec.data.dataset, spec.owner, said.time)
        return Defined(
            model=spec.name,
            spec_digest=defined.spec_digest,
            code_digest=digest,
            event_id=said.id,
            cascade=said.correlation,
            changed=True,
        )

    async def _check(self, spec: ModelSpec) -> None:
        before = await self.store.datasets.before(spec.data.dataset)
        faults = faults_of(spec, before.kinds if before else None)
        if faults:
            raise InvalidInput(
                wrong_things(faults, "the specification"),
                faults,
                code="invalid_spec",
            )

    async def _say(self, event: E, cause: Cause) -> Heard[E]:
        """Say an event and keep it in the log at once, so that a receipt leads somewhere."""
        async with self.store.database.transaction(cause) as transaction:
            (said,) = await transaction.say([event], cause=cause)
            await self.store.log.remember([said])
        return cast(Heard[E], said)


_REMEMBERED: Final = (
    DATASETS,
    MODELS,
    TRAINING,
    EVALUATION,
    DEPLOYMENT,
    SERVING,
    MONITORING,
)
_FOLDED: Final[tuple[type[Event], ...]] = (
    *(kind for topic in _REMEMBERED for kind in topic.types if kind is not TrainingCompleted),
    EventParked,
)


def receipt_of(version: DatasetVersion, *, created: bool) -> Receipt:
    """The receipt of a version that is kept."""
    return Receipt(
        event_id=version.event_id,
        dataset=version.dataset,
        version=version.version,
        digest=version.digest,
        rows=version.rows,
        cascade=version.cascade,
        created=created,
    )
