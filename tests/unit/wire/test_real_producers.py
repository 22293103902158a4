"""Bodies of the formats' own client libraries, byte for byte, are counted as the libraries mean them."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings import amqp, rabbitmq
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from datadog.dogstatsd.base import DogStatsd
from pika import BasicProperties
from pika.spec import Basic
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from statsd import StatsClient

from busmon.bus.frames.delivery import Delivery
from busmon.wire.envelope import Envelope
from busmon.wire.formats import Formats
from tests.unit.registry.registries import NOW

from .folded import Folded

DATA = {"v": 1, "samples": [{"name": "nodes_seen_total", "type": "counter", "value": 1}]}
TIME = datetime(2025, 11, 22, 9, 0, 0, 250_000, UTC)
EVENT: Any = CloudEvent(
    {
        "id": "A-1",
        "type": "t",
        "source": "/x",
        "specversion": "1.0",
        "time": TIME,
        "datacontenttype": "application/json",
    },
    DATA,
)


class Listener:
    """A UDP port in a client's way, where a StatsD server would be."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(10)
        self.port: int = self._socket.getsockname()[1]

    def take(self) -> bytes:
        return self._socket.recv(65_536)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    opened = Listener()
    yield opened
    opened.close()


@pytest.fixture
def statsd(tmp_path: Path) -> Iterator[Folded]:
    opened = Folded(tmp_path, "statsd")
    yield opened
    opened.close()


def test_statsds_own_client(listener: Listener, statsd: Folded) -> None:
    client = StatsClient("127.0.0.1", listener.port)
    pipeline = client.pipeline()
    pipeline.incr("hits", 3)
    pipeline.timing("render", 320)
    pipeline.gauge("load", 2.5)
    pipeline.set("users", "ann")
    pipeline.send()
    client.close()
    statsd.take(listener.take())
    assert statsd.value("hits_total") == 3
    assert statsd.value("render_sum") == 0.32
    assert statsd.value("load") == 2.5
    assert statsd.value("users") == 1


def test_a_gauge_below_zero_of_statsds_own_client(listener: Listener, statsd: Folded) -> None:
    client = StatsClient("127.0.0.1", listener.port)
    for second in range(2):
        client.gauge("load", -10)
        statsd.take(listener.take(), now=NOW + second)
        assert statsd.value("load") == -10
    client.gauge("load", 3, delta=True)
    statsd.take(listener.take(), now=NOW + 2)
    client.close()
    assert statsd.value("load") == -7


def test_a_gauge_below_zero_of_datadogs_own_client(listener: Listener, statsd: Folded) -> None:
    datadog = DogStatsd("127.0.0.1", listener.port, disable_telemetry=True, disable_buffering=True)
    for second, value in enumerate((-10, -10, 5, -10)):
        datadog.gauge("load", value)
        statsd.take(listener.take(), now=NOW + second)
        assert statsd.value("load") == value
    datadog.stop()
    datadog.close_socket()
    assert statsd.rejected() == {}


def test_datadogs_own_client(listener: Listener, statsd: Folded) -> None:
    datadog = DogStatsd("127.0.0.1", listener.port, disable_telemetry=True, disable_buffering=True)
    datadog.increment("page.views", 2, tags=["page:/x"])
    statsd.take(listener.take())
    datadog.distribution("size", 7, tags=["env:prod"])
    statsd.take(listener.take())
    datadog.count_with_timestamp("backfilled", 5, 1_700_000_000)
    statsd.take(listener.take())
    datadog.stop()
    datadog.close_socket()
    assert statsd.value("page_views_total", page="/x") == 2
    assert statsd.value("size_sum", env="prod") == 7
    assert statsd.value("backfilled_total") == 5


@pytest.mark.parametrize("module", [None, openmetrics], ids=["text", "openmetrics"])
def test_prometheus_own_client(module: Any, prometheus: Folded) -> None:
    registry = CollectorRegistry()
    jobs = Counter("jobs", "Jobs.", ["queue"], registry=registry).labels('a "b"\\\n')
    waits = Histogram("wait_seconds", "Waits.", buckets=[0.1, 1], registry=registry)
    sizes = Summary("size_bytes", "Sizes.", registry=registry)
    Gauge("open_files", "Open files.", registry=registry).set(7)
    content_type = openmetrics.CONTENT_TYPE_LATEST if module else "text/plain; version=0.0.4"
    for second in range(1, 4):
        jobs.inc(2)
        waits.observe(0.5, {"trace_id": "abc"} if module else None)
        sizes.observe(30)
        body = openmetrics.generate_latest(registry) if module else generate_latest(registry)  # type: ignore[no-untyped-call]
        prometheus.take(body, content_type=content_type, published_at=NOW * 2 + second, now=NOW * 2 + 9)
    assert prometheus.value("jobs_total", queue='a "b"\\\n') == 6
    assert prometheus.value("wait_seconds_bucket", le="0.1") == 0
    assert prometheus.value("wait_seconds_bucket", le="1.0") == 3
    assert prometheus.value("wait_seconds_sum") == 1.5
    assert prometheus.value("size_bytes_count") == 3
    assert prometheus.value("size_bytes_sum") == 90
    assert prometheus.value("open_files") == 7
    assert prometheus.rejected() == {}


def received(body: bytes, content_type: str | None, headers: Any) -> Envelope:
    """The envelope of a body that came with these properties."""
    method = Basic.Deliver("busmon", 1, redelivered=False, exchange="telemetry", routing_key="a.b")
    properties = BasicProperties(content_type=content_type, headers=headers)
    return Formats((), "q", 1 << 20).decode(Delivery.from_pika(method, properties, body))


def test_cloudevents_own_sdk_in_each_of_its_bindings() -> None:
    structured, binary = amqp.to_structured_event(EVENT), amqp.to_binary_event(EVENT)
    of_rabbitmq = rabbitmq.to_binary(EVENT, JSONFormat())
    envelopes = [
        received(structured.application_data, str(structured.properties["content-type"]), {}),
        received(binary.application_data, str(binary.properties["content-type"]), binary.application_properties),
        received(of_rabbitmq.body, of_rabbitmq.content_type, of_rabbitmq.headers),
    ]
    for envelope in envelopes:
        assert (envelope.source, envelope.ts, envelope.identity) == ("/x", TIME.timestamp(), "/x#A-1")
        assert envelope.samples == DATA["samples"]
