"""The ring, made on each connection: it is gone after a restart of the broker, and its meaning is its bindings' order.

Several workers may make it at once: each binds a shard's queue only after the one before it, so the order is always the
same. While it can't be made nothing enters it: what is published waits, and it is tried again. On the loop's thread.
"""

from collections import Counter
from time import monotonic

import structlog
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker

from busmon.bus.causes import Cause, of_channel
from busmon.bus.retry import Retry
from busmon.bus.topology import Ring

DOUBT_SECONDS = 5.0
"""A ring that was made less long ago is taken to stand."""

_INCOMPLETE = "ring_incomplete"

_log = structlog.get_logger(__name__)


class RingKeeper:
    """Makes the ring, and makes it again.

    Args:
        ring: what to make.
        ioloop: what the connection runs on.
        interruptions: counted up by cause at each failure.

    Attributes:
        obstacle: why the ring couldn't be made, in a line; empty while nothing is wrong.
    """

    def __init__(self, ring: Ring, ioloop: IOLoop, interruptions: Counter[str]) -> None:
        self.obstacle = ""
        self._ring = ring
        self._interruptions = interruptions
        self._retry = Retry(ioloop, self._make)
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._made_at = 0.0
        self._broken = False
        self._known_broken = False

    @property
    def exchange(self) -> str:
        """Where to publish what is to be dealt."""
        return self._ring.exchange.name

    def connected(self, connection: Connection) -> None:
        """Make the ring on a new connection."""
        self._connection = connection
        self._make()

    def disconnected(self) -> None:
        """The connection is gone, or couldn't be opened."""
        self._connection = self._channel = None
        self.obstacle = ""
        self._retry.cancel()

    def doubt(self) -> None:
        """Something says that the ring doesn't stand: make it, unless that was just done or is to come."""
        if monotonic() - self._made_at > DOUBT_SECONDS and not self._retry.pending:
            self._make()

    def lose(self, queue: str) -> None:
        """A queue is gone: without one of its queues the ring deals sources otherwise, so delete it, and make it anew.

        That can't succeed before the queue is there again.
        """
        if any(binding.destination == queue for binding in self._ring.bindings):
            self._broken = True
            self._make()

    def _make(self) -> None:
        if self._connection is not None and self._connection.is_open and self._channel is None:
            self._channel = self._connection.channel(on_open_callback=self._lay)
            self._channel.add_on_close_callback(self._on_close)

    def _lay(self, channel: Channel) -> None:
        """Send all at once: the broker obeys in order, and closes the channel at the first that it can't do."""
        exchange = self._ring.exchange
        if self._broken:
            channel.exchange_delete(exchange.name)
            self._broken, self._known_broken = False, True
        arguments = dict(exchange.arguments)
        channel.exchange_declare(exchange.name, exchange.type, durable=exchange.durable, arguments=arguments)
        *queues, entrance = self._ring.bindings
        for binding in queues:
            channel.queue_bind(binding.destination, binding.source, binding.routing_key, dict(binding.arguments))
        channel.exchange_bind(
            entrance.destination,
            entrance.source,
            entrance.routing_key,
            dict(entrance.arguments),
            callback=lambda _: self._on_made(channel),
        )

    def _on_made(self, channel: Channel) -> None:
        self._made_at = monotonic()
        self._known_broken = False
        self._retry.cancel()
        self._retry.worked()
        self.obstacle = ""
        _log.info("ringing.made", exchange=self.exchange)
        channel.close()

    def _on_close(self, channel: Channel, reason: Exception) -> None:
        if channel is not self._channel:
            return
        self._channel = None
        if isinstance(reason, ChannelClosedByBroker):
            self._fail(of_channel(reason, missing=_INCOMPLETE))
        elif self._broken:
            self._make()

    def _fail(self, cause: Cause) -> None:
        # A queue that is missing may have been in the ring before, and others have moved up since.
        self._broken = cause.name == _INCOMPLETE and not self._known_broken
        self._interruptions[cause.name] += 1
        self._retry.failed()
        obstacle = f"can't make the ring {self.exchange!r}, without which envelopes wait: {cause}"
        if obstacle != self.obstacle:
            self.obstacle = obstacle
            advice = "`busmon topology declare` as an operator declares what is missing and gives the fleet its rights"
            _log.warning("ringing.failed", exchange=self.exchange, cause=cause.name, detail=cause.detail, next=advice)
