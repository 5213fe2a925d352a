"""The rule files of Prometheus, read strictly: a misspelt key is an error, not a silent alert."""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from ops.paths import RULES


class Strict(BaseModel):
    """Unknown keys are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Recording(Strict):
    """A rule whose result becomes a series."""

    record: str
    expr: str


class Alert(Strict):
    """A rule whose every result is an alert."""

    alert: str
    expr: str
    for_: str = Field(default="0s", alias="for")
    keep_firing_for: str = "0s"
    labels: dict[str, str]
    annotations: dict[str, str]


class Group(Strict):
    """Rules that are evaluated together, in order."""

    name: str
    rules: tuple[Alert | Recording, ...]

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """Those of the rules that alert."""
        return tuple(rule for rule in self.rules if isinstance(rule, Alert))

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """Those of the rules that record."""
        return tuple(rule for rule in self.rules if isinstance(rule, Recording))


class _File(Strict):
    groups: tuple[Group, ...]


def read_groups(folder: Path = RULES) -> list[Group]:
    """All groups of all rule files, by file name."""
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(folder.iterdir())]
    return [group for plain in files for group in _File.model_validate(plain).groups]


def read_alerts(folder: Path = RULES) -> list[Alert]:
    """All alerts of all rule files."""
    return [alert for group in read_groups(folder) for alert in group.alerts]
