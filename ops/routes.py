"""The routes of Alertmanager and the addresses in Prometheus' configuration, read strictly."""

from typing import Any, Final

import yaml
from pydantic import Field

from ops.paths import ALERTMANAGER, PROMETHEUS
from ops.rules import Strict

OPERATORS: Final = ("!=", "=~", "!~", "=")


class Route(Strict):
    """Who is told, how alerts are put together, and how often it is said again."""

    receiver: str
    matchers: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    group_wait: str = ""
    group_interval: str = ""
    repeat_interval: str = ""
    routes: tuple["Route", ...] = ()

    @property
    def parsed(self) -> list[tuple[str, str, str]]:
        """Matchers as label, operator, value."""
        return [split_matcher(text) for text in self.matchers]


class Webhook(Strict):
    """An address that notifications are posted to."""

    url: str
    send_resolved: bool = True


class Receiver(Strict):
    """Whoever is told; without a way to tell, nobody."""

    name: str
    webhook_configs: tuple[Webhook, ...] = ()


class Inhibition(Strict):
    """While one alert fires, others are not told."""

    source_matchers: tuple[str, ...]
    target_matchers: tuple[str, ...]
    equal: tuple[str, ...] = ()


class Routing(Strict):
    """The configuration of Alertmanager."""

    route: Route
    receivers: tuple[Receiver, ...]
    inhibit_rules: tuple[Inhibition, ...] = Field(default=())


def read_routing() -> Routing:
    """The routes as they are checked in."""
    return Routing.model_validate(yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8")))


def read_prometheus() -> dict[str, Any]:
    """The configuration of Prometheus as it is checked in."""
    return dict(yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8")))


def external_labels() -> dict[str, str]:
    """The addresses that the texts of alerts lead to."""
    return dict(read_prometheus()["global"]["external_labels"])


def split_matcher(text: str) -> tuple[str, str, str]:
    """`severity = page` as label, operator and value."""
    operator = next(one for one in OPERATORS if one in text)
    label, _, value = text.partition(operator)
    return label.strip(), operator, value.strip().strip('"')
