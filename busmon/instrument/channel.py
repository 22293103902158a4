"""Instrumented channels of pika and aio-pika: their messages are counted, sized and timed. On the channel's thread."""

from collections.abc import Callable, Iterator
from copy import copy
from functools import wraps
from time import time_ns
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from busmon.instrument.messages import PUBLISHED_AT, Messages, read_published_at
from busmon.publish import Telemetry

ChannelT = TypeVar("ChannelT")


def instrument_channel(telemetry: Telemetry, channel: ChannelT) -> ChannelT:
    """Publish the figures of a channel: `messages_published_total`, `messages_consumed_total` and more.

    A published message gets the header `published_at_ns`, unless it has one; at its consumption
    `message_latency_seconds` is measured from the header, or else from the property `timestamp`.
    `message_size_bytes` has the property `type` as its label, `none` without one. The label `consumer` is the agent's
    name. With aio-pika, `message_confirmations_total` counts the broker's answers to publishes, too. Called again for a
    channel, it replaces the earlier `Telemetry`, so a message counts once.

    Args:
        telemetry: the publisher of the figures.
        channel: a channel of pika, blocking or of any of its asynchronous connections; or one of aio-pika, robust
            or not, before it declares the exchanges and queues to measure.

    Returns:
        The same channel.
    """
    if any(kind.__module__.startswith("aio_pika.") for kind in type(channel).__mro__):
        from busmon.instrument.aio_channel import instrument_aio_channel  # noqa: PLC0415 - it imports aio-pika

        instrument_aio_channel(telemetry, channel)
    elif (instrumented := _instrumented.get(channel)) is not None:
        instrumented.count_in(telemetry)
    else:
        _instrumented[channel] = _PikaChannel(telemetry)
        _instrumented[channel].attach(channel)
    return channel


class _PikaChannel:
    def __init__(self, telemetry: Telemetry) -> None:
        self.count_in(telemetry)

    def count_in(self, telemetry: Telemetry) -> None:
        self._messages = Messages(telemetry)

    def attach(self, channel: Any) -> None:
        channel.basic_publish = self._publishing(channel.basic_publish)
        channel.basic_consume = self._consuming(channel.basic_consume)
        if hasattr(channel, "consume"):
            channel.consume = self._iterating(channel.consume)
            channel.basic_get = self._getting(channel.basic_get)
        else:
            channel.basic_get = self._getting_later(channel.basic_get)

    def _publishing(self, publish: Callable[..., Any]) -> Callable[..., Any]:
        from pika import BasicProperties  # noqa: PLC0415 - whoever has a channel of pika's has it loaded

        @wraps(publish)
        def basic_publish(
            exchange: str, routing_key: str, body: bytes | str, properties: Any = None, *given: Any, **options: Any
        ) -> Any:
            # A copy: a caller that publishes with the same properties again must not send the first publish's time.
            stamped = copy(properties) if properties else BasicProperties()
            stamped.headers = {PUBLISHED_AT: time_ns()} | (stamped.headers or {})
            answer = publish(exchange, routing_key, body, stamped, *given, **options)
            self._messages.publish(exchange, routing_key)
            self._measure(body, stamped)
            return answer

        return basic_publish

    def _consuming(self, consume: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(consume)
        def basic_consume(queue: str, on_message_callback: Callable[..., Any], *given: Any, **options: Any) -> Any:
            return consume(queue, self._noting(queue, on_message_callback), *given, **options)

        return basic_consume

    def _iterating(self, consume: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(consume)
        def deliveries(queue: str, *given: Any, **options: Any) -> Iterator[Any]:
            for method, properties, body in consume(queue, *given, **options):
                if method is not None:
                    self._note(queue, properties, body)
                yield method, properties, body

        return deliveries

    def _getting(self, get: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(get)
        def basic_get(queue: str, *given: Any, **options: Any) -> Any:
            method, properties, body = answer = get(queue, *given, **options)
            if method is not None:
                self._note(queue, properties, body)
            return answer

        return basic_get

    def _getting_later(self, get: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(get)
        def basic_get(queue: str, callback: Callable[..., Any], *given: Any, **options: Any) -> Any:
            return get(queue, self._noting(queue, callback), *given, **options)

        return basic_get

    def _noting(self, queue: str, callback: Callable[..., Any]) -> Callable[..., Any]:
        """Return a callback for deliveries that counts each first."""

        @wraps(callback)
        def on_message(channel: Any, method: Any, properties: Any, body: bytes) -> Any:
            self._note(queue, properties, body)
            return callback(channel, method, properties, body)

        return on_message

    def _note(self, queue: str, properties: Any, body: bytes) -> None:
        self._messages.consume(queue, read_published_at(properties.headers) or properties.timestamp)
        self._measure(body, properties)

    def _measure(self, body: bytes | str, properties: Any) -> None:
        self._messages.measure(len(body.encode()) if isinstance(body, str) else len(body), properties.type)


_instrumented: "WeakKeyDictionary[Any, _PikaChannel]" = WeakKeyDictionary()
"""The instrument of each channel of pika that has one."""
