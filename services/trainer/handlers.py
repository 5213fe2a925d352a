"""What the trainer does about what it hears and what people ask.

Each reaction locks the models it concerns, decides, queues a job or says why not. Nothing is fitted
here; a worker claims the jobs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, assert_never
from uuid import UUID

from services.trainer.domain import (
    DatasetVersion,
    Definition,
    Known,
    Order,
    Trigger,
    digest_of_exclusions,
    exclusions_for,
    leaves_out,
    order_for,
)
from services.trainer.store import PostgresStore, Schedule
from services.trainer.triggers import (
    Join,
    Skip,
    Train,
    decide_renewal,
    decide_training,
    key_of,
    natural_key,
    next_due,
)
from shared import telemetry
from shared.clock import Clock
from shared.errors import Conflict, NotFound
from shared.events import (
    DatasetAnnotated,
    DatasetPublished,
    DeploymentRolledBack,
    Event,
    Heard,
    ModelDefined,
    ModelName,
    ModelPromoted,
    RetrainingRequested,
    RunId,
    TrainingFailed,
    TrainingSkipped,
)
from shared.jobs import Job, Jobs
from shared.postgres import Cause
from shared.reactions import Reaction, on
from shared.spec import read_spec

SkipReason = Literal[
    "no_material_change", "nothing_new", "superseded", "trigger_off", "cannot_train"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a trigger led to: a run, or the reason why there is none."""

    run: UUID | None = None
    joined: bool = False
    skipped: TrainingSkipped | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """The reactions, and what the clock and people may ask for."""

    store: PostgresStore
    jobs: Jobs
    now: Clock

    def reactions(self) -> list[Reaction]:
        """All that it does about what it hears."""
        return [
            on(DatasetPublished, self.consider_version),
            on(DatasetAnnotated, self.consider_annotation),
            on(ModelDefined, self.consider_definition),
            on(RetrainingRequested, self.consider_request),
            on(ModelPromoted, self.note_champion),
            on(DeploymentRolledBack, self.note_rollback),
        ]

    # --- reactions ----------------------------------------------------------------------------

    async def consider_version(self, heard: Heard[DatasetPublished]) -> Iterable[Event]:
        """New data: every model that uses them is considered."""
        await self.store.save_version(heard.event)
        outcomes = [
            await self._consider(definition, "dataset", Cause.of(heard))
            for definition in await self.store.lock_users(heard.event.dataset)
        ]
        return _told(outcomes)

    async def consider_annotation(self, heard: Heard[DatasetAnnotated]) -> Iterable[Event]:
        """Rows leave the data or come back: that is as much a change as so many new ones.

        What waits already is trained without them, however few they are.
        """
        said = heard.event
        await self.store.save_annotation(said)
        if said.state not in ("active", "lifted"):
            return ()
        outcomes = []
        for definition in await self.store.lock_users(said.dataset):
            if said.models and definition.model not in said.models:
                continue
            for job in await self.jobs.waiting_of(definition.model):
                await self.renew(job)
            if said.tag in leaves_out(definition.parsed()) or said.tag == "normal":
                outcomes.append(
                    await self._consider(
                        definition, "dataset", Cause.of(heard), moved_share=said.share
                    )
                )
        return _told(outcomes)

    async def consider_definition(self, heard: Heard[ModelDefined]) -> Iterable[Event]:
        """A new model is considered for the data that are there, a changed one for its change."""
        before = await self.store.save_definition(heard.event)
        definition = await self.store.lock(heard.event.model)
        if definition is None or definition == before:
            return ()
        await self._schedule(definition)
        trigger: Trigger = "code" if before else "dataset"
        return _told([await self._consider(definition, trigger, Cause.of(heard))])

    async def consider_request(self, heard: Heard[RetrainingRequested]) -> Iterable[Event]:
        """The monitor wants a fresh model."""
        definition = await self.store.lock(heard.event.model)
        if definition is None:
            return ()
        return _told([await self._consider(definition, heard.event.reason, Cause.of(heard))])

    async def note_champion(self, heard: Heard[ModelPromoted]) -> Iterable[Event]:
        """New data are compared with the champion's."""
        said = heard.event
        await self.store.note_champion(said.model, said.version, said.dataset_version)
        return ()

    async def note_rollback(self, heard: Heard[DeploymentRolledBack]) -> Iterable[Event]:
        """An earlier version is champion again."""
        await self.store.note_rollback(heard.event.model, heard.event.to_version)
        return ()

    # --- what the clock and people ask for ------------------------------------------------------

    async def consider_schedule(self, schedule: Schedule) -> None:
        """A claimed schedule is due; moments missed while nobody looked count as one."""
        due_at = next_due(schedule.schedule, schedule.timezone, self.now())
        await self.store.set_due(schedule.model, due_at)
        definition = await self.store.lock(schedule.model)
        if definition is not None:
            cause = Cause.outside()
            outcome = await self._consider(definition, "time", cause)
            await self.store.say([(cause, event) for event in _told([outcome])], step="time")

    async def train(self, model: ModelName, by: str) -> Outcome:
        """Somebody asks for a training; it does not wait for the end of a cool-down.

        Args:
            by: the person, who counts among the authors of what comes of it.

        Raises:
            NotFound: there is no such model.
            Conflict: its dataset has no version yet.
        """
        definition = await self.store.lock(model)
        if definition is None:
            raise NotFound(f"There is no model {model}.")
        cause = Cause.outside()
        outcome = await self._consider(definition, "manual", cause, by)
        if outcome.run is None and outcome.skipped is None:
            raise Conflict(
                f"The dataset {definition.dataset} has no version yet; publish one.",
                code="no_dataset_version",
            )
        await self.store.say([(cause, event) for event in _told([outcome])], step="manual")
        return outcome

    # --- one decision ---------------------------------------------------------------------------

    async def _consider(
        self,
        definition: Definition,
        trigger: Trigger,
        cause: Cause,
        by: str = "",
        *,
        moved_share: float = 0.0,
    ) -> Outcome:
        """Decide about a locked model and the newest version of its dataset, and act on it."""
        version = await self.store.newest_version(definition.dataset)
        if version is None:
            return Outcome()
        exclusions = exclusions_for(
            definition.parsed(), await self.store.annotations(definition.dataset, definition.model)
        )
        key = natural_key(definition, version, digest_of_exclusions(exclusions))
        situation = await self.store.situation(definition, key)
        moved = round(moved_share * version.rows)
        decision = decide_training(definition, version, trigger, situation, self.now(), moved)
        match decision:
            case Train():
                key = await self._key_for(decision, key, situation.known)
                order = order_for(definition, version, trigger, decision.run_after, by, exclusions)
                return await self._queue(order, key, cause)
            case Join(run=run):
                if trigger == "manual":
                    await self.store.hasten(run, self.now(), by)
                telemetry.log("training_joined", model=definition.model, run=str(run))
                return Outcome(run=run, joined=True)
            case Skip():
                return Outcome(skipped=_skipped(definition, version, trigger, decision))
        assert_never(decision)

    async def renew(self, job: Job) -> bool:
        """Replace a job that waits, or was just claimed, if other rows are left out by now.

        An attempt before may have begun. A run has the same rows in all its attempts, so what is
        trained instead is another run. It belongs to the same cascade.

        Returns:
            Whether the job is not to be worked on any more.
        """
        ordered = Order.of(job.payload)
        async with self.jobs.database.transaction(job.cause):
            # Annotations of its data are heard under the same lock.
            await self.store.lock(ordered.model)
            known = await self.store.annotations(ordered.dataset, ordered.model)
            order = ordered.leaving_out(exclusions_for(read_spec(ordered.spec), known))
            if order.exclusions_digest == ordered.exclusions_digest:
                return False
            await self._replace(job, order)
        return True

    async def _replace(self, job: Job, order: Order) -> None:
        key = key_of(order)
        known = await self.store.known(key)
        detail = "the rows that are left out have changed; "
        match decide_renewal(order, known, self.now()):
            case Train() as decision:
                key = await self._key_for(decision, key, known)
                detail += f"run {self.jobs.id_of(key)} is trained instead"
                if await self.jobs.withdraw(job, detail):
                    await self.jobs.add(
                        key, order.model, order.plain(), job.cause, run_after=decision.run_after
                    )
            case Join(run=run):
                detail += f"run {run} is trained instead"
                if await self.jobs.withdraw(job, detail) and order.requested_by:
                    await self.store.hasten(run, self.now(), order.requested_by)
            case Skip() as skip:
                detail += skip.detail
                if await self.jobs.withdraw(job, detail):
                    said = await self._end_of(job, order, skip, detail)
                    await self.store.say([(job.cause, said)], step=f"renewed:{job.id}")
            case other:
                assert_never(other)
        telemetry.log("training_renewed", model=order.model, run=str(job.id), detail=detail)

    async def _end_of(self, job: Job, order: Order, skip: Skip, detail: str) -> Event:
        """What is said of a run that nothing takes the place of.

        Who heard that it began, in an attempt before, waits for its end; else it never was.
        """
        if not await self.store.break_off(job.id, self.now()):
            return _told_of(order, skip.reason, detail)
        return TrainingFailed(
            model=order.model,
            run=RunId(job.id),
            dataset=order.dataset,
            dataset_version=order.dataset_version,
            attempts=job.attempt,
            reason="crashed",
            detail=detail[:2000],
        )

    async def _key_for(self, decision: Train, key: str, known: Known | None) -> str:
        """Repeats have a number behind the key; one that was taken out of the queue keeps its."""
        if decision.retry:
            return f"{key}#{await self.store.tries_of(key)}"
        return known.key if known is not None and known.key else key

    async def _queue(self, order: Order, key: str, cause: Cause) -> Outcome:
        """Put the job into the queue in the place of any other that waits for this model."""
        run = self.jobs.id_of(key)
        detail = f"version {order.dataset_version} of {order.dataset} is trained instead"
        replaced = await self.jobs.supersede(order.model, detail, keep=run)
        await self.jobs.add(key, order.model, order.plain(), cause, run_after=order.due_at)
        # A version that is still to be trained has not come to its end.
        over = [
            (job.cause, _told_of(Order.of(job.payload), "superseded", detail))
            for job in replaced
            if job.payload["dataset_version"] != order.dataset_version
        ]
        await self.store.say(over, step=f"superseded:{run}")
        telemetry.log("training_queued", model=order.model, run=str(run), trigger=order.trigger)
        return Outcome(run=run)

    async def _schedule(self, definition: Definition) -> None:
        triggers = definition.parsed().triggers
        if triggers.schedule is None:
            await self.store.drop_schedule(definition.model)
            return
        try:
            due_at = next_due(triggers.schedule, triggers.timezone, self.now())
        except ValueError as error:
            await self.store.drop_schedule(definition.model)
            telemetry.log(
                "schedule_wrong", level="warning", model=definition.model, problem=str(error)
            )
            return
        await self.store.keep_schedule(
            Schedule(
                model=definition.model,
                schedule=triggers.schedule,
                timezone=triggers.timezone,
                due_at=due_at,
            )
        )


def _told(outcomes: Iterable[Outcome]) -> list[TrainingSkipped]:
    return [outcome.skipped for outcome in outcomes if outcome.skipped is not None]


def _skipped(
    definition: Definition, version: DatasetVersion, trigger: Trigger, skip: Skip
) -> TrainingSkipped:
    telemetry.log(
        "training_skipped", model=definition.model, reason=skip.reason, detail=skip.detail
    )
    telemetry.count("tidewheel_training_runs_total", outcome=skip.reason)
    return TrainingSkipped(
        model=definition.model,
        dataset=version.dataset,
        dataset_version=version.version,
        trigger=trigger,
        reason=skip.reason,
        detail=skip.detail,
    )


def _told_of(order: Order, reason: SkipReason, detail: str) -> TrainingSkipped:
    return TrainingSkipped(
        model=order.model,
        dataset=order.dataset,
        dataset_version=order.dataset_version,
        trigger=order.trigger,
        reason=reason,
        detail=detail,
    )
