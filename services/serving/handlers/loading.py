"""From a digest to a version that is known to load: fetched, checked, opened once, asked once."""

import time

from services.serving.domain.versions import Problem, Proof
from services.serving.handlers.engines import MODEL_FILE, Read, Runtime, Say, runtime_of
from services.serving.prediction.answers import warm_up_rows
from services.serving.store.disk import Disk
from shared.artifacts import ArtifactStore
from shared.errors import ArtifactCorrupt, NotFound, StoreUnavailable, Unprocessable
from shared.events import Digest
from shared.manifest import Manifest, read_manifest
from shared.usable import is_usable


class CannotLoad(Exception):
    """This version is not used; the problem says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def fetch(disk: Disk, store: ArtifactStore, digest: Digest) -> None:
    """Bring an artifact to the own disk, unless it is there and whole.

    Raises:
        CannotLoad: the store does not have it, has other bytes, or does not answer.
    """
    if disk.has(digest):
        return
    try:
        store.fetch(digest, disk.place_of(digest))
    except NotFound as error:
        raise CannotLoad(Problem(reason="missing", detail=str(error))) from error
    except ArtifactCorrupt as error:
        raise CannotLoad(Problem(reason="digest_mismatch", detail=str(error))) from error
    except (StoreUnavailable, OSError) as error:
        problem = Problem(reason="missing", detail=str(error)[:300], passing=True)
        raise CannotLoad(problem) from error


def manifest_of(read: Read, digest: Digest) -> Manifest:
    """The manifest of a version.

    Raises:
        CannotLoad: it is not here, these bytes are no manifest, or it names no model file.
    """
    try:
        manifest = read_manifest(read(digest))
    except NotFound as error:
        raise CannotLoad(
            Problem(reason="missing", detail=str(error)[:300], passing=True)
        ) from error
    except Unprocessable as error:
        raise CannotLoad(Problem(reason="load_failed", detail=str(error)[:300])) from error
    if MODEL_FILE not in manifest.files:
        detail = f"manifest {digest} names no {MODEL_FILE}"
        raise CannotLoad(Problem(reason="load_failed", detail=detail))
    return manifest


def prove(read: Read, manifest: Manifest) -> tuple[Runtime, Proof]:
    """Open a version and ask it its first questions.

    Raises:
        CannotLoad: the file is unsafe, cannot be loaded, or its first answers are of no use.
    """
    try:
        runtime = runtime_of(read, manifest)
    except (NotFound, ArtifactCorrupt) as error:
        problem = Problem(reason="missing", detail=str(error)[:300], passing=True)
        raise CannotLoad(problem) from error
    except Unprocessable as error:
        raise CannotLoad(Problem(reason="unsafe", detail=str(error))) from error
    seconds = _warm_up(runtime.say, manifest)
    return runtime, Proof(engine=runtime.engine, seconds=seconds, fault=runtime.fault)


def _warm_up(say: Say, manifest: Manifest) -> float:
    """Processor seconds of the second answer; the first one pays for what libraries do once."""
    rows = warm_up_rows(manifest.columns)
    try:
        said = say(rows)
        started = time.thread_time()
        say(rows[:1])
        seconds = time.thread_time() - started
    except Unprocessable as error:
        raise CannotLoad(Problem(reason="load_failed", detail=str(error))) from error
    unbounded = manifest.bounds is None
    if unbounded and not all(is_usable(value, shares, manifest) for value, shares in said):
        detail = "its answer about the middle of its training rows is not finite"
        raise CannotLoad(Problem(reason="load_failed", detail=detail))
    return seconds
