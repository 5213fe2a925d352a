"""Answers what arrives at the same moment together: one question per version, one write to the log.

A request waits for nobody: what has arrived is answered in the next turn of the loop, a lone one as
well as many. This is for the common case, in which each row's own arm answers by its compiled model
at the first try; whatever else may be due (another rung, a refusal with its place) is the careful
way's: a request that is given back here has left no trace but the ids of its rows, which it keeps,
so that they meet the same arms there.

What is done here for each answer must be what `Predictions` does; tests compare the two.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

import orjson

from services.serving.domain.endpoints import Endpoint
from services.serving.domain.tallies import SLOW
from services.serving.domain.versions import Value
from services.serving.handlers.asking import Asker
from services.serving.handlers.deployments import Deployments
from services.serving.handlers.log import Prediction
from services.serving.handlers.shadows import Shadows
from services.serving.handlers.ways import Lane, Way, answer_row, lane_of, log_row
from services.serving.prediction.decoding import UNSET, Values
from services.serving.store.spool import Spool
from shared import telemetry
from shared.clock import Clock
from shared.errors import Saturated
from shared.events import ModelName
from shared.ids import uuid7_texts

MOST_LANES: Final = 1_024
MOST_ROWS: Final = 256
"""Of one question; what is more waits for the next turn, so that others get theirs."""
Write = Callable[[Endpoint, Sequence[Prediction]], bytes]
"""Answers as another protocol tells them."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A request on its way.

    Attributes:
        tell: called once, with this; `body` is its answer then, or None where the careful way is to
            be taken.
        write: None for our own form.
        ids: of its rows, once they are drawn.
    """

    rows: Sequence[Values]
    started: float
    tell: Callable[["Waiting"], None]
    write: Write | None = None
    body: bytes | None = None
    ids: Sequence[str] = ()


@dataclass(slots=True, eq=False, kw_only=True)
class _Turn:
    """Requests of one lane that are answered together; lists go row by row."""

    lane: Lane
    taken: list[Waiting]
    rows: list[Values]
    ids: list[str]
    entities: list[str | None]
    arms: list[int]
    values: list[Value]
    shares: list[list[float] | None]

    def starts(self) -> list[int]:
        """Where the rows of each request begin, and where the last one's end."""
        return list(accumulate((len(one.rows) for one in self.taken), initial=0))

    def prediction(self, place: int) -> Prediction:
        """A row as the careful way knows it."""
        decoder = self.lane.decoder
        names = () if decoder is None else [name for name, _ in decoder.columns]
        told = zip(names, self.rows[place], strict=False)
        arm = self.arms[place]
        return Prediction(
            id=f"p-{self.ids[place]}",
            row={name: value for name, value in told if value is not UNSET},
            entity=self.entities[place],
            arm=arm,
            value=self.values[place],
            probabilities=self.shares[place],
            step=self.lane.ways[arm].step,
        )

    def predictions(self, start: int, end: int) -> list[Prediction]:
        """Some rows as the careful way knows them."""
        return [self.prediction(place) for place in range(start, end)]

    def without(self, arms: set[int]) -> "_Turn":
        """What is left when requests with a row of these arms are taken out."""
        starts = self.starts()
        kept = [
            place
            for place in range(len(self.taken))
            if arms.isdisjoint(self.arms[starts[place] : starts[place + 1]])
        ]
        places = [i for place in kept for i in range(starts[place], starts[place + 1])]
        return _Turn(
            lane=self.lane,
            taken=[self.taken[place] for place in kept],
            rows=[self.rows[i] for i in places],
            ids=[self.ids[i] for i in places],
            entities=[self.entities[i] for i in places],
            arms=[self.arms[i] for i in places],
            values=[self.values[i] for i in places],
            shares=[self.shares[i] for i in places],
        )


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
    _busy: dict[Lane, list[Waiting]] = field(default_factory=dict)

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

    def is_current(self, lane: Lane) -> bool:
        """Whether nothing has been deployed since this lane was found."""
        return self.deployments.endpoints.get(lane.endpoint.model) is lane.endpoint

    def ask(self, lane: Lane, waiting: Waiting) -> None:
        """Have a request answered in the next turn of the loop."""
        queue = self._busy.get(lane)
        if queue is not None:
            queue.append(waiting)
            return
        if not self._busy:
            asyncio.get_running_loop().call_soon(self._turn)
        self._busy[lane] = [waiting]

    def _turn(self) -> None:
        """Answer what waits, as much as one turn may take."""
        waiting, self._busy = self._busy, {}
        done: list[tuple[Lane, list[Waiting]]] = []
        left: float = MOST_ROWS
        for lane, queue in waiting.items():
            taken, later = _parted(queue, min(left, self._quick_rows(lane)))
            if later:
                self._busy[lane] = later
            if taken:
                left -= sum([len(one.rows) for one in taken])
                done.append((lane, taken))
        if self._busy:
            asyncio.get_running_loop().call_soon(self._turn)
        for lane, taken in done:
            self._answer(lane, taken)

    def _quick_rows(self, lane: Lane) -> float:
        """How many rows one turn may ask about: what the slowest way may be asked, if at all."""
        quick = [self.asker.quick_rows(way.loaded) for way in lane.ways.values()]
        return min((rows for rows in quick if rows >= 1), default=MOST_ROWS)

    def _answer(self, lane: Lane, taken: list[Waiting]) -> None:
        """One question per arm, one write; then everybody has an answer, or is given back."""
        try:
            self._answered(self._drawn(lane, taken))
        finally:
            self._tell(deque(taken))

    def _tell(self, waiting: deque[Waiting]) -> None:
        """Tell each; should one of them fail, the others are told in the next turn."""
        try:
            while waiting:
                one = waiting.popleft()
                one.tell(one)
        finally:
            if waiting:
                asyncio.get_running_loop().call_soon(self._tell, waiting)

    def _drawn(self, lane: Lane, taken: list[Waiting]) -> _Turn:
        """Each row with its id, its entity and its arm."""
        rows = [row for one in taken for row in one.rows]
        ids = uuid7_texts(len(rows))
        start = 0
        for one in taken:
            one.ids = ids[start : start + len(one.rows)]
            start += len(one.rows)
        entities: list[str | None] = lane.decoder.entities(rows) if lane.decoder else []
        return _Turn(
            lane=lane,
            taken=taken,
            rows=rows,
            ids=ids,
            entities=entities,
            arms=lane.arms_of(ids, entities),
            values=[False] * len(rows),
            shares=[None] * len(rows),
        )

    # --- asking

    def _answered(self, turn: _Turn) -> None:
        failed = {arm for arm in set(turn.arms) if not self._has_answered(turn, arm)}
        if failed:
            turn = turn.without(failed)
        if turn.taken:
            self._told(turn)

    def _has_answered(self, turn: _Turn, arm: int) -> bool:
        """Ask an arm about its rows; whether it has an answer to all of them."""
        way = turn.lane.ways.get(arm)
        if way is None:
            return False
        is_alone = not turn.lane.endpoint.split.is_shared
        places = range(len(turn.arms)) if is_alone else _places(turn.arms, arm)
        rows = turn.rows if is_alone else [turn.rows[i] for i in places]
        if not self._may_answer(turn.lane.endpoint, way, len(rows)):
            return False
        inputs = way.layout.inputs(rows)
        said = None if inputs is None else self.asker.computed(way.loaded, inputs, len(rows))
        answers = None if said is None else way.layout.answers(said)
        if answers is None:
            return False
        for place, value in zip(places, answers[0], strict=True):
            turn.values[place] = value
        for place, shares in zip(places, answers[1] or (), strict=False):
            turn.shares[place] = shares
        return True

    def _may_answer(self, endpoint: Endpoint, way: Way, rows: int) -> bool:
        return (
            way.arm not in endpoint.stopped
            and way.loaded.health.may_answer(self.monotonic())
            and rows <= self.asker.quick_rows(way.loaded)
            and self.spool.has_room(2_000 * rows)
        )

    # --- what becomes of answers

    def _told(self, turn: _Turn) -> None:
        """Log the answers and write them out; nothing at all where they cannot be logged."""
        ways = [turn.lane.ways[arm] for arm in turn.arms]
        shown = list(map(orjson.dumps, turn.values))
        at = orjson.dumps(self.now())
        columns = (ways, turn.ids, turn.rows, shown, turn.entities, turn.shares)
        log = [
            log_row(way, prediction_id, at, row, answer, entity, shares)
            for way, prediction_id, row, answer, entity, shares in zip(*columns, strict=True)
        ]
        bodies = self._bodies(turn, ways, shown)
        try:
            self.spool.keep_rows(log, is_required=turn.lane.endpoint.is_lineage_required)
        except Saturated:
            return
        for one, body in zip(turn.taken, bodies, strict=True):
            one.body = body
        self.wake()
        self._note(turn)
        if turn.lane.endpoint.shadows:
            ids = [f"p-{one}" for one in turn.ids]
            self.shadows.follow_rows(turn.lane.endpoint, ids, turn.prediction)

    def _bodies(self, turn: _Turn, ways: Sequence[Way], shown: Sequence[bytes]) -> list[bytes]:
        starts = turn.starts()
        return [
            _body(turn, ways, shown, starts[place], starts[place + 1])
            if one.write is None
            else one.write(turn.lane.endpoint, turn.predictions(starts[place], starts[place + 1]))
            for place, one in enumerate(turn.taken)
        ]

    def _note(self, turn: _Turn) -> None:
        """What `Predictions` counts of each request."""
        endpoint = turn.lane.endpoint
        now = self.monotonic()
        seconds = [now - one.started for one in turn.taken]
        for took, one, start in zip(seconds, turn.taken, turn.starts(), strict=False):
            places = range(start, start + len(one.rows))
            met = {turn.arms[i] for i in places}
            for arm in met:
                own = places if len(met) == 1 else [i for i in places if turn.arms[i] == arm]
                self._note_arm(endpoint, arm, [turn.entities[i] for i in own], took)
        for arm, way in turn.lane.ways.items():
            if rows := turn.arms.count(arm):
                way.count(rows)
        telemetry.observe_each("tidewheel_predict_seconds", seconds, model=endpoint.model)

    def _note_arm(
        self, endpoint: Endpoint, arm: int, entities: Sequence[str | None], seconds: float
    ) -> None:
        tally = endpoint.tallies[arm]
        tally.add(len(entities), 0, seconds)
        if endpoint.is_watched:
            fate = SLOW if seconds > endpoint.objective_seconds else 0
            for entity in entities:
                tally.visits.note(entity, fate)
        if endpoint.split.is_shared:
            tally.new_entities += endpoint.met.count_new(entities)


def _parted(queue: list[Waiting], most: float) -> tuple[list[Waiting], list[Waiting]]:
    """The requests that wait longest, as many as have room; then the others.

    The first one is always taken as long as there is any room.
    """
    rows = 0
    for count, one in enumerate(queue):
        rows += len(one.rows)
        if rows > most and (count or most <= 0):
            return queue[:count], queue[count:]
    return queue, []


def _places(arms: Iterable[int], wanted: int) -> list[int]:
    return [i for i, arm in enumerate(arms) if arm == wanted]


def _body(turn: _Turn, ways: Sequence[Way], shown: Sequence[bytes], start: int, end: int) -> bytes:
    """Answers as the door of our own tells them."""
    answers = [
        answer_row(ways[i], turn.ids[i], shown[i], turn.shares[i]) for i in range(start, end)
    ]
    return turn.lane.head + b",".join(answers) + b"]}"
