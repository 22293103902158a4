"""The overview: the figures a person looks at, one model for every view (`busmon top` and the page).

Pure. An `Overview` combines a window of collections, a roll call and the health documents, and
travels as the JSON of `/overview`. Whatever publishers name is bounded here, so that no view has to be.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, NamedTuple, Self, TypeVar

from busmon.exporter.overview.dependencies import Dependency, dependencies
from busmon.exporter.overview.fill import FamilyRow
from busmon.exporter.overview.window import Figures, History, Latency, Rates, Window
from busmon.exporter.readiness.documents import Document
from busmon.exporter.readiness.rollcall import ReplicaRow, RollCall, ShardRow, WorkerRow
from busmon.registry.storage.rejected_samples import RejectedSample, newest_of_each
from busmon.typed import check_types

MAX_ROWS = 200
"""Agents, families and skipped files beyond that are counted, not listed."""

MAX_NOTICES = 3
"""Full families beyond that are counted, not named; the table of families lists them all."""

MAX_REJECTED = 20
"""Rejected samples, each the last of a reason and agent."""

Row = TypeVar("Row")


class Surroundings(NamedTuple):
    """The overview's facts in addition to the figures.

    Attributes:
        scrape: the address that Prometheus scrapes.
        exchange: the one that agents publish to.
        series_used: of all families in all shards, which is what the budget counts.
        series_budget: how many there may be.
        scraped: the last scrape, None before the first.
        skipped: files left out of it, with reasons.
        rejected: the last rejected samples, newest first.
    """

    version: str
    scrape: str
    exchange: str
    series_used: int
    series_budget: int
    scraped: "Scraped | None"
    skipped: Mapping[str, str]
    rejected: Sequence[RejectedSample] = ()


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts since the shards' files began; `rejected` counts samples, `quarantined` envelopes, each by reason."""

    envelopes: float
    samples: float
    deduplicated: float
    publisher_dropped: float
    rejected: dict[str, float]
    quarantined: dict[str, float]


@dataclass(frozen=True, slots=True)
class ShardFlow(ShardRow):
    """One shard, with the envelopes a second that it takes and their latency's 99th percentile in seconds."""

    rate: float | None
    p99: float | None

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Make the row from the fields that `asdict` made of one."""
        replica = fields["replica"]
        return cls(**{**fields, "replica": None if replica is None else check_types(ReplicaRow(**replica))})


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One agent.

    Attributes:
        silent_seconds: since its last envelope was consumed.
        rejected: samples of it that count nowhere.
        dropped: samples that it dropped itself, while the broker was away.
    """

    agent: str
    silent_seconds: float
    rejected: float
    dropped: float


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """The last rejected sample of a reason and agent; `value` and `why` are as `RejectedSample` has them."""

    seconds_ago: float
    reason: str
    agent: str
    name: str
    labels: dict[str, str]
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class SeriesUse:
    """Series that the scrape shows, and those that count towards the budget of all: each in each shard that has it."""

    shown: int
    used: int
    budget: int


@dataclass(frozen=True, slots=True)
class Scraped:
    """A scrape of all families: how long ago, how long reading and writing took, and its size before compression."""

    seconds_ago: float
    took_seconds: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole of it.

    Attributes:
        at: seconds since the epoch.
        uptime_seconds: the fleet's, or the exporter's where it is alone.
        scrape: the address that Prometheus scrapes.
        exchange: the one that agents publish to.
        alive: the liveness document's status.
        ready: the readiness document's status.
        degraded: what is wrong, in words.
        notices: full budgets and quarantined bodies, in words: nothing is wrong with the fleet, and a person is needed.
        quarantined: bodies in the quarantine now; None where unknown.
        agents: the longest silent first, by whole minutes and then by name; at most `MAX_ROWS`, from either end.
        agents_known: all of them.
        rejected_samples: the last of each reason and agent, newest first, at most `MAX_REJECTED`.
        families: the fullest first, at most `MAX_ROWS`.
        families_known: all of them.
        scraped: the last scrape; None before the first.
        skipped: files left out of it, and status files that weren't understood, with reasons.
    """

    at: float
    version: str
    uptime_seconds: float
    scrape: str
    exchange: str
    alive: str
    ready: str
    degraded: list[str]
    notices: list[str]
    quarantined: int | None
    dependencies: list[Dependency]
    rates: Rates
    latency: Latency
    totals: Totals
    history: History
    shards: list[ShardFlow]
    workers: list[WorkerRow]
    agents: list[AgentRow]
    agents_known: int
    rejected_samples: list[RejectedRow]
    families: list[FamilyRow]
    families_known: int
    series: SeriesUse
    scraped: Scraped | None
    skipped: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the `/overview` document."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Make the overview from the fields that `as_json` returned.

        Raises:
            TypeError: another version of busmon wrote them, or something else did.
            KeyError: a field is missing.
        """
        return check_types(
            cls(
                **{
                    **fields,
                    **{name: check_types(row(**fields[name])) for name, row in _PARTS.items()},
                    **{name: [check_types(row(**each)) for each in fields[name]] for name, row in _ROWS.items()},
                    "shards": [check_types(ShardFlow.from_json(each)) for each in fields["shards"]],
                    "scraped": check_types(Scraped(**fields["scraped"])) if fields["scraped"] else None,
                }
            )
        )


_PARTS: Mapping[str, Any] = {
    "rates": Rates,
    "latency": Latency,
    "totals": Totals,
    "history": History,
    "series": SeriesUse,
}
_ROWS: Mapping[str, Any] = {
    "dependencies": Dependency,
    "workers": WorkerRow,
    "agents": AgentRow,
    "rejected_samples": RejectedRow,
    "families": FamilyRow,
}


def overview(window: Window, roll: RollCall, alive: Document, ready: Document, surroundings: Surroundings) -> Overview:
    """Build the overview from a window's newest figures, the roll call, and the liveness and readiness documents."""
    latest = window.latest or Figures(0.0)
    return Overview(
        at=roll.at,
        version=surroundings.version,
        uptime_seconds=alive["uptime"],
        scrape=surroundings.scrape,
        exchange=surroundings.exchange,
        alive=alive["status"],
        ready=ready["status"],
        degraded=[*alive.get("causes", ()), *ready["degraded"]],
        notices=list(_notices(roll, latest)),
        quarantined=roll.quarantined,
        dependencies=list(dependencies(ready)),
        rates=window.rates(),
        latency=window.latency([row.queue for row in roll.shards]),
        totals=_totals(latest),
        history=window.history(),
        shards=[_flow(row, window) for row in roll.shards],
        workers=roll.workers,
        agents=_ends(list(_agents(latest, roll.at)), MAX_ROWS),
        agents_known=len(latest.heard),
        rejected_samples=[
            _row_of_rejected(sample, roll.at) for sample in newest_of_each(surroundings.rejected)[:MAX_REJECTED]
        ],
        families=list(latest.families[:MAX_ROWS]),
        families_known=len(latest.families),
        series=SeriesUse(latest.series, surroundings.series_used, surroundings.series_budget),
        scraped=surroundings.scraped,
        skipped=dict(list({**roll.skipped, **surroundings.skipped}.items())[:MAX_ROWS]),
    )


def _notices(roll: RollCall, latest: Figures) -> Iterator[str]:
    """Name matters for a person: bodies in the quarantine, and families that have reached a budget."""
    if roll.quarantined:
        bodies = "1 body is" if roll.quarantined == 1 else f"{roll.quarantined:,} bodies are"
        yield f"{bodies} in quarantine: `busmon quarantine list` shows why"
    full = [row for row in latest.families if row.fill >= 1]
    for row in full[:MAX_NOTICES]:
        over = f"{row.overflowed:,.0f} samples so far" if row.overflowed else "none so far"
        if row.label_fill >= 1:
            full_at = f"label {row.label!r} has all of its {row.values_budget:,} values"
        else:
            full_at = f"all of its {row.budget:,} series exist"
        yield f"{row.name}: {full_at}; over the budget: {over}"
    if len(full) > MAX_NOTICES:
        yield f"{len(full) - MAX_NOTICES:,} more families have reached a budget"


def _row_of_rejected(sample: RejectedSample, now: float) -> RejectedRow:
    ago = max(0.0, now - sample.at)
    return RejectedRow(ago, sample.reason, sample.agent, sample.name, sample.labels, sample.value, sample.why)


def _totals(latest: Figures) -> Totals:
    return Totals(
        latest.envelopes,
        latest.samples,
        latest.deduplicated,
        latest.publisher_dropped,
        dict(latest.rejected),
        dict(latest.quarantined),
    )


def _flow(row: ShardRow, window: Window) -> ShardFlow:
    known = {each.name: getattr(row, each.name) for each in dataclass_fields(row)}
    return ShardFlow(**known, rate=window.rate_of(row.shard), p99=window.latency([row.queue]).p99)


def _agents(latest: Figures, now: float) -> Iterator[AgentRow]:
    """List every agent, the longest silent first by whole minutes, then by name: no agent moves each second."""
    silent = {agent: max(0.0, now - heard_at) for agent, heard_at in latest.heard.items()}
    for agent in sorted(silent, key=lambda agent: (-(silent[agent] // 60), agent)):
        rejected, dropped = (counts.get(agent, 0.0) for counts in (latest.rejected_of, latest.dropped_of))
        yield AgentRow(agent, silent[agent], rejected, dropped)


def _ends(rows: Sequence[Row], limit: int) -> list[Row]:
    """Keep so many rows at most, from both ends where there are more."""
    return list(rows) if len(rows) <= limit else [*rows[: limit // 2], *rows[-(limit - limit // 2) :]]
