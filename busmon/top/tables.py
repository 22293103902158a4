"""The tables of the terminal's view: shards and workers, agents and families, side by side.

A narrow terminal gets narrower gaps and fewer columns. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from busmon.exporter.overview.fill import FamilyRow
from busmon.exporter.overview.overview import AgentRow, Overview, ShardFlow
from busmon.exporter.readiness.rollcall import ReplicaRow
from busmon.plurals import age
from busmon.status import ConsumerState

NONE = "–"  # noqa: RUF001 - an en dash is the typographer's sign for "no figure"

_Row = Mapping[str, str | Text]
"""The cells of a table's row, by column."""

_STATE_STYLES = dict.fromkeys((ConsumerState.CONSUMING, "standby"), "green") | dict.fromkeys(
    (ConsumerState.OPENING, ConsumerState.CONNECTING, ConsumerState.DRAINING, ConsumerState.BLOCKED), "yellow"
)
_REPLICA_STYLES = {"owning": "green", "following": "green", "claiming": "yellow", "reading": "yellow"}
_OWNER_WIDTH = 10

_WIDE = 78
"""Columns of the terminal from which on shards and workers have wide gaps between their columns."""

_LEAST_WIDTHS = {
    "p50 latency": 69,
    "all samples": 57,
    "samples/s": 45,
    "pid": _WIDE,
    "commit": 66,
    "owner": 66,
    "restarts": 55,
    "rejected": 50,
    "fullest label": 98,
}
"""Columns of the terminal from which on a figure or a table's column is shown; those without a line always are."""


@dataclass(frozen=True, slots=True)
class FleetTables:
    """Shards and workers side by side, with as many columns as the width allows."""

    overview: Overview

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        is_replicated = any(row.replica is not None for row in self.overview.shards)
        shards = (_replicas if is_replicated else _shards)(self.overview, options.max_width)
        yield _put_side_by_side(shards, _workers(self.overview, options.max_width))


def _shards(overview: Overview, width: int) -> Table:
    rows: Iterable[_Row] = (
        {
            "shard": str(row.shard),
            "queued": NONE if row.depth is None else write_count(row.depth),
            "worker": str(row.worker),
            "state": Text(row.state, style=_STATE_STYLES.get(row.state, "red")),
            "commit": NONE if row.last_commit_age_seconds is None else f"{age(row.last_commit_age_seconds)} ago",
        }
        for row in overview.shards
    )
    columns = ("shard", "queued", "worker", "state", "commit")
    return _tabulate(columns, rows, width, right=("shard", "queued", "worker"))


def _replicas(overview: Overview, width: int) -> Table:
    """Draw the shards of a replicated fleet: owner and lag in place of the worker and its last commit."""
    rows = (_replica(row, row.replica) for row in overview.shards if row.replica is not None)
    columns = ("shard", "queued", "owner", "replica", "behind")
    return _tabulate(columns, rows, width, right=("shard", "queued", "behind"))


def _replica(row: ShardFlow, replica: ReplicaRow) -> _Row:
    is_consumed = _STATE_STYLES.get(row.state) == "green"
    state = replica.state if is_consumed else row.state
    styles = _REPLICA_STYLES if is_consumed else _STATE_STYLES
    return {
        "shard": str(row.shard),
        "queued": NONE if row.depth is None else write_count(row.depth),
        "owner": _short(replica.owner or NONE, _OWNER_WIDTH),
        "replica": Text(state, style=styles.get(state, "red")),
        "behind": NONE if replica.lag_seconds is None else age(replica.lag_seconds),
    }


def _workers(overview: Overview, width: int) -> Table:
    rows: Iterable[_Row] = (
        {
            "worker": str(row.worker),
            "pid": str(row.pid),
            "up": Text(age(row.uptime_seconds)) if row.up else Text("silent", style="red"),
            "restarts": Text(str(row.restarts), style="yellow" if row.restarts else ""),
        }
        for row in overview.workers
    )
    columns = ("worker", "pid", "up", "restarts")
    return _tabulate(columns, rows, width, right=columns)


@dataclass(frozen=True, slots=True)
class NameTables:
    """Agents and families side by side; names take the room that the figures leave, and are cut before any figure."""

    agents: Sequence[AgentRow]
    families: Sequence[FamilyRow]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        figures = self._side_by_side(1, 1, width)
        room = width - Measurement.get(console, options, figures).maximum + len("agent" + "family")
        longest = [max(map(len, names), default=0) for names in (self._agent_names(), self._family_names())]
        yield self._side_by_side(*_share(room, *longest), width)

    def _side_by_side(self, agent_width: int, family_width: int, width: int) -> Table:
        agents = _agents(self.agents, agent_width, width)
        return _put_side_by_side(agents, _families(self.families, family_width, width))

    def _agent_names(self) -> Iterable[str]:
        return (row.agent for row in self.agents)

    def _family_names(self) -> Iterable[str]:
        return (row.name for row in self.families)


def _share(room: int, agents: int, families: int) -> tuple[int, int]:
    """Divide columns between two names: one that needs less than its half leaves the rest to the other."""
    half = room // 2
    if agents <= half:
        return agents, max(1, min(families, room - agents))
    return max(1, min(agents, max(half, room - families))), max(1, min(families, half))


def _agents(agents: Iterable[AgentRow], name_width: int, width: int) -> Table:
    """List agents, their names in so many columns at most."""
    rows: Iterable[_Row] = (
        {
            "agent": _short(row.agent, name_width),
            "silent": age(row.silent_seconds),
            "rejected": write_count(row.rejected),
        }
        for row in agents
    )
    return _tabulate(("agent", "silent", "rejected"), rows, width, right=("silent", "rejected"), cut="agent")


def _families(families: Iterable[FamilyRow], name_width: int, width: int) -> Table:
    """List families, their names in so many columns at most."""
    rows: Iterable[_Row] = (
        {
            "family": _short(row.name, name_width),
            "series": write_count(row.series),
            "fullest label": _fullest_label(row),
        }
        for row in families
    )
    return _tabulate(("family", "series", "fullest label"), rows, width, right=("series",), cut="family")


def _fullest_label(row: FamilyRow) -> Text:
    label = f"{row.label} {write_count(row.values)}/{write_count(row.values_budget)}" if row.label else ""
    return Text(label, style="yellow" if row.overflowed else "")


def _tabulate(
    columns: Sequence[str], rows: Iterable[_Row], width: int, *, right: Sequence[str], cut: str = ""
) -> Table:
    """Make a table without lines, with the columns that a terminal of this width has room for.

    Where it doesn't fit all the same, the column `cut` gets narrower; its cells don't wrap.
    """
    shown = choose(columns, width)
    table = Table(box=None, padding=(0, 2 if width >= _WIDE else 1, 0, 0), header_style="dim", pad_edge=False)
    for column in shown:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=column != cut)
    for row in rows:
        table.add_row(*(row[column] for column in shown))
    return table


def _put_side_by_side(left: Table, right: Table) -> Table:
    """Put two tables next to each other, with a line between them."""
    both = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    line = "\n".join("│" * (1 + max(left.row_count, right.row_count)))
    both.add_row(left, Text(line, style="dim"), right)
    return both


def choose(columns: Iterable[str], width: int) -> list[str]:
    """Choose the columns that are shown in a terminal of so many columns."""
    return [column for column in columns if width >= _LEAST_WIDTHS.get(column, 0)]


def _short(name: str, width: int) -> Text:
    """Cut a publisher's name to so many columns."""
    line = Text(name)
    line.truncate(width, overflow="ellipsis")
    return cut_off(line)


def cut_off(line: Text) -> Text:
    """Keep a line from wrapping, so that a frame's height doesn't depend on its texts."""
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def write_count(value: float) -> str:
    """Write a count in digits."""
    return f"{value:,.0f}"
