"""Pages of the reference that follow from code and rules: metrics, alerts."""

import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

from ops.routes import read_routing
from ops.rules import Alert, read_groups
from shared.vocabulary import COUNTERS, EVERY, HISTOGRAMS, Metric

_HEAD: Final = "<!-- Written by `make grafana`. -->"
_ON_METRICS: Final = (
    "Every service tells its metrics on the path `/metrics` of its admin port, which listens on "
    "the loopback unless `TIDEWHEEL_<SERVICE>_ADMIN_HOST` says otherwise; several workers of "
    "serving listen on ports beside each other. Where all values of a label are known ahead, its "
    "series exist at 0 from the start, so that their first increase is seen; series of a model "
    "exist from when the service first has to do with it. No series is about a feature, a row or "
    "a person: such detail is in the services' own answers."
)
_ON_ALERTS: Final = (
    "Written once, in `ops/prometheus/rules/`; Grafana's copies are generated from there and tell "
    "nobody. Only harm to users and loss of sight page. Tickets about drift go to the team that "
    "owns the model; pages are repeated every {pages}, drift every {drift}."
)


def pages() -> dict[str, str]:
    """Every page by its name below `docs/reference/`."""
    return {"metrics.md": metrics(), "alerts.md": alerts()}


def metrics() -> str:
    """The vocabulary as a table."""
    lines = [
        "# Metrics",
        "",
        _HEAD,
        "",
        *_paragraph(_ON_METRICS),
        "",
        "| metric | kind; labels | told by | what it tells |",
        "|---|---|---|---|",
        *(_metric(name, metric) for name, metric in sorted(EVERY.items())),
    ]
    return "\n".join(lines) + "\n"


def _metric(name: str, metric: Metric) -> str:
    kind = "counter" if name in COUNTERS else "histogram" if name in HISTOGRAMS else "gauge"
    labels = ", ".join(_label(metric, label) for label in metric.labels)
    tellers = "all" if len(metric.by) == 6 else ", ".join(metric.by)
    return f"| `{name}` | {kind}{'; ' if labels else ''}{labels} | {tellers} | {metric.means} |"


def _label(metric: Metric, label: str) -> str:
    known = metric.known.get(label, ())
    return f"{label} ({', '.join(known)})" if 1 < len(known) <= 6 else label


def alerts() -> str:
    """Every alert with what is told to whom, and its runbook."""
    receivers = {"page": "the pager", "ticket": "tickets", "dashboard": "nobody"}
    lines = [
        "# Alerts",
        "",
        _HEAD,
        "",
        *_paragraph(_ON_ALERTS.format(pages=_repeat("pager"), drift=_repeat("owner"))),
        "",
        "| alert | tells | when | runbook |",
        "|---|---|---|---|",
        *(_alert(alert, receivers) for alert in _alerts()),
    ]
    return "\n".join(lines) + "\n"


def _alerts() -> Iterator[Alert]:
    for group in read_groups():
        yield from group.alerts


def _alert(alert: Alert, receivers: dict[str, str]) -> str:
    severity = alert.labels["severity"]
    is_owners = severity == "ticket" and alert.labels["area"] == "drift"
    whom = "the owner" if is_owners else receivers[severity]
    waits = [_wait(alert.for_, "for"), _wait(alert.keep_firing_for, "and stays for")]
    when = " ".join([f"`{' '.join(alert.expr.split())}`", *_present(waits)]).replace("|", "\\|")
    return f"| {alert.alert} | {whom} | {when} | [page](../runbooks/{alert.alert}.md) |"


def _wait(duration: str, words: str) -> str:
    return "" if duration == "0s" else f"{words} {duration}"


def _present(texts: Iterable[str]) -> list[str]:
    return [text for text in texts if text]


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)


def _repeat(receiver: str) -> str:
    routes = read_routing().route.routes
    return [route.repeat_interval for route in routes if route.receiver == receiver][-1]
