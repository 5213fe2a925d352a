"""Explains answers, in a thread of its own and with a budget, so that no prediction waits for it.

scikit-learn and all that reads estimators is imported with the first explanation. The model file
is the source even where a compiled form of it answers: explanations need to look inside.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any, Final

from services.serving.domain.bindings import Wanted
from services.serving.domain.endpoints import Endpoint, Step
from services.serving.domain.versions import Loaded, Value
from services.serving.explanation.words import told, told_rule
from services.serving.handlers.engines import MODEL_FILE
from services.serving.handlers.log import Prediction
from services.serving.handlers.predictions import Predictions
from services.serving.prediction.forms import OBJECTS, Form
from services.serving.prediction.reading import Row
from services.serving.store.disk import Disk
from shared import telemetry
from shared.background import BACKGROUND_FILE, Background, read_background, rough_background
from shared.errors import NotFound, Saturated, Unprocessable
from shared.events import Digest, ModelName
from shared.manifest import Manifest
from shared.recent import Recent

MOST_ROWS: Final = 100
MOST_WAITING: Final = 16
MOST_KEPT_BYTES: Final = 256 * 2**20
"""Of model files whose estimators are kept for explanations; the newest one always is."""


class OutOfTime(Exception):
    """An explanation has taken as long as it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A row to explain.

    Attributes:
        steps: who may explain it, in this order: the first one that can.
        label: the class to explain; None for the one that is answered.
    """

    row: Row
    steps: Sequence[Step]
    label: Value | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An explained row and whose explanation it is."""

    step: Step
    answer: Value
    explanation: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Opened:
    """A version whose estimator was loaded for explanations."""

    workshop: Any
    background: Background


def _a_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="explain")


@dataclass(slots=True, kw_only=True)
class Explanations:
    """Explanations for every model of this replica.

    Attributes:
        seconds: that explaining may take, once its version is open.
        opening_seconds: that a request for explanations waits while a version is opened; one for
            predictions never does.
    """

    predictions: Predictions
    disk: Disk
    seconds: float
    opening_seconds: float
    monotonic: Callable[[], float]
    _opened: Recent[Digest, _Opened] = field(default_factory=lambda: Recent(MOST_KEPT_BYTES))
    _thread: ThreadPoolExecutor = field(default_factory=_a_thread)
    _waiting: int = 0
    _late: set[Digest] = field(default_factory=set)

    def close(self) -> None:
        """Begin no more explanations."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def explain(
        self,
        model: ModelName,
        rows: Sequence[Any],
        *,
        body_bytes: int = 0,
        form: Form = OBJECTS,
        wanted: Wanted | None = None,
    ) -> tuple[Endpoint, list[Told]]:
        """What the champion's answers to these rows are made of; nothing of it is logged.

        Args:
            form: how the caller laid the rows out, to tell where a fault is.
            wanted: the version or the arm to explain instead of the champion.

        Raises:
            NotFound: no desired state names the model, or nobody is what was wanted.
            Conflict: who was wanted cannot answer here.
            InvalidInput: a row is not one of this model's.
            TooLarge: there are more rows than are explained at once.
            Saturated: there is no time, or nobody, for it at the moment.
        """
        endpoint = self.predictions.endpoint_of(model)
        bound = await self.predictions.checked(
            endpoint,
            rows,
            body_bytes=body_bytes,
            form=form,
            wanted=wanted,
            most_rows=MOST_ROWS,
        )
        path = endpoint.main_path if bound is None else bound.path
        now = self.predictions.monotonic()
        steps = [step for step in path if step.may_answer(now)]
        asked = [Asked(row=row, steps=steps) for row in rows]
        return endpoint, await self._explained(asked, self.opening_seconds + self.seconds)

    async def of(
        self, predictions: Sequence[Prediction]
    ) -> tuple[list[dict[str, Any] | None], str]:
        """Explanations of answers, each by the version that gave it; or none, and why."""
        nothing: list[dict[str, Any] | None] = [None] * len(predictions)
        if len(predictions) > MOST_ROWS:
            return nothing, f"at most {MOST_ROWS} rows are explained at once"
        asked = [
            Asked(row=p.row, steps=[p.step] if p.step else [], label=p.value) for p in predictions
        ]
        try:
            found = await self._explained(asked, self.seconds)
        except Saturated as error:
            return nothing, error.detail
        return [one.explanation for one in found], ""

    async def _explained(self, asked: Sequence[Asked], seconds: float) -> list[Told]:
        digests = {step.digest for one in asked for step in one.steps[:1] if step.digest}
        if self._waiting >= MOST_WAITING or digests & self._late:
            raise Saturated("Other explanations are being worked on; try again shortly.")
        self._waiting += 1
        try:
            return await self._within(asked, digests, seconds)
        except OutOfTime as error:
            detail = f"Explaining takes longer than {self.seconds:g} s; send fewer rows."
            raise Saturated(detail) from error
        finally:
            self._waiting -= 1

    async def _within(
        self, asked: Sequence[Asked], digests: set[Digest], seconds: float
    ) -> list[Told]:
        deadline = self.monotonic() + seconds
        working = self._thread.submit(self._work, asked, deadline)
        found = asyncio.wrap_future(working)
        done, _ = await asyncio.wait({found}, timeout=seconds)
        if done:
            return found.result()
        if not working.cancel():
            # A thread cannot be stopped. Its version is not asked again before it comes back, and
            # all others go on in a new one.
            self._late |= digests
            found.add_done_callback(partial(self._came_back, digests))
            self._thread.shutdown(wait=False)
            self._thread = _a_thread()
        raise Saturated("The version is being opened for explanations; try again shortly.")

    def _came_back(self, digests: set[Digest], found: "asyncio.Future[list[Told]]") -> None:
        self._late -= digests
        if not found.cancelled():
            found.exception()

    # --- in the thread

    def _work(self, asked: Sequence[Asked], deadline: float) -> list[Told]:
        for digest, step in {step.digest: step for a in asked for step in a.steps}.items():
            if digest is not None and step.loaded is not None:
                with contextlib.suppress(Unprocessable):  # said when a row is to be explained
                    self._open(step.loaded)
        started = self.monotonic()
        deadline = min(deadline, started + self.seconds)
        told_rows: list[Told] = []
        for index, one in enumerate(asked):
            # Every row has an equal part of what is left, and keeps some of it for the others.
            now = self.monotonic()
            share = now + 0.5 * (deadline - now) / (len(asked) - index)
            told_rows.append(self._told(one, deadline, share))
        return told_rows

    def _told(self, asked: Asked, deadline: float, share: float) -> Told:
        for step in asked.steps:
            try:
                found = self._told_by(step, asked, deadline, share)
            except Unprocessable as error:
                telemetry.log("not_explained", level="warning", cause=str(error)[:300])
                continue
            if found is not None:
                return found
        raise Saturated("No version and no rule of this model can explain this at the moment.")

    def _told_by(self, step: Step, asked: Asked, deadline: float, share: float) -> Told | None:
        if step.loaded is None:
            if step.rule is None:
                return None
            plain = told_rule(step.rule, asked.row)
            return Told(step=step, answer=plain["output"], explanation=plain)
        loaded, row = step.loaded, asked.row
        if loaded.health.has_hung or not all(name in row for name in loaded.names):
            return None

        def tick() -> None:
            if self.monotonic() > deadline:
                raise OutOfTime

        opened = self._open(loaded)
        is_class = loaded.manifest.task == "classification"
        answer, explained = opened.workshop.explain(
            row, asked.label if is_class else None, tick, lambda: self.monotonic() < share
        )
        columns, label = loaded.manifest.columns, answer if is_class else None
        plain = told(explained, columns, row, opened.background, label)
        return Told(step=step, answer=answer if is_class else float(answer), explanation=plain)

    def _open(self, loaded: Loaded) -> _Opened:
        found = self._opened.get(loaded.digest)
        if found is not None:
            return found
        opened = open_version(self.disk, loaded)
        size = loaded.manifest.files[MODEL_FILE].size_bytes
        self._opened.keep(loaded.digest, opened, size)
        return opened


def open_version(disk: Disk, loaded: Loaded) -> _Opened:
    """A version's estimator and background, from the own disk.

    Raises:
        Unprocessable: its files cannot be read; whoever asks goes on to the next rung.
    """
    models: Any = import_module("shared.models")
    choosing: Any = import_module("services.serving.explanation.choosing")
    manifest = loaded.manifest
    try:
        estimator = models.load(disk.read(manifest.files[MODEL_FILE].digest))
    except NotFound as error:
        raise Unprocessable(f"its files cannot be read: {error}") from error
    background = background_of(disk, manifest)
    workshop = choosing.workshop_of(estimator, manifest.columns, manifest.task, background)
    return _Opened(workshop, background)


def background_of(disk: Disk, manifest: Manifest) -> Background:
    """What was usual in training; only the ranges of the manifest where the file is not here."""
    file = manifest.files.get(BACKGROUND_FILE)
    if file is None:
        return rough_background(manifest.columns)
    try:
        return read_background(disk.read(file.digest))
    except (NotFound, Unprocessable) as error:
        telemetry.log("background_not_read", level="warning", reason=str(error)[:300])
        return rough_background(manifest.columns)
