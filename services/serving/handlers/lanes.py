"""Answers what arrives at the same moment together: one question per version, one write to the log.

A request waits for nobody: what has arrived is answered in the next turn of the loop, a lone one as
well as many. This is for the common case, in which nothing but the champion's compiled model is to
be asked; whatever else may be due (another rung, an arm by chance, a refusal with its place) is the
careful way's: a request that is given back here has left no trace and goes there.

What is done here for each answer must be what `Predictions` does; tests compare the two.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from services.serving.domain.endpoints import Endpoint, Step
from services.serving.domain.tallies import SLOW
from services.serving.domain.versions import Loaded, Value
from services.serving.handlers import counting
from services.serving.handlers.asking import Asker
from services.serving.handlers.deployments import Deployments
from services.serving.handlers.log import Prediction
from services.serving.handlers.shadows import Shadows
from services.serving.prediction.answers import label_text
from services.serving.prediction.arrays import Layout, layout_of
from services.serving.prediction.decoding import Decoder, Values, decoder_of
from services.serving.store.spool import Spool
from shared import telemetry
from shared.clock import Clock
from shared.errors import Saturated
from shared.events import ModelName
from shared.ids import uuid7_texts

MOST_LANES: Final = 1_024
MOST_ROWS: Final = 256
"""Of one question; what is more waits for the next turn, so that others get theirs."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A request on its way.

    Attributes:
        answered: becomes its answer as JSON, or None where the careful way is to be taken.
    """

    rows: list[Values]
    started: float
    answered: "asyncio.Future[bytes | None]"
    predictions: list[Prediction] = field(default_factory=list)


@dataclass(slots=True, eq=False, kw_only=True)
class Lane:
    """An endpoint in its common case, and the bytes that all its answers have alike.

    Attributes:
        decoder: None where the endpoint has no common case.
    """

    endpoint: Endpoint
    decoder: Decoder | None
    layout: Layout | None = None
    step: Step = field(default_factory=lambda: Step(rung="none"))
    arm: int = 0
    observe: Callable[[float], None] = lambda _: None
    label_names: tuple[str, ...] = ()
    answer_tail: bytes = b""
    log_head: bytes = b""
    log_middle: bytes = b""
    waiting: list[Waiting] = field(default_factory=list)
    permitted: dict[int, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Lanes:
    """The lanes of this replica, and the turn of the loop in which what waits is answered."""

    deployments: Deployments
    spool: Spool
    asker: Asker
    shadows: Shadows
    now: Clock
    monotonic: Callable[[], float]
    wake: Callable[[], None]
    _lanes: dict[ModelName, Lane] = field(default_factory=dict)
    _busy: list[Lane] = field(default_factory=list)

    def find(self, model: ModelName) -> Lane | None:
        """The lane of a model; None where its requests take the careful way."""
        endpoint = self.deployments.endpoints.get(model)
        if endpoint is None:
            return None
        lane = self._lanes.get(model)
        if lane is None or lane.endpoint is not endpoint:
            if len(self._lanes) >= MOST_LANES:
                self._lanes.pop(next(iter(self._lanes)))
            lane = self._lanes[model] = lane_of(endpoint)
        return lane if lane.decoder is not None else None

    def ask(self, lane: Lane, rows: list[Values], started: float) -> "asyncio.Future[bytes | None]":
        """The answer to come: JSON, or None where the careful way is to be taken."""
        loop = asyncio.get_running_loop()
        waiting = Waiting(rows, started, loop.create_future())
        if not lane.waiting:
            if not self._busy:
                loop.call_soon(self._turn)
            self._busy.append(lane)
        lane.waiting.append(waiting)
        return waiting.answered

    def _turn(self) -> None:
        """Answer what waits, as much as one turn may take."""
        lanes, self._busy = self._busy, []
        done: list[tuple[Lane, list[Waiting]]] = []
        left = MOST_ROWS
        for lane in lanes:
            taken = _taken(lane, min(left, self._quick_rows(lane))) if left > 0 else []
            if lane.waiting:
                self._busy.append(lane)
            if taken:
                left -= sum(len(one.rows) for one in taken)
                done.append((lane, taken))
        if self._busy:
            asyncio.get_running_loop().call_soon(self._turn)
        for lane, taken in done:
            self._answer(lane, taken)

    def _quick_rows(self, lane: Lane) -> float:
        return 0 if lane.step.loaded is None else self.asker.quick_rows(lane.step.loaded)

    def _answer(self, lane: Lane, taken: list[Waiting]) -> None:
        """One question, one write, and everybody has an answer; or all are given back."""
        bodies: Sequence[bytes | None] = [None] * len(taken)
        try:
            found = self._asked(lane, taken)
            if found is not None:
                bodies = found
        finally:
            for one, body in zip(taken, bodies, strict=True):
                if not one.answered.done():
                    one.answered.set_result(body)

    def _asked(self, lane: Lane, taken: list[Waiting]) -> list[bytes] | None:
        rows = [row for one in taken for row in one.rows]
        loaded, layout = lane.step.loaded, lane.layout
        if loaded is None or layout is None or not self._may_answer(lane, loaded, len(rows)):
            return None
        inputs = layout.inputs(rows)
        said = None if inputs is None else self.asker.computed(loaded, inputs, len(rows))
        answers = None if said is None else layout.answers(said)
        if answers is None:
            return None
        return self._told(lane, taken, rows, answers)

    def _may_answer(self, lane: Lane, loaded: Loaded, rows: int) -> bool:
        endpoint = lane.endpoint
        return (
            lane.arm not in endpoint.stopped
            and loaded.health.may_answer(self.monotonic())
            and rows <= self.asker.quick_rows(loaded)
            and self.spool.has_room(2_000 * rows)
        )

    def _told(
        self,
        lane: Lane,
        taken: list[Waiting],
        rows: list[Values],
        answers: tuple[list[Value], list[list[float]] | None],
    ) -> list[bytes] | None:
        """Log the answers and write them out; None where they cannot be logged."""
        values, shares = answers
        ids = uuid7_texts(len(rows))
        entities = _entities(lane, rows)
        shown = list(map(orjson.dumps, values))
        log = _log_rows(lane, ids, rows, entities, shown, shares, orjson.dumps(self.now()))
        bodies = _bodies(lane, taken, ids, shown, shares)
        try:
            self.spool.keep_rows(log, is_required=lane.endpoint.is_lineage_required)
        except Saturated:
            return None
        self.wake()
        self._note(lane, taken, entities)
        if lane.endpoint.shadows:
            self._follow(lane, ids, rows, entities, answers)
        return bodies

    def _note(self, lane: Lane, taken: list[Waiting], entities: list[str | None]) -> None:
        endpoint = lane.endpoint
        tally = endpoint.tallies[lane.arm]
        now = self.monotonic()
        start = 0
        for one in taken:
            seconds = now - one.started
            end = start + len(one.rows)
            tally.add(end - start, 0, seconds)
            if endpoint.is_watched:
                fate = SLOW if seconds > endpoint.objective_seconds else 0
                for entity in entities[start:end]:
                    tally.visits.note(entity, fate)
            lane.observe(seconds)
            start = end
        counting.note_ok(endpoint, lane.arm, len(entities))

    def _follow(
        self,
        lane: Lane,
        ids: list[str],
        rows: list[Values],
        entities: list[str | None],
        answers: tuple[list[Value], list[list[float]] | None],
    ) -> None:
        """Shadows are asked about the same rows, later."""
        names = lane.endpoint.schema.names
        values, shares = answers
        seen = [
            Prediction(
                id=f"p-{ids[i]}",
                row=dict(zip(names, row, strict=False)),
                entity=entities[i],
                arm=lane.arm,
                value=values[i],
                probabilities=None if shares is None else shares[i],
                step=lane.step,
            )
            for i, row in enumerate(rows)
        ]
        self.shadows.follow(lane.endpoint, seen)


def _taken(lane: Lane, most: float) -> list[Waiting]:
    """The requests that wait longest, as many as go into one question; the first one always."""
    rows = 0
    for count, one in enumerate(lane.waiting):
        rows += len(one.rows)
        if rows > most and count:
            taken, lane.waiting = lane.waiting[:count], lane.waiting[count:]
            return taken
    taken, lane.waiting = lane.waiting, []
    return taken


# --- what a lane is ---------------------------------------------------------------------------


def lane_of(endpoint: Endpoint) -> Lane:
    """The lane of an endpoint; without a decoder where more than one thing may have to be asked."""
    empty = Lane(endpoint=endpoint, decoder=None)
    arm = endpoint.split.holders[0]
    step = endpoint.paths[arm][0] if endpoint.paths[arm] else None
    if endpoint.split.is_shared or step is None or step.loaded is None:
        return empty
    manifest = step.loaded.manifest
    if manifest is not endpoint.manifest or step.loaded.engine != "onnx":
        return empty
    decoder = decoder_of(endpoint.schema)
    if decoder is None:
        return empty
    arms = endpoint.desired.arms
    role = arms[arm].role if arm < len(arms) else "none"
    common = {
        "model": endpoint.model,
        "version": step.version,
        "manifest": step.digest,
        "rung": step.rung,
        "arm": role,
        "generation": endpoint.generation,
        "weight": arms[arm].weight if arm < len(arms) else 1.0,
    }
    told = {
        "version": step.version,
        "digest": step.digest,
        "rung": step.rung,
        "arm": role,
        "generation": endpoint.generation,
    }
    return Lane(
        endpoint=endpoint,
        decoder=decoder,
        layout=layout_of(manifest),
        step=step,
        arm=arm,
        observe=telemetry.observer("tidewheel_predict_seconds", model=endpoint.model),
        label_names=tuple(map(label_text, manifest.classes)),
        answer_tail=b"," + orjson.dumps(told)[1:-1],
        log_head=orjson.dumps(step.loaded.names) + b'\n{"id":"p-',
        log_middle=b'",' + orjson.dumps(common)[1:-1] + b',"at":',
    )


def _entities(lane: Lane, rows: list[Values]) -> list[str | None]:
    schema, decoder = lane.endpoint.schema, lane.decoder
    if schema.entity is None or decoder is None:
        return [None] * len(rows)
    if decoder.has_entity:
        return list(map(decoder.entity, rows))
    position = schema.names.index(schema.entity)
    return [None if row[position] is None else str(row[position]) for row in rows]


# --- bytes ------------------------------------------------------------------------------------


def _log_rows(
    lane: Lane,
    ids: list[str],
    rows: list[Values],
    entities: list[str | None],
    shown: list[bytes],
    shares: list[list[float]] | None,
    at: bytes,
) -> list[bytes]:
    """As `log.log_rows` writes them."""
    head, middle = lane.log_head, lane.log_middle + at + b',"features":'
    width = len(lane.endpoint.schema.names)
    is_cut = lane.decoder is not None and lane.decoder.has_entity
    told = []
    for i, row in enumerate(rows):
        entity = entities[i]
        score = shares[i][1] if shares is not None and len(shares[i]) == 2 else None
        told.append(
            b"".join(
                (
                    head,
                    ids[i].encode(),
                    middle,
                    orjson.dumps(row[:width] if is_cut else row),
                    b',"answer":',
                    shown[i],
                    b',"entity":',
                    b"null" if entity is None else orjson.dumps(entity),
                    b',"score":',
                    b"null" if score is None else orjson.dumps(score),
                    b"}",
                )
            )
        )
    return told


def _bodies(
    lane: Lane,
    taken: list[Waiting],
    ids: list[str],
    shown: list[bytes],
    shares: list[list[float]] | None,
) -> list[bytes]:
    """As the door of our own writes answers."""
    head = b'{"model":' + orjson.dumps(lane.endpoint.model) + b',"predictions":['
    tail = lane.answer_tail
    plain: list[bytes] = []
    for i, text in enumerate(ids):
        share = b""
        if shares is not None:
            named = dict(zip(lane.label_names, shares[i], strict=False))
            share = b',"probabilities":' + orjson.dumps(named)
        plain.append(
            b'{"prediction_id":"p-%b","answer":%b%b%b}' % (text.encode(), shown[i], tail, share)
        )
    bodies = []
    start = 0
    for one in taken:
        end = start + len(one.rows)
        bodies.append(head + b",".join(plain[start:end]) + b"]}")
        start = end
    return bodies
