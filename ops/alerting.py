"""Grafana's copy of the alerts: the same rules, drawn beside the panels, and told to nobody.

Alertmanager notifies. Grafana evaluates the same expressions, so that states and history are seen
where the panels are; its tree of policies begins with a route that takes everything and is muted
at all times. The routes behind it are Alertmanager's. Whoever wants Grafana to notify removes that
first route and lets Alertmanager's routes end at `nobody`: never both.
"""

import re
from typing import Final

from ops.provisioning import (
    ContactPoint,
    ContactPoints,
    Integration,
    MuteTime,
    MuteTimes,
    Policies,
    Policy,
    Query,
    RootPolicy,
    Rule,
    RuleGroup,
    RuleGroups,
    TimeInterval,
    TimeRange,
    TimesOfDay,
)
from ops.routes import Receiver, Route, Routing, external_labels
from ops.rules import Alert, Group

PROMETHEUS_UID: Final = "tidewheel-prometheus"
EXPRESSION_UID: Final = "__expr__"
FOLDER: Final = "Tidewheel"
MUTED: Final = "alertmanager-notifies"
_EVALUATED_EVERY: Final = "1m"
_QUERY: Final = re.compile(r"\{\{ with query .*?\{\{ end \}\}000")
_VALUE: Final = re.compile(r"\{\{ \$value(?: \| ([^}|]+?))? \}\}")
_EXTERNAL: Final = re.compile(r"\{\{ \$externalLabels\.(\w+) \}\}")
_BOARD: Final = re.compile(r"/d/([a-z-]+)")


def rule_groups(groups: list[Group]) -> RuleGroups:
    """Every alert of every group."""
    return RuleGroups(
        groups=tuple(
            RuleGroup(
                name=group.name,
                folder=FOLDER,
                interval=_EVALUATED_EVERY,
                rules=tuple(_rule(alert) for alert in group.alerts),
            )
            for group in groups
            if group.alerts
        )
    )


def _rule(alert: Alert) -> Rule:
    """The expression is the rule: whatever series it leaves are alerts, whatever their value."""
    labels = {name: text for name, text in alert.labels.items() if "query" not in text}
    return Rule(
        uid=uid_of(alert.alert),
        title=alert.alert,
        condition="B",
        data=(
            Query(
                refId="A",
                datasourceUid=PROMETHEUS_UID,
                relativeTimeRange=TimeRange.model_validate({"from": 600}),
                model={
                    "refId": "A",
                    "expr": escaped(alert.expr.strip()),
                    "instant": True,
                    "range": False,
                },
            ),
            Query(
                refId="B",
                datasourceUid=EXPRESSION_UID,
                model={"refId": "B", "type": "math", "expression": escaped("is_number($A)")},
            ),
        ),
        **{"for": alert.for_},
        keepFiringFor=alert.keep_firing_for if alert.keep_firing_for != "0s" else None,
        labels={name: escaped(text) for name, text in labels.items()},
        annotations=_annotations(alert),
    )


def uid_of(name: str) -> str:
    """`QualityDegraded` is `tidewheel-qualitydegraded`."""
    return f"tidewheel-{name.lower()}"


def _annotations(alert: Alert) -> dict[str, str]:
    texts = {name: escaped(told_by_grafana(text)) for name, text in alert.annotations.items()}
    board = _BOARD.search(texts["dashboard_url"])
    if board is None:
        raise ValueError(f"{alert.alert} leads to no dashboard")
    return {**texts, "__dashboardUid__": board[1], "__panelId__": "1"}


def told_by_grafana(text: str) -> str:
    """A text of Prometheus in Grafana's words: other variables, no queries inside."""
    addresses = external_labels()
    text = _QUERY.sub("", text).replace("from=&to=", "from=now-3h&to=now")
    text = _EXTERNAL.sub(lambda found: addresses[found[1]], text)
    text = text.replace("{{ if $value }}", "{{ if $values.A.Value }}")
    return _VALUE.sub(_value, text)


def _value(found: re.Match[str]) -> str:
    function = f"{found[1]} " if found[1] else ""
    return "{{ " + function + "$values.A.Value }}"


def escaped(text: str) -> str:
    """Grafana puts variables of the environment into values; a doubled sign is a plain one."""
    return text.replace("$", "$$")


def unescaped(text: str) -> str:
    """What Grafana reads."""
    return text.replace("$$", "$")


def contact_points(routing: Routing) -> ContactPoints:
    """Alertmanager's receivers; Grafana knows none without a way to tell."""
    told = [receiver for receiver in routing.receivers if receiver.webhook_configs]
    return ContactPoints(contactPoints=tuple(map(_contact_point, told)))


def _contact_point(receiver: Receiver) -> ContactPoint:
    hooks = enumerate(receiver.webhook_configs)
    return ContactPoint(
        name=receiver.name,
        receivers=tuple(
            Integration(
                uid=f"tidewheel-{receiver.name}-{number}",
                type="webhook",
                settings={"url": escaped(hook.url), "httpMethod": "POST"},
                disableResolveMessage=not hook.send_resolved,
            )
            for number, hook in hooks
        ),
    )


def policies(routing: Routing) -> Policies:
    """A muted route for everything, then Alertmanager's tree."""
    root = routing.route
    silent = {receiver.name for receiver in routing.receivers if not receiver.webhook_configs}
    muted = Policy(
        receiver=root.receiver,
        object_matchers=(("alertname", "=~", ".+"),),
        mute_time_intervals=(MUTED,),
    )
    routes = (muted, *(_policy(route, root.receiver, silent) for route in root.routes))
    tree = RootPolicy(
        receiver=root.receiver,
        group_by=root.group_by,
        group_wait=root.group_wait,
        group_interval=root.group_interval,
        repeat_interval=root.repeat_interval,
        routes=routes,
    )
    return Policies(policies=(tree,))


def _policy(route: Route, otherwise: str, silent: set[str]) -> Policy:
    is_silent = route.receiver in silent
    return Policy(
        receiver=otherwise if is_silent else route.receiver,
        object_matchers=tuple(route.parsed),
        group_by=route.group_by or None,
        group_wait=route.group_wait or None,
        group_interval=route.group_interval or None,
        repeat_interval=route.repeat_interval or None,
        mute_time_intervals=(MUTED,) if is_silent else None,
    )


def mute_times() -> MuteTimes:
    """The whole day, every day."""
    always = TimeInterval(times=(TimesOfDay(start_time="00:00", end_time="24:00"),))
    return MuteTimes(muteTimes=(MuteTime(name=MUTED, time_intervals=(always,)),))
