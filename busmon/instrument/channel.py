"""A pika channel whose messages are counted, sized and timed. On the channel's thread."""

from collections.abc import Callable, Iterator
from functools import wraps
from time import time, time_ns
from typing import Any, TypeVar

from busmon.publish import Telemetry

PUBLISHED_AT = "published_at_ns"
"""The header that latency is taken from, as the wire format has it."""

ChannelT = TypeVar("ChannelT")


def instrument_channel(telemetry: Telemetry, channel: ChannelT) -> ChannelT:
    """Publish what goes through a channel: `messages_published_total`, `messages_consumed_total` and more.

    A message that is published gets the header `published_at_ns`, unless it has one; where it is consumed,
    `message_latency_seconds` is measured from it, or else from the property `timestamp`. `message_size_bytes` has the
    property `type` as its label, `none` without one. The label `consumer` is the agent's name.

    Args:
        telemetry: what publishes it.
        channel: of pika: blocking, or of any of its asynchronous connections.

    Returns:
        The same channel.
    """
    _Meter(telemetry).attach(channel)
    return channel


class _Meter:
    def __init__(self, telemetry: Telemetry) -> None:
        self._agent = telemetry.agent
        self._published = telemetry.counter("messages_published_total", "", ["exchange", "routing_key"], domain="queue")
        self._consumed = telemetry.counter("messages_consumed_total", "", ["queue", "consumer"], domain="queue")
        self._latency = telemetry.histogram("message_latency_seconds", "", ["queue"], domain="queue")
        self._size = telemetry.histogram("message_size_bytes", "", ["type"], domain="queue")

    def attach(self, channel: Any) -> None:
        channel.basic_publish = self._publishing(channel.basic_publish)
        channel.basic_consume = self._consuming(channel.basic_consume)
        if hasattr(channel, "consume"):
            channel.consume = self._iterating(channel.consume)

    def _publishing(self, publish: Callable[..., Any]) -> Callable[..., Any]:
        from pika import BasicProperties  # noqa: PLC0415 - whoever has a channel of pika's has it loaded

        @wraps(publish)
        def basic_publish(
            exchange: str, routing_key: str, body: bytes | str, properties: Any = None, **options: Any
        ) -> Any:
            properties = properties or BasicProperties()
            properties.headers = {PUBLISHED_AT: time_ns()} | (properties.headers or {})
            answer = publish(exchange, routing_key, body, properties, **options)
            self._published.labels(exchange, routing_key).inc()
            self._measure(body, properties)
            return answer

        return basic_publish

    def _consuming(self, consume: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(consume)
        def basic_consume(queue: str, on_message_callback: Callable[..., Any], *given: Any, **options: Any) -> Any:
            @wraps(on_message_callback)
            def on_message(channel: Any, method: Any, properties: Any, body: bytes) -> Any:
                self._note(queue, properties, body)
                return on_message_callback(channel, method, properties, body)

            return consume(queue, on_message, *given, **options)

        return basic_consume

    def _iterating(self, consume: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(consume)
        def deliveries(queue: str, *given: Any, **options: Any) -> Iterator[Any]:
            for method, properties, body in consume(queue, *given, **options):
                if method is not None:
                    self._note(queue, properties, body)
                yield method, properties, body

        return deliveries

    def _note(self, queue: str, properties: Any, body: bytes) -> None:
        self._consumed.labels(queue, self._agent).inc()
        self._measure(body, properties)
        stamp = (properties.headers or {}).get(PUBLISHED_AT)
        published_at = stamp / 1e9 if isinstance(stamp, int) else properties.timestamp
        if published_at:
            self._latency.labels(queue).observe(max(0.0, time() - published_at))

    def _measure(self, body: bytes | str, properties: Any) -> None:
        size = len(body.encode()) if isinstance(body, str) else len(body)
        self._size.labels(properties.type or "none").observe(size)
