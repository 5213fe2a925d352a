"""Opens a version when it is asked: once for all who ask, and nobody waits for ever."""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from importlib import import_module

from services.serving.domain.versions import FAILURES_IN_A_ROW, Engine, Loaded, Opened
from services.serving.handlers.bringing import Bringer
from services.serving.handlers.engines import Runtime, key_of, runtime_of, tell_fault
from services.serving.handlers.loading import CannotLoad, prove
from services.serving.handlers.sessions import NotInTime, Sessions
from services.serving.store.disk import Disk
from services.serving.store.proofs import Proofs
from shared import telemetry
from shared.errors import ArtifactCorrupt, NotFound


@dataclass(slots=True, kw_only=True)
class Openings:
    """What is being opened at this moment.

    Attributes:
        waiting_seconds: that a request waits for a version; then the rung below answers.
        rest_seconds: for which a version that cannot be opened is not tried again.
        doubt: told of a version that cannot be opened, so that it is fetched and proved again.
    """

    disk: Disk
    proofs: Proofs
    sessions: Sessions
    bringer: Bringer
    waiting_seconds: float
    rest_seconds: float
    monotonic: Callable[[], float]
    doubt: Callable[[Loaded], None]
    _prepared: dict[Engine, "asyncio.Task[None]"] = field(default_factory=dict)
    _under_way: dict[Hashable, "asyncio.Task[Runtime | None]"] = field(default_factory=dict)

    async def opened(self, loaded: Loaded) -> Opened | None:
        """The version, open; None when it cannot be opened, or not in time. It never raises.

        That a version takes long to open says nothing against it: it goes on being opened.
        """
        if loaded.opened is not None:
            return loaded.opened
        key = key_of(loaded.manifest, loaded.engine)
        found = self.sessions.find(loaded, key)
        if found is not None:
            return found
        opening = self._under_way.get(key)
        if opening is None:
            opening = self._under_way[key] = asyncio.create_task(self._open(loaded, key))
        done, _ = await asyncio.wait({opening}, timeout=self.waiting_seconds)
        if not done or opening.cancelled():
            return None
        runtime = opening.result()
        if runtime is None:
            return None
        return loaded.opened or self.sessions.keep(loaded, key, runtime)

    def prepare(self, engine: Engine) -> None:
        """A version needs this engine: its libraries are loaded ahead of the first request."""
        if engine not in self._prepared:
            self._prepared[engine] = asyncio.create_task(self._prepare(engine))

    async def _prepare(self, engine: Engine) -> None:
        module = "shared.onnx_models" if engine == "onnx" else "shared.models"
        try:
            await self.sessions.work(lambda: import_module(module))
        except (ImportError, NotInTime, RuntimeError) as error:
            telemetry.log("library_not_loaded", level="error", module=module, reason=str(error))

    async def _open(self, loaded: Loaded, key: Hashable) -> Runtime | None:
        try:
            runtime = await self._runtime(loaded)
        except Exception as error:  # noqa: BLE001 - whatever it is, the rung below answers
            self._failed(loaded, error)
            return None
        finally:
            self._under_way.pop(key, None)
        if loaded.engine == "onnx" and runtime.fault:
            tell_fault(loaded.manifest, runtime.fault)
        self.sessions.keep(loaded, key, runtime)
        return runtime

    async def _runtime(self, loaded: Loaded) -> Runtime:
        try:
            return await self.sessions.work(lambda: self._read(loaded))
        except (NotFound, ArtifactCorrupt):
            await self.bringer.bring_files(loaded.manifest)
            return await self.sessions.work(lambda: self._read(loaded))

    def _read(self, loaded: Loaded) -> Runtime:
        """In a thread: from the own disk; one that this release has not proved is proved, too."""
        manifest = loaded.manifest
        if self.proofs.of(loaded.digest) is not None:
            runtime = runtime_of(self.disk.read, manifest, loaded.engine)
        else:
            runtime, proof = prove(self.disk.read, manifest)
            self.proofs.keep(loaded.digest, proof)
        self.disk.touch([loaded.digest, *(file.digest for file in manifest.files.values())])
        return runtime

    def _failed(self, loaded: Loaded, error: Exception) -> None:
        detail = error.problem.detail if isinstance(error, CannotLoad) else str(error)
        cause = f"it cannot be opened: {detail}"[:300]
        telemetry.log("version_not_opened", level="error", digest=loaded.digest, reason=cause)
        loaded.health.cause = cause
        loaded.health.failures = FAILURES_IN_A_ROW
        loaded.health.rests_until = self.monotonic() + self.rest_seconds
        self.doubt(loaded)

    def close(self) -> None:
        """Open nothing more."""
        for opening in [*self._under_way.values(), *self._prepared.values()]:
            opening.cancel()
        self.sessions.shutdown()
