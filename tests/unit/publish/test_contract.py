"""Mistakes about a metric are found in the agent, by the catalogue that the fleet uses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from busmon.errors import SettingsError
from busmon.publish import Telemetry
from busmon.settings import Settings

UNREACHABLE = "amqp://guest:guest@127.0.0.1:1/%2F"


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    quiet = Telemetry(
        "analyzer",
        settings=Settings(amqp_url=UNREACHABLE, publish_interval_seconds=3600, spool_bytes=0),
        lifecycle=False,
    )
    yield quiet
    quiet.close(timeout=0.1)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda t: t.gauge("tasks_processed_total", "", ["agent", "status"]), "the catalogue has it as a counter"),
        (lambda t: t.counter("tasks_processed_total", "", ["agent"]), r"its labels are \[agent, status\]"),
        (lambda t: t.counter("busmon_envelopes_consumed_total", "", ["shard"]), "busmon measures it itself"),
        (lambda t: t.counter("busmon_own_total"), "^'busmon_own_total': busmon or Prometheus makes it"),
        (lambda t: t.counter("no-name"), "^'no-name': a metric's name is"),
        (lambda t: t.histogram("seconds", "", ["__le"]), "reserved"),
        (lambda t: t.gauge("process_open_fds"), "watch_process"),
        (lambda t: t.gauge("size", "", ["queue", "queue"]), "given twice"),
        (lambda t: t.counter("task_duration_seconds_count"), "belongs to 'task_duration_seconds'"),
        (lambda t: t.histogram("task_duration_seconds", "", ["agent"], buckets=[0.1, 7]), "its buckets are 0.1, 0.5"),
        (lambda t: t.histogram("seconds", buckets=[2, 1]), "ascending"),
        (lambda t: t.histogram("seconds", buckets=[]), "ascending"),
        (lambda t: t.histogram("seconds", buckets=[1, 1]), "ascending"),
        (lambda t: t.counter("hits_total", domain="two.words"), "domain 'two.words'"),
        (lambda t: t.gauge("queue_size", "", ["queue"], outlives_source=True), "it doesn't outlive its source"),
        (lambda t: (t.gauge("a"), t.gauge("a", outlives_source=True)), "is defined already"),
        (lambda t: (t.counter("a_total"), t.counter("a_total", "", ["b"])), "is defined already"),
        (lambda t: (t.gauge("a"), t.histogram("a")), "is defined already"),
        (lambda t: (t.histogram("a", buckets=[1]), t.histogram("a", buckets=[2])), "is defined already"),
    ],
)
def test_an_instrument_that_the_fleet_would_refuse_is_refused_at_once(
    telemetry: Telemetry, make: Any, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        make(telemetry)


def test_a_broker_that_is_no_url_is_refused_by_the_name_of_the_argument() -> None:
    with pytest.raises(SettingsError, match=r"^amqp_url from Telemetry's argument: 'localhost' is not a URL amqp://"):
        Telemetry("analyzer", "localhost")


@pytest.mark.parametrize("agent", ["", "two words", "a.b", "a" * 101, "*"])
def test_an_agent_has_a_name_that_fits_in_a_routing_key(agent: str) -> None:
    with pytest.raises(ValueError, match="agent"):
        Telemetry(agent, settings=Settings())


def test_an_instrument_is_made_once(telemetry: Telemetry) -> None:
    made = telemetry.counter("hits_total", "How often it was hit.", ["path"])
    assert telemetry.counter("hits_total", labelnames=["path"]) is made
    assert made.documentation == "How often it was hit."


def test_a_counters_name_ends_as_prometheus_client_has_it(telemetry: Telemetry) -> None:
    assert telemetry.counter("hits").name == "hits_total"
    assert telemetry.counter("tasks_processed", "", ["agent", "status"]).name == "tasks_processed_total"


def test_labels_may_be_in_an_order_of_the_programs_own(telemetry: Telemetry) -> None:
    telemetry.counter("tasks_processed_total", "", ["status", "agent"]).labels("success", "analyzer").inc()


def test_bounds_are_the_catalogues_or_more(telemetry: Telemetry) -> None:
    telemetry.histogram("task_duration_seconds", "", ["agent"], buckets=[0.1, 0.5, 1, 2, 3, 5, 10, float("inf")])


def test_the_bounds_of_a_metric_that_the_fleet_doesnt_know_are_in_its_first_sample(telemetry: Telemetry) -> None:
    telemetry.histogram("waits_seconds", buckets=[1, 2]).observe(1.5)
    telemetry.histogram("task_duration_seconds", "", ["agent"]).labels("a").observe(1.5)
    (waits, tasks), _ = telemetry._series.take(1.0)
    assert waits.cell == {"buckets": {"1.0": 0, "2.0": 1, "+Inf": 0}, "sum": 1.5}
    assert tasks.cell == [1.5]


def test_a_catalogue_file_of_the_agents_own_is_heeded(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[gauge.documents]\nhelp = "Documents."\nmerge = "add"\n')
    telemetry = Telemetry(
        "analyzer", settings=Settings(amqp_url=UNREACHABLE, catalogue=(path,), spool_bytes=0), lifecycle=False
    )
    documents = telemetry.gauge("documents")
    documents.inc()
    with pytest.raises(ValueError, match="add"):
        documents.set(1)
    telemetry.close(timeout=0.1)
