"""The bridge publishes what a registry of prometheus_client gains, once."""

import os
from math import nan

import prometheus_client as stock
import pytest
from prometheus_client.core import GaugeMetricFamily

from busmon.instrument import bridge
from busmon.publish import Telemetry

from .conftest import Cells


@pytest.fixture
def registry() -> stock.CollectorRegistry:
    return stock.CollectorRegistry()


def test_growth_is_published_once(telemetry: Telemetry, cells: Cells, registry: stock.CollectorRegistry) -> None:
    hits = stock.Counter("hits", "Hits", ["path", "code"], registry=registry)
    size = stock.Gauge("size", "Size", registry=registry)
    seconds = stock.Histogram("seconds", "Seconds", ["path"], buckets=[1, 5], registry=registry)
    hits.labels("/", "200").inc(3)
    size.set(7)
    seconds.labels("/").observe(2)
    bridge(telemetry, registry, interval_seconds=0)
    assert cells() == {
        ("hits_total", "200", "/"): 3,
        ("size",): 7,
        ("seconds", "/"): {"buckets": {"1.0": 0, "5.0": 1, "+Inf": 0}, "sum": 2},
    }
    hits.labels("/", "200").inc()
    seconds.labels("/").observe(9)
    seconds.labels("/").observe(0.5)
    assert cells() == {
        ("hits_total", "200", "/"): 1,
        ("seconds", "/"): {"buckets": {"1.0": 1, "5.0": 0, "+Inf": 1}, "sum": 9.5},
    }


def test_gauges_can_outlive_their_source_and_are_then_said_when_they_change(
    telemetry: Telemetry, cells: Cells, registry: stock.CollectorRegistry
) -> None:
    size = stock.Gauge("backup_size_bytes", "Size", ["db"], registry=registry).labels("main")
    size.set(42)
    bridge(telemetry, registry, interval_seconds=0, outlives_source=True)
    rows, _ = telemetry._series.take(1000.0)
    assert [(row.table.name, row.table.outlives_source, row.cell) for row in rows] == [("backup_size_bytes", True, 42)]
    assert cells() == {}
    size.set(43)
    assert cells() == {("backup_size_bytes", "main"): 43}


def test_what_cant_be_published_is_named_once_and_costs_nothing_else(
    telemetry: Telemetry, cells: Cells, registry: stock.CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    stock.Summary("sizes", "Sizes", registry=registry).observe(1)
    stock.Counter("tasks_processed", "At odds", ["other"], registry=registry).labels("a").inc()
    stock.Counter("hits", "Hits", registry=registry).inc()
    bridge(telemetry, registry, interval_seconds=0)
    assert cells() == {("hits_total",): 1}
    assert cells() == {}
    said = sorted(record.getMessage().rpartition("published: ")[2] for record in caplog.records)
    assert said == [
        "sizes: a summary can't be bridged",
        "tasks_processed_total: by the catalogue its labels are [agent, status]",
    ]


def test_a_forked_child_publishes_only_what_it_counted_itself(
    telemetry: Telemetry, cells: Cells, registry: stock.CollectorRegistry
) -> None:
    hits = stock.Counter("hits", "Hits", registry=registry)
    bridge(telemetry, registry, interval_seconds=0)
    hits.inc(5)
    child = os.fork()
    if child == 0:
        hits.inc(2)
        os._exit(0 if cells() == {("hits_total",): 2} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cells() == {("hits_total",): 5}


def test_values_that_a_collector_makes_are_published_as_they_are(
    telemetry: Telemetry, cells: Cells, registry: stock.CollectorRegistry
) -> None:
    class Collector:
        def collect(self) -> list[GaugeMetricFamily]:
            return [GaugeMetricFamily("depth", "Depth", 4), GaugeMetricFamily("age", "Age", nan)]

    registry.register(Collector())
    bridge(telemetry, registry, interval_seconds=0)
    assert cells() == {("depth",): 4}
