"""The terminal's view of an overview: one frame that fits 80 columns and 24 lines for a fleet of up to eight shards.

Dependencies, agents and families are below it if there is room; a narrow terminal gets narrower gaps and fewer columns.
Pure: an overview goes in, something for rich to print comes out. Colour only repeats what words say. No text of an
overview can steer the terminal: all of it is made printable as it comes in, before anything is laid out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from busmon.exporter.overview.dependencies import BAD, FAIR, GOOD, Dependency
from busmon.exporter.overview.overview import Overview
from busmon.exporter.overview.window import History
from busmon.plurals import age, duration
from busmon.printable import printable
from busmon.top.tables import NONE, FleetTables, NameTables, choose, cut_off, write_count

_BLOCKS = "▁▂▃▄▅▆▇█"
_SPARK_WIDTH = 52
_FIGURE_WIDTH = len("1,000,000")
_OTHER_SERVED = "the broker serves another fleet"
_SEVERITY_STYLES = {GOOD: "green", FAIR: "yellow", BAD: "red"}
_SEVERITY_MARKS = {GOOD: "●", FAIR: "▲", BAD: "■"}
_WORST_FIRST = (BAD, FAIR, GOOD)
_FRAME_LINES = 11
"""Lines of a frame in addition to its shards, losses and tables, the hint included."""


def frame(overview: Overview, notice: str = "", lines: int = 24) -> RenderableType:
    """Draw one frame.

    Args:
        overview: what to show.
        notice: takes the place of the line that says how the fleet is.
        lines: how tall the terminal is; what is left below the shards and workers is for agents and families.
    """
    overview, notice = _printable(overview), _printable(notice)
    losses = list(_losses(overview))
    parts = [
        _title(overview),
        cut_off(Text(notice, style="bold red")) if notice else _condition(overview),
        _Headline(_figures(overview)),
        _Sparkline(overview.history),
        FleetTables(overview),
        *losses,
        *_below(overview, lines - _FRAME_LINES - max(len(overview.shards), len(overview.workers)) - len(losses)),
    ]
    return Padding(Group(*parts), (0, 0, 0, 1))


def waiting(notice: str) -> RenderableType:
    """Draw the frame before the first answer."""
    return Padding(Group(Text("busmon", style="bold"), Text(_printable(notice), style="yellow")), (0, 1))


def hint(more: str = "") -> RenderableType:
    """Draw the line below the frame: the keys that leave, and `more`."""
    return Padding(cut_off(Text(f"q or Ctrl-C exits   {_printable(more)}".rstrip(), style="dim")), (1, 0, 0, 1))


def in_one_line(overview: Overview) -> str:
    """Write the figures in one plain line, for output without a screen."""
    return "  ".join(f"{name} {value}" for name, value in _figures(overview).items())


def _printable(told: Any) -> Any:
    """Replace the unprintable characters of every text and name in a value, so that none controls the terminal."""
    if isinstance(told, str):
        return printable(told)
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
        Text.assemble((overview.scrape, "cyan"), (f"  {write_count(overview.series.shown)} series", "dim")),
    )
    return title


def _condition(overview: Overview) -> Text:
    reasons = [*overview.degraded, *overview.notices]
    if overview.ready == "ready" and not reasons:
        is_replicated = any(row.replica is not None for row in overview.shards)
        what = "every replica is at its log's end" if is_replicated else "every shard is consuming"
        return Text(f"● ready: {what}", style="green")
    is_ready = "ready, degraded" if overview.degraded else "ready, warning"
    word = {"ready": is_ready, "standby": "standby"}.get(overview.ready, "not ready")
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    style = "yellow" if overview.ready in {"ready", "standby"} else "red"
    return cut_off(Text(f"● {word}: {next(iter(reasons), _OTHER_SERVED)}{more}", style=style))


def _figures(overview: Overview) -> dict[str, str]:
    latency = overview.latency
    depths = [row.depth for row in overview.shards if row.depth is not None]
    return {
        "envelopes/s": _rate(overview.rates.envelopes),
        "samples/s": _rate(overview.rates.samples),
        "p50 latency": _latency(latency.p50, latency.least),
        "p99 latency": _latency(latency.p99, latency.least),
        "queued": write_count(sum(depths)) if depths else NONE,
        "all samples": write_count(overview.totals.samples),
    }


@dataclass(frozen=True, slots=True)
class _Headline:
    """The figures with their names, as many as the width allows."""

    figures: Mapping[str, str]

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        shown = choose(self.figures, options.max_width)
        table = Table.grid(expand=True, padding=(0, 1, 0, 0))
        for name in shown:
            table.add_column(ratio=max(len(name), _FIGURE_WIDTH) + 1, no_wrap=True)
        table.add_row(*(Text(name, style="dim") for name in shown))
        table.add_row(*(Text(self.figures[name], style="bold") for name in shown))
        yield Padding(table, (1, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class _Sparkline:
    """The envelopes of the last minutes, as many points as the width leaves room for."""

    history: History

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        recent = [max(0.0, rate or 0.0) for rate in self.history.envelopes[-_SPARK_WIDTH:]]
        width = max(1, min(_SPARK_WIDTH, options.max_width - len(self._describe(recent))))
        shown = recent[-width:]
        line = Text(spark(shown).rjust(width), style="cyan")
        yield Padding(cut_off(Text.assemble(line, (self._describe(shown), "dim"))), (1, 0))

    def _describe(self, recent: Sequence[float]) -> str:
        if not recent:
            return ""
        seconds = -self.history.seconds[-len(recent)]
        return f"  peak {_rate(max(recent))} envelopes/s in {age(seconds)}"


def spark(values: Sequence[float]) -> str:
    """Draw values as blocks of a height in proportion to the largest; all zeros are a flat line."""
    peak = max(values, default=0.0)
    return "".join(_BLOCKS[round(value / peak * (len(_BLOCKS) - 1)) if peak > 0 else 0] for value in values)


def _below(overview: Overview, lines: int) -> Iterable[RenderableType]:
    """Draw dependencies, agents and families in so many lines, and the number of rows that don't fit."""
    if lines < 3:  # noqa: PLR2004 - the dependencies with a line above, and what isn't shown
        return
    yield Text()
    yield cut_off(_dependencies(overview))
    rows = max(0, lines - 5)  # the tables' heads with a line above
    if rows:
        yield Text()
        yield NameTables(overview.agents[:rows], overview.families[:rows])
    more = {"agents": overview.agents_known - rows, "families": overview.families_known - rows}
    if hidden := [f"{write_count(number)} more {name}" for name, number in more.items() if number > 0]:
        yield cut_off(Text(" · ".join(hidden), style="dim"))


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


def _losses(overview: Overview) -> Iterable[RenderableType]:
    """Draw a line for each kind of loss, if there is any."""
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
    return _loss_line(name, " · ".join(f"{reason} {write_count(count)}" for reason, count in by_size))


def _loss_line(name: str, text: str) -> Text:
    return cut_off(Text.assemble((f"{name:<22}", "dim"), (text, "yellow")))


def _row() -> Table:
    row = Table.grid(expand=True)
    row.add_column(no_wrap=True)
    row.add_column(justify="right", no_wrap=True)
    return row


def _rate(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.2g}" if 0 < value < 9.95 else f"{value:,.0f}"  # noqa: PLR2004 - below ten a decimal tells something


def _latency(value: float | None, least: float | None) -> str:
    """Write a quantile; of one in the first bucket only the bucket's bound is known."""
    return f"< {_seconds(least)}" if value is not None and least is not None and value <= least else _seconds(value)


def _seconds(value: float | None) -> str:
    return NONE if value is None else duration(value)
