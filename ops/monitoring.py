"""`make monitoring`: Prometheus and Alertmanager beside the stack that `make up` started.

Notifications are posted to this process, which prints them: who would be told what.
"""

import json
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from local.paths import CHECKOUT, default_places
from local.ports import free_ports, is_free
from ops import config
from ops.config import HOST, Pace, Places
from ops.hook import Hook
from ops.running import CannotRun, running

PORTS: Final = {"prometheus": 7201, "alertmanager": 7202}
_GRAFANA: Final = f"http://{HOST}:3000"


def places_of(context: Mapping[str, Any], hook: str) -> Places:
    """Where the services of a stack tell their metrics, and where texts of alerts lead to."""
    admin, services = context["admin"], context["services"]
    known = ("registry", "deployer", "drift_monitor")
    ports = {name: port for name, port in PORTS.items() if is_free(port)}
    ports |= free_ports(name for name in PORTS if name not in ports)
    return Places(
        targets={
            f"tidewheel-{name.replace('_', '-')}": urlsplit(address).netloc
            for name, address in admin.items()
        },
        addresses={name: services[name] for name in known}
        | {"docs": (CHECKOUT / "docs").as_uri(), "grafana": _GRAFANA},
        hook=hook,
        **ports,
    )


def told(receiver: str, posted: Mapping[str, Any]) -> None:
    """One line for each alert of a notification."""
    for alert in posted.get("alerts", ()):
        texts = alert.get("annotations", {})
        line = f"{receiver}: {alert['status']} {alert['labels']['alertname']}: {texts['summary']}"
        sys.stdout.write(f"{line}\n    {texts['runbook_url']}\n")
    sys.stdout.flush()


def main() -> int:
    """Run both until interrupted."""
    stack = default_places()
    if not stack.context.exists():
        sys.stderr.write("no stack is running; start it with: make up\n")
        return 1
    context = json.loads(stack.context.read_text(encoding="utf-8"))
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        with Hook(told) as hook:
            _run(stack.folder / "monitoring", places_of(context, hook.address), ended)
    except CannotRun as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


def _run(folder: Path, places: Places, ended: threading.Event) -> None:
    config.write(folder, places, Pace(scrape="5s", evaluation="5s"))
    with running(folder, places):
        sys.stdout.write(
            f"Prometheus   http://{HOST}:{places.prometheus}/alerts\n"
            f"Alertmanager http://{HOST}:{places.alertmanager}\n"
            "What they would tell people is printed here; Ctrl-C ends it.\n"
        )
        sys.stdout.flush()
        ended.wait()


if __name__ == "__main__":
    raise SystemExit(main())
