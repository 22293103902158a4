"""The metric families of messages, which every instrument of a message client counts in. Any thread."""

from collections.abc import Mapping
from time import time
from typing import Any

from busmon.publish import Telemetry

PUBLISHED_AT = "published_at_ns"
"""The header with the time of publishing, in nanoseconds since the epoch, as the wire format names it."""


class Messages:
    """Messages of one program: published and consumed, with latency and size.

    Args:
        telemetry: the publisher of the figures; its agent's name is the label `consumer`.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._agent = telemetry.agent
        self._published = telemetry.counter("messages_published_total", "", ["exchange", "routing_key"], domain="queue")
        self._consumed = telemetry.counter("messages_consumed_total", "", ["queue", "consumer"], domain="queue")
        self._latency = telemetry.histogram("message_latency_seconds", "", ["queue"], domain="queue")
        self._size = telemetry.histogram("message_size_bytes", "", ["type"], domain="queue")

    def publish(self, exchange: str, routing_key: str) -> None:
        """Count a published message."""
        self._published.labels(exchange, routing_key).inc()

    def consume(self, queue: str, published_at: float | None) -> None:
        """Count a consumed message, and observe its latency if the time of publishing is known.

        Args:
            queue: the queue's name.
            published_at: seconds since the epoch.
        """
        self._consumed.labels(queue, self._agent).inc()
        if published_at:
            self._latency.labels(queue).observe(max(0.0, time() - published_at))

    def consume_incoming(self, queue: str, message: Any) -> None:
        """Count and measure a consumed message of aio-pika, an `IncomingMessage`."""
        stamp = message.timestamp.timestamp() if message.timestamp else None
        self.consume(queue, read_published_at(message.headers) or stamp)
        self.measure(len(message.body), message.type)

    def measure(self, size_bytes: int, type_: str | None) -> None:
        """Observe the size of a body; `type_` is the AMQP property `type`, and `none` without one."""
        self._size.labels(type_ or "none").observe(size_bytes)


def read_published_at(headers: Mapping[str, Any] | None) -> float | None:
    """Read the header `published_at_ns` as seconds since the epoch; None without one."""
    stamp = (headers or {}).get(PUBLISHED_AT)
    return stamp / 1e9 if isinstance(stamp, int) else None
