"""Shadows: versions that answer a share of the requests after these were answered, unseen.

A request never waits for a shadow. What a shadow is to be asked lies in a bounded queue; a single
worker takes it from there, a few rows at a time, and has a thread of its own do the work. Who does
not fit into the queue, or comes while the version hangs, is dropped and counted: above some share
of drops the answers that remain say nothing. Whether a shadow is asked about a row is decided by
the prediction's id alone, so it does not depend on load, entity or answer.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from services.serving.domain.agreement import disagree, tolerance_of
from services.serving.domain.endpoints import Endpoint
from services.serving.domain.tallies import FAILED, SLOW, ArmTally
from services.serving.domain.versions import FAILURES_IN_A_ROW, SMALL_ROWS, Loaded, Said, Value
from services.serving.handlers.asking import is_ordinary
from services.serving.handlers.deployments import Deployments
from services.serving.handlers.log import Prediction, shadow_row
from services.serving.prediction.reading import Row
from services.serving.routing import point_of
from services.serving.store.spool import Spool
from shared import telemetry
from shared.clock import Clock
from shared.errors import Saturated, Unprocessable
from shared.events import Digest
from shared.latency import cell_of
from shared.usable import is_usable

CHOSEN_TOGETHER: Final = 300
"""Rows whose share is decided in one turn of the loop."""
GATHER_SECONDS: Final = 0.05
"""Rows wait so long for company: a question costs about the same for one row and for many, and
whoever answers at the same time shares the interpreter with it."""
FINISH_SECONDS: Final = 2.0
"""What a graceful stop grants the queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowLimits:
    """How much a shadow may take.

    Attributes:
        seconds: for one question of up to `SMALL_ROWS` rows.
        rows: that wait, of all shadows together.
    """

    seconds: float
    rows: int


def _a_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="shadow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """A row that was answered, and the shadow that is to answer it too."""

    endpoint: Endpoint
    arm: int
    seen: Prediction

    @property
    def tally(self) -> ArmTally:
        """What this shadow did."""
        return self.endpoint.tallies[self.arm]


@dataclass(slots=True, kw_only=True)
class Shadows:
    """The queue and its worker.

    How a shadow fares is kept apart from `Health`: the same version may stand on the ladder.
    """

    deployments: Deployments
    spool: Spool
    limits: ShadowLimits
    now: Clock
    wake: Callable[[], None]
    _queue: deque[Mirrored] = field(default_factory=deque)
    _filled: asyncio.Event = field(default_factory=asyncio.Event)
    _choosing: set[asyncio.Task[None]] = field(default_factory=set)
    _thread: ThreadPoolExecutor = field(default_factory=_a_thread)
    _hanging: dict[Digest, Future[list[Said]]] = field(default_factory=dict)
    _raised: dict[Digest, int] = field(default_factory=dict)
    _is_busy: bool = False
    _is_over: bool = False

    def follow(self, endpoint: Endpoint, answered: Sequence[Prediction]) -> None:
        """These rows were answered and logged: their shadows are asked once the answer has left."""
        if not endpoint.shadows:
            return
        loop = asyncio.get_running_loop()
        if len(answered) <= CHOSEN_TOGETHER:
            loop.call_soon(self._mirror, endpoint, answered)
            return
        task = loop.create_task(self._mirror_many(endpoint, answered))
        self._choosing.add(task)
        task.add_done_callback(self._choosing.discard)

    def follow_rows(
        self, endpoint: Endpoint, ids: Sequence[str], row_at: Callable[[int], Prediction]
    ) -> None:
        """The same for rows of which only those that are chosen are looked at.

        Args:
            row_at: the row at a place of `ids`, answered and logged.
        """
        if endpoint.shadows:
            asyncio.get_running_loop().call_soon(self._mirror_rows, endpoint, ids, row_at)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is asked."""
        return not self._queue and not self._choosing and not self._is_busy

    async def _mirror_many(self, endpoint: Endpoint, answered: Sequence[Prediction]) -> None:
        for start in range(0, len(answered), CHOSEN_TOGETHER):
            self._mirror(endpoint, answered[start : start + CHOSEN_TOGETHER])
            await asyncio.sleep(0)

    def _mirror(self, endpoint: Endpoint, answered: Sequence[Prediction]) -> None:
        self._mirror_rows(endpoint, [seen.id for seen in answered], answered.__getitem__)

    def _mirror_rows(
        self, endpoint: Endpoint, ids: Sequence[str], row_at: Callable[[int], Prediction]
    ) -> None:
        for arm in endpoint.shadows:
            for place in _chosen(endpoint, arm, ids):
                self._put(Mirrored(endpoint=endpoint, arm=arm, seen=row_at(place)))

    def _put(self, mirrored: Mirrored) -> None:
        if self._is_over or len(self._queue) >= self.limits.rows:
            self._drop([mirrored])
            return
        self._queue.append(mirrored)
        self._filled.set()

    def _drop(self, mirrored: Sequence[Mirrored]) -> None:
        for one in mirrored:
            one.tally.dropped += 1
        if mirrored:
            telemetry.count("tidewheel_shadow_answers_total", len(mirrored), outcome="dropped")

    # --- the worker

    async def run(self) -> None:
        """Ask what waits until cancelled."""
        while True:
            await self._filled.wait()
            if len(self._queue) < SMALL_ROWS:
                await asyncio.sleep(GATHER_SECONDS)
            self._is_busy = True
            try:
                await self._ask_next()
            finally:
                self._is_busy = False
            if not self._queue:
                self._filled.clear()

    async def _ask_next(self) -> None:
        """One question: waiting rows of one endpoint to one of its shadows."""
        asked: list[Mirrored] = []
        while self._queue and len(asked) < SMALL_ROWS and _is_alike(asked, self._queue[0]):
            asked.append(self._queue.popleft())
        if not asked:
            return
        endpoint, arm = asked[0].endpoint, asked[0].arm
        loaded = endpoint.paths[arm][0].loaded
        if loaded is not None and self._hangs(loaded.digest):
            self._drop(asked)
            return
        able = [] if loaded is None or arm in endpoint.stopped else _with_all(asked, loaded)
        kept = {id(one) for one in able}
        self._note_errors([one for one in asked if id(one) not in kept])
        if loaded is not None and able:
            await self._ask(loaded, able)

    def _hangs(self, digest: Digest) -> bool:
        """Whether a question to this version ran out of time and has not come back."""
        asking = self._hanging.get(digest)
        if asking is not None and asking.done():
            del self._hanging[digest]
        return digest in self._hanging

    async def _ask(self, loaded: Loaded, asked: Sequence[Mirrored]) -> None:
        """One question; where it raises, each of its rows is a question of its own.

        Rows of different requests meet here by chance: none is to suffer for another.
        """
        left = list(asked)
        try:
            if len(left) > 1 and await self._has_answered(loaded, left):
                return
            while left:
                one = left[:1]
                if not await self._has_answered(loaded, one):
                    self._note_errors(one)
                del left[0]
        except TimeoutError as error:
            self._tell_failure(left, loaded, error)
            self._note_errors(left)
        except asyncio.CancelledError:
            self._drop(left)
            raise

    async def _has_answered(self, loaded: Loaded, asked: Sequence[Mirrored]) -> bool:
        """Ask, measure, compare and log; False when the version raised.

        Raises:
            TimeoutError: it ran out of time.
        """
        started = time.perf_counter()
        try:
            said = await self._said(loaded, [one.seen.row for one in asked])
        except TimeoutError:
            asked[0].tally.counts[cell_of(time.perf_counter() - started)] += len(asked)
            raise
        except Exception as error:  # noqa: BLE001 - whatever a library raises is the shadow's error
            if len(asked) == 1:
                self._tell_failure(asked, loaded, error)
                self._stop_if_faulty(asked[0], loaded, error)
            return False
        self._raised.pop(loaded.digest, None)
        seconds = time.perf_counter() - started
        usable = [
            (one, answer)
            for one, answer in zip(asked, said, strict=True)
            if self._is_usable(one, loaded, answer)
        ]
        asked[0].tally.add(len(asked), len(asked) - len(usable), seconds)
        able = {id(one) for one, _ in usable}
        late = SLOW if seconds > asked[0].endpoint.objective_seconds else 0
        for one in asked:
            fate = late if id(one) in able else late | FAILED
            one.tally.visits.note(one.seen.entity, fate)
        self._keep(usable)
        return True

    async def _said(self, loaded: Loaded, rows: Sequence[Row]) -> list[Said]:
        opened = await self.deployments.opened(loaded)
        if opened is None:
            raise Unprocessable("the shadow cannot be opened at the moment")
        asking = self._thread.submit(opened.say, rows)
        answering = asyncio.wrap_future(asking)
        done, _ = await asyncio.wait({answering}, timeout=self.limits.seconds)
        if done:
            return answering.result()
        # A thread cannot be stopped. The others go on in a new one; this version has but the one,
        # so no more threads hang than there are versions.
        answering.cancel()
        self._hanging[loaded.digest] = asking
        self._thread.shutdown(wait=False)
        self._thread = _a_thread()
        raise TimeoutError

    # --- what is noted

    def _note_errors(self, failed: Sequence[Mirrored]) -> None:
        """Rows that it was to answer and has no answer to."""
        for one in failed:
            one.tally.requests += 1
            one.tally.errors += 1
            one.tally.visits.note(one.seen.entity, FAILED)
        if failed:
            telemetry.count("tidewheel_shadow_answers_total", len(failed), outcome="failed")

    def _tell_failure(self, asked: Sequence[Mirrored], loaded: Loaded, error: Exception) -> None:
        telemetry.log(
            "shadow_failed",
            level="warning",
            model=asked[0].endpoint.model,
            version=loaded.version,
            cause=str(error)[:300] or type(error).__name__,
        )

    def _stop_if_faulty(self, one: Mirrored, loaded: Loaded, error: Exception) -> None:
        """Raising at three whole rows in a row that a version had answers to is a fault."""
        step = one.seen.step
        if step is None or step.loaded is None or not is_ordinary(one.seen.row, loaded):
            return
        self._raised[loaded.digest] = raised = self._raised.get(loaded.digest, 0) + 1
        if raised >= FAILURES_IN_A_ROW:
            self.deployments.stop(one.endpoint, one.arm, f"raised in a row: {error}")

    def _is_usable(self, one: Mirrored, loaded: Loaded, said: Said) -> bool:
        """As for answers that are seen; one that is not, where the seen one is, is a fault."""
        value, probabilities = said
        if is_usable(value, probabilities, loaded.manifest):
            return True
        step = one.seen.step
        if step is not None and step.loaded is not None and is_ordinary(one.seen.row, loaded):
            detail = f"its unseen answer {str(value)[:50]} may not be given, and the seen one could"
            self.deployments.stop(one.endpoint, one.arm, detail)
        return False

    def _keep(self, answers: Sequence[tuple[Mirrored, Said]]) -> None:
        """Compare with what was seen, and log as far as there is room that nobody else needs."""
        if not answers:
            return
        endpoint, arm = answers[0][0].endpoint, answers[0][0].arm
        tolerance = tolerance_of(endpoint.manifest)
        for one, (value, _) in answers:
            _compare(one, value, tolerance)
        now = self.now()
        rows = [shadow_row(endpoint, arm, one.seen, said, now) for one, said in answers]
        telemetry.count("tidewheel_shadow_answers_total", len(rows), outcome="answered")
        if not self._has_kept(rows):
            self._drop([one for one, _ in answers])

    def _has_kept(self, rows: Sequence[bytes]) -> bool:
        if not self.spool.has_room(self.spool.size_bytes):
            return False  # the second half of the spool is for what was seen
        try:
            self.spool.keep_rows(rows)
        except Saturated:
            return False
        self.wake()
        return True

    async def finish(self) -> None:
        """Ask what waits as far as two seconds allow, drop the rest; nothing new is taken."""
        self._is_over = True
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                while self._queue:
                    await self._ask_next()
        except TimeoutError:
            telemetry.log("shadows_left", level="warning", rows=len(self._queue))
        self._drop(list(self._queue))
        self._queue.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)


def _chosen(endpoint: Endpoint, arm: int, ids: Sequence[str]) -> Sequence[int]:
    """The places of the rows that a shadow is asked about."""
    shadow = endpoint.desired.arms[arm]
    if shadow.weight >= 1:
        return range(len(ids))
    salt = f"{endpoint.desired.salt}/shadow {shadow.version}"
    return [place for place, one in enumerate(ids) if point_of(salt, one) < shadow.weight]


def _is_alike(asked: Sequence[Mirrored], further: Mirrored) -> bool:
    return not asked or (asked[0].endpoint is further.endpoint and asked[0].arm == further.arm)


def _with_all(asked: Sequence[Mirrored], loaded: Loaded) -> list[Mirrored]:
    return [one for one in asked if all(name in one.seen.row for name in loaded.names)]


def _compare(one: Mirrored, value: Value, tolerance: float | None) -> None:
    """With what the champion itself said; another rung's answer is no measure of a candidate."""
    step = one.seen.step
    if step is not None and step.rung == "champion":
        one.tally.compared += 1
        one.tally.disagreed += disagree(one.seen.value, value, tolerance)
