"""Confirmed publishing: `publish` returns when a quorum queue has the body; `send` keeps several in flight.

One connection, opened at the first publish and again after a loss. Not thread-safe: a publisher belongs to one thread.
A body without a confirm may have been stored, so a retry must keep its `message_id`.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf

import pika

from busmon.bus.connect.connection import user_id
from busmon.bus.connect.dialling import Addresses
from busmon.bus.publish.confirms import Confirms
from busmon.errors import BusError, PublishRefusedError

WINDOW = 32
"""The most publishes in flight. The fleet tracks 64 gaps in a source's sequence, so the window must be smaller."""

CONFIRM_SECONDS = 10.0
"""How long the broker may send nothing while a confirm is due; after that the node is lost or stalled."""

_USER_ID_REFUSED = "user_id property set to"

_logger = logging.getLogger("busmon")


class ConfirmedPublisher:
    """Mandatory publishes with confirms, each with the connection's user as its `user_id`.

    Args:
        amqp_url: the broker.
        name: the connection's name on the broker.
        signs: state the user in each publish; otherwise the caller's properties are unchanged.
        timeout_seconds: how long a confirm may take; a broker with a memory or disk alarm gives none.

    Attributes:
        user_id: the URL's user; None if the URL has none, or the broker knows the user by another name.
        meanwhile: called several times a second while a call waits for the broker; set it before the first call.
    """

    def __init__(
        self, amqp_url: str, name: str, timeout_seconds: float = CONFIRM_SECONDS, *, signs: bool = True
    ) -> None:
        self._addresses = Addresses(amqp_url, name)
        self._timeout_seconds = timeout_seconds
        self.user_id = user_id(amqp_url)
        self._signs = signs
        self.meanwhile: Callable[[], None] = lambda: None
        self._ends_at = inf
        self._confirms: Confirms | None = None

    def publish(self, exchange: str, routing_key: str, body: bytes, properties: pika.BasicProperties) -> None:
        """Publish a body and wait until a queue has stored it.

        Raises:
            PublishRefusedError: the broker returned it (no queue is bound) or nacked it (a queue is full).
            BrokerRefusedError: the exchange doesn't exist, or this user may not write to it.
            BrokerUnreachableError: no connection, or none that confirmed in time.
        """
        self.send(exchange, routing_key, body, properties, lambda: None)
        self.settle()

    def send(
        self, exchange: str, routing_key: str, body: bytes, properties: pika.BasicProperties, stored: Callable[[], None]
    ) -> None:
        """Publish a body; wait only while `WINDOW` publishes are in flight.

        Args:
            exchange: the exchange's name.
            routing_key: selects the bindings.
            body: the body.
            properties: with the `message_id`, which identifies a returned publish.
            stored: called in this thread, by this call or a later one, once a queue has the body.

        Raises:
            BusError: as `publish`, for this body or an earlier one. Nothing is in flight any more; the caller retries
                each body whose `stored` wasn't called, in order.
        """
        with self._open() as confirms:
            confirms.settle(WINDOW - 1)
            if self._signs:
                properties.user_id = self.user_id
            confirms.publish(exchange, routing_key, body, properties, stored)

    def settle(self) -> None:
        """Wait until nothing is in flight.

        Raises:
            BusError: as `send`.
        """
        if self._confirms is not None:
            with self._open() as confirms:
                confirms.settle()

    def idle(self, seconds: float) -> None:
        """Answer heartbeats for at most so many seconds; return at once if no connection is open.

        Raises:
            BrokerUnreachableError: the connection was lost; the next publish opens another.
        """
        if self._confirms is not None:
            with self._open() as confirms:
                confirms.turn(seconds)

    def end_waits_at(self, moment: float) -> None:
        """Let no call wait beyond a moment of the monotonic clock; for any thread."""
        self._ends_at = moment
        if (confirms := self._confirms) is not None:
            confirms.ends_at = moment

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._confirms is not None:
            self._confirms.close()
            self._confirms = None

    @contextmanager
    def _open(self) -> Iterator[Confirms]:
        """Yield the connection, and close it after its failure; a refused publish is no failure of the connection."""
        if self._confirms is None:
            self._confirms = Confirms(self._addresses, self._timeout_seconds, self.meanwhile)
            self._confirms.ends_at = self._ends_at
        try:
            yield self._confirms
        except PublishRefusedError:
            raise
        except BusError as error:
            if self.user_id is not None and _USER_ID_REFUSED in str(error):
                self.user_id = None
                _logger.warning("publishing goes on without a user_id, as the broker refuses the URL's user: %s", error)
            self.close()
            raise
