"""How commands talk to the running supervisor: one line of JSON each way over a Unix socket."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.errors import CannotStart, NotRunning

Answer = dict[str, Any]
Respond = Callable[[dict[str, Any]], Answer]


@contextmanager
def _short(file: Path) -> Iterator[str]:
    """The path by way of an open folder: socket paths are limited to 107 characters."""
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{file.name}"
    finally:
        os.close(folder)


class _Handler(socketserver.StreamRequestHandler):
    server: ControlServer

    def handle(self) -> None:
        line = self.rfile.readline()
        if line:
            self.wfile.write(json.dumps(self.server.respond(json.loads(line))).encode() + b"\n")


class ControlServer(socketserver.ThreadingUnixStreamServer):
    """Answers requests of this user until closed; each in a thread of its own."""

    daemon_threads = True

    def __init__(self, file: Path, respond: Respond) -> None:
        self._respond = respond
        file.unlink(missing_ok=True)
        with _short(file) as path:
            super().__init__(path, _Handler)
        file.chmod(0o600)
        threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        ).start()

    def respond(self, request: dict[str, Any]) -> Answer:
        try:
            return self._respond(request)
        except CannotStart as problem:
            return {"problem": str(problem)}

    def close(self) -> None:
        self.shutdown()
        self.server_close()


def ask(file: Path, verb: str, *, timeout_seconds: float = 90.0, **details: object) -> Answer:
    """Send one request to the supervisor and return its answer.

    Raises:
        NotRunning: nobody listens.
        CannotStart: the supervisor answered with a problem.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_seconds)
        try:
            with _short(file) as path:
                connection.connect(path)
        except OSError as problem:
            raise NotRunning from problem
        connection.sendall(json.dumps({"verb": verb, **details}).encode() + b"\n")
        with connection.makefile("rb") as answers:
            line = answers.readline()
    if not line:
        raise NotRunning
    answer: Answer = json.loads(line)
    if "problem" in answer:
        raise CannotStart(answer["problem"])
    return answer
