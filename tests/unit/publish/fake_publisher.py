"""A publisher that stores what it is given, or fails as it is told."""

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson
import pika

from busmon.errors import BusError


class Stored(NamedTuple):
    exchange: str
    routing_key: str
    body: Any
    properties: pika.BasicProperties


class FakePublisher:
    """A replacement for a ConfirmedPublisher, where a broker would add nothing but time."""

    def __init__(self) -> None:
        self.stored: list[Stored] = []
        self.attempts: list[str] = []
        self.failure: BusError | None = None
        self.fails_after: int | None = None

    def send(
        self, exchange: str, routing_key: str, body: bytes, properties: pika.BasicProperties, stored: Callable[[], None]
    ) -> None:
        self.attempts.append(properties.message_id)
        if self.fails_after is not None and len(self.stored) >= self.fails_after:
            self.fails_after, self.failure = None, BusError("gone")
        if self.failure:
            raise self.failure
        self.stored.append(Stored(exchange, routing_key, orjson.loads(body), properties))
        stored()

    def settle(self) -> None:
        pass

    def end_waits_at(self, moment: float) -> None:
        pass

    def idle(self, seconds: float) -> None:
        del seconds

    def close(self) -> None:
        pass
