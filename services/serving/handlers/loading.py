"""From a digest to a version that has answered once: fetched, checked, loaded, warmed up."""

import time

from services.serving.domain.versions import Health, Loaded, Problem
from services.serving.handlers.engines import MODEL_FILE, Say, engine_of
from services.serving.prediction.answers import is_usable, warm_up_rows
from services.serving.store.disk import Disk
from shared.artifacts import ArtifactStore
from shared.errors import ArtifactCorrupt, NotFound, StoreUnavailable, Unprocessable
from shared.events import Digest
from shared.manifest import Manifest, read_manifest


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


def manifest_of(disk: Disk, digest: Digest) -> Manifest:
    """The manifest of a version that is on the own disk.

    Raises:
        CannotLoad: these bytes are no manifest, or name no model file.
    """
    try:
        manifest = read_manifest(disk.place_of(digest).read_bytes())
    except (Unprocessable, OSError) as error:
        raise CannotLoad(Problem(reason="load_failed", detail=str(error)[:300])) from error
    if MODEL_FILE not in manifest.files:
        detail = f"manifest {digest} names no {MODEL_FILE}"
        raise CannotLoad(Problem(reason="load_failed", detail=detail))
    return manifest


def load(disk: Disk, digest: Digest, version: int, manifest: Manifest) -> Loaded:
    """The version, loaded from the own disk, after its first answers.

    Raises:
        CannotLoad: the file is unsafe, cannot be loaded, or its first answers are of no use.
    """
    try:
        engine, answers = engine_of(disk, manifest)
    except Unprocessable as error:
        raise CannotLoad(Problem(reason="unsafe", detail=str(error))) from error
    say = disk.asking.noted(digest, answers)
    return Loaded(
        version=version,
        digest=digest,
        manifest=manifest,
        say=say,
        engine=engine,
        names=tuple(column.name for column in manifest.columns),
        health=Health(seconds=_warm_up(say, manifest), has_hung=disk.has_hung(digest)),
    )


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
