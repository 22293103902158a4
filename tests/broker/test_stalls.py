"""The consumer against a real broker that stops serving a channel while its heartbeats go on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from pika import spec
from pika.frame import Method

from busmon.bus.connect import silence
from busmon.bus.consume import consumer

from .consuming import QUARANTINE, Operator, Running
from .proxy import Proxy
from .topologies import Place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from busmon.demo.broker import PrivateNode


@pytest.fixture
def proxy(node: PrivateNode) -> Iterator[Proxy]:
    with Proxy(node.amqp_port) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(silence, "SILENT_SECONDS", 0.5)


def behind(proxy: Proxy, node: PrivateNode, amqp_url: str) -> str:
    return amqp_url.replace(f":{node.amqp_port}/", f":{proxy.port}/")


def first_only(proxy: Proxy, channel: int) -> None:
    """Leave a channel of the first connection unserved; whatever connects later is served."""
    proxy.serves = lambda connection, number, _: (connection, number) != (0, channel)


def number_of(running: Running, queue: str) -> int:
    return int(running.channel(queue).channel_number)


def test_a_channel_that_is_not_served_costs_the_connection_and_nothing_else(
    proxy: Proxy, node: PrivateNode, vhost: Any, operator: Operator, queue: str
) -> None:
    operator.declare("other")
    with Running(behind(proxy, node, vhost.amqp_url), queue, "other") as running:
        running.until_consuming(queue, "other")
        first_only(proxy, number_of(running, queue))
        operator.publish(queue, b"1", b"2")
        delivered = running.until_delivered(2)
        assert [delivery.body for delivery in delivered] == [b"1", b"2"]
        assert running.consumer.reconnects == {"channel_silent": 1}
        assert running.heard.causes[queue][1].startswith(f"channel_silent: no answer on the channel of {queue!r} for ")
        running.until_consuming("other")
        assert running.heard.states["other"] == ["consuming", "connecting", "consuming"]
        assert proxy.connections == 2
        running.settle_all()
    operator.until_ready(queue, 0)


def test_an_idle_channel_is_asked_too(proxy: Proxy, node: PrivateNode, vhost: Any, queue: str) -> None:
    with Running(behind(proxy, node, vhost.amqp_url), queue) as running:
        running.until_consuming()
        first_only(proxy, number_of(running, queue))
        running.until(lambda: running.consumer.reconnects["channel_silent"])
        running.until_consuming()


def test_a_channel_that_never_opens_costs_the_connection(
    proxy: Proxy, node: PrivateNode, vhost: Any, queue: str
) -> None:
    first_only(proxy, 1)
    with Running(behind(proxy, node, vhost.amqp_url), queue) as running:
        running.until_consuming()
        assert running.consumer.reconnects == {"channel_silent": 1}


def test_depths_that_are_not_answered_cost_the_connection_and_are_unknown(
    proxy: Proxy, node: PrivateNode, vhost: Any, queue: str
) -> None:
    with Running(behind(proxy, node, vhost.amqp_url), queue) as running:
        running.until_consuming()
        assert running.depth() == 0
        first_only(proxy, number_of(running, queue) + 1)
        assert running.depth() is None
        assert running.consumer.reconnects == {"channel_silent": 1}
        running.until_consuming()
        assert running.depth() == 0


def test_a_broker_that_stands_still_costs_the_connection(
    proxy: Proxy, node: PrivateNode, vhost: Any, queue: str
) -> None:
    with Running(f"{behind(proxy, node, vhost.amqp_url)}?stack_timeout=2", queue) as running:
        running.until_consuming()
        proxy.silent = True
        running.until(lambda: running.consumer.reconnects["channel_silent"])
        proxy.silent = False
        running.until(lambda: running.heard.states[queue].count("consuming") > 1)


def test_a_quarantine_that_is_not_confirmed_is_published_on_another_connection(
    proxy: Proxy, node: PrivateNode, vhost: Any, operator: Operator, queue: str
) -> None:
    operator.declare_quarantine()
    operator.publish(queue, b"1", b"2")
    with Running(behind(proxy, node, vhost.amqp_url), queue) as running:
        first, second = running.until_delivered(2)
        running.consumer.quarantine(queue, first, {}, lambda: None)
        running.until(lambda: not running.consumer.count_held(queue))
        proxy.serves = lambda connection, channel, _: (connection, channel) != (1, 1)
        running.consumer.quarantine(queue, second, {}, lambda: None)
        running.until(lambda: not running.consumer.count_held(queue))
        assert running.consumer.reconnects == {"channel_silent": 1}
        assert running.heard.states[queue] == ["consuming"]
    assert {operator.take(QUARANTINE)[0] for _ in range(2)} == {b"1", b"2"}


def test_a_worker_that_is_busy_for_long_keeps_its_connection(running: Running, operator: Operator) -> None:
    def be_busy(deliveries: int = 3) -> None:
        for number in range(deliveries):
            operator.publish(running.queue, b"%d" % number)
            running.until_delivered(number + 1)
            until = time.monotonic() + 2 * silence.SILENT_SECONDS
            while time.monotonic() < until:
                pass

    be_busy()
    assert not running.consumer.reconnects
    assert running.heard.states[running.queue] == ["consuming"]


def test_an_alarm_that_lasts_costs_no_consumer(dedicated_node: PrivateNode) -> None:
    with Operator(dedicated_node.amqp_url) as operator:
        queue = operator.declare("fold")
        operator.publish(queue, b"before")
        with Running(dedicated_node.amqp_url, queue) as running:
            running.until_consuming()
            dedicated_node.rabbitmqctl("set_vm_memory_high_watermark", "0")
            running.until_delivered(1)
            ends = time.monotonic() + 6 * silence.SILENT_SECONDS
            running.until(lambda: time.monotonic() > ends)
            assert not running.consumer.reconnects
            running.settle_all()
            dedicated_node.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
        operator.until_ready(queue, 0)


def test_a_blocked_connection_is_not_asked(running: Running) -> None:
    # RabbitMQ tells it only to connections that publish; so it is played in.
    connection = running.channel().connection
    connection._process_frame(Method(0, spec.Connection.Blocked("low on disk")))
    channel = running.consumer._channels[running.queue]
    assert [channel.watch(1.0) for _ in range(40)] == [None] * 40


def cancel_of(channel: int) -> bytes:
    """The frame by which a broker cancels the consumer of a channel."""
    return bytes(Method(channel, spec.Basic.Cancel("busmon", nowait=True)).marshal())


def test_a_cancel_of_a_queue_that_stands_leaves_the_ring(
    proxy: Proxy, node: PrivateNode, vhost: Any, tmp_path: Path
) -> None:
    place = Place.declared(vhost.amqp_url, tmp_path)
    fold = "telemetry.fold.1"
    with (
        Operator(vhost.amqp_url) as operator,
        Running(behind(proxy, node, vhost.amqp_url), fold, topology=place.topology) as running,
    ):
        running.until_consuming(fold)
        operator.publish(fold, b"1")
        running.until_delivered(1)
        # As RabbitMQ 4.3 does when a delivery isn't acknowledged within the consumer timeout.
        proxy.inject(0, cancel_of(number_of(running, fold)))
        running.until(lambda: "cancelled" in running.heard.states[fold])
        running.until_consuming(fold)
        assert running.until_delivered(1)[0].redelivered
        assert running.depth(fold) is not None
        assert running.consumer.reconnects == {"consumer_cancelled": 1}
        operator.channel.exchange_declare("telemetry.shards", passive=True)
        running.settle_all(fold)
