"""What a PromQL expression names: metrics, the labels it selects and groups by."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_METRIC: Final = re.compile(r"\b(tidewheel[a-z0-9_:]*|up|ALERTS)\b(?:\{([^}]*)\})?")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTED: Final = re.compile(r"([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)")
_GROUPED: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_PARTS: Final = ("_bucket", "_count", "_sum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """A metric and the labels it is selected by."""

    metric: str
    labels: frozenset[str]

    @property
    def family(self) -> str:
        """The metric without what histograms add to its name."""
        return next(
            (self.metric.removesuffix(p) for p in _PARTS if self.metric.endswith(p)), self.metric
        )


def selectors(expression: str) -> Iterator[Selector]:
    """Every metric of ours in an expression."""
    bare = _STRING.sub('""', expression)
    grouped = _GROUPED.sub("", bare)
    for found in _METRIC.finditer(grouped):
        labels = frozenset(_SELECTED.findall(found[2] or ""))
        yield Selector(metric=found[1], labels=labels)


def groupings(expression: str) -> set[str]:
    """Every label that an expression groups or joins by."""
    bare = _STRING.sub('""', expression)
    return {name.strip() for found in _GROUPED.findall(bare) for name in found.split(",")} - {""}


def without_variables(expression: str) -> str:
    """A panel's expression as Prometheus gets it: Grafana's variables are filled in."""
    filled = expression.replace("$__rate_interval", "5m").replace("$__range", "6h")
    return re.sub(r"\$\{?\w+\}?", "x", filled)
