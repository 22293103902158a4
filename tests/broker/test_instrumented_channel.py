"""A pika channel that is instrumented does what it did, and its messages are counted, sized and timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pika
import pytest

from busmon.instrument import instrument_channel
from busmon.publish import Telemetry
from busmon.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    given = Settings(amqp_url="amqp://guest:guest@127.0.0.1:1/", publish_interval_seconds=3600, spool_bytes=0)
    telemetry = Telemetry("analyzer", settings=given, lifecycle=False)
    yield telemetry
    telemetry.close(0.1)


def test_what_goes_through_it_is_counted_sized_and_timed(vhost: Any, telemetry: Telemetry) -> None:
    with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
        channel = instrument_channel(telemetry, connection.channel())
        channel.queue_declare("tasks")
        channel.basic_publish("", "tasks", "né")
        channel.basic_publish("", "tasks", b"two", pika.BasicProperties(type="plan", headers={"a": 1}), mandatory=True)
        bodies = []

        def work(_channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
            bodies.append((body, properties.headers.get("a")))
            channel.basic_ack(method.delivery_tag)
            if len(bodies) == 2:
                channel.stop_consuming()

        channel.basic_consume("tasks", on_message_callback=work)
        channel.start_consuming()
        channel.basic_publish("", "tasks", b"three")
        for method, _properties, body in channel.consume("tasks", auto_ack=True):
            assert method is not None
            bodies.append((body, None))
            break
        channel.cancel()
    assert bodies == [("né".encode(), None), (b"two", 1), (b"three", None)]
    rows, _ = telemetry._series.take(1000.0)
    cells = {(row.table.name, *row.labelvalues): row.cell for row in rows}
    latencies = cells.pop(("message_latency_seconds", "tasks"))
    assert len(latencies) == 3
    assert all(0 <= latency < 60 for latency in latencies)
    assert cells == {
        ("messages_published_total", "", "tasks"): 3,
        ("messages_consumed_total", "tasks", "analyzer"): 3,
        ("message_size_bytes", "none"): [3, 3, 5, 5],
        ("message_size_bytes", "plan"): [3, 3],
    }
