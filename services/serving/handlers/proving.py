"""Proves that versions can be loaded, before they count as applied, where hostile files do no harm.

A file that crashes or hangs compiled code takes the process that opens it. So it is opened first in
a child that may die of it. Starting a child costs more than opening a small model: what waits is
proved together, and only when a child dies or hangs each version is proved alone.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from services.serving.domain.versions import Problem, Proof
from services.serving.handlers.engines import Read, Runtime, names_compiled
from services.serving.handlers.loading import CannotLoad, manifest_of, prove
from services.serving.store.disk import read_whole
from shared.confined import Confined, Done, Failed, Outcome, OutOfMemory, TemplateLost, TimedOut
from shared.events import Digest
from shared.manifest import Manifest

TOGETHER: Final = 32
"""Versions that one child proves."""
IDLE_SECONDS: Final = 20.0
"""The template's libraries take memory that models could have: it does not wait long for more."""
COMPILED_PRELOAD: Final = (
    "shared.onnx_models",
    "shared.tabular",
    "services.serving.handlers.proving",
)
ESTIMATOR_PRELOAD: Final = (*COMPILED_PRELOAD, "shared.models")
WITHOUT: Final = ("pandas", "pytest")


class Prover(Protocol):
    """Proves versions whose files are on the own disk."""

    async def prove(self, digest: Digest, manifest: Manifest) -> Proof:
        """What was proved.

        Raises:
            CannotLoad: why this version is not used.
        """

    async def close(self) -> None:
        """Prove nothing more."""


# --- in this process ------------------------------------------------------------------------


class ProvesInside:
    """In a thread of this process: for machines without memory for a second process.

    Every structure is looked through before it is asked, and a file that takes too long is left
    behind in its thread. A file that crashes compiled code all the same takes this process.
    """

    def __init__(self, read: Read, seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._thread = _a_thread()
        self._hanging: dict[Digest, Future[tuple[Runtime, Proof]]] = {}

    async def prove(self, digest: Digest, manifest: Manifest) -> Proof:
        """See `Prover`; what hangs is not begun twice."""
        working = self._hanging.get(digest)
        if working is None or working.done():
            working = self._hanging[digest] = self._thread.submit(prove, self._read, manifest)
        done, _ = await asyncio.wait({asyncio.wrap_future(working)}, timeout=self._seconds)
        if done:
            self._hanging.pop(digest, None)
            return working.result()[1]
        if working.cancel():
            raise CannotLoad(_waits(f"not begun in {self._seconds:g} s"))
        self._thread.shutdown(wait=False)
        self._thread = _a_thread()
        raise CannotLoad(_overdue(self._seconds))

    async def close(self) -> None:
        """Prove nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _a_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="prove")


# --- in a child -----------------------------------------------------------------------------


@dataclass(slots=True)
class _Waiting:
    digest: Digest
    answer: "asyncio.Future[Proof]"


class ProvesApart:
    """In children that may die, of templates that have loaded what opens models.

    Versions with a compiled model need no scikit-learn; its template is started by the first
    version that does.
    """

    def __init__(self, artifacts: Path, *, seconds: float, megabytes: int) -> None:
        self._artifacts = artifacts
        self._seconds = seconds
        self._megabytes = megabytes
        preloads = {True: COMPILED_PRELOAD, False: ESTIMATOR_PRELOAD}
        self._templates = {
            is_compiled: Confined(preload, without=WITHOUT, idle_seconds=IDLE_SECONDS)
            for is_compiled, preload in preloads.items()
        }
        self._waiting: dict[bool, list[_Waiting]] = {True: [], False: []}
        self._working: dict[bool, asyncio.Task[None]] = {}

    async def prove(self, digest: Digest, manifest: Manifest) -> Proof:
        """See `Prover`; whoever waits at the same time shares a child."""
        answer: asyncio.Future[Proof] = asyncio.get_running_loop().create_future()
        is_compiled = names_compiled(manifest)
        self._waiting[is_compiled].append(_Waiting(digest, answer))
        if is_compiled not in self._working:
            self._working[is_compiled] = asyncio.create_task(self._work(is_compiled))
        return await answer

    async def close(self) -> None:
        """End the templates and with them every child."""
        for working in list(self._working.values()):
            working.cancel()
        await asyncio.gather(*self._working.values(), return_exceptions=True)
        for template in self._templates.values():
            await template.close()

    async def _work(self, is_compiled: bool) -> None:
        waiting = self._waiting[is_compiled]
        try:
            while waiting:
                together, waiting[:TOGETHER] = waiting[:TOGETHER], []
                await self._prove_some(self._templates[is_compiled], together)
        finally:
            # In the same step in which nothing waits any more: who comes next begins anew.
            del self._working[is_compiled]

    async def _prove_some(self, template: Confined, together: Sequence[_Waiting]) -> None:
        try:
            await self._prove(template, [one for one in together if not one.answer.done()])
        finally:
            for one in together:
                if not one.answer.done():  # only when this work itself was ended
                    one.answer.set_exception(CannotLoad(_waits("serving stops")))

    async def _prove(self, template: Confined, together: Sequence[_Waiting]) -> None:
        if not together:
            return
        said = await self._ask(template, [one.digest for one in together])
        if said is None and len(together) > 1:
            for one in together:  # one of them took the child: each is proved alone
                await self._prove(template, [one])
            return
        for one in together:
            _settle(one.answer, (said or {})[one.digest])

    async def _ask(self, template: Confined, digests: Sequence[Digest]) -> dict[str, Any] | None:
        """What a child says of these; None when it said nothing, and there were several."""
        try:
            await template.warm()
        except TemplateLost as error:
            return {digest: _as_plain(_waits(str(error))) for digest in digests}
        outcome = await template.run(
            "services.serving.handlers.proving:prove_all",
            {"folder": str(self._artifacts), "digests": list(digests)},
            seconds=self._seconds,
            megabytes=self._megabytes,
        )
        if isinstance(outcome, Done):
            found: dict[str, Any] = outcome.result
            return found
        if len(digests) > 1:
            return None
        return {digests[0]: _as_plain(_problem_of(outcome, self._seconds))}


def prove_all(argument: Any) -> dict[str, Any]:
    """In the child: proof or problem of each version, as plain data."""
    read = partial(read_whole, Path(argument["folder"]))
    return {digest: _proved(read, Digest(digest)) for digest in argument["digests"]}


def _proved(read: Read, digest: Digest) -> Mapping[str, Any]:
    try:
        return asdict(prove(read, manifest_of(read, digest))[1])
    except CannotLoad as error:
        return _as_plain(error.problem)


def _as_plain(problem: Problem) -> dict[str, Any]:
    return {"problem": asdict(problem)}


def _settle(answer: "asyncio.Future[Proof]", plain: Mapping[str, Any]) -> None:
    if answer.done():
        return
    if "problem" in plain:
        answer.set_exception(CannotLoad(Problem(**plain["problem"])))
    else:
        answer.set_result(Proof(**plain))


def _problem_of(outcome: Outcome, seconds: float) -> Problem:
    match outcome:
        case TimedOut():
            return _overdue(seconds)
        case OutOfMemory():
            detail = f"opening it takes more than {outcome.megabytes} MB"
        case Failed():
            detail = f"opening it failed: {outcome.kind}: {outcome.detail}"
        case _:
            detail = f"the process that opened it died: {getattr(outcome, 'detail', '')}"
    return Problem(reason="load_failed", detail=detail[:300])


def _overdue(seconds: float) -> Problem:
    detail = f"it did not load and give its first answers in {seconds:g} s"
    return Problem(reason="load_failed", detail=detail)


def _waits(detail: str) -> Problem:
    """Nothing is known against the version; it is tried again."""
    return Problem(reason="missing", detail=detail[:300], passing=True)
