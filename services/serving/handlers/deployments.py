"""Brings desired states into effect: newest generation wins, and nobody waits for a load."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from services.serving.domain.endpoints import Endpoint, build_endpoint, named_by
from services.serving.domain.measures import Measure
from services.serving.domain.versions import FAILURES_IN_A_ROW, Loaded, Problem
from services.serving.handlers import counting
from services.serving.handlers.engines import COMPILED_FILE
from services.serving.handlers.loading import CannotLoad, fetch, load, manifest_of
from services.serving.handlers.voice import Voice
from services.serving.store.disk import Disk
from shared import telemetry
from shared.artifacts import ArtifactStore
from shared.background import BACKGROUND_FILE
from shared.clock import Clock
from shared.errors import StoreUnavailable
from shared.events import DeploymentDesired, Digest, Event, Heard, ModelName
from shared.manifest import Manifest
from shared.reactions import Reaction, on


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long loading may take and how often it is tried again."""

    fetch_seconds: float
    load_seconds: float
    retry_seconds: float
    kept_hours: float
    rest_seconds: float


DIED_TWICE: Final = "two processes in a row died while it was asked"


def _a_loader() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="load")


@dataclass(slots=True)
class _Retry:
    at: float
    seconds: float


class Deployments:
    """The endpoints of this replica. Readers take one by name; it never changes under them."""

    def __init__(
        self,
        disk: Disk,
        store: Callable[[], ArtifactStore],
        voice: Voice,
        patience: Patience,
        *,
        now: Clock,
        monotonic: Callable[[], float],
    ) -> None:
        self.endpoints: dict[ModelName, Endpoint] = {}
        self.measures: list[Measure] = []
        self.wanted: dict[ModelName, Heard[DeploymentDesired]] = {}
        self.problems: dict[ModelName, dict[Digest, Problem]] = {}
        self.is_restored = False
        self._disk = disk
        self._store = store
        self._voice = voice
        self._patience = patience
        self._now = now
        self._monotonic = monotonic
        self._loaded: dict[Digest, Loaded] = {}
        self._manifests: dict[Digest, Manifest] = {}
        self._dirty: set[ModelName] = set()
        self._applying: dict[ModelName, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._retries: dict[ModelName, _Retry] = {}
        self._refusals: set[tuple[ModelName, int, int, str]] = set()
        self._loader = _a_loader()
        self._loading: dict[Digest, Future[Loaded]] = {}
        self._fetchers = ThreadPoolExecutor(4, thread_name_prefix="fetch")

    def owner_of(self, model: ModelName) -> str | None:
        """The team of a model; None when no desired state names it."""
        wanted = self.wanted.get(model)
        return None if wanted is None else wanted.event.owner

    def reactions(self) -> list[Reaction]:
        return [on(DeploymentDesired, self.want)]

    async def want(self, heard: Heard[DeploymentDesired]) -> Iterable[Event]:
        """Keep a newer desired state on the disk; it is brought into effect in the background."""
        if self._disk.keep_wanted(heard):
            self.wanted[heard.event.model] = heard
            self._retries.pop(heard.event.model, None)
            self.touch(heard.event.model)
        return ()

    def touch(self, model: ModelName) -> None:
        """Look at this model again."""
        self._dirty.add(model)
        self._changed.set()

    @property
    def is_settled(self) -> bool:
        """Whether nothing is being brought into effect."""
        return not self._dirty and not self._applying

    async def restore(self) -> None:
        """Answer again as before the stop, from the own disk alone.

        What a model needs and the disk does not have is fetched afterwards.
        """
        remembered = self._disk.remembered()
        self.wanted |= {model: kept.wanted for model, kept in remembered.items()}
        self.is_restored = True
        for model, kept in remembered.items():
            before = kept.applied or kept.wanted
            await self._bring(before, from_disk=True)
            if before.event.generation != kept.wanted.event.generation:
                self.touch(model)

    async def run(self) -> None:
        """Bring what is wanted into effect until cancelled; one model never waits for another."""
        try:
            while True:
                self._changed.clear()
                for model in [m for m in self._dirty if m not in self._applying]:
                    self._dirty.discard(model)
                    task = asyncio.create_task(self._apply(model))
                    self._applying[model] = task
                    task.add_done_callback(partial(self._applied, model))
                await self._changed.wait()
        finally:
            for task in self._applying.values():
                task.cancel()
            self._loader.shutdown(wait=False, cancel_futures=True)
            self._fetchers.shutdown(wait=False, cancel_futures=True)

    def _applied(self, model: ModelName, task: asyncio.Task[None]) -> None:
        self._applying.pop(model, None)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            telemetry.log("apply_failed", level="error", model=model, exc_info=error)
            self._plan_retry(model)

    async def _apply(self, model: ModelName) -> None:
        await self._bring(self.wanted[model], from_disk=False)

    async def _bring(self, heard: Heard[DeploymentDesired], *, from_disk: bool) -> None:
        """Load what the state names; swap, or leave what answers now where it is."""
        desired = heard.event
        needed = named_by(desired)
        problems = await self._ensure_all(needed, from_disk=from_disk)
        known = self.problems.get(desired.model, {}).keys()
        self.problems[desired.model] = problems
        refused = {arm.manifest: arm.version for arm in desired.arms if arm.manifest in problems}
        # A shadow that cannot be had is refused too, and keeps nobody from being answered.
        is_whole = all(arm.role == "shadow" or arm.manifest not in refused for arm in desired.arms)
        if self._is_progress(desired, is_whole=is_whole, is_new=problems.keys() != known):
            self._swap(heard, is_whole=is_whole)
        if not from_disk:
            self._refuse(heard, {refused[d]: problems[d] for d in refused})
        if problems:
            self._plan_retry(desired.model, at_once=from_disk)
        else:
            self._retries.pop(desired.model, None)

    def _is_progress(self, desired: DeploymentDesired, *, is_whole: bool, is_new: bool) -> bool:
        """Whether the state should answer: in part only where nothing better does."""
        current = self.endpoints.get(desired.model)
        if current is None:
            return True
        if current.generation == desired.generation:
            return is_new
        return is_whole

    def _swap(self, heard: Heard[DeploymentDesired], *, is_whole: bool) -> None:
        model = heard.event.model
        before = self.endpoints.get(model)
        is_same = before is not None and before.generation == heard.event.generation
        met = before.met if before is not None and is_same else None
        endpoint = build_endpoint(heard, self._loaded, self._manifests, met)
        self.endpoints[model] = endpoint
        counting.begin(endpoint)
        for measure in self.measures:
            measure.is_replaced = measure.is_replaced or measure.endpoint is before
        self.measures.append(Measure(endpoint=endpoint, since=self._monotonic()))
        self._let_go()
        telemetry.gauge("tidewheel_models_served", len(self.endpoints))
        telemetry.log("applied", model=model, generation=endpoint.generation, whole=is_whole)
        self._doubt(endpoint)
        if is_whole:
            self._voice.applied(endpoint)
            self._keep_applied(heard)

    def _keep_applied(self, heard: Heard[DeploymentDesired]) -> None:
        try:
            self._disk.keep_applied(heard)
        except StoreUnavailable as error:
            telemetry.log("state_not_kept", level="warning", reason=str(error))

    def _refuse(self, heard: Heard[DeploymentDesired], problems: Mapping[int, Problem]) -> None:
        """Say each refusal once; a store that does not answer says nothing about a version."""
        desired = heard.event
        for version, problem in problems.items():
            said = (desired.model, desired.generation, version, problem.reason)
            telemetry.log(
                "version_not_loaded",
                level="warning",
                model=desired.model,
                version=version,
                reason=problem.reason,
                detail=problem.detail,
            )
            if not problem.passing and said not in self._refusals:
                self._refusals.add(said)
                self._voice.refused(heard, version, problem)

    def stop(self, endpoint: Endpoint, arm: int, cause: str) -> None:
        """Ask a challenger or a shadow no longer while this endpoint stands, and say so once."""
        if arm in endpoint.stopped:
            return
        endpoint.stopped[arm] = cause
        problem = Problem(reason="faulty", detail=cause[:300])
        self._refuse(endpoint.heard, {endpoint.desired.arms[arm].version: problem})

    def _let_go(self) -> None:
        """Forget versions that no endpoint uses; requests in flight hold theirs themselves."""
        used = {d for e in self.endpoints.values() for d in named_by(e.desired)}
        used |= {d for h in self.wanted.values() for d in named_by(h.event)}
        for digest in [d for d in self._loaded if d not in used]:
            del self._loaded[digest]
        for digest in [d for d in self._manifests if d not in used]:
            del self._manifests[digest]

    # --- loading

    async def _ensure_all(
        self, needed: Mapping[Digest, int], *, from_disk: bool
    ) -> dict[Digest, Problem]:
        problems: dict[Digest, Problem] = {}
        for digest, version in needed.items():
            if digest in self._loaded:
                continue
            try:
                await self._ensure(digest, version, from_disk=from_disk)
            except CannotLoad as error:
                problems[digest] = error.problem
        return problems

    async def _ensure(self, digest: Digest, version: int, *, from_disk: bool) -> None:
        await self._bring_file(digest, from_disk=from_disk)
        manifest = self._manifests[digest] = manifest_of(self._disk, digest)
        for name, file in manifest.files.items():
            await self._bring_part(name, file.digest, from_disk=from_disk)
        self._loaded[digest] = await self._load(digest, version, manifest)

    async def _bring_part(self, name: str, digest: Digest, *, from_disk: bool) -> None:
        """What only explains answers, or makes them quicker, keeps nobody from being answered."""
        try:
            await self._bring_file(digest, from_disk=from_disk)
        except CannotLoad as error:
            if name not in (BACKGROUND_FILE, COMPILED_FILE):
                raise
            telemetry.log("part_not_here", level="warning", file=name, reason=error.problem.detail)

    async def _load(self, digest: Digest, version: int, manifest: Manifest) -> Loaded:
        """Loaded by the one loader; what hangs there is left behind, and is not begun twice."""
        before = self._loading.get(digest)
        if before is None or before.done():
            before = self._loader.submit(load, self._disk, digest, version, manifest)
            self._loading[digest] = before
        loading = asyncio.wrap_future(before)
        done, _ = await asyncio.wait({loading}, timeout=self._patience.load_seconds)
        if done:
            del self._loading[digest]
            return self._rested(loading.result())
        seconds = f"{self._patience.load_seconds:g} s"
        if before.cancel():
            waits = Problem(reason="missing", detail=f"not begun in {seconds}", passing=True)
            raise CannotLoad(waits)
        self._loader.shutdown(wait=False)
        self._loader = _a_loader()
        detail = f"it did not load and give its first answers in {seconds}"
        raise CannotLoad(Problem(reason="load_failed", detail=detail))

    def _rested(self, loaded: Loaded) -> Loaded:
        """Who took two processes with it rests first, so that the rungs below answer meanwhile."""
        if loaded.digest in self._disk.asking.suspects:
            loaded.health.cause = DIED_TWICE
            loaded.health.failures = FAILURES_IN_A_ROW
            loaded.health.rests_until = self._monotonic() + self._patience.rest_seconds
        return loaded

    def _doubt(self, endpoint: Endpoint) -> None:
        """A challenger or shadow that took two processes with it is asked no longer."""
        for index, arm in enumerate(endpoint.desired.arms):
            if arm.role != "champion" and arm.manifest in self._disk.asking.suspects:
                self.stop(endpoint, index, DIED_TWICE)

    async def _bring_file(self, digest: Digest, *, from_disk: bool) -> None:
        loop = asyncio.get_running_loop()
        if from_disk:
            if not await loop.run_in_executor(self._fetchers, self._disk.has, digest):
                problem = Problem(
                    reason="missing", detail=f"{digest} is not on this disk", passing=True
                )
                raise CannotLoad(problem)
            return
        fetching = loop.run_in_executor(self._fetchers, self._fetch, digest)
        try:
            await asyncio.wait_for(fetching, self._patience.fetch_seconds)
        except TimeoutError as error:
            detail = f"the store did not bring {digest} in {self._patience.fetch_seconds:g} s"
            raise CannotLoad(Problem(reason="missing", detail=detail, passing=True)) from error

    def _fetch(self, digest: Digest) -> None:
        fetch(self._disk, self._store(), digest)

    # --- upkeep

    def _plan_retry(self, model: ModelName, *, at_once: bool = False) -> None:
        before = self._retries.get(model)
        seconds = 1.0 if before is None else min(before.seconds * 2, self._patience.retry_seconds)
        at = self._monotonic() + (0 if at_once else seconds)
        self._retries[model] = _Retry(at=at, seconds=seconds)

    def retry_due(self) -> None:
        """Try again what could not be loaded: bytes and stores may have been mended."""
        now = self._monotonic()
        for model, retry in list(self._retries.items()):
            if now >= retry.at and model not in self._applying:
                retry.at = now + retry.seconds
                self.touch(model)

    async def sweep(self) -> None:
        """Remove artifacts that neither a wanted nor an answering state needs."""
        states = [e.desired for e in self.endpoints.values()]
        states += [heard.event for heard in self.wanted.values()]
        named = {digest for state in states for digest in named_by(state)}
        known = [self._manifests[d] for d in named if d in self._manifests]
        if len(known) < len(named):
            return  # what an unread manifest names is not known, so nothing is safe to remove
        named |= {file.digest for manifest in known for file in manifest.files.values()}
        swept = await asyncio.to_thread(self._sweep, named)
        if swept:
            telemetry.log("artifacts_swept", count=len(swept))

    def _sweep(self, named: set[Digest]) -> list[Digest]:
        return self._disk.sweep(named, kept_hours=self._patience.kept_hours, now=self._now)

    def describe(self, model: ModelName) -> Mapping[str, Any]:
        """What is wrong with the versions of a model, for people."""
        return {
            digest: {"reason": problem.reason, "detail": problem.detail}
            for digest, problem in self.problems.get(model, {}).items()
        }
