"""A service as a process: it starts without its database, says what is wrong, and ends in order."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from local.ports import free_ports
from tests.support.house import until

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, sys
from pathlib import Path
from pydantic_settings import SettingsConfigDict
from shared import http, running, telemetry
from shared.errors import StoreUnavailable
from shared.settings import ServiceSettings

class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="TIDEWHEEL_TEST_")

async def serve(settings):
    state = {"ready": False}
    async def prepare():
        if not Path(settings.artifacts).exists():
            raise StoreUnavailable("not there yet")
        state["ready"] = True
    async def part():
        try:
            await asyncio.Event().wait()
        finally:
            telemetry.log("part_ended")
    async def finish():
        telemetry.log("finished")
    app = http.build("test", settings, [], ready=lambda: state)
    await running.run(settings, app, [part], prepare=prepare, finish=finish)

running.start(Settings, serve)
"""


def start(folder: Path, **changes: str) -> tuple[subprocess.Popen[str], int]:
    ports = free_ports(("door", "admin"))
    knobs = {
        "KAFKA": "127.0.0.1:1",
        "ARTIFACTS": str(folder / "appears-later"),
        "PORT": str(ports["door"]),
        "ADMIN_PORT": str(ports["admin"]),
        "KEYS_FILE": str(folder / "keys"),
        "ENVIRONMENT": "test",
    } | changes
    environment = {f"TIDEWHEEL_TEST_{name}": text for name, text in knobs.items() if text}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},  # noqa: TID251 - a child's
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, ports["door"]


def status_of(port: int, path: str) -> int:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}").status_code
    except httpx.TransportError:
        return 0


def test_it_lives_before_it_is_ready_and_ends_in_order(tmp_path: Path) -> None:
    process, port = start(tmp_path)
    try:
        until(lambda: status_of(port, "/live") == 200, what="/live")
        assert status_of(port, "/ready") == 503

        (tmp_path / "appears-later").touch()
        until(lambda: status_of(port, "/ready") == 200, what="/ready")
        process.send_signal(signal.SIGTERM)

        _, said = process.communicate(timeout=15)
        assert process.returncode == 0
        assert said.index('"stopping"') < said.index('"part_ended"') < said.index('"finished"')
    finally:
        process.kill()
        process.wait()


def test_every_wrong_setting_is_named_without_its_value(tmp_path: Path) -> None:
    process, _ = start(tmp_path, PORT="no number", KAFKA="")

    _, said = process.communicate(timeout=30)

    assert process.returncode == 78
    assert "TIDEWHEEL_TEST_PORT" in said
    assert "TIDEWHEEL_TEST_KAFKA" in said
    assert "Traceback" not in said
    assert "no number" not in said


def test_fault_points_cannot_be_enabled_in_production(tmp_path: Path) -> None:
    process, _ = start(tmp_path, ENVIRONMENT="production", FAULT="before_commit")

    _, said = process.communicate(timeout=30)

    assert process.returncode != 0
    assert "production" in said
    assert "Traceback" not in said
