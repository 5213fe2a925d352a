"""A service that only answers `/ready`, and a whole stack of them, to test what starts services.

`python -m tests.support.stand_in supervise FOLDER` is a supervisor of six of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class _Door(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


def stand_in_command(name: str) -> Sequence[str]:
    return (sys.executable, "-S", __file__, "service", name)


def _serve(name: str) -> None:
    # The connection settings must be there, as for a real service.
    prefix = f"TIDEWHEEL_{name.upper()}_"
    settings = {key: value for key, value in os.environ.items() if key.startswith(prefix)}  # noqa: TID251
    _ = settings[prefix + "KAFKA"], settings[prefix + "KEYS_FILE"]
    HTTPServer(("127.0.0.1", int(settings[prefix + "PORT"])), _Door).serve_forever()


def _supervise(folder: Path) -> None:
    from local.daemon import run_daemon  # noqa: PLC0415 -- the services above start without it
    from local.paths import Places  # noqa: PLC0415

    run_daemon(Places(folder), command=stand_in_command)


if __name__ == "__main__":
    kind, argument = sys.argv[1:]
    if kind == "service":
        _serve(argument)
    else:
        _supervise(Path(argument))
