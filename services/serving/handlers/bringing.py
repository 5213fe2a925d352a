"""Brings versions to the own disk and has them proved, before anybody is answered by them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from services.serving.domain.versions import Problem, Proof
from services.serving.handlers.engines import COMPILED_FILE, tell_fault
from services.serving.handlers.loading import CannotLoad, fetch, manifest_of
from services.serving.handlers.proving import Prover
from services.serving.store.disk import Disk
from services.serving.store.proofs import Proofs
from shared import telemetry
from shared.artifacts import ArtifactStore
from shared.background import BACKGROUND_FILE
from shared.events import Digest
from shared.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A version whose files are here and were proved."""

    manifest: Manifest
    proof: Proof


class Bringer:
    """Fetches, in a few threads, and proves, once per version and release."""

    def __init__(
        self,
        disk: Disk,
        store: Callable[[], ArtifactStore],
        proofs: Proofs,
        prover: Prover,
        *,
        fetch_seconds: float,
    ) -> None:
        self.store = store
        self._disk = disk
        self._proofs = proofs
        self._prover = prover
        self._fetch_seconds = fetch_seconds
        self._fetchers = ThreadPoolExecutor(4, thread_name_prefix="fetch")

    async def close(self) -> None:
        """Bring nothing more."""
        self._fetchers.shutdown(wait=False, cancel_futures=True)
        await self._prover.close()

    async def bring(self, digest: Digest) -> Brought:
        """The version, fetched where it is not here, proved where it was not.

        Raises:
            CannotLoad: why it is not used.
        """
        await self._bring_file(digest)
        manifest = manifest_of(self._disk.read, digest)
        await self.bring_files(manifest)
        proof = self._proofs.of(digest)
        if proof is None:
            proof = await self._prover.prove(digest, manifest)
            if proof.fault:
                tell_fault(manifest, proof.fault)
            self._proofs.keep(digest, proof)
        return Brought(manifest=manifest, proof=proof)

    async def bring_files(self, manifest: Manifest) -> None:
        """What the manifest names.

        Raises:
            CannotLoad: a file that nothing can take the place of cannot be had.
        """
        for name, file in manifest.files.items():
            await self._bring_part(name, file.digest)

    async def _bring_part(self, name: str, digest: Digest) -> None:
        """A file that only explains answers, or makes them quicker, keeps nobody from them."""
        try:
            await self._bring_file(digest)
        except CannotLoad as error:
            if name not in (BACKGROUND_FILE, COMPILED_FILE):
                raise
            telemetry.log("part_not_here", level="warning", file=name, reason=error.problem.detail)

    async def _bring_file(self, digest: Digest) -> None:
        loop = asyncio.get_running_loop()
        fetching = loop.run_in_executor(self._fetchers, self._fetch, digest)
        try:
            await asyncio.wait_for(fetching, self._fetch_seconds)
        except TimeoutError as error:
            detail = f"the store did not bring {digest} in {self._fetch_seconds:g} s"
            raise CannotLoad(Problem(reason="missing", detail=detail, passing=True)) from error

    def _fetch(self, digest: Digest) -> None:
        fetch(self._disk, self.store(), digest)
