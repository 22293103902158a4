"""An instrumented channel of aio-pika: its exchanges and queues are of subclasses that count. On the event loop.

A channel makes its exchanges and queues of the classes that it names. So the instrument names subclasses on the one
channel, and nothing of the library changes for other channels. Counting is arithmetic in memory; nothing blocks.
"""

from collections.abc import Awaitable, Callable
from copy import copy
from functools import cache
from time import time_ns
from typing import Any
from weakref import WeakKeyDictionary

from aio_pika.exceptions import DeliveryError, PublishError
from aio_pika.tools import ensure_awaitable
from aiormq.abc import DeliveredMessage

from busmon.instrument.messages import PUBLISHED_AT, Messages
from busmon.publish import Telemetry

_meters: "WeakKeyDictionary[Any, _Meter]" = WeakKeyDictionary()
"""The meter of each instrumented channel."""


def instrument_aio_channel(telemetry: Telemetry, channel: Any) -> None:
    """Count the messages of a channel's default exchange, and of the exchanges and queues that it will have."""
    is_instrumented = channel in _meters
    _meters[channel] = _Meter(telemetry)
    if is_instrumented:
        return
    channel.EXCHANGE_CLASS = _counting_exchange(channel.EXCHANGE_CLASS)
    channel.QUEUE_CLASS = _counting_queue(channel.QUEUE_CLASS)
    if (exchange := getattr(channel, "default_exchange", None)) is not None:  # a channel makes it when it opens
        exchange.__class__ = _counting_exchange(exchange.__class__)


class _Meter:
    def __init__(self, telemetry: Telemetry) -> None:
        self.messages = Messages(telemetry)
        labels = ["exchange", "result"]
        self._confirmations = telemetry.counter("message_confirmations_total", "", labels, domain="queue")

    def confirm(self, exchange: str, result: str) -> None:
        """Count the broker's answer to a publish: `confirmed`, `returned` (unroutable) or `refused`."""
        self._confirmations.labels(exchange, result).inc()


@cache
def _counting_exchange(of: Any) -> Any:
    class CountingExchange(of):  # type: ignore[misc]  # a class that the channel names
        __slots__ = ()

        async def publish(self, message: Any, routing_key: str, **options: Any) -> Any:
            meter = _meters[self.channel]
            stamped = copy(message)
            stamped.headers = {PUBLISHED_AT: time_ns(), **message.headers}
            try:
                answer = await super().publish(stamped, routing_key, **options)
            except PublishError:
                meter.confirm(self.name, "returned")
                raise
            except DeliveryError:
                meter.confirm(self.name, "refused")
                raise
            if isinstance(answer, DeliveredMessage):
                meter.confirm(self.name, "returned")
                return answer
            if answer is not None:
                meter.confirm(self.name, "confirmed")
            meter.messages.publish(self.name, routing_key)
            meter.messages.measure(len(message.body), message.type)
            return answer

    return CountingExchange


class _Counting:
    """A consumer's callback that counts each delivery first."""

    def __init__(self, queue: Any, callback: Callable[[Any], Awaitable[Any]]) -> None:
        self._queue = queue
        self._callback = ensure_awaitable(callback)

    async def __call__(self, message: Any) -> Any:
        _meters[self._queue.channel].messages.consume_incoming(self._queue.name, message)
        return await self._callback(message)


@cache
def _counting_queue(of: Any) -> Any:
    class CountingQueue(of):  # type: ignore[misc]  # a class that the channel names
        __slots__ = ()

        async def consume(self, callback: Callable[[Any], Awaitable[Any]], *given: Any, **options: Any) -> Any:
            # A robust queue consumes again after a reconnect, with the callback that it got before.
            counting = callback if isinstance(callback, _Counting) else _Counting(self, callback)
            return await super().consume(counting, *given, **options)

        async def get(self, **options: Any) -> Any:
            message = await super().get(**options)
            if message is not None:
                _meters[self.channel].messages.consume_incoming(self.name, message)
            return message

    return CountingQueue
