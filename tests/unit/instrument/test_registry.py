"""The bridge publishes what a registry of prometheus_client gains, once."""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from math import inf, nan
from typing import Any

import prometheus_client as stock
import pytest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
    SummaryMetricFamily,
)

from busmon.instrument import bridge
from busmon.instrument.collecting import Collecting
from busmon.instrument.registry import Bridge
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
        ("size",): 7,
        ("seconds", "/"): {"buckets": {"1.0": 1, "5.0": 0, "+Inf": 1}, "sum": 9.5},
    }


def test_a_registry_that_is_bridged_twice_counts_once(
    telemetry: Telemetry, cells: Cells, registry: stock.CollectorRegistry
) -> None:
    hits = stock.Counter("hits", "Hits", registry=registry)
    hits.inc(3)
    for _ in range(2):
        bridge(telemetry, registry, interval_seconds=0)
    assert cells() == {("hits_total",): 3}
    hits.inc()
    assert cells() == {("hits_total",): 1}
    other = stock.CollectorRegistry()
    stock.Counter("misses", "Misses", registry=other).inc()
    bridge(telemetry, other, interval_seconds=0)
    assert cells()["misses_total",] == 1


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


class Collector:
    """A collector that a program has written itself."""

    def __init__(self, collect: Callable[[], Any]) -> None:
        self.collect = collect


def raises() -> Iterator[Metric]:
    yield GaugeMetricFamily("before_fault", "Given before the fault", 2)
    raise ConnectionError("the database is away")


def exits() -> Iterator[Metric]:
    yield from ()
    sys.exit(3)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("collect", "fault"),
    [
        (raises, "Collector: ConnectionError: the database is away"),
        (exits, "Collector: SystemExit: 3"),
        (lambda: None, "Collector: TypeError: 'NoneType' object is not iterable"),
    ],
    ids=["raises", "exits", "nothing"],
)
def test_a_collector_that_fails_costs_no_other_and_is_told_once(  # noqa: PLR0913, PLR0917 - fixtures
    collect: Callable[[], Iterable[Metric]],
    fault: str,
    telemetry: Telemetry,
    cells: Cells,
    registry: stock.CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stock.Counter("first", "Before it", registry=registry).inc(1)
    registry.register(Collector(collect))
    last = stock.Counter("last", "Behind it", registry=registry)
    last.inc(3)
    bridge(telemetry, registry, interval_seconds=0)
    given = {("before_fault",): 2} if collect is raises else {}
    assert cells() == {("first_total",): 1, **given, ("last_total",): 3}
    last.inc(4)
    assert cells() == {**given, ("last_total",): 4}
    assert told(caplog) == [f"a collector of the registry failed: {fault}"]


def test_what_no_metric_is_costs_no_other_and_is_told_once(
    telemetry: Telemetry, cells: Cells, registry: stock.CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    garbled = GaugeMetricFamily("garbled", "A text for a value", labels=["n"])
    garbled.add_metric(["1"], 7)
    garbled.add_metric(["2"], "seven")  # type: ignore[arg-type]
    garbled.add_metric(["3"], 9)
    wrong = CounterMetricFamily("wrong", "Counts of no counter", labels=["n"])
    for number, value in enumerate((nan, -1, inf, 5)):
        wrong.add_metric([str(number)], value)
    registry.register(Collector(lambda: [None, 5, garbled, wrong, GaugeMetricFamily("depth", "Depth", 4)]))
    bridge(telemetry, registry, interval_seconds=0)
    for _ in range(2):
        taken = cells()
        assert (taken[("garbled", "1")], taken[("garbled", "3")]) == (7, 9)
        assert taken[("depth",)] == 4
    assert ("wrong_total", "0") not in taken
    assert sorted(line.rpartition("published: ")[2][:40] for line in told(caplog)) == [
        "NoneType: AttributeError: 'NoneType' obj",
        "garbled: TypeError: must be real number,",
        "int: AttributeError: 'int' object has no",
        "wrong: a counter's value is finite and n",
    ]


def test_a_counter_that_is_unknown_for_a_while_goes_on_from_where_it_was(
    telemetry: Telemetry, cells: Cells, registry: stock.CollectorRegistry
) -> None:
    values = iter([5, nan, -1, 7])
    registry.register(Collector(lambda: [CounterMetricFamily("hits", "Hits", next(values))]))
    bridge(telemetry, registry, interval_seconds=0)
    assert [cells().get(("hits_total",)) for _ in range(4)] == [5, None, None, 2]


def test_a_series_that_two_collectors_give_counts_as_the_first_has_it(
    telemetry: Telemetry, cells: Cells, registry: stock.CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    def counter(value: float, path: str) -> CounterMetricFamily:
        family = CounterMetricFamily("hits", "Hits", labels=["path"])
        family.add_metric([path], value)
        return family

    registry.register(Collector(lambda: [counter(5, "/")]))
    registry.register(Collector(lambda: [counter(3, "/"), counter(8, "/other")]))
    bridge(telemetry, registry, interval_seconds=0)
    assert cells() == {("hits_total", "/"): 5, ("hits_total", "/other"): 8}
    assert cells() == {}
    assert [line.rpartition("published: ")[2] for line in told(caplog)] == [
        "hits: a series is given twice; the first counts"
    ]


def test_a_collector_that_doesnt_return_costs_no_other_until_it_does(
    telemetry: Telemetry, cells: Cells, registry: stock.CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    returns = threading.Event()

    def waits() -> Iterator[Metric]:
        returns.wait()
        yield GaugeMetricFamily("late", "Late", 1)

    first, last = stock.Counter("first", "Before it", registry=registry), Collector(waits)
    registry.register(last)
    behind = stock.Counter("behind", "Behind it", registry=registry)
    telemetry.watch(Bridge(telemetry, Collecting(registry, wait_seconds=1)).look, interval_seconds=0)
    for _ in range(2):
        first.inc()
        behind.inc(2)
        assert cells() == {("first_total",): 1, ("behind_total",): 2}
    assert told(caplog) == [
        "a collector of the registry failed: Collector: it takes more than 1 s, and is left out until it returns"
    ]
    returns.set()
    for thread in threading.enumerate():
        if thread.name == "busmon-bridge":
            thread.join()
    assert cells() == {("late",): 1}


def test_a_histogram_that_a_collector_gives_has_the_bounds_that_it_states(
    telemetry: Telemetry, cells: Cells, registry: stock.CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    unbounded = Metric("counted", "Count and sum only", "histogram")
    unbounded.add_sample("counted_count", {}, 4)
    unbounded.add_sample("counted_sum", {}, 2.5)
    falling = HistogramMetricFamily("falling", "Buckets that fall", [("1", 5), ("+Inf", 3)], 1)
    endless = HistogramMetricFamily("endless", "One bucket", [("+Inf", 3)], 9)
    registry.register(Collector(lambda: [falling, unbounded, endless]))
    bridge(telemetry, registry, interval_seconds=0)
    assert cells() == {
        ("counted",): {"buckets": {"+Inf": 4}, "sum": 2.5},
        ("endless",): {"buckets": {"+Inf": 3}, "sum": 9},
    }
    assert [line.rpartition("published: ")[2][:22] for line in told(caplog)] == ["falling: its counts ar"]


def test_labels_that_a_scrape_sets_itself_stay_apart(
    telemetry: Telemetry, cells: Cells, registry: stock.CollectorRegistry
) -> None:
    depth = GaugeMetricFamily("depth", "As a multiprocess gauge has it", labels=["pid"])
    depth.add_metric(["17"], 4)
    depth.add_metric(["18"], 5)
    bound = CounterMetricFamily("bound", "A label le of no histogram", labels=["le"])
    bound.add_metric(["1"], 2)
    bound.add_metric(["2"], 3)
    registry.register(Collector(lambda: [depth, bound]))
    bridge(telemetry, registry, interval_seconds=0)
    assert cells() == {("depth", "17"): 4, ("depth", "18"): 5, ("bound_total", "1"): 2, ("bound_total", "2"): 3}


def test_openmetrics_other_types_are_gauges(
    telemetry: Telemetry, cells: Cells, registry: stock.CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = GaugeHistogramMetricFamily("sizes", "Sizes", [("1", 2), ("+Inf", 3)], 4)
    summary = SummaryMetricFamily("summary", "Has no observations", 3, 5)
    build = InfoMetricFamily("build", "Build", {"version": "1"})
    state = StateSetMetricFamily("state", "State", {"on": True, "off": False})
    registry.register(Collector(lambda: [build, state, sizes, summary]))
    registry.set_target_info({"env": "prod"})
    bridge(telemetry, registry, interval_seconds=0)
    assert cells() == {
        ("build_info", "1"): 1,
        ("state", "on"): 1,
        ("state", "off"): 0,
        ("sizes_bucket", "1"): 2,
        ("sizes_bucket", "+Inf"): 3,
        ("sizes_gcount",): 3,
        ("sizes_gsum",): 4,
        ("target_info", "prod"): 1,
    }
    assert [line.rpartition("published: ")[2] for line in told(caplog)] == ["summary: a summary can't be bridged"]


def test_a_part_of_a_registry_is_bridged_and_its_faults_are_told_once(
    telemetry: Telemetry, cells: Cells, registry: stock.CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    hits = stock.Counter("hits", "Hits", registry=registry)
    stock.Counter("misses", "Misses", registry=registry).inc()
    hits.inc(3)
    bridge(telemetry, registry.restricted_registry(["hits_total"]), interval_seconds=0)
    assert cells() == {("hits_total",): 3}

    broken = Collector(raises)
    bridge(telemetry, broken, interval_seconds=0)
    assert cells() == {("before_fault",): 2}
    assert cells() == {("before_fault",): 2}
    assert told(caplog) == ["a collector of the registry failed: Collector: ConnectionError: the database is away"]


def test_a_histogram_may_have_the_one_bucket(telemetry: Telemetry, cells: Cells) -> None:
    waits = telemetry.histogram("waits", buckets=[inf])
    waits.observe(3)
    waits.observe(4)
    assert cells() == {("waits",): {"buckets": {"+Inf": 2}, "sum": 7}}
    with pytest.raises(ValueError, match="ascending"):
        telemetry.histogram("others", buckets=[])
