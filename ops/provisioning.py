"""Grafana's provisioning files as models: a key that Grafana does not know cannot be written.

They follow the documented forms of releases 11 to 13. What those releases refuse at start is
refused here: a root policy with matchers, a receiver without settings, another suffix than YAML.
"""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ops.rules import Strict


class DataSource(Strict):
    """Where panels and rules ask."""

    name: str
    type: Literal["prometheus", "alertmanager"]
    uid: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,40}$")
    access: Literal["proxy"] = "proxy"
    url: str
    isDefault: bool = False
    editable: bool = False
    jsonData: dict[str, Any] = Field(default_factory=dict)


class DataSources(Strict):
    """The file of data sources."""

    apiVersion: Literal[1] = 1
    datasources: tuple[DataSource, ...]


class ProviderOptions(Strict):
    """Where dashboards lie, as Grafana sees it."""

    path: str


class Provider(Strict):
    """A folder of dashboards."""

    name: str
    folder: str
    folderUid: str
    type: Literal["file"] = "file"
    disableDeletion: bool = True
    allowUiUpdates: bool = False
    options: ProviderOptions


class Providers(Strict):
    """The file of dashboard providers."""

    apiVersion: Literal[1] = 1
    providers: tuple[Provider, ...]


class TimeRange(Strict):
    """Seconds before now."""

    from_: int = Field(alias="from")
    to: int = 0


class Query(Strict):
    """One step of a rule: a query, or an expression over the steps before it."""

    refId: str
    datasourceUid: str
    relativeTimeRange: TimeRange | None = None
    model: dict[str, Any]


class Rule(Strict):
    """An alert as Grafana evaluates it."""

    uid: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,40}$")
    title: str
    condition: str
    data: tuple[Query, ...]
    for_: str = Field(alias="for")
    keepFiringFor: str | None = None
    noDataState: Literal["OK", "NoData", "Alerting", "KeepLast"] = "OK"
    execErrState: Literal["OK", "Error", "Alerting", "KeepLast"] = "Error"
    labels: dict[str, str]
    annotations: dict[str, str]

    @model_validator(mode="after")
    def _condition_is_a_step(self) -> Self:
        if self.condition not in {step.refId for step in self.data}:
            raise ValueError(f"{self.uid}: the condition {self.condition} is no step of it")
        return self


class RuleGroup(Strict):
    """Rules that are evaluated together."""

    orgId: int = 1
    name: str
    folder: str
    interval: str
    rules: tuple[Rule, ...]


class RuleGroups(Strict):
    """The file of rules."""

    apiVersion: Literal[1] = 1
    groups: tuple[RuleGroup, ...]


class Integration(Strict):
    """One way to tell somebody."""

    uid: str
    type: Literal["webhook"]
    settings: dict[str, Any] = Field(min_length=1)
    disableResolveMessage: bool = False


class ContactPoint(Strict):
    """Whoever is told."""

    orgId: int = 1
    name: str
    receivers: tuple[Integration, ...] = Field(min_length=1)


class ContactPoints(Strict):
    """The file of contact points."""

    apiVersion: Literal[1] = 1
    contactPoints: tuple[ContactPoint, ...]


class Policy(Strict):
    """A node of the tree of policies."""

    receiver: str
    group_by: tuple[str, ...] | None = None
    object_matchers: tuple[tuple[str, str, str], ...] | None = None
    group_wait: str | None = None
    group_interval: str | None = None
    repeat_interval: str | None = None
    mute_time_intervals: tuple[str, ...] | None = None
    routes: tuple["Policy", ...] | None = None


class RootPolicy(Policy):
    """The root, which everything reaches that no route took."""

    orgId: int = 1

    @model_validator(mode="after")
    def _takes_everything(self) -> Self:
        if self.object_matchers or self.mute_time_intervals:
            raise ValueError("the root policy has neither matchers nor mute timings")
        return self


class Policies(Strict):
    """The file of policies: one tree, which replaces the one that is there."""

    apiVersion: Literal[1] = 1
    policies: tuple[RootPolicy, ...] = Field(min_length=1, max_length=1)


class TimesOfDay(Strict):
    """From the first minute up to, not with, the second."""

    start_time: str
    end_time: str


class TimeInterval(Strict):
    """When."""

    times: tuple[TimesOfDay, ...]


class MuteTime(Strict):
    """A named time in which nobody is told."""

    orgId: int = 1
    name: str
    time_intervals: tuple[TimeInterval, ...]


class MuteTimes(Strict):
    """The file of mute timings."""

    apiVersion: Literal[1] = 1
    muteTimes: tuple[MuteTime, ...]
