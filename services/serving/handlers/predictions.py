"""Answers rows: routed to an arm, answered by it or a rung below, logged before they leave."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, ParamSpec, TypeVar

from services.serving.domain.bindings import Bound, Wanted, bind
from services.serving.domain.endpoints import Endpoint, Path, Step, standing
from services.serving.domain.tallies import FAILED, SLOW
from services.serving.domain.versions import FAILURES_IN_A_ROW, OUT_OF_TIME, Loaded, Said, Value
from services.serving.handlers import counting
from services.serving.handlers.asking import Asker, is_odd, is_ordinary
from services.serving.handlers.deployments import Deployments
from services.serving.handlers.log import Prediction, log_rows, new_id
from services.serving.handlers.shadows import Shadows
from services.serving.handlers.voice import Voice
from services.serving.prediction.forms import OBJECTS, Form
from services.serving.prediction.reading import Row
from services.serving.prediction.rows import check_rows, entity_of
from services.serving.routing import point_of
from services.serving.store.spool import Spool
from shared import baselines, telemetry
from shared.access import Principal, Role, act
from shared.clock import Clock
from shared.errors import Fault, InvalidInput, NotFound, Refused, Saturated, TooLarge, Unprocessable
from shared.events import ModelName
from shared.names import check_name
from shared.usable import is_usable

MANY_ROWS: Final = 300
UNKNOWN_MODEL: Final = "No model of this name is served here."
P = ParamSpec("P")
T = TypeVar("T")


class Unanswered(Saturated):
    """Nobody who may answer had an answer to these rows."""

    def __init__(self, rows: Sequence[Prediction]) -> None:
        super().__init__("No version and no rule of this model can answer at the moment.")
        self.ids = frozenset(row.id for row in rows)


@dataclass(slots=True)
class Predictions:
    """Answers for every model that this replica has an endpoint of."""

    deployments: Deployments
    spool: Spool
    voice: Voice
    asker: Asker
    shadows: Shadows
    now: Clock
    monotonic: Callable[[], float]
    wake: Callable[[], None]
    _standings: dict[ModelName, str] = field(default_factory=dict)

    async def predict(
        self,
        model: ModelName,
        rows: Sequence[Any],
        *,
        body_bytes: int = 0,
        form: Form = OBJECTS,
        wanted: Wanted | None = None,
        ids: Sequence[str] = (),
    ) -> tuple[Endpoint, list[Prediction]]:
        """An answer for every row.

        Args:
            form: how the caller laid the rows out, to tell where a fault is.
            wanted: the version or the arm that is to answer, where the caller chooses it.
            ids: of the rows, where the quick way has drawn them: who is given back by an arm that
                cannot answer must meet the same arm here, or its failures would be counted as if
                they were rarer.

        Raises:
            NotFound: no desired state names the model, or nobody is what was wanted.
            Conflict: who was wanted cannot answer here.
            InvalidInput: a row is not one of this model's.
            Saturated: the answer could not be logged and must be, or no rung can answer yet.
        """
        started = self.monotonic()
        endpoint = self.endpoint_of(model)
        with counting.rejections(endpoint, len(rows)):
            bound = await self.checked(
                endpoint, rows, body_bytes=body_bytes, form=form, wanted=wanted
            )
        if endpoint.is_lineage_required and not self.spool.has_room(body_bytes + 500 * len(rows)):
            raise Saturated("Its log is full, and this model only answers what it can log.")
        predictions = await apart(len(rows), self._routed, endpoint, rows, bound, ids)
        try:
            await self._answer(endpoint, predictions, started, bound)
        except Unanswered as error:
            raise _whose_fault(predictions, form, error) from None
        logged = await apart(len(rows), log_rows, endpoint, predictions, self.now())
        self._log(endpoint, predictions, logged)
        if bound is None or bound.is_drawn:
            self.shadows.follow(endpoint, predictions)
        telemetry.observe("tidewheel_predict_seconds", self.monotonic() - started, model=model)
        return endpoint, predictions

    async def checked(
        self,
        endpoint: Endpoint,
        rows: Sequence[Any],
        *,
        body_bytes: int = 0,
        form: Form = OBJECTS,
        wanted: Wanted | None = None,
        most_rows: int | None = None,
    ) -> Bound | None:
        """Who is to answer these rows, where the caller chooses it; they are rows of that one.

        Args:
            most_rows: that are taken at once.

        Raises:
            NotFound: nobody is what was wanted.
            Conflict: who was wanted cannot answer here.
            TooLarge: there are more rows.
            InvalidInput: a row is not one of this model's.
        """
        bound = None if wanted is None else bind(endpoint, wanted)
        if most_rows is not None and len(rows) > most_rows:
            raise TooLarge(
                f"{len(rows)} rows were sent, {most_rows} are taken at once; split them."
            )
        schema = endpoint.schema if bound is None else bound.schema
        await apart(len(rows), check_rows, rows, schema, body_bytes, form)
        return bound

    def check(self, principal: Principal, model: ModelName, roles: frozenset[Role]) -> None:
        """Whether one of the roles is held for this model; a model that is not known passes.

        Raises:
            NotFound: it is another team's; the answer is that of an unknown one.
            NotPermitted: it may be seen and no more.
        """
        owner = self.deployments.owner_of(model)
        if owner is not None:
            act(principal, owner, roles, UNKNOWN_MODEL)

    def endpoint_of(self, model: ModelName) -> Endpoint:
        """The endpoint that answers now.

        Raises:
            NotFound: no desired state names the model.
            InvalidInput: none can, because it is no name.
            Saturated: its first version is being loaded.
        """
        endpoint = self.deployments.endpoints.get(model)
        if endpoint is not None:
            return endpoint
        if model in self.deployments.wanted or not self.deployments.is_restored:
            raise Saturated("This model is being loaded; try again shortly.", code="loading")
        check_name(model, "/path/model")
        raise NotFound(UNKNOWN_MODEL)

    def _routed(
        self, endpoint: Endpoint, rows: Sequence[Row], bound: Bound | None, drawn: Sequence[str]
    ) -> list[Prediction]:
        ids = drawn if len(drawn) == len(rows) else [new_id() for _ in rows]
        if bound is None:
            return [_routed_row(endpoint, row, one) for row, one in zip(rows, ids, strict=True)]
        return [_bound_row(bound, row, one) for row, one in zip(rows, ids, strict=True)]

    # --- answering

    async def _answer(
        self,
        endpoint: Endpoint,
        predictions: Sequence[Prediction],
        started: float,
        bound: Bound | None,
    ) -> None:
        if bound is not None:
            await self._climb_down(endpoint, bound.arm, predictions, started, bound.path)
            return
        if not endpoint.split.is_shared:
            groups = {endpoint.split.holders[0]: predictions}
        else:
            split: dict[int, list[Prediction]] = defaultdict(list)
            for prediction in predictions:
                split[prediction.arm].append(prediction)
            groups = dict(split)
        for arm, group in groups.items():
            await self._climb_down(endpoint, arm, group, started, endpoint.paths[arm])

    async def _climb_down(
        self,
        endpoint: Endpoint,
        arm: int,
        group: Sequence[Prediction],
        started: float,
        path: Path,
    ) -> None:
        """Ask the arm, then rung by rung what is below it, until every row has an answer."""
        left: Sequence[Prediction] = group
        failed: Sequence[Prediction] = ()
        for index, step in enumerate(path):
            if index or arm not in endpoint.stopped:
                left = await self._ask(step, left)
            if index == 0:
                failed = left
            if not left:
                break
        seconds = self.monotonic() - started
        self._note(endpoint, arm, group, failed, seconds)
        if left:
            counting.note_unanswered(endpoint, arm, len(group))
            raise Unanswered(left)

    def _note(
        self,
        endpoint: Endpoint,
        arm: int,
        group: Sequence[Prediction],
        failed: Sequence[Prediction],
        seconds: float,
    ) -> None:
        if group[0].is_drawn:
            tally = endpoint.tallies[arm]
            tally.add(len(group), len(failed), seconds)
            if endpoint.is_watched:
                _note_visits(endpoint, arm, group, failed, seconds)
            if endpoint.split.is_shared:
                tally.new_entities += endpoint.met.count_new(p.entity for p in group)
        if failed:
            telemetry.count("tidewheel_arm_errors_total", len(failed), model=endpoint.model)
            self._stop_if_faulty(endpoint, arm, failed)
            self.tell_standing(endpoint)

    def _stop_if_faulty(self, endpoint: Endpoint, arm: int, failed: Sequence[Prediction]) -> None:
        """A challenger that does what its champion does not is asked no longer, and that is said.

        One answer that may not be given is enough where a version below had one to the same row;
        raising takes three in a row. Being slow may be the machine's fault: that is measured.
        """
        arms = endpoint.desired.arms
        loaded = endpoint.paths[arm][0].loaded
        if loaded is None or arm >= len(arms) or arms[arm].role != "challenger":
            return
        for p in failed:
            if p.step is None or p.step.loaded is None or not is_ordinary(p.row, loaded):
                continue
            if p.unusable and p.unusable[0] is loaded:
                self.deployments.stop(endpoint, arm, unusable(p.unusable[1], p.step))
                return
        by_others = any(p.step is not None and p.step.loaded is not None for p in failed)
        health = loaded.health
        if by_others and health.failures >= FAILURES_IN_A_ROW and health.cause != OUT_OF_TIME:
            self.deployments.stop(endpoint, arm, f"raised in a row: {health.cause}")

    async def _ask(self, step: Step, asked: Sequence[Prediction]) -> Sequence[Prediction]:
        """Give the rows what this step answers; those that it cannot answer come back."""
        if not step.may_answer(self.monotonic()):
            return asked
        if step.loaded is None:
            return self._ask_rule(step, asked)
        loaded = step.loaded
        able = [p for p in asked if _has_all(p.row, loaded)]
        for prediction, (value, probabilities) in await self._said(loaded, able):
            if is_usable(value, probabilities, loaded.manifest):
                prediction.value, prediction.probabilities = value, probabilities
                prediction.step = step
            elif prediction.unusable is None:
                prediction.unusable = (loaded, value)
        return [p for p in asked if p.step is None]

    async def _said(
        self, loaded: Loaded, asked: Sequence[Prediction]
    ) -> Iterable[tuple[Prediction, Said]]:
        """What a version says; where some rows lack values, it may do so about the others only."""
        whole = [p for p in asked if is_ordinary(p.row, loaded)]
        for some in (asked, whole) if len(whole) < len(asked) else (asked,):
            said = await self.asker.said(loaded, [p.row for p in some]) if some else None
            if said is not None:
                return zip(some, said, strict=True)
        return ()

    def _ask_rule(self, step: Step, asked: Sequence[Prediction]) -> Sequence[Prediction]:
        if step.rule is None:
            return asked
        for prediction in asked:
            try:
                prediction.value = baselines.answer(step.rule, prediction.row)
            except (Unprocessable, KeyError, TypeError, ValueError) as error:
                telemetry.log("rule_failed", level="error", reason=f"{error!r}")
                return asked
            prediction.step = step
        return ()

    def tell_standing(self, endpoint: Endpoint) -> None:
        """Say so when another rung than before answers the champion's rows."""
        if not endpoint.main_path:
            return
        rung, cause = standing(endpoint, self.monotonic())
        first = endpoint.main_path[0].rung
        before = self._standings.pop(endpoint.model, first)
        if rung != first:
            self._standings[endpoint.model] = rung
        if rung != before:
            telemetry.log("rung_changed", level="warning", model=endpoint.model, rung=rung)
            self.voice.fell_back(endpoint, rung, cause or "the rung above works again")

    def tell_standings(self) -> None:
        """The same for models that stand lower than they could, and for those that are new.

        A version that has rested long enough is asked again; all others change by being asked.
        """
        for model in {*self._standings, *self.deployments.take_changed()}:
            endpoint = self.deployments.endpoints.warm(model)
            if endpoint is not None:
                self.tell_standing(endpoint)

    # --- logging

    def _log(
        self, endpoint: Endpoint, predictions: Sequence[Prediction], rows: Sequence[bytes]
    ) -> None:
        """Into the spool before the answer leaves, so that whatever was answered is logged."""
        try:
            self.spool.keep_rows(rows, is_required=endpoint.is_lineage_required)
        except Saturated:
            if endpoint.is_lineage_required:
                raise
            self.spool.note_unkept(len(rows))
        self.wake()
        counting.note_answers(endpoint, predictions)


def _whose_fault(predictions: Sequence[Prediction], form: Form, error: Unanswered) -> Refused:
    """The rows', where each of those without an answer holds what is no value to anybody."""
    faults = []
    for index, prediction in enumerate(predictions):
        if prediction.id not in error.ids:
            continue
        odd = [name for name, value in prediction.row.items() if is_odd(value)]
        if not odd:
            return error
        faults += [Fault(form.value(index, name), _NO_VALUE) for name in odd]
    return InvalidInput("Nobody who may answer can do so without these values.", faults[:50])


_NO_VALUE: Final = "this value is missing, or too large, for whoever may answer"


def unusable(answer: Value, step: Step) -> str:
    """What is wrong with a version whose answer may not be given while another's may."""
    return f"it answered {str(answer)[:50]}, where version {step.version} had a usable answer"


def _routed_row(endpoint: Endpoint, row: Row, prediction_id: str) -> Prediction:
    entity = entity_of(row, endpoint.schema)
    arm = endpoint.split.holders[0]
    if endpoint.split.is_shared:
        point = point_of(endpoint.desired.salt, prediction_id if entity is None else entity)
        arm = endpoint.split.arm_at(point)
    return Prediction(id=prediction_id, row=row, entity=entity, arm=arm)


def _bound_row(bound: Bound, row: Row, prediction_id: str) -> Prediction:
    entity = entity_of(row, bound.schema)
    return Prediction(
        id=prediction_id, row=row, entity=entity, arm=bound.arm, is_drawn=bound.is_drawn
    )


def _note_visits(
    endpoint: Endpoint,
    arm: int,
    group: Sequence[Prediction],
    failed: Sequence[Prediction],
    seconds: float,
) -> None:
    if not endpoint.is_watched:
        return  # nobody is compared, and the measure of a minute would hold a minute's visitors
    late = SLOW if seconds > endpoint.objective_seconds else 0
    lost = {p.id for p in failed}
    visits = endpoint.tallies[arm].visits
    for p in group:
        visits.note(p.entity, late | FAILED if p.id in lost else late)


def _has_all(row: Row, loaded: Loaded) -> bool:
    """Whether a row names all that a version needs; another version may need more of it."""
    return all(name in row for name in loaded.names)


async def apart(rows: int, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Work on many rows goes to a thread, so that it does not hold up everybody else."""
    if rows <= MANY_ROWS:
        return work(*args, **named)
    return await asyncio.to_thread(work, *args, **named)
