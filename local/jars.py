"""The Kafka jars: fetched once by coordinate, checked against pinned sums, kept in the cache.

`python -m local.jars` resolves the coordinates anew and rewrites the pinned list.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from local.errors import JarsDiffer, JarsUnavailable

if TYPE_CHECKING:
    from jgo.maven import MavenContext

COORDINATES = ("org.apache.kafka:kafka_2.13:4.2.1", "org.slf4j:slf4j-simple:1.7.36")
PINNED = Path(__file__).with_name("kafka-jars.sha256")
_ATTEMPTS = 3

Progress = Callable[[int, int], None]
"""Told how many jars are here, of how many."""


def cache_folder(fallback: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Where fetched jars are kept for all checkouts of this user."""
    base = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME", "/")) / ".cache")
    folder = Path(base) / "tidewheel"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return fallback
    return folder if os.access(folder, os.W_OK) else fallback


def read_pinned(file: Path = PINNED) -> dict[str, str]:
    """Coordinate -> SHA-256."""
    lines = (line.split() for line in file.read_text().splitlines() if line.strip())
    return {coordinate: digest for digest, coordinate in lines}


def file_name(coordinate: str) -> str:
    _, artifact, version = coordinate.split(":")
    return f"{artifact}-{version}.jar"


def kafka_jars(cache: Path, progress: Progress = lambda _done, _all: None) -> Path:
    """The folder with exactly the pinned jars, fetched if they are not there yet."""
    folder, pinned = cache / "kafka-4.2.1", read_pinned()
    if not differing(folder, pinned):
        return folder
    with _one_at_a_time(cache):
        if differing(folder, pinned):
            _fetch(folder, pinned, progress)
    return folder


def differing(folder: Path, pinned: dict[str, str]) -> list[str]:
    """Names that are missing, changed or not pinned at all."""
    expected = {file_name(coordinate): digest for coordinate, digest in pinned.items()}
    found = {file.name: file for file in folder.glob("*.jar")}
    wrong = [name for name, want in expected.items() if _digest(found.get(name)) != want]
    return sorted([*wrong, *(found.keys() - expected.keys())])


def _digest(file: Path | None) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file else None


def _fetch(folder: Path, pinned: dict[str, str], progress: Progress) -> None:
    """Download beside the place and move in one step, so that a break leaves nothing half."""
    for attempt in range(1, _ATTEMPTS + 1):
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as draft:
            try:
                _download(Path(draft), list(pinned), progress)
            except (OSError, RuntimeError) as problem:
                if attempt == _ATTEMPTS:
                    raise JarsUnavailable(type(problem).__name__) from problem
                continue
            wrong = differing(Path(draft) / "jars", pinned)
            if not wrong:
                shutil.rmtree(folder, ignore_errors=True)
                (Path(draft) / "jars").replace(folder)
                return
            if attempt == _ATTEMPTS:
                raise JarsDiffer(wrong)


def _download(draft: Path, coordinates: list[str], progress: Progress) -> None:
    context = _context(draft / "repository")
    jars = draft / "jars"
    jars.mkdir()

    def one(coordinate: str) -> None:
        path = context.create_dependency(coordinate).artifact.resolve()
        shutil.copy2(path, jars / file_name(coordinate))

    with ThreadPoolExecutor(max_workers=8) as pool:
        running = [pool.submit(one, coordinate) for coordinate in coordinates]
        for done, future in enumerate(as_completed(running), start=1):
            future.result()
            progress(done, len(coordinates))


def _context(repository: Path) -> MavenContext:
    """Needed only when something has to be fetched, and slow to import, hence not at the top."""
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415

    return MavenContext(resolver=PythonResolver(), repo_cache=repository, timeout=60)


@contextmanager
def _one_at_a_time(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "jars.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def resolve_pinned() -> dict[str, str]:
    """Resolve all dependencies afresh; coordinate -> SHA-256 of the jar."""
    with tempfile.TemporaryDirectory() as draft:
        context = _context(Path(draft))
        wanted = [context.create_dependency(coordinate) for coordinate in COORDINATES]
        inputs, reached = context.resolver.resolve(wanted)
        needed = [*inputs, *(one for one in reached if one.scope in ("compile", "runtime"))]
        return {
            f"{one.groupId}:{one.artifactId}:{one.version}": _digest(one.artifact.resolve()) or ""
            for one in needed
        }


def main() -> None:
    pinned = resolve_pinned()
    lines = [f"{digest}  {coordinate}" for coordinate, digest in sorted(pinned.items())]
    PINNED.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
