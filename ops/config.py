"""The checked-in configuration, fitted to the ports and the pace of one run."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from ops.paths import ALERTMANAGER, RULES
from ops.routes import external_labels, read_prometheus

HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often is looked, and how long is waited before somebody is told.

    Attributes:
        patience: what replaces every `for` and `keep_firing_for`; None leaves them.
        wait: what replaces how long notifications are held back; None leaves them.
    """

    scrape: str = "15s"
    evaluation: str = "30s"
    patience: str | None = None
    wait: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where everything listens.

    Attributes:
        targets: `host:port` of each job's metrics.
        addresses: what texts of alerts lead to, by the name of the external label.
        hook: the address that notifications are posted below.
    """

    targets: Mapping[str, str]
    addresses: Mapping[str, str]
    prometheus: int
    alertmanager: int
    hook: str


def write(folder: Path, places: Places, pace: Pace) -> None:
    """Put `prometheus.yml`, `rules/` and `alertmanager.yml` into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "rules", ignore_errors=True)
    (folder / "rules").mkdir()
    for path in RULES.iterdir():
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        _dump(folder / "rules" / path.name, _paced(plain, pace))
    _dump(folder / "prometheus.yml", prometheus(places, pace))
    _dump(folder / "alertmanager.yml", alertmanager(places, pace))


def prometheus(places: Places, pace: Pace) -> dict[str, Any]:
    """The configuration of Prometheus with these jobs and no others."""
    plain = read_prometheus()
    plain["global"] |= {
        "scrape_interval": pace.scrape,
        "scrape_timeout": pace.scrape,
        "evaluation_interval": pace.evaluation,
        "external_labels": external_labels() | dict(places.addresses),
    }
    target = f"{HOST}:{places.alertmanager}"
    plain["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [target]}]}]
    plain["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": [address]}]}
        for job, address in places.targets.items()
    ]
    return plain


def alertmanager(places: Places, pace: Pace) -> dict[str, Any]:
    """The configuration of Alertmanager, telling this run's hook."""
    plain: dict[str, Any] = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))
    for receiver in plain["receivers"]:
        for hook in receiver.get("webhook_configs", ()):
            hook["url"] = f"{places.hook}/{receiver['name']}"
    if pace.wait is not None:
        # Routes inherit it.
        plain["route"] |= {"group_wait": pace.wait, "group_interval": pace.wait}
    return plain


def _paced(plain: dict[str, Any], pace: Pace) -> dict[str, Any]:
    if pace.patience is not None:
        for rule in (rule for group in plain["groups"] for rule in group["rules"]):
            rule |= {key: pace.patience for key in ("for", "keep_firing_for") if key in rule}
    return plain


def _dump(path: Path, plain: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(plain, sort_keys=False, width=1000), encoding="utf-8")
