"""A pika channel that is instrumented does what it did, and its messages are counted, sized and timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pika
import pytest

from busmon.instrument import instrument_channel

from .figures import cells, silent_telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from busmon.publish import Telemetry


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with silent_telemetry() as telemetry:
        yield telemetry


def test_what_goes_through_it_is_counted_sized_and_timed(vhost: Any, telemetry: Telemetry) -> None:
    with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
        channel = instrument_channel(telemetry, connection.channel())
        channel.queue_declare("tasks")
        channel.basic_publish("", "tasks", "né")  # type: ignore[arg-type]  # pika takes text, too
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
    figures = cells(telemetry)
    latencies = figures.pop(("message_latency_seconds", "tasks"))
    assert len(latencies) == 3
    assert all(0 <= latency < 60 for latency in latencies)
    assert figures == {
        ("messages_published_total", "", "tasks"): 3,
        ("messages_consumed_total", "tasks", "analyzer"): 3,
        ("message_size_bytes", "none"): [3, 3, 5, 5],
        ("message_size_bytes", "plan"): [3, 3],
    }


def test_a_message_that_is_fetched_counts_as_consumed_and_an_empty_queue_does_not(
    vhost: Any, telemetry: Telemetry
) -> None:
    with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
        channel = instrument_channel(telemetry, connection.channel())
        channel.queue_declare("tasks")
        channel.confirm_delivery()
        channel.basic_publish("", "tasks", b"one", None, True)  # noqa: FBT003 - as its users may call it
        assert channel.basic_get("tasks", auto_ack=True)[2] == b"one"
        assert channel.basic_get(queue="tasks") == (None, None, None)
        with pytest.raises(pika.exceptions.UnroutableError):
            channel.basic_publish("", "nowhere", b"two", mandatory=True)
    figures = cells(telemetry)
    assert len(figures.pop(("message_latency_seconds", "tasks"))) == 1
    assert figures == {
        ("messages_published_total", "", "tasks"): 1,
        ("messages_consumed_total", "tasks", "analyzer"): 1,
        ("message_size_bytes", "none"): [3, 3],
    }


def test_a_message_that_an_asynchronous_channel_fetches_counts_as_consumed(vhost: Any, telemetry: Telemetry) -> None:
    fetched = []

    def fetch(channel: Any) -> None:
        def take(_channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
            fetched.append(body)
            connection.close()

        channel.queue_declare("tasks")
        channel.basic_publish("", "tasks", b"one")
        channel.basic_get("tasks", take, auto_ack=True)

    connection = pika.SelectConnection(
        pika.URLParameters(vhost.amqp_url),
        on_open_callback=lambda opened: opened.channel(
            on_open_callback=lambda channel: fetch(instrument_channel(telemetry, channel))
        ),
        on_close_callback=lambda *_: connection.ioloop.stop(),
    )
    connection.ioloop.start()
    connection.ioloop.close()
    assert fetched == [b"one"]
    assert cells(telemetry)["messages_consumed_total", "tasks", "analyzer"] == 1


def test_properties_that_are_published_again_get_the_time_of_each_publish(vhost: Any, telemetry: Telemetry) -> None:
    with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
        channel = instrument_channel(telemetry, connection.channel())
        channel.queue_declare("tasks")
        properties = pika.BasicProperties(headers={"a": 1})
        channel.basic_publish("", "tasks", b"one", properties)
        channel.basic_publish("", "tasks", b"two", properties)
        assert properties.headers == {"a": 1}
        stamps = [channel.basic_get("tasks", auto_ack=True)[1].headers["published_at_ns"] for _ in range(2)]
    assert stamps[0] < stamps[1]


def test_a_channel_that_is_instrumented_again_counts_each_message_once_in_the_later_telemetry(
    vhost: Any, telemetry: Telemetry
) -> None:
    with silent_telemetry() as earlier, pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
        channel = connection.channel()
        for each in (earlier, telemetry, telemetry):
            assert instrument_channel(each, channel) is channel
        channel.queue_declare("tasks")
        channel.basic_publish("", "tasks", b"one")
        for _ in channel.consume("tasks", auto_ack=True):
            break
        channel.cancel()
        assert cells(earlier) == {}
    figures = cells(telemetry)
    assert figures["messages_published_total", "", "tasks"] == 1
    assert figures["messages_consumed_total", "tasks", "analyzer"] == 1
    assert figures["message_size_bytes", "none"] == [3, 3]
