"""Sealed envelopes on their way: in order, one at a time, each kept until the broker has confirmed it.

An envelope gets its `message_id` at its first attempt and keeps it, so that the fleet knows a repetition. Memory is
bounded: the oldest is given up for a newer one. Belongs to the thread that publishes.
"""

from collections import deque
from dataclasses import dataclass
from time import time, time_ns

import pika

from busmon.bus.publisher import ConfirmedPublisher
from busmon.publish.batch import Origin, Sealed
from busmon.wire.json_v1 import CONTENT_TYPE

PERSISTENT = 2


@dataclass(slots=True)
class _Outgoing:
    sealed: Sealed
    message_id: str | None = None


class Outbox:
    """Envelopes of one source.

    Args:
        origin: whose they are.
        exchange: where they go.
        publisher: how they get there.
        max_bytes: what their bodies may take together.
    """

    def __init__(self, origin: Origin, exchange: str, publisher: ConfirmedPublisher, max_bytes: int) -> None:
        self._origin = origin
        self._exchange = exchange
        self._publisher = publisher
        self._max_bytes = max_bytes
        self._waiting: deque[_Outgoing] = deque()
        self._bytes = 0
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def samples(self) -> int:
        """How many samples wait to be confirmed."""
        return sum(outgoing.sealed.samples for outgoing in self._waiting)

    def put(self, sealed: Sealed) -> int:
        """Add an envelope behind the others; returns the samples that were given up for it."""
        self._waiting.append(_Outgoing(sealed))
        self._bytes += len(sealed.body)
        given_up = 0
        while self._bytes > self._max_bytes and len(self._waiting) > 1:
            given_up += self._take_first().samples
        return given_up

    def send_first(self) -> Sealed:
        """Publish the first envelope and return it once it is confirmed.

        Raises:
            BusError: it wasn't confirmed, and stays the first.
        """
        first = self._waiting[0]
        if first.message_id is None:
            self._sequence += 1
            first.message_id = f"{self._origin.source}:{self._sequence}"
        routing_key = f"{self._origin.agent}.{first.sealed.domain}"
        self._publisher.publish(self._exchange, routing_key, first.sealed.body, self._properties(first.message_id))
        return self._take_first()

    def _take_first(self) -> Sealed:
        sealed = self._waiting.popleft().sealed
        self._bytes -= len(sealed.body)
        return sealed

    def _properties(self, message_id: str) -> pika.BasicProperties:
        return pika.BasicProperties(
            content_type=CONTENT_TYPE,
            delivery_mode=PERSISTENT,
            message_id=message_id,
            timestamp=int(time()),
            app_id=self._origin.agent,
            headers={"source": self._origin.source, "published_at_ns": time_ns()},
        )
