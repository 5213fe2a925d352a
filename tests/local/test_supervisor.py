from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.process import Identity, Program, end_leftovers
from local.supervisor import State, Supervisor, delay_before_restart
from tests.support.waiting import wait_until

FOREVER = "import signal; signal.pause()"
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('set', flush=True)\n"
)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    with Supervisor([], pid_folder=tmp_path / "pids") as made:
        yield made


def a_program(folder: Path, code: str = FOREVER, *, patience_seconds: float = 10.0) -> Program:
    return Program(
        name="one",
        argv=(sys.executable, "-c", code),
        folder=folder,
        log=folder / "one.log",
        patience_seconds=patience_seconds,
    )


def test_the_first_restart_is_soon_and_later_ones_wait_longer_up_to_a_ceiling() -> None:
    delays = [delay_before_restart(deaths) for deaths in range(12)]

    assert delays[0] == 0
    assert 0 < delays[1] <= 0.5
    assert delays == sorted(delays)
    assert delays[-1] == delays[-2] == 10.0


def test_a_killed_program_starts_again(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.add(a_program(tmp_path))
    supervisor.start("one")
    first = supervisor.wait_until_running("one")

    killed = supervisor.kill("one")
    supervisor.wait_for_starts("one", 2)

    assert killed == first
    assert Identity.of(first) is None
    assert supervisor.pid("one") not in (None, first)
    assert supervisor.report()[0].last_exit == -signal.SIGKILL


def test_a_program_that_ends_at_once_is_started_again_with_growing_pauses(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.add(a_program(tmp_path, "import sys; sys.exit(3)"))

    supervisor.start("one")
    supervisor.wait_for_starts("one", 3)

    report = supervisor.report()[0]
    assert report.last_exit == 3
    assert report.restarts >= 2
    assert supervisor.quick_deaths("one") >= 2


def test_a_stopped_program_stays_stopped(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.add(a_program(tmp_path))
    supervisor.start("one")
    pid = supervisor.wait_until_running("one")

    supervisor.stop("one")

    assert supervisor.report()[0].state is State.STOPPED
    assert Identity.of(pid) is None


def test_a_program_deaf_to_the_polite_signal_is_killed_when_patience_ends(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.add(a_program(tmp_path, STUBBORN + FOREVER, patience_seconds=0.3))
    supervisor.start("one")
    supervisor.wait_until_running("one")
    _wait_for_text(tmp_path / "one.log", "set")

    supervisor.stop("one")

    assert supervisor.report()[0].last_exit == -signal.SIGKILL


def test_memory_of_a_running_program_is_known(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.add(a_program(tmp_path, "print('ready', flush=True)\n" + FOREVER))
    supervisor.start("one")
    _wait_for_text(tmp_path / "one.log", "ready")

    report = supervisor.report()[0]

    assert 1_000_000 < report.memory_bytes < 100_000_000


def test_what_is_set_once_holds_for_one_start_alone(supervisor: Supervisor, tmp_path: Path) -> None:
    code = "import os; print('fault', os.environ.get('FAULT', 'none'), flush=True)\n"
    supervisor.add(a_program(tmp_path, code + FOREVER), once={"FAULT": "armed"})

    supervisor.start("one")
    _wait_for_text(tmp_path / "one.log", "fault armed")
    supervisor.kill("one")
    _wait_for_text(tmp_path / "one.log", "fault none")

    assert (tmp_path / "one.log").read_text().split() == ["fault", "armed", "fault", "none"]


def test_overrides_are_read_at_every_start(supervisor: Supervisor, tmp_path: Path) -> None:
    code = "import os; print(os.environ['WORD'], flush=True)\n"
    overrides = tmp_path / "overrides.env"
    program = a_program(tmp_path, code + FOREVER)
    overrides.write_text("# a comment\nWORD=first\n")
    supervisor.add(_with_overrides(program, overrides))
    supervisor.start("one")
    _wait_for_text(tmp_path / "one.log", "first")

    overrides.write_text("WORD = second\n")
    supervisor.kill("one")

    _wait_for_text(tmp_path / "one.log", "second")


SUPERVISE = """
import sys, signal
from pathlib import Path
from local.process import Program
from local.supervisor import Supervisor
folder = Path(sys.argv[1])
program = Program(name="one", argv=(sys.executable, "-c", sys.argv[2]),
                  folder=folder, log=folder / "one.log")
supervisor = Supervisor([program], pid_folder=folder / "pids")
supervisor.start()
print(supervisor.wait_until_running("one"), flush=True)
signal.pause()
"""


def test_kill_9_of_the_supervisor_takes_its_programs_along(tmp_path: Path) -> None:
    pid, outer = _start_a_supervisor(tmp_path, FOREVER)
    child = Identity.of(pid)
    assert child

    outer.kill()
    outer.wait()

    wait_until(lambda: not child.is_alive(), what="the end of the program")


def test_a_leftover_is_ended_by_its_recorded_pid_and_start(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", FOREVER]) as left:
        identity = Identity.of(left.pid)
        assert identity
        identity.write(tmp_path / "one.json")

        ended = end_leftovers(tmp_path)

        assert ended == ["one"]
        assert left.wait() == -signal.SIGTERM
    assert list(tmp_path.glob("*.json")) == []


def test_a_stranger_with_a_recorded_pid_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", FOREVER]) as stranger:
        identity = Identity.of(stranger.pid)
        assert identity
        Identity(pid=stranger.pid, started=identity.started - 1).write(tmp_path / "one.json")

        ended = end_leftovers(tmp_path)

        assert ended == []
        assert stranger.poll() is None
        stranger.kill()


def _start_a_supervisor(folder: Path, code: str) -> tuple[int, subprocess.Popen[str]]:
    outer = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(folder), code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert outer.stdout
    with outer.stdout:
        return int(outer.stdout.readline()), outer


def _with_overrides(program: Program, overrides: Path) -> Program:
    return Program(
        name=program.name,
        argv=program.argv,
        folder=program.folder,
        log=program.log,
        environment=program.environment,
        overrides=overrides,
    )


def _wait_for_text(log: Path, text: str) -> None:
    wait_until(lambda: log.exists() and text in log.read_text(), what=f"{text!r} in the log")
