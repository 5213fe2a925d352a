"""How a panel looks: plain data, made into Grafana's form by its typed builders."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import BigValueGraphMode
from grafana_foundation_sdk.models.dashboard import Dashboard as Built
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    GridPos,
    VariableRefresh,
)
from grafana_foundation_sdk.models.dashboard import Panel as BuiltPanel
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from ops.alerting import PROMETHEUS_UID

Kind = Literal["lines", "number", "rows"]
Unit = Literal[
    "short", "s", "percentunit", "reqps", "rowsps", "eps", "bytes", "dateTimeFromNow", "none"
]
_SOURCE: Final = DataSourceRef(type_val="prometheus", uid=PROMETHEUS_UID)
_COLUMNS: Final = 24
_HEIGHTS: Final[dict[Kind, int]] = {"lines": 8, "number": 4, "rows": 8}
_WIDTHS: Final[dict[Kind, int]] = {"lines": 12, "number": 6, "rows": 12}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture.

    Attributes:
        queries: PromQL and its legend.
        help: what it shows and what should worry.
    """

    title: str
    queries: tuple[tuple[str, str], ...]
    help: str
    unit: Unit = "short"
    kind: Kind = "lines"


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A dashboard; `variable` is a query whose label fills the choice at its top."""

    uid: str
    title: str
    help: str
    panels: tuple[Panel, ...]
    variable: tuple[str, str] | None = None
    """Name of the variable, and the metric whose label of that name has the choices."""


def build(board: Board) -> Built:
    """The dashboard as Grafana keeps it."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.help)
        .tags(["tidewheel"])
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .readonly()
        .link(
            dashboard.DashboardLink("Tidewheel")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["tidewheel"])
            .as_dropdown(True)
            .keep_time(True)
        )
    )
    if board.variable is not None:
        made.with_variable(_variable(*board.variable))
    for panel in _placed(board.panels):
        made.with_panel(panel)
    return made.build()


def _variable(name: str, metric: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(name)
        .datasource(_SOURCE)
        .query(f"label_values({metric}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


class _Finished(Builder[BuiltPanel]):
    """A panel that is built already, as dashboards take them."""

    def __init__(self, panel: BuiltPanel) -> None:
        self.panel = panel

    def build(self) -> BuiltPanel:
        return self.panel


def _placed(panels: Sequence[Panel]) -> list[_Finished]:
    """From left to right, a new row where one does not fit; panels are numbered from 1."""
    placed: list[_Finished] = []
    x = y = tallest = 0
    for number, panel in enumerate(panels, start=1):
        width, height = _WIDTHS[panel.kind], _HEIGHTS[panel.kind]
        if x + width > _COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        placed.append(_Finished(_panel(panel, number, GridPos(h=height, w=width, x=x, y=y))))
        x, tallest = x + width, max(tallest, height)
    return placed


def _panel(panel: Panel, number: int, place: GridPos) -> BuiltPanel:
    builder: timeseries.Panel | stat.Panel | table.Panel
    if panel.kind == "lines":
        builder = timeseries.Panel().fill_opacity(8).line_width(1)
    elif panel.kind == "number":
        builder = (
            stat.Panel()
            .graph_mode(BigValueGraphMode.AREA)
            .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        )
    else:
        builder = table.Panel()
    builder = builder.id(number).title(panel.title).description(panel.help)
    builder = builder.unit(panel.unit).datasource(_SOURCE).grid_pos(place)
    for letter, (query, legend) in zip("ABCDEFGH", panel.queries, strict=False):
        builder = builder.with_target(_target(query, legend, letter, panel.kind))
    return builder.build()


def _target(query: str, legend: str, letter: str, kind: Kind) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query).legend_format(legend).ref_id(letter)
    if kind == "rows":
        return made.instant().format(PromQueryFormat.TABLE)
    return made.range()
