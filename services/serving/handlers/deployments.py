"""Brings desired states into effect: newest generation wins, and nobody waits for a load."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, Final
from weakref import WeakValueDictionary

import orjson

from services.serving.domain.endpoints import Endpoint, build_endpoint, named_by
from services.serving.domain.measures import Measure
from services.serving.domain.versions import (
    FAILURES_IN_A_ROW,
    Engine,
    Health,
    Loaded,
    Opened,
    Problem,
)
from services.serving.handlers import counting
from services.serving.handlers.bringing import Bringer, Brought
from services.serving.handlers.endpoints import Endpoints
from services.serving.handlers.engines import names_compiled
from services.serving.handlers.loading import CannotLoad, manifest_of
from services.serving.handlers.opening import Openings
from services.serving.handlers.sessions import Sessions
from services.serving.handlers.voice import Voice
from services.serving.store.disk import MOST_RECENT, Disk, Known
from services.serving.store.proofs import Proofs
from shared import telemetry
from shared.clock import Clock
from shared.errors import StoreUnavailable, Unprocessable
from shared.events import DeploymentDesired, Digest, Event, Heard, ModelName
from shared.manifest import Manifest, read_manifest
from shared.reactions import Reaction, on


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long things may take and how often they are tried again."""

    opening_seconds: float
    retry_seconds: float
    kept_hours: float
    rest_seconds: float


DIED_TWICE: Final = "two processes in a row died while it was asked"
MOST_APPLYING: Final = 32
"""Models that are brought into effect at a time: of thousands the first ones are ready early."""
COOL_SECONDS: Final = 60.0
"""An endpoint is looked at so often whether anybody needs it still."""


@dataclass(slots=True)
class _Retry:
    at: float
    seconds: float


class Deployments:
    """What is desired of this replica, and what answers here."""

    def __init__(
        self,
        disk: Disk,
        proofs: Proofs,
        bringer: Bringer,
        sessions: Sessions,
        voice: Voice,
        patience: Patience,
        *,
        now: Clock,
        monotonic: Callable[[], float],
    ) -> None:
        self.endpoints = Endpoints(self._make)
        self.measures: list[Measure] = []
        self.problems: dict[ModelName, dict[Digest, Problem]] = {}
        self.is_restored = False
        self.is_warm = asyncio.Event()
        self.sessions = sessions
        self.bringer = bringer
        self._disk = disk
        self._proofs = proofs
        self._voice = voice
        self._patience = patience
        self._now = now
        self._monotonic = monotonic
        self._openings = Openings(
            disk=disk,
            proofs=proofs,
            sessions=sessions,
            bringer=bringer,
            waiting_seconds=patience.opening_seconds,
            rest_seconds=patience.retry_seconds,
            monotonic=monotonic,
            doubt=self._doubt_version,
        )
        self._loaded: WeakValueDictionary[Digest, Loaded] = WeakValueDictionary()
        self._doubted: set[Digest] = set()
        self._dirty: dict[ModelName, None] = {}
        self._applying: dict[ModelName, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._retries: dict[ModelName, _Retry] = {}
        self._refusals: set[tuple[ModelName, int, int, str]] = set()
        self._cooling: deque[tuple[float, ModelName]] = deque()
        self._measuring: dict[ModelName, Measure] = {}
        self._new: set[ModelName] = set()
        self._recent_at = monotonic() + COOL_SECONDS

    @property
    def wanted(self) -> Mapping[ModelName, Known]:
        """Every model that a desired state names."""
        return self.endpoints.known

    def owner_of(self, model: ModelName) -> str | None:
        """The team of a model; None when no desired state names it."""
        known = self.endpoints.known.get(model)
        return None if known is None else known.owner

    def reactions(self) -> list[Reaction]:
        return [on(DeploymentDesired, self.want)]

    async def want(self, heard: Heard[DeploymentDesired]) -> Iterable[Event]:
        """Keep a newer desired state on the disk; it is brought into effect in the background."""
        if self._disk.keep_wanted(heard):
            desired = heard.event
            known = self.endpoints.known.get(desired.model)
            self.endpoints.known[desired.model] = Known(
                owner=desired.owner,
                generation=desired.generation,
                answering=None if known is None else known.answering,
            )
            self._retries.pop(desired.model, None)
            self.touch(desired.model)
        return ()

    def touch(self, model: ModelName) -> None:
        """Look at this model again."""
        self._dirty[model] = None
        self._changed.set()

    @property
    def is_settled(self) -> bool:
        """Whether nothing is being brought into effect."""
        return not self._dirty and not self._applying

    async def restore(self) -> None:
        """Know again what was known before the stop; nothing is opened before it is asked.

        What was heard and not yet applied is brought into effect afterwards.
        """
        self.endpoints.known.update(self._disk.known())
        self.is_restored = True
        telemetry.gauge("tidewheel_models_served", len(self.endpoints))
        for model, known in self.endpoints.known.items():
            if known.answering != known.generation or not known.is_applied:
                self.touch(model)

    async def warm_up(self) -> None:
        """Open what was asked last before the stop; others wait until they are asked."""
        for model in self._disk.recent():
            endpoint = self.endpoints.get(model)
            first = endpoint.main_path[0].loaded if endpoint and endpoint.main_path else None
            if first is not None:
                await self.opened(first)
        self.is_warm.set()

    async def run(self) -> None:
        """Bring what is wanted into effect until cancelled; one model never waits for another."""
        try:
            while True:
                self._changed.clear()
                while len(self._applying) < MOST_APPLYING and (model := self._next_dirty()):
                    task = asyncio.create_task(self._apply(model))
                    self._applying[model] = task
                    task.add_done_callback(partial(self._applied, model))
                await self._changed.wait()
        finally:
            for task in self._applying.values():
                task.cancel()

    def _next_dirty(self) -> ModelName | None:
        model = next((one for one in self._dirty if one not in self._applying), None)
        if model is not None:
            del self._dirty[model]
        return model

    async def finish(self) -> None:
        """Remember what was asked last; open, fetch and prove nothing more."""
        self._keep_recent()
        self._openings.close()
        await self.bringer.close()

    def _applied(self, model: ModelName, task: asyncio.Task[None]) -> None:
        self._applying.pop(model, None)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            telemetry.log("apply_failed", level="error", model=model, exc_info=error)
            self._plan_retry(model)

    async def _apply(self, model: ModelName) -> None:
        remembered = self._disk.remembered(model)
        if remembered is not None:
            await self._bring(remembered.wanted)

    async def _bring(self, heard: Heard[DeploymentDesired]) -> None:
        """Have what the state names proved; swap, or leave what answers now where it is."""
        desired = heard.event
        found, problems = await self._bring_all(named_by(desired))
        known = self.problems.get(desired.model, {}).keys()
        refused = {arm.manifest: arm.version for arm in desired.arms if arm.manifest in problems}
        # A shadow that cannot be had is refused too, and keeps nobody from being answered.
        is_whole = all(arm.role == "shadow" or arm.manifest not in refused for arm in desired.arms)
        is_progress = self._is_progress(desired, is_whole, is_new=problems.keys() != known)
        self._note_problems(desired.model, problems)
        if is_progress:
            await self._open_before(desired, found)
            self._swap(heard, found, is_whole=is_whole)
        self._refuse(heard, {refused[d]: problems[d] for d in refused})
        if problems:
            self._plan_retry(desired.model)
        else:
            self._retries.pop(desired.model, None)

    def _note_problems(self, model: ModelName, problems: dict[Digest, Problem]) -> None:
        if problems:
            self.problems[model] = problems
        else:
            self.problems.pop(model, None)

    def _is_progress(self, desired: DeploymentDesired, is_whole: bool, *, is_new: bool) -> bool:
        """Whether the state should answer: in part only where nothing better does."""
        known = self.endpoints.known.get(desired.model)
        if known is None or known.answering is None:
            return True
        if known.answering == desired.generation:
            return is_new or (is_whole and not known.is_applied)
        return is_whole

    async def _open_before(
        self, desired: DeploymentDesired, found: Mapping[Digest, Loaded]
    ) -> None:
        """Where requests come in at this moment, none of them waits for the new version."""
        before = self.endpoints.warm(desired.model)
        if before is None or not any(s.loaded and s.loaded.opened for s in before.main_path):
            return
        for arm in desired.arms:
            loaded = found.get(arm.manifest)
            if loaded is not None and arm.role != "shadow":
                await self.opened(loaded)

    def _swap(
        self,
        heard: Heard[DeploymentDesired],
        found: Mapping[Digest, Loaded],
        *,
        is_whole: bool,
    ) -> None:
        model = heard.event.model
        before = self.endpoints.warm(model)
        is_same = before is not None and before.generation == heard.event.generation
        met = before.met if before is not None and is_same else None
        endpoint = build_endpoint(heard, found, self._manifests_of(heard.event, found), met)
        self._put(endpoint)
        telemetry.gauge("tidewheel_models_served", len(self.endpoints))
        telemetry.log("applied", model=model, generation=endpoint.generation, whole=is_whole)
        if is_whole:
            self._voice.applied(endpoint)
            self._keep_applied(heard)

    def _put(self, endpoint: Endpoint) -> None:
        self.endpoints.put(endpoint)
        self._new.add(endpoint.model)
        counting.begin(endpoint)
        self._measure(endpoint)
        self._cooling.append((self._monotonic() + COOL_SECONDS, endpoint.model))
        self._stop_suspects(endpoint)

    def take_changed(self) -> set[ModelName]:
        """The models whose endpoints were made since this was asked last."""
        taken, self._new = self._new, set()
        return taken

    def _measure(self, endpoint: Endpoint) -> None:
        before = self._measuring.get(endpoint.model)
        if before is not None:
            before.is_replaced = True
        measure = Measure(endpoint=endpoint, since=self._monotonic())
        self._measuring[endpoint.model] = measure
        self.measures.append(measure)

    def _keep_applied(self, heard: Heard[DeploymentDesired]) -> None:
        try:
            self._disk.keep_applied(heard)
            self.endpoints.known[heard.event.model].is_applied = True
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

    # --- versions

    async def opened(self, loaded: Loaded) -> Opened | None:
        """The version, open; None when it cannot be opened, or not in time. It never raises."""
        return await self._openings.opened(loaded)

    async def _bring_all(
        self, needed: Mapping[Digest, int]
    ) -> tuple[dict[Digest, Loaded], dict[Digest, Problem]]:
        found: dict[Digest, Loaded] = {}
        problems: dict[Digest, Problem] = {}
        for digest, version in needed.items():
            loaded = self._loaded.get(digest)
            if loaded is not None and digest not in self._doubted:
                found[digest] = loaded
                continue
            try:
                brought = await self.bringer.bring(digest)
            except CannotLoad as error:
                problems[digest] = error.problem
            else:
                self._doubted.discard(digest)
                self._openings.prepare(brought.proof.engine)
                found[digest] = self._brought(digest, version, brought)
        return found, problems

    def _brought(self, digest: Digest, version: int, brought: Brought) -> Loaded:
        """The version, with the health that it has; a mended one has no longer to rest."""
        loaded = self._loaded.get(digest)
        if loaded is None or loaded.engine != brought.proof.engine:
            return self._known(digest, version, brought.manifest)
        if digest not in self._disk.asking.suspects:
            loaded.health.failures = 0
            loaded.health.rests_until = -inf
        return loaded

    def _known(self, digest: Digest, version: int, manifest: Manifest) -> Loaded:
        """A version whose files are on the own disk; what this release proved of it is known."""
        proof = self._proofs.of(digest)
        likely: Engine = "onnx" if names_compiled(manifest) else "scikit-learn"
        loaded = Loaded(
            version=version,
            digest=digest,
            manifest=manifest,
            engine=likely if proof is None else proof.engine,
            names=tuple(column.name for column in manifest.columns),
            health=Health(
                seconds=0.0 if proof is None else proof.seconds,
                has_hung=self._disk.has_hung(digest),
            ),
        )
        if digest in self._disk.asking.suspects:
            # Who took two processes with it rests first, so that the rungs below answer meanwhile.
            loaded.health.cause = DIED_TWICE
            loaded.health.failures = FAILURES_IN_A_ROW
            loaded.health.rests_until = self._monotonic() + self._patience.rest_seconds
        self._loaded[digest] = loaded
        return loaded

    def seen(self, model: ModelName) -> Endpoint | None:
        """The endpoint as it is or would be, for somebody who only looks."""
        return self.endpoints.warm(model) or self._built(model)

    def _make(self, model: ModelName) -> Endpoint | None:
        endpoint = self._built(model)
        if endpoint is not None:
            self._put(endpoint)
        return endpoint

    def _built(self, model: ModelName) -> Endpoint | None:
        """The endpoint of a model that was not asked of late, from the own disk."""
        heard = self._disk.answering(model)
        if heard is None:
            return None
        found: dict[Digest, Loaded] = {}
        for digest, version in named_by(heard.event).items():
            try:
                if digest not in self.problems.get(model, {}):
                    found[digest] = self._loaded.get(digest) or self._known(
                        digest, version, manifest_of(self._disk.read, digest)
                    )
            except CannotLoad as error:  # it is fetched again; until then the rung below answers
                self.problems.setdefault(model, {})[digest] = error.problem
                self.touch(model)
        return build_endpoint(heard, found, self._manifests_of(heard.event, found))

    def _manifests_of(
        self, desired: DeploymentDesired, found: Mapping[Digest, Loaded]
    ) -> dict[Digest, Manifest]:
        """Also of versions that cannot be loaded: rows may name what these know."""
        manifests = {digest: loaded.manifest for digest, loaded in found.items()}
        for digest in named_by(desired).keys() - manifests.keys():
            try:
                manifests[digest] = manifest_of(self._disk.read, digest)
            except CannotLoad:
                continue
        return manifests

    def _doubt_version(self, loaded: Loaded) -> None:
        """It was proved and cannot be opened: it is fetched and proved again."""
        self._proofs.forget([loaded.digest])
        self._doubted.add(loaded.digest)
        for endpoint in list(self.endpoints.values()):
            if loaded.digest in named_by(endpoint.desired):
                self.touch(endpoint.model)

    def _stop_suspects(self, endpoint: Endpoint) -> None:
        """A challenger or shadow that took two processes with it is asked no longer."""
        for index, arm in enumerate(endpoint.desired.arms):
            if arm.role != "champion" and arm.manifest in self._disk.asking.suspects:
                self.stop(endpoint, index, DIED_TWICE)

    # --- upkeep

    def _plan_retry(self, model: ModelName) -> None:
        before = self._retries.get(model)
        seconds = 1.0 if before is None else min(before.seconds * 2, self._patience.retry_seconds)
        self._retries[model] = _Retry(at=self._monotonic() + seconds, seconds=seconds)

    def retry_due(self) -> None:
        """Try again what could not be loaded; forget what nobody asks any more."""
        now = self._monotonic()
        if now >= self._recent_at:
            self._recent_at = now + COOL_SECONDS
            self._keep_recent()
        for model, retry in list(self._retries.items()):
            if now >= retry.at and model not in self._applying:
                retry.at = now + retry.seconds
                self.touch(model)
        while self._cooling and self._cooling[0][0] <= now:
            _, model = self._cooling.popleft()
            self._cool(model, now)

    def _cool(self, model: ModelName, now: float) -> None:
        endpoint = self.endpoints.warm(model)
        if endpoint is None:
            return
        if not self._is_idle(endpoint, now):
            self._cooling.append((now + COOL_SECONDS, model))
            return
        self.endpoints.cool(model)
        self._measuring.pop(model).is_replaced = True

    def _is_idle(self, endpoint: Endpoint, now: float) -> bool:
        """Whether all that is known of an endpoint is on the disk."""
        model = endpoint.model
        if endpoint.is_watched or endpoint.stopped or model in self.problems:
            return False
        if model in self._dirty or model in self._applying:
            return False
        if not all(tally.is_empty for tally in endpoint.tallies):
            return False
        versions = [s.loaded for path in endpoint.paths for s in path if s.loaded is not None]
        return all(v.opened is None and v.health.is_well(now) for v in versions)

    def _keep_recent(self) -> None:
        models = [ModelName(one.manifest.model) for one in self.sessions.busiest(MOST_RECENT)]
        if models:
            try:
                self._disk.keep_recent(models)
            except StoreUnavailable as error:
                telemetry.log("state_not_kept", level="warning", reason=str(error))

    async def sweep(self) -> None:
        """Remove artifacts that neither a wanted nor an answering state needs."""
        swept = await asyncio.to_thread(self._sweep)
        if swept:
            telemetry.log("artifacts_swept", count=len(swept))

    def _sweep(self) -> list[Digest]:
        named: set[Digest] = set()
        try:
            for state in self._disk.states():
                named |= self._named_in(state)
                time.sleep(0)  # answering goes first
        except (OSError, Unprocessable, orjson.JSONDecodeError, KeyError, TypeError) as error:
            # What an unread manifest names is not known, so nothing is safe to remove.
            telemetry.log("not_swept", level="info", reason=str(error)[:300])
            return []
        swept = self._disk.sweep(named, kept_hours=self._patience.kept_hours, now=self._now)
        self._proofs.forget(swept)
        return swept

    def _named_in(self, state: bytes) -> set[Digest]:
        data = orjson.loads(state)["data"]
        manifests = {Digest(arm["manifest"]) for arm in data["arms"]}
        manifests |= {Digest(rung["manifest"]) for rung in data["ladder"] if rung.get("manifest")}
        files = set()
        for digest in manifests:
            manifest = read_manifest(self._disk.place_of(digest).read_bytes())
            files |= {file.digest for file in manifest.files.values()}
        return manifests | files

    def describe(self, model: ModelName) -> Mapping[str, Any]:
        """What is wrong with the versions of a model, for people."""
        return {
            digest: {"reason": problem.reason, "detail": problem.detail}
            for digest, problem in self.problems.get(model, {}).items()
        }
