"""The kinds of panel that the dashboards are made of: one class each, with the look that all share.

A panel says what to aim for: its description, its thresholds in green, yellow and red, its runbooks and the dashboard
that shows more stand together in an `Aim`. Queries are given as legend → PromQL. Pure: nothing is read or written.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeAlias, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, statetimeline, table
from grafana_foundation_sdk.builders import timeseries as graph
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from busmon.dashboards.parts import colours as colouring
from busmon.dashboards.parts.levels import ANY, Bound, Levels, value
from busmon.rules import Thresholds

DATASOURCE = looks.DataSourceRef(type_val="prometheus", uid="${datasource}")
HALF, THIRD, QUARTER, SIXTH = 12, 8, 6, 4
"""Widths, in Grafana's 24 columns."""

_TALL, _SHORT = 8, 4
Queries: TypeAlias = Mapping[str, str]
Drawn: TypeAlias = graph.Panel | stat.Panel | bargauge.Panel | table.Panel | heatmap.Panel | statetimeline.Panel
D = TypeVar("D", graph.Panel, stat.Panel, bargauge.Panel, table.Panel, heatmap.Panel, statetimeline.Panel)


@dataclass(frozen=True, slots=True)
class Aim:
    """The aim of a panel's reader.

    Attributes:
        text: the description: what is shown, and what to aim for.
        levels: where that is missed.
        runbooks: alerts whose runbooks say what to do then.
        more: the path of the dashboard that shows more of a series, with Grafana's variables in it.
    """

    text: str
    levels: Levels | None = None
    runbooks: tuple[str, ...] = ()
    more: str = ""


class Panel(Protocol):
    """A panel as data."""

    @property
    def title(self) -> str:
        """The panel's title."""

    @property
    def aim(self) -> Aim:
        """The aim of the panel's reader."""

    @property
    def queries(self) -> Queries:
        """PromQL by legend."""

    @property
    def span(self) -> int:
        """Its width in columns."""

    @property
    def instant(self) -> bool:
        """True if the panel queries the end of the time range only."""

    def draw(self, thresholds: Thresholds) -> Drawn:
        """Draw Grafana's panel, coloured by these thresholds."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Values over time.

    Attributes:
        stacked: whether they add up to a whole.
        top: the axis' end, where there is a natural one.
        colours: of series by legend, where they mean something.
        dashed: legends of lines that may lie on another, and let it be seen.
    """

    title: str
    aim: Aim
    queries: Queries
    unit: str
    span: int = HALF
    stacked: bool = False
    top: float | None = None
    colours: Mapping[str, str] = field(default_factory=dict)
    dashed: tuple[str, ...] = ()
    instant: ClassVar[bool] = False

    def draw(self, thresholds: Thresholds) -> graph.Panel:
        """Draw Grafana's time series."""
        panel = _dress(graph.Panel(), self, thresholds).unit(self.unit).span(self.span).height(_TALL)
        panel.targets(list(_targets(self.queries))).legend(_legend()).tooltip(_tooltip())
        panel.line_width(2).fill_opacity(35 if self.stacked else 8)
        panel.show_points(looks.VisibilityMode.NEVER).axis_soft_min(0)
        if self.top is not None:
            panel.max(self.top)
        if self.stacked:
            panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL).group("A"))
        _colour(panel.color_scheme(_by_name()), {**colouring.of(self.queries), **self.colours})
        for legend in self.dashed:
            dashes = {"fill": "dash", "dash": [10, 10]}
            panel.override_by_name(legend, [model.DynamicConfigValue("custom.lineStyle", dashes)])
        if self.aim.levels is ANY:
            panel.axis_soft_max(1)
        if self.aim.levels:
            panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.DASHED))
        return panel


@dataclass(frozen=True, slots=True)
class Number:
    """One value, coloured, with its course behind it; one of the whole time range has no course."""

    title: str
    aim: Aim
    query: str
    unit: str
    span: int = SIXTH
    decimals: int | None = None

    @property
    def queries(self) -> Queries:
        """Its one query."""
        return {"": self.query}

    @property
    def instant(self) -> bool:
        """Asked at each step, a value of the whole range would take as many times the samples as there are steps."""
        return "$__range" in self.query

    def draw(self, thresholds: Thresholds) -> stat.Panel:
        """Draw Grafana's stat."""
        panel = _dress(stat.Panel(), self, thresholds).unit(self.unit).span(self.span).height(_SHORT)
        panel.targets([query.instant() if self.instant else query for query in _targets(self.queries)]).reduce_options(
            _last()
        ).color_scheme(_by_threshold())
        course = looks.BigValueGraphMode.NONE if self.instant else looks.BigValueGraphMode.AREA
        panel.color_mode(looks.BigValueColorMode.VALUE).graph_mode(course)
        return panel if self.decimals is None else panel.decimals(self.decimals)


@dataclass(frozen=True, slots=True)
class Ranking:
    """One bar a series, as of the end of the time range; `top` is where a bar is full, where there is such a value."""

    title: str
    aim: Aim
    queries: Queries
    unit: str
    span: int = HALF
    top: Bound | None = None
    instant: ClassVar[bool] = True

    def draw(self, thresholds: Thresholds) -> bargauge.Panel:
        """Draw Grafana's bar gauge."""
        panel = _dress(bargauge.Panel(), self, thresholds).unit(self.unit).span(self.span).height(_TALL).min(0)
        panel.targets([query.instant() for query in _targets(self.queries)]).reduce_options(_last())
        panel.orientation(looks.VizOrientation.HORIZONTAL).display_mode(looks.BarGaugeDisplayMode.BASIC)
        panel.show_unfilled(True).sizing(looks.BarGaugeSizing.MANUAL).max_viz_height(40)
        if self.aim.levels:
            panel.color_scheme(_by_threshold())
        else:
            _colour(panel.color_scheme(_colour_all()), colouring.of(self.queries))
        return panel if self.top is None else panel.max(value(self.top, thresholds))


@dataclass(frozen=True, slots=True)
class Listing:
    """A table as of the end of the time range, the largest first; `columns` are labels and `Value`, with headings."""

    title: str
    aim: Aim
    query: str
    columns: Mapping[str, str]
    unit: str
    span: int = HALF
    instant: ClassVar[bool] = True

    @property
    def queries(self) -> Queries:
        """Its one query."""
        return {"": self.query}

    def draw(self, thresholds: Thresholds) -> table.Panel:
        """Draw Grafana's table."""
        panel = _dress(table.Panel(), self, thresholds).span(self.span).height(_TALL)
        panel.targets([query.instant().format(PromQueryFormat.TABLE) for query in _targets(self.queries)])
        places = {name: place for place, name in enumerate(self.columns)}
        renamed = {"indexByName": places, "renameByName": dict(self.columns)}
        panel.with_transformation(_transformation("filterFieldsByName", {"include": {"names": list(self.columns)}}))
        panel.with_transformation(_transformation("organize", renamed))
        heading = self.columns["Value"]
        panel.override_by_name(heading, [model.DynamicConfigValue("unit", self.unit)])
        return panel.sort_by([common.TableSortByFieldState().display_name(heading).desc(True)])


@dataclass(frozen=True, slots=True)
class Density:
    """Cells over time, a row for each series; `buckets` where these are a histogram's, in `unit`."""

    title: str
    aim: Aim
    queries: Queries
    unit: str
    span: int = HALF
    buckets: bool = False
    instant: ClassVar[bool] = False

    def draw(self, thresholds: Thresholds) -> heatmap.Panel:
        """Draw Grafana's heatmap."""
        form = PromQueryFormat.HEATMAP if self.buckets else PromQueryFormat.TIME_SERIES
        panel = _dress(heatmap.Panel(), self, thresholds).span(self.span).height(_TALL)
        panel.targets([query.format(form) for query in _targets(self.queries)]).calculate(False).cell_gap(1)
        colour = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("YlOrRd").steps(64)
        panel.color(colour).cell_values(heatmap.CellValues().unit("short")).show_legend()
        return panel.y_axis(heatmap.YAxisConfig().unit(self.unit))


@dataclass(frozen=True, slots=True)
class States:
    """A band for each series that shows its states; `names` maps a value to its word and colour."""

    title: str
    aim: Aim
    queries: Queries
    names: Mapping[str, tuple[str, str]]
    span: int = HALF
    instant: ClassVar[bool] = False

    def draw(self, thresholds: Thresholds) -> statetimeline.Panel:
        """Draw Grafana's state timeline."""
        panel = _dress(statetimeline.Panel(), self, thresholds).span(self.span).height(_TALL)
        words = {
            state: model.ValueMappingResult(text=word, color=colour) for state, (word, colour) in self.names.items()
        }
        panel.targets(list(_targets(self.queries))).mappings([model.ValueMap(options=words)]).fill_opacity(80)
        panel.show_value(looks.VisibilityMode.NEVER).row_height(0.8).merge_values(True)
        return panel.tooltip(_tooltip())


def _dress(drawn: D, panel: Panel, thresholds: Thresholds) -> D:
    """Add the parts that all kinds of panel have."""
    aim = panel.aim
    steps = aim.levels.steps(thresholds) if aim.levels else [model.Threshold(None, "green")]
    drawn.title(panel.title).description(aim.text).datasource(DATASOURCE)
    drawn.thresholds(dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
    runbooks = thresholds.tables["links"]["runbooks"]
    drawn.links([_link(f"Runbook: {name}", f"{runbooks}/{name}.md") for name in aim.runbooks])
    if aim.more:
        drawn.data_links([_link("Show more", f"{aim.more}&${{__url_time_range}}")])
    return drawn


def _link(title: str, url: str) -> dashboard.DashboardLink:
    return dashboard.DashboardLink(title).type(model.DashboardLinkType.LINK).url(url)


def _targets(queries: Queries) -> Iterator[prometheus.Dataquery]:
    for place, (legend, expression) in enumerate(queries.items()):
        yield _target(chr(ord("A") + place), legend, expression)


def _target(name: str, legend: str, expression: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(name).expr(expression).legend_format(legend).datasource(DATASOURCE)


def _transformation(name: str, options: object) -> model.DataTransformerConfig:
    return model.DataTransformerConfig(id_val=name, options=options)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().display_mode(looks.LegendDisplayMode.LIST)
    return legend.placement(looks.LegendPlacement.BOTTOM).show_legend(True)


def _by_threshold() -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS)


def _by_name() -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME)


def _colour_all() -> dashboard.FieldColor:
    """Give all bars one colour, for their labels tell them apart."""
    return dashboard.FieldColor().mode(model.FieldColorModeId.FIXED).fixed_color(colouring.PALETTE[0])


def _colour(panel: graph.Panel | bargauge.Panel, colours: Mapping[str, str]) -> None:
    for name, colour in colours.items():
        panel.override_by_name(name, [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})])


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING)
