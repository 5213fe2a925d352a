"""A service played by recorded answers, and the command run against it."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SERVICES = ("registry", "trainer", "evaluator", "deployer", "serving", "drift_monitor")
Answer = tuple[int, Any]


@dataclass(slots=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Recorded:
    """Answers by method and path; what was asked is kept.

    A list of answers is given one after the other, the last one again and again.
    """

    url: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def says(self, route: str, *answers: Answer) -> None:
        self.answers[route] = list(answers)

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        found = self.answers.get(f"{asked.method} {asked.path.partition('?')[0]}")
        if not found:
            return 404, {"detail": f"no answer recorded for {asked.method} {asked.path}"}
        return found.pop(0) if len(found) > 1 else found[0]


def _handler(recorded: Recorded) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, self.rfile.read(length))
            status, content = recorded.answer(asked)
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            stream = isinstance(content, bytes) and content.startswith(b"id:")
            self.send_response(status)
            self.send_header("Content-Type", "text/event-stream" if stream else "application/json")
            self.send_header("Content-Length", str(len(body)))
            if status == 503:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _reply  # noqa: N815 - the names that the library calls

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    made = Recorded()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(made))
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def write_context(folder: Path, url: str) -> Path:
    file = folder / ".tidewheel" / "context.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"services": dict.fromkeys(SERVICES, url), "key": "tw_test"}))
    return file


@pytest.fixture
def context_file(tmp_path: Path, recorded: Recorded) -> Path:
    return write_context(tmp_path, recorded.url)


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def tidewheel(tmp_path: Path) -> Run:
    """The command in a process of its own, in an empty folder."""

    def run(*arguments: str, **environment: str) -> Ran:
        inherited = os.environ.items()  # noqa: TID251 - passed on to the command
        kept = {k: v for k, v in inherited if not k.startswith("TIDEWHEEL_")}
        path = os.pathsep.join((str(CHECKOUT / "client"), str(CHECKOUT)))
        done = subprocess.run(
            [sys.executable, "-m", "tidewheel", *arguments],
            cwd=tmp_path,
            env={**kept, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run
