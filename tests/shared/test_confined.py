from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from shared.confined import Confined, Crashed, Done, Failed, OutOfMemory, TimedOut
from shared.confined_wire import is_complete, pack, unpack
from tests.support.waiting import eventually

JOBS = "tests.support.confined_jobs"


@pytest.fixture
async def confined() -> AsyncIterator[Confined]:
    found = Confined([JOBS], without=["pandas"])
    yield found
    await found.close()


T = TypeVar("T")


async def until(condition: Callable[[], T | None]) -> T:
    found: T | None = None

    async def holds() -> bool:
        nonlocal found
        found = condition()
        return bool(found)

    await eventually(holds, what="the awaited")
    assert found is not None
    return found


def job(name: str) -> str:
    return f"{JOBS}:{name}"


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def pid_in(note: Path) -> int | None:
    try:
        return int(note.read_text(encoding="utf-8") or 0) or None
    except FileNotFoundError:
        return None


async def test_what_a_function_returns_comes_back(confined: Confined) -> None:
    value = {"rows": [1, 2.5, None, "x"], "model": b"\x00\xff" * 500_000, "none": b""}

    outcome = await confined.run(job("echo"), value, seconds=10, megabytes=100)

    assert isinstance(outcome, Done)
    assert outcome.result == value
    assert outcome.peak_megabytes > 1


async def test_what_a_function_raises_is_told(confined: Confined) -> None:
    outcome = await confined.run(job("fail"), "bread", seconds=10, megabytes=100)

    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.detail) == ("ValueError", "no bread")
    assert "confined_jobs.py" in outcome.trace


@pytest.mark.parametrize("function", ["no.such.module:echo", f"{JOBS}:no_such", "nonsense"])
async def test_a_function_that_does_not_exist_is_a_failure(
    confined: Confined, function: str
) -> None:
    outcome = await confined.run(function, None, seconds=10, megabytes=100)

    assert isinstance(outcome, Failed)


async def test_a_hanging_job_is_killed_at_its_deadline(confined: Confined, tmp_path: Path) -> None:
    outcome = await confined.run(job("hang"), str(tmp_path / "pid"), seconds=0.3, megabytes=100)

    assert outcome == TimedOut(seconds=0.3)
    pid = pid_in(tmp_path / "pid")
    assert pid is not None
    assert not is_alive(pid)


async def test_what_a_job_started_dies_with_it(confined: Confined, tmp_path: Path) -> None:
    outcome = await confined.run(
        job("hang_with_a_child"), str(tmp_path / "pid"), seconds=1.0, megabytes=100
    )

    assert isinstance(outcome, TimedOut)
    pid = pid_in(tmp_path / "pid")
    assert pid is not None
    await until(lambda: not is_alive(pid))


async def test_a_crash_is_told_with_its_signal_and_last_output(confined: Confined) -> None:
    outcome = await confined.run(job("crash"), None, seconds=10, megabytes=100)

    assert isinstance(outcome, Crashed)
    assert "SIGSEGV" in outcome.detail
    assert "last words" in outcome.detail


async def test_a_job_that_leaves_without_a_word_has_crashed(confined: Confined) -> None:
    outcome = await confined.run(job("leave"), 3, seconds=10, megabytes=100)

    assert isinstance(outcome, Crashed)
    assert "exit code 3" in outcome.detail


@pytest.mark.parametrize("greedy", ["grow", "ask_for_too_much"])
async def test_a_job_that_wants_too_much_memory_is_stopped(confined: Confined, greedy: str) -> None:
    outcome = await confined.run(job(greedy), None, seconds=30, megabytes=64)

    assert outcome == OutOfMemory(megabytes=64)


async def test_after_every_kind_of_end_the_next_job_runs(confined: Confined) -> None:
    for bad in ("crash", "fail", "ask_for_too_much"):
        await confined.run(job(bad), None, seconds=10, megabytes=64)

        outcome = await confined.run(job("echo"), bad, seconds=10, megabytes=64)

        assert isinstance(outcome, Done)
        assert outcome.result == bad


async def test_jobs_run_side_by_side(confined: Confined, tmp_path: Path) -> None:
    waiting = asyncio.create_task(
        confined.run(job("hang"), str(tmp_path / "pid"), seconds=30, megabytes=100)
    )
    await until(lambda: pid_in(tmp_path / "pid"))

    outcomes = await asyncio.gather(
        *(confined.run(job("echo"), n, seconds=10, megabytes=100) for n in range(8))
    )

    assert [o.result for o in outcomes if isinstance(o, Done)] == list(range(8))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_cancelling_kills_the_job(confined: Confined, tmp_path: Path) -> None:
    task = asyncio.create_task(
        confined.run(job("hang"), str(tmp_path / "pid"), seconds=30, megabytes=100)
    )
    await until(lambda: pid_in(tmp_path / "pid"))

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    pid = pid_in(tmp_path / "pid")
    assert pid is not None
    await until(lambda: not is_alive(pid))


async def test_modules_are_loaded_once_for_all_jobs(confined: Confined) -> None:
    first = await confined.run(job("loaded_at"), seconds=10, megabytes=100)
    second = await confined.run(job("loaded_at"), seconds=10, megabytes=100)

    assert isinstance(first, Done)
    assert isinstance(second, Done)
    assert first.result == second.result


async def test_a_library_can_be_kept_out(confined: Confined) -> None:
    outcome = await confined.run(job("has_pandas"), seconds=10, megabytes=100)

    assert isinstance(outcome, Done)
    assert outcome.result is False


async def test_a_child_sees_no_secret_and_its_template_has_one_thread(
    confined: Confined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEWHEEL_TRAINER_DATABASE", "postgresql://secret")

    seen = await confined.run(job("environment"), seconds=10, megabytes=100)
    threads = await confined.run(job("threads_of_parent"), seconds=10, megabytes=100)

    assert isinstance(seen, Done)
    assert "secret" not in str(seen.result)
    assert seen.result["OMP_NUM_THREADS"] == "1"
    assert isinstance(threads, Done)
    assert threads.result == 1


async def test_without_a_job_there_is_no_template_and_an_idle_one_ends() -> None:
    confined = Confined([JOBS], idle_seconds=0.05)
    assert confined.template_pid is None

    await confined.run(job("echo"), 1, seconds=10, megabytes=100)
    await until(lambda: confined.template_pid is None)

    again = await confined.run(job("echo"), 2, seconds=10, megabytes=100)
    assert isinstance(again, Done)
    await confined.close()


async def test_a_killed_template_costs_its_jobs_and_no_more(
    confined: Confined, tmp_path: Path
) -> None:
    task = asyncio.create_task(
        confined.run(job("hang"), str(tmp_path / "pid"), seconds=30, megabytes=100)
    )
    child = await until(lambda: pid_in(tmp_path / "pid"))
    template = confined.template_pid
    assert template is not None

    os.kill(template, signal.SIGKILL)

    assert isinstance(await task, Crashed)
    await until(lambda: not is_alive(child))
    outcome = await confined.run(job("echo"), 1, seconds=10, megabytes=100)
    assert isinstance(outcome, Done)


async def test_a_template_that_cannot_load_its_modules_says_so() -> None:
    confined = Confined(["no.such.module"])

    outcome = await confined.run(job("echo"), 1, seconds=10, megabytes=100)

    assert isinstance(outcome, Crashed)
    assert "no.such.module" in outcome.detail or "No module named 'no'" in outcome.detail
    await confined.close()


async def test_everything_dies_with_the_service(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from shared.confined import Confined;"
        f"asyncio.run(Confined([{JOBS!r}]).run({job('hang')!r}, sys.argv[1], seconds=60,"
        " megabytes=100))"
    )

    service = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path / "pid"), cwd=Path(__file__).parents[2]
    )
    child = await until(lambda: pid_in(tmp_path / "pid"))

    service.kill()
    await service.wait()

    await until(lambda: not is_alive(child))


def test_values_survive_the_wire() -> None:
    value = {"a": b"1", "b": {"c": b"", "d": [1, "x"]}, "e": None}
    packed = pack(value)

    assert unpack(packed) == value
    assert unpack(pack(b"bare")) == b"bare"
    assert is_complete(packed)
    assert not is_complete(packed[:-1])
    assert not is_complete(b"")
