"""Where the files of operations lie."""

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
RULES: Final = FOLDER / "prometheus" / "rules"
RULE_TESTS: Final = FOLDER / "prometheus" / "tests"
PROMETHEUS: Final = FOLDER / "prometheus" / "prometheus.yml"
ALERTMANAGER: Final = FOLDER / "alertmanager" / "alertmanager.yml"
GRAFANA: Final = FOLDER / "grafana"
RUNBOOKS: Final = FOLDER.parent / "docs" / "runbooks"
REFERENCE: Final = FOLDER.parent / "docs" / "reference"
