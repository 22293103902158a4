"""The terminal's view of an overview: one frame that fits 80 columns and 24 lines for a fleet of up to eight shards.

Dependencies, agents and families stand below it as far as there is room; a narrow terminal gets narrower gaps. Pure: an
overview goes in, something for rich to print comes out. Colour only repeats what words say. No text of an overview can
steer the terminal: all of it is made printable as it comes in, before anything is laid out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from busmon.exporter.dependencies import BAD, FAIR, GOOD, Dependency
from busmon.exporter.families import FamilyRow
from busmon.exporter.overview import AgentRow, Overview
from busmon.plurals import age

NONE = "–"  # noqa: RUF001 - an en dash is the typographer's sign for "no figure"

_BLOCKS = "▁▂▃▄▅▆▇█"
_SPARK_WIDTH = 52
_FIGURE_WIDTH = len("1,000,000")
_STATE_STYLES = {"consuming": "green", "connecting": "yellow", "draining": "yellow", "blocked": "yellow"}
_SEVERITY_STYLES = {GOOD: "green", FAIR: "yellow", BAD: "red"}
_SEVERITY_MARKS = {GOOD: "●", FAIR: "▲", BAD: "■"}
_WORST_FIRST = (BAD, FAIR, GOOD)
_FRAME_LINES = 11
"""What a frame takes beside its shards, its losses and what stands below, the hint included."""

_WIDE = 78
"""Columns from which on shards and workers have wide gaps between their columns, and workers their process ids."""

_WIDE_FOR_NAMES = 98
"""Columns from which on families have their fullest label."""


def frame(overview: Overview, notice: str = "", lines: int = 24) -> RenderableType:
    """One frame.

    Args:
        overview: what to show.
        notice: takes the place of the line that says how the fleet is.
        lines: how tall the terminal is; what is left below the shards and workers is for agents and families.
    """
    overview, notice = _printable(overview), _printable(notice)
    losses = list(_losses(overview))
    parts = [
        _title(overview),
        _cut(Text(notice, style="bold red")) if notice else _condition(overview),
        _headline(overview),
        _sparkline(overview.history.envelopes),
        _Tables(overview),
        *losses,
        *_below(overview, lines - _FRAME_LINES - max(len(overview.shards), len(overview.workers)) - len(losses)),
    ]
    return Padding(Group(*parts), (0, 0, 0, 1))


def waiting(notice: str) -> RenderableType:
    """The frame before the first answer."""
    return Padding(Group(Text("busmon", style="bold"), Text(_printable(notice), style="yellow")), (0, 1))


def hint(more: str = "") -> RenderableType:
    """How to leave, and what else there is to know, in one line below a frame that stays."""
    return Padding(_cut(Text(f"q or Ctrl-C leaves   {_printable(more)}".rstrip(), style="dim")), (1, 0, 0, 1))


def in_one_line(overview: Overview) -> str:
    """The figures in one plain line, where there is no screen."""
    return "  ".join(f"{name} {value}" for name, value in _figures(overview).items())


def _printable(told: Any) -> Any:
    """What was told, but no text in it, the names of its entries included, can steer a terminal or break a line."""
    if isinstance(told, str):
        return "".join(character if character.isprintable() else "�" for character in told)
    if isinstance(told, list):
        return [_printable(each) for each in told]
    if isinstance(told, dict):
        return {_printable(key): _printable(each) for key, each in told.items()}
    if is_dataclass(told) and not isinstance(told, type):
        return replace(told, **{each.name: _printable(getattr(told, each.name)) for each in fields(told)})
    return told


def _title(overview: Overview) -> RenderableType:
    title = _row()
    title.add_row(
        Text.assemble(("busmon ", "bold"), (overview.version, "dim")),
        Text.assemble((overview.scrape, "cyan"), (f"  {_count(overview.series.shown)} series", "dim")),
    )
    return title


def _condition(overview: Overview) -> Text:
    reasons = [*overview.degraded, *overview.notices]
    if overview.ready == "ready" and not reasons:
        return Text("● ready: every shard is consuming", style="green")
    word = (
        "not ready" if overview.ready != "ready" else "ready, degraded" if overview.degraded else "ready, worth a look"
    )
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    style = "yellow" if overview.ready == "ready" else "red"
    return _cut(Text(f"● {word}: {next(iter(reasons), '')}{more}", style=style))


def _figures(overview: Overview) -> dict[str, str]:
    latency = overview.latency
    depths = [row.depth for row in overview.shards if row.depth is not None]
    return {
        "envelopes/s": _rate(overview.rates.envelopes),
        "samples/s": _rate(overview.rates.samples),
        "p50 latency": _latency(latency.p50, latency.least),
        "p99 latency": _latency(latency.p99, latency.least),
        "queued": _count(sum(depths)) if depths else NONE,
        "all samples": _count(overview.totals.samples),
    }


def _headline(overview: Overview) -> RenderableType:
    figures = _figures(overview)
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    for name in figures:
        table.add_column(ratio=max(len(name), _FIGURE_WIDTH) + 1, no_wrap=True)
    table.add_row(*(Text(name, style="dim") for name in figures))
    table.add_row(*(Text(value, style="bold") for value in figures.values()))
    return Padding(table, (1, 0, 0, 0))


def _sparkline(history: Sequence[float | None]) -> RenderableType:
    recent = [max(0.0, rate or 0.0) for rate in history[-_SPARK_WIDTH:]]
    peak = max(recent, default=0.0)
    line = Text(spark(recent).rjust(_SPARK_WIDTH), style="cyan")
    return Padding(_cut(Text.assemble(line, (f"  peak {_rate(peak)}/s" if recent else "", "dim"))), (1, 0))


def spark(values: Sequence[float]) -> str:
    """The values as blocks of a height in proportion to the largest; nothing but 0 is a flat line."""
    peak = max(values, default=0.0)
    return "".join(_BLOCKS[round(value / peak * (len(_BLOCKS) - 1)) if peak > 0 else 0] for value in values)


@dataclass(frozen=True, slots=True)
class _Tables:
    """Shards and workers side by side, as the width allows."""

    overview: Overview

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= _WIDE
        side_by_side = Table.grid(padding=(0, 3, 0, 0), pad_edge=False)
        side_by_side.add_row(_shards(self.overview, wide=wide), _workers(self.overview, wide=wide))
        yield side_by_side


def _shards(overview: Overview, *, wide: bool) -> Table:
    right = ("shard", "queued", "worker")
    table = _table("shard", "queued", "worker", "state", "commit", right=right, gap=2 if wide else 1)
    for row in overview.shards:
        table.add_row(
            str(row.shard),
            NONE if row.depth is None else _count(row.depth),
            str(row.worker),
            Text(row.state, style=_STATE_STYLES.get(row.state, "red")),
            NONE if row.last_commit_age_seconds is None else f"{age(row.last_commit_age_seconds)} ago",
        )
    return table


def _workers(overview: Overview, *, wide: bool) -> Table:
    columns = ("worker", "pid", "up", "restarts") if wide else ("worker", "up", "restarts")
    table = _table(*columns, right=columns, gap=2 if wide else 1)
    for row in overview.workers:
        up = Text(age(row.uptime_seconds)) if row.up else Text("silent", style="red")
        restarts = Text(str(row.restarts), style="yellow" if row.restarts else "")
        table.add_row(str(row.worker), *([str(row.pid)] if wide else []), up, restarts)
    return table


def _below(overview: Overview, lines: int) -> Iterable[RenderableType]:
    """Dependencies, agents and families, in so many lines, and how many of them there is no room for."""
    if lines < 3:  # noqa: PLR2004 - the dependencies with a line above, and what isn't shown
        return
    yield Text()
    yield _cut(_dependencies(overview))
    rows = max(0, lines - 5)  # the tables' heads with a line above
    if rows:
        yield Text()
        yield _Names(overview.agents[:rows], overview.families[:rows])
    more = {"agents": overview.agents_known - rows, "families": overview.families_known - rows}
    if hidden := [f"{_count(number)} more {name}" for name, number in more.items() if number > 0]:
        yield _cut(Text(" · ".join(hidden), style="dim"))


@dataclass(frozen=True, slots=True)
class _Names:
    """Agents and families side by side; names take the room that the figures leave, and are cut before any figure."""

    agents: Sequence[AgentRow]
    families: Sequence[FamilyRow]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        labels = options.max_width >= _WIDE_FOR_NAMES
        figures = self._side_by_side(1, 1, labels=labels)
        room = options.max_width - Measurement.get(console, options, figures).maximum + len("agent" + "family")
        longest = [max(map(len, names), default=0) for names in (self._agent_names(), self._family_names())]
        yield self._side_by_side(*_shared(room, *longest), labels=labels)

    def _side_by_side(self, agent_width: int, family_width: int, *, labels: bool) -> Table:
        both = Table.grid(padding=(0, 3, 0, 0), pad_edge=False)
        both.add_row(_agents(self.agents, agent_width), _families(self.families, family_width, labels=labels))
        return both

    def _agent_names(self) -> Iterable[str]:
        return (row.agent for row in self.agents)

    def _family_names(self) -> Iterable[str]:
        return (row.name for row in self.families)


def _shared(room: int, agents: int, families: int) -> tuple[int, int]:
    """Divide columns between two names: one that needs less than its half leaves the rest to the other."""
    half = room // 2
    if agents <= half:
        return agents, max(1, min(families, room - agents))
    return max(1, min(agents, max(half, room - families))), max(1, min(families, half))


def _dependencies(overview: Overview) -> Text:
    parts: list[str | tuple[str, str]] = [("depends on  ", "dim")]
    for row in sorted(overview.dependencies, key=lambda row: _WORST_FIRST.index(_severity(row))):
        severity = _severity(row)
        state = f"{_SEVERITY_MARKS[severity]} {row.name.replace('_', ' ')} {row.state}   "
        parts.append((state, _SEVERITY_STYLES[severity]))
    line = Text.assemble(*parts)
    line.rstrip()
    return line


def _severity(row: Dependency) -> str:
    return row.severity if row.severity in _SEVERITY_MARKS else BAD


def _agents(agents: Iterable[AgentRow], width: int) -> Table:
    """List agents, their names in so many columns at most."""
    table = _table("agent", "silent", "rejected", right=("silent", "rejected"), cut="agent")
    for row in agents:
        table.add_row(_short(row.agent, width), age(row.silent_seconds), _count(row.rejected))
    return table


def _families(families: Iterable[FamilyRow], width: int, *, labels: bool) -> Table:
    """List families, their names in so many columns at most."""
    columns = ("family", "series", *(("fullest label",) if labels else ()))
    table = _table(*columns, right=("series",), cut="family")
    for row in families:
        label = f"{row.label} {_count(row.values)}/{_count(row.values_budget)}" if row.label else ""
        label_text = Text(label, style="yellow" if row.overflowed else "")
        table.add_row(_short(row.name, width), _count(row.series), *([label_text] if labels else []))
    return table


def _short(name: str, width: int) -> Text:
    """A name that somebody else chose, in so many columns at most."""
    line = Text(name)
    line.truncate(width, overflow="ellipsis")
    return _cut(line)


def _losses(overview: Overview) -> Iterable[RenderableType]:
    """What did not get into the figures, each on a line of its own, if there is any."""
    totals = overview.totals
    counted = {
        "rejected samples": totals.rejected,
        "quarantined": totals.quarantined,
        "dropped by publishers": {"samples": totals.publisher_dropped} if totals.publisher_dropped else {},
    }
    lines = [_loss(name, counts) for name, counts in counted.items() if counts]
    lines += [_loss_line("file skipped", f"{file}: {reason}") for file, reason in overview.skipped.items()]
    return [Text(), *lines] if lines else []


def _loss(name: str, counts: Mapping[str, float]) -> Text:
    by_size = sorted(counts.items(), key=lambda count: -count[1])
    return _loss_line(name, " · ".join(f"{reason} {_count(count)}" for reason, count in by_size))


def _loss_line(name: str, text: str) -> Text:
    return _cut(Text.assemble((f"{name:<22}", "dim"), (text, "yellow")))


def _cut(line: Text) -> Text:
    """The line, never wrapped: a frame's height doesn't hang on how much there is to say, nor on what stands in it."""
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _row() -> Table:
    row = Table.grid(expand=True)
    row.add_column()
    row.add_column(justify="right")
    return row


def _table(*columns: str, right: Sequence[str], gap: int = 2, cut: str = "") -> Table:
    """A table without lines; where it doesn't fit, the column `cut` gets narrower, whose cells aren't wrapped."""
    table = Table(box=None, padding=(0, gap, 0, 0), header_style="dim", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=column != cut)
    return table


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _rate(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.2g}" if 0 < value < 9.95 else f"{value:,.0f}"  # noqa: PLR2004 - below ten a decimal tells something


def _latency(value: float | None, least: float | None) -> str:
    """A quantile; one in the first bucket is only known to be there."""
    return f"< {_seconds(least)}" if value is not None and least is not None and value <= least else _seconds(value)


def _seconds(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
