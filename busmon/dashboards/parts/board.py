"""The frame that all dashboards share: time range, variables, annotations, links, and rows of panels.

A `Board` is a dashboard as data; `written` gives the JSON that Grafana is provisioned with. Pure: the same board gives
the same text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import dashboard, prometheus
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from busmon.dashboards.parts.panels import DATASOURCE, Panel
from busmon.dashboards.parts.promql import HOURLY, by_range
from busmon.rules import Thresholds

if TYPE_CHECKING:
    from grafana_foundation_sdk.cog.builder import Builder

TAG = "busmon"
RANGES = {"15 minutes": "now-15m", "1 hour": "now-1h", "6 hours": "now-6h", "1 day": "now-24h", "15 days": "now-15d"}
REFRESHES = ["10s", "30s", "1m", "5m"]

# A deploy starts agents; an exporter that was started again is one of busmon's own.
_STARTS = 'sum by (agent) (increase(agent_starts_total{job=~"$job", agent=~"$agent"}[1m])) > 0'
_ALERTS = 'ALERTS{alertstate="firing", tier=~"P1|P2"}'


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard.

    Attributes:
        uid: its name in links, and its file's.
        about: what question it answers.
        rows: panels by the row's heading, in reading order.
    """

    uid: str
    title: str
    about: str
    rows: Mapping[str, tuple[Panel, ...]]


def to_json(board: Board, thresholds: Thresholds) -> str:
    """Write the dashboard's JSON, coloured by these thresholds."""
    built = dashboard.Dashboard(board.title).uid(board.uid).description(board.about).tags([TAG]).readonly()
    built.time("now-1h", "now").refresh("30s").timezone("browser").timepicker(_time_picker())
    built.tooltip(model.DashboardCursorSync.CROSSHAIR)
    for variable in _variables():
        built.with_variable(variable)
    for annotation in _annotations():
        built.annotation(annotation)
    built.link(_others())
    for heading, panels in board.rows.items():
        built.with_row(dashboard.Row(heading))
        for panel in panels:
            built.with_panel(panel.draw(thresholds))
    whole = built.build()
    for number, drawn in enumerate(whole.panels or (), start=1):
        drawn.id_val = number
    return JSONEncoder(sort_keys=True, indent=2).encode(whole) + "\n"


def _time_picker() -> dashboard.TimePicker:
    ranges: list[Builder[model.TimeOption]] = [
        dashboard.TimeOption().display(f"Last {name}").from_val(start).to("now") for name, start in RANGES.items()
    ]
    return dashboard.TimePicker().refresh_intervals(REFRESHES).quick_ranges(ranges)


def _variables() -> tuple[dashboard.DatasourceVariable | dashboard.QueryVariable, ...]:
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    job = _query("job", "Job", "label_values(busmon_build_info, job)")
    # Of series without an agent, too: as promql.choose needs it.
    agent = _query("agent", "Agent", 'label_values(tasks_processed_total{job=~"$job"}, agent)', every=".*")
    return source, job, agent, *(_by_range(name) for name in HOURLY)


def _by_range(name: str) -> dashboard.QueryVariable:
    momentary = HOURLY[name][1]
    current = model.VariableOption(selected=True, text=momentary, value=momentary)
    variable = dashboard.QueryVariable(name).query(by_range(name)).regex(f'/{name}="(\\w+)"/').datasource(DATASOURCE)
    variable.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).hide(model.VariableHide.HIDE_VARIABLE)
    return variable.current(current)


def _query(name: str, label: str, query: str, every: str = ".+") -> dashboard.QueryVariable:
    current = model.VariableOption(selected=True, text="All", value="$__all")
    variable = dashboard.QueryVariable(name).label(label).query(query).datasource(DATASOURCE).current(current)
    variable.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
    return variable.multi(True).include_all(True).all_value(every)


def _annotations() -> tuple[dashboard.AnnotationQuery, ...]:
    return (
        _annotation("Deploys", "blue", _STARTS, "Started: {{agent}}"),
        _annotation("Alerts", "red", _ALERTS, "{{tier}} {{alertname}} {{service}}"),
    )


def _annotation(name: str, colour: str, expression: str, title: str) -> dashboard.AnnotationQuery:
    query = prometheus.Dataquery().ref_id(name).expr(expression).legend_format(title)
    annotation = dashboard.AnnotationQuery().name(name).datasource(DATASOURCE).enable(True).hide(False)
    annotation.icon_color(colour).expr(expression).title_format(title).step("60s")
    return annotation.target(query)


def _others() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("Dashboards").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(True).include_vars(True).keep_time(True)
