"""`make grafana`: writes `ops/grafana/` and the pages that follow; a test compares them."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from pydantic import BaseModel

from ops import alerting, provisioning
from ops.alerting import FOLDER, PROMETHEUS_UID
from ops.dashboards import BOARDS
from ops.panels import build
from ops.paths import GRAFANA, REFERENCE
from ops.reference import pages
from ops.routes import read_routing
from ops.rules import read_groups

FOLDER_UID: Final = "tidewheel"
ALERTMANAGER_UID: Final = "tidewheel-alertmanager"
BOARDS_INSIDE: Final = "/var/lib/grafana/dashboards/tidewheel"
_HEAD: Final = "# Written by `make grafana`; change ops/ and run it again.\n"


def files() -> dict[str, str]:
    """Every generated file by its path below `ops/grafana/`."""
    groups, routing = read_groups(), read_routing()
    plain: dict[str, BaseModel] = {
        "provisioning/datasources/tidewheel.yaml": data_sources(),
        "provisioning/dashboards/tidewheel.yaml": providers(),
        "provisioning/alerting/rules.yaml": alerting.rule_groups(groups),
        "provisioning/alerting/contact-points.yaml": alerting.contact_points(routing),
        "provisioning/alerting/policies.yaml": alerting.policies(routing),
        "provisioning/alerting/mute-times.yaml": alerting.mute_times(),
    }
    return {path: _yaml(content) for path, content in plain.items()} | dashboards()


def data_sources() -> provisioning.DataSources:
    """Prometheus, and Alertmanager for its silences and states; both on this machine."""
    return provisioning.DataSources(
        datasources=(
            provisioning.DataSource(
                name="Tidewheel Prometheus",
                type="prometheus",
                uid=PROMETHEUS_UID,
                url="http://127.0.0.1:7201",
                isDefault=True,
                jsonData={"httpMethod": "POST", "timeInterval": "15s", "manageAlerts": True},
            ),
            provisioning.DataSource(
                name="Tidewheel Alertmanager",
                type="alertmanager",
                uid=ALERTMANAGER_UID,
                url="http://127.0.0.1:7202",
                jsonData={"implementation": "prometheus"},
            ),
        )
    )


def providers() -> provisioning.Providers:
    """The folder in which Grafana finds the dashboards."""
    return provisioning.Providers(
        providers=(
            provisioning.Provider(
                name="tidewheel",
                folder=FOLDER,
                folderUid=FOLDER_UID,
                options=provisioning.ProviderOptions(path=BOARDS_INSIDE),
            ),
        )
    )


def dashboards() -> dict[str, str]:
    """The dashboards as Grafana keeps them."""
    return {
        f"dashboards/{board.uid}.json": JSONEncoder(sort_keys=True, indent=2).encode(build(board))
        + "\n"
        for board in BOARDS
    }


def _yaml(content: BaseModel) -> str:
    plain = content.model_dump(mode="json", by_alias=True, exclude_none=True)
    return _HEAD + yaml.safe_dump(plain, sort_keys=False, width=100, allow_unicode=True)


def write(folder: Path, content: Mapping[str, str]) -> None:
    """Write what is to be there, and remove what is not."""
    for path in [known for known in folder.rglob("*") if known.is_file()]:
        if str(path.relative_to(folder)) not in content:
            path.unlink()
    for name, text in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def main() -> None:
    """Write the files."""
    content = files()
    write(GRAFANA, content)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
    boards = [json.loads(text) for name, text in content.items() if name.endswith(".json")]
    panels = sum(len(board["panels"]) for board in boards)
    sys.stdout.write(f"{len(content)} files, {len(boards)} dashboards with {panels} panels\n")


if __name__ == "__main__":
    main()
