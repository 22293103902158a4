"""Runs a Consumer's loop on the test's own thread, until something has come true."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import pika
from pika.adapters.select_connection import IOLoop

from busmon.bus.consume.consumer import Consumer
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pika.channel import Channel

    from busmon.bus.consume.depths import Depth
    from busmon.bus.frames.delivery import Delivery
    from busmon.bus.topology.topology import Topology
    from busmon.demo.broker import PrivateNode

QUORUM = {"x-queue-type": "quorum"}
QUARANTINE = "quarantine"


class Ear:
    """The listener of one queue: the recorder hears what it hears."""

    def __init__(self, heard: Recorder, queue: str) -> None:
        self._heard = heard
        self._queue = queue

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        self._heard.delivered(self._queue, deliveries)

    def void(self) -> None:
        self._heard.lost(self._queue)

    def change(self, state: str, cause: str) -> None:
        self._heard.changed(self._queue, state, cause)


class Recorder:
    """Keeps what several queues' listeners hear, and drops what has become void, as a worker does."""

    def __init__(self) -> None:
        self.deliveries: dict[str, list[Delivery]] = defaultdict(list)
        self.losses: list[str] = []
        self.states: dict[str, list[str]] = defaultdict(list)
        self.causes: dict[str, list[str]] = defaultdict(list)
        self.at_change: Callable[[str, str], None] = lambda _queue, _state: None

    def delivered(self, queue: str, deliveries: Sequence[Delivery]) -> None:
        self.deliveries[queue].extend(deliveries)

    def lost(self, queue: str) -> None:
        self.losses.append(queue)
        self.deliveries[queue] = []

    def changed(self, queue: str, state: str, cause: str) -> None:
        self.states[queue].append(state)
        self.causes[queue].append(cause)
        self.at_change(queue, state)

    def bodies(self, queue: str) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries[queue]]

    def tags(self, queue: str) -> list[int]:
        return [delivery.delivery_tag for delivery in self.deliveries[queue]]

    def forget(self) -> None:
        """Start over, as a worker does when its open batch is void."""
        self.deliveries.clear()


class Running:
    """A consumer and its loop; the loop runs only inside `until`."""

    def __init__(
        self,
        amqp_url: str,
        *queues: str,
        prefetch: int = 1000,
        heard: Recorder | None = None,
        topology: Topology | None = None,
    ) -> None:
        self.ioloop = IOLoop()
        self.heard = heard or Recorder()
        self.queue = queues[0]
        self.closed = False
        self.consumer = Consumer(
            amqp_url,
            quarantine_exchange=QUARANTINE,
            prefetch=prefetch,
            name="test consumer",
            ioloop=self.ioloop,
            ring=topology.ring if topology else None,
            waiting=topology.waiting if topology else "",
        )
        for queue in queues:
            self.consumer.consume(queue, Ear(self.heard, queue))
        self.consumer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and not self.closed:
            self.close()
        self.ioloop.close()

    def until(self, condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
        """Run the loop until the condition holds; fail if it doesn't in time."""
        deadline = time.monotonic() + seconds

        def look() -> None:
            if condition() or time.monotonic() > deadline:
                self.ioloop.stop()
            else:
                self.ioloop.call_later(0.005, look)

        self.ioloop.call_later(0, look)
        self.ioloop.start()
        assert condition(), f"not in {seconds} s; heard {dict(self.heard.states)}, {self.consumer.reconnects}"

    def until_consuming(self, *queues: str) -> None:
        self.until(lambda: all(self.heard.states[queue][-1:] == ["consuming"] for queue in queues or (self.queue,)))

    def until_delivered(self, count: int, queue: str = "", seconds: float = PATIENCE_SECONDS) -> list[Delivery]:
        queue = queue or self.queue
        self.until(lambda: len(self.heard.deliveries[queue]) >= count, seconds)
        return self.heard.deliveries[queue]

    def settle_all(self, queue: str = "") -> None:
        self.consumer.settle(queue or self.queue, self.heard.tags(queue or self.queue))

    def depth(self, queue: str = "") -> int | None:
        answers: list[Depth] = []
        self.consumer.depth(queue or self.queue, answers.append)
        self.until(lambda: answers)
        return answers[0].ready

    def break_channel(self, queue: str = "") -> None:
        """Make the broker close a queue's channel, by an ack of a tag that it never gave; wait for the next one."""
        queue = queue or self.queue
        before = len(self.heard.losses)
        self.channel(queue).basic_ack(10**6)
        self.until(lambda: len(self.heard.losses) > before)
        self.until(lambda: self.heard.states[queue][-1] in {"consuming", "blocked"})

    def channel(self, queue: str = "") -> Channel:
        """pika's channel of the queue."""
        channel = self.consumer._channels[queue or self.queue]._channel
        assert channel is not None
        return channel

    def cancel(self) -> None:
        self._wait_for(self.consumer.cancel)

    def close(self) -> None:
        self.closed = True
        self._wait_for(self.consumer.close)

    def _wait_for(self, operation: Callable[[Callable[[], None]], None]) -> None:
        done: list[bool] = []
        operation(lambda: done.append(True))
        self.until(lambda: done)
        assert done == [True]


class Operator:
    """The actions of others on the broker. Each publish waits for its confirm.

    RabbitMQ before 3.13 drops unconfirmed publishes to a quorum queue when the publisher closes at once.
    """

    def __init__(self, amqp_url: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
        self.channel = self._connection.channel()
        self.channel.confirm_delivery()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection.is_open:
            self._connection.close()

    def declare(self, queue: str, arguments: Mapping[str, Any] = QUORUM) -> str:
        self.channel.queue_declare(queue, durable=True, arguments=arguments)
        return queue

    def declare_quarantine(self, arguments: Mapping[str, Any] = QUORUM) -> None:
        self.channel.exchange_declare(QUARANTINE, "fanout", durable=True)
        self.declare(QUARANTINE, arguments)
        self.channel.queue_bind(QUARANTINE, QUARANTINE)

    def publish(self, queue: str, *bodies: bytes, properties: pika.BasicProperties | None = None) -> None:
        for body in bodies:
            self.channel.basic_publish("", queue, body, properties)

    def take(self, queue: str) -> tuple[bytes, pika.BasicProperties]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            method, properties, body = self.channel.basic_get(queue, auto_ack=True)
            if method is not None:
                return body, properties
        raise AssertionError(f"{queue} stayed empty")

    def ready(self, queue: str) -> int:
        count: int = self.channel.queue_declare(queue, passive=True).method.message_count
        return count

    def until_ready(self, queue: str, count: int, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until the queue has exactly so many messages ready: a quorum queue takes a moment for each step."""
        deadline = time.monotonic() + seconds
        while (ready := self.ready(queue)) != count:
            assert time.monotonic() < deadline, f"{queue} has {ready} ready, expected {count}"
            self._connection.process_data_events(0.02)


def close_connection(node: PrivateNode, vhost: str, name: str) -> None:
    """Close the connection of this name, as an operator would."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for connection in json.loads(node.management("GET", f"/api/vhosts/{vhost}/connections")):
            if connection.get("client_properties", {}).get("connection_name") == name:
                node.management("DELETE", f"/api/connections/{quote(connection['name'])}")
                return
        time.sleep(0.05)
    raise AssertionError(f"{name} is not connected")
