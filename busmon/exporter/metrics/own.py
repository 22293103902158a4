"""The exporter's own metric families: what the fleet's processes say in their status files, and how the scrapes go.

They are made at each scrape, through a prometheus_client registry of the exporter's own, and never stored. A
collector that fails is logged and left out; it never hides another's families, and nothing here touches the shards'
files. Used by the scrape's thread alone.
"""

import platform
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest as text
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.registry import Collector

from busmon import __version__, status
from busmon.exporter.checks.findings import Findings
from busmon.exporter.families import counter, gauge
from busmon.exporter.metrics.health_families import collect as health_families
from busmon.exporter.metrics.negotiation import Format
from busmon.exporter.metrics.replica_families import collect as replica_families
from busmon.exporter.readiness import rollcall
from busmon.exporter.readiness.rollcall import RollCall

log = structlog.get_logger(__name__)

Families = Iterator[Metric]
Labelled = TypeVar("Labelled", CounterMetricFamily, GaugeMetricFamily)


class Durations:
    """A histogram of seconds.

    prometheus_client's own would write a file into the registry directory wherever `PROMETHEUS_MULTIPROC_DIR` names it.
    """

    BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

    def __init__(self) -> None:
        self._counts = [0] * (len(self.BOUNDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self.BOUNDS, seconds)] += 1
        self._sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return cumulative counts by upper bound, as an exposition has them."""
        return list(zip([*map(str, self.BOUNDS), "+Inf"], accumulate(self._counts), strict=True))

    @property
    def total(self) -> float:
        """The sum of all durations."""
        return self._sum


class Own:
    """The exporter's own families.

    Args:
        registry_dir: where the status files are.
        skipped: gives the files that the last collection skipped, with the reason.
        series: gives the number of series by family, as of the last collection.
        findings: gives what the checks last found.
        access: gives the families that tell who may read.
        adopted: gives how many metrics each agent had taken up that no catalogue names, and how many may be.
        host: this host's name, which its replicas' families have as a label.
    """

    def __init__(  # noqa: PLR0913 - constructed in one place
        self,
        registry_dir: Path,
        skipped: Callable[[], Mapping[str, str]],
        series: Callable[[], Mapping[str, int]],
        findings: Callable[[], Findings] = Findings,
        access: Callable[[], Iterable[Metric]] = tuple,
        *,
        adopted: Callable[[], tuple[Mapping[str, int], int]] = lambda: ({}, 0),
        host: str = "",
    ) -> None:
        self.durations = Durations()
        self._registry = CollectorRegistry()
        self._add(_build)
        self._add(lambda: _fleet(rollcall.call(status.read(registry_dir), time.time())))
        self._add(lambda: replica_families(rollcall.call(status.read(registry_dir), time.time()), host))
        self._add(lambda: health_families(rollcall.call(status.read(registry_dir), time.time()), findings()))
        self._add(lambda: _scrape(self.durations, {**status.read(registry_dir).skipped, **skipped()}, series()))
        self._add(lambda: _collect_adopted(*adopted()))
        self._add(access)
        self._add(ProcessCollector(registry=None).collect)

    def exposition(self, form: Format, names: Collection[str] = ()) -> bytes:
        """Write the families in this format; OpenMetrics ends with its `# EOF`.

        Args:
            form: which one.
            names: of families and samples; only these if there are some.
        """
        registry = _Only(self._registry, names) if names else self._registry
        if form is Format.TEXT:
            return text(registry)
        written: bytes = openmetrics(registry)  # type: ignore[no-untyped-call]  # not annotated there
        return written

    def _add(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._registry.register(_Guarded(collect))


class _Only(Collector):
    """A filter on another collector: the families that are named, and the named samples of the others."""

    def __init__(self, whole: Collector, names: Collection[str]) -> None:
        self._whole = whole
        self._names = names

    def collect(self) -> Iterator[Metric]:
        for family in self._whole.collect():
            if family.name not in self._names:
                family.samples = [sample for sample in family.samples if sample.name in self._names]
            if family.samples:
                yield family


class _Guarded(Collector):
    """A collector whose failure costs its own families only."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> list[Metric]:
        try:
            return list(self._collect())
        except Exception:
            log.exception("metrics.collector_failed")
            return []

    def describe(self) -> list[Metric]:
        """Return no family, so that registering doesn't collect."""
        return []


def _build() -> Families:
    build = {"version": __version__, "python": platform.python_version()}
    yield InfoMetricFamily("busmon_build", "The running busmon.", value=build)


def _fleet(roll: RollCall) -> Families:
    yield from _workers(roll)
    yield from _shards(roll)
    if roll.supervisor:
        reloads = {"success": 0, "failure": 0} | roll.supervisor.config_reloads
        yield counter(
            "busmon_config_reloads",
            "Catalogue reloads since the supervisor began.",
            ("result",),
            {(result,): count for result, count in reloads.items()},
        )


def _workers(roll: RollCall) -> Families:
    expected = roll.supervisor.workers if roll.supervisor else len(roll.workers)
    yield GaugeMetricFamily("busmon_workers", "Worker processes that the fleet is to have.", value=expected)
    yield gauge(
        "busmon_worker_up",
        "Whether the worker's process beats (1) or not (0).",
        ("worker",),
        {(str(row.worker),): row.up for row in roll.workers},
    )
    yield counter(
        "busmon_worker_restarts",
        "Times that the worker's process, or the exporter's, was replaced.",
        ("worker",),
        {(key,): count for key, count in roll.supervisor.restarts.items()} if roll.supervisor else {},
    )
    # By worker, since each count begins at 0 with its worker's process: in a sum over workers, the fall of one would
    # look to rate() like a reset of all.
    yield counter(
        "busmon_reconnects",
        "Connections and channels opened again since the worker's process began.",
        ("worker", "cause"),
        {(str(row.worker), cause): count for row in roll.workers for cause, count in row.reconnects.items()},
    )
    yield counter(
        "busmon_envelopes_forwarded",
        "Envelopes sent on to their shards that had waited for the ring, since the worker's process began.",
        ("worker",),
        {(str(row.worker),): row.forwarded for row in roll.workers},
    )


def _shards(roll: RollCall) -> Families:
    yield gauge(
        "busmon_shard_state",
        "Whether the shard is in this state (1) or not (0).",
        ("shard", "state"),
        {(str(row.shard), state): row.state == state for row in roll.shards for state in rollcall.STATES},
    )
    yield gauge(
        "busmon_queue_depth",
        "Messages of the shard's queue that are not committed, those in its worker's prefetch included.",
        ("queue",),
        {(row.queue,): row.depth for row in roll.shards if row.depth is not None},
    )
    yield gauge(
        "busmon_shard_waiting_seconds",
        "Time for which messages of the shard's queue have waited while none was committed.",
        ("shard",),
        {(str(row.shard),): row.waiting_seconds for row in roll.shards if row.waiting_seconds is not None},
    )
    if roll.quarantined is not None:
        yield GaugeMetricFamily("busmon_quarantine_depth", "Bodies in the quarantine.", value=roll.quarantined)


def _scrape(durations: Durations, skipped: Mapping[str, str], series: Mapping[str, int]) -> Families:
    yield HistogramMetricFamily(
        "busmon_scrape_duration_seconds",
        "Time that reading and writing out the shards' files took.",
        buckets=durations.buckets(),
        sum_value=durations.total,
    )
    yield gauge(
        "busmon_scrape_files_skipped",
        "Files that this scrape left out, and why.",
        ("file", "reason"),
        dict.fromkeys(skipped.items(), 1),
    )
    yield gauge(
        "busmon_series",
        "Series of the shards' files in this scrape.",
        ("family",),
        {(name,): count for name, count in series.items()},
    )


def _collect_adopted(by_agent: Mapping[str, int], budget: int) -> Families:
    yield gauge(
        "busmon_adopted_families",
        "Metrics that no catalogue names, by the agent that came first.",
        ("agent",),
        {(agent,): count for agent, count in by_agent.items()},
    )
    yield GaugeMetricFamily("busmon_adopted_families_limit", "How many there may be.", value=budget)
