"""The ring, made by one at a time and from scratch, for its meaning is the order of its bindings.

Any worker may delete it, when a shard's queue is gone. Only who gets what waits makes it: of all that consume from that
queue the broker lets one. And whoever makes it holds a lock, an exclusive queue of its connection, so that nobody else
declares the exchange meanwhile: if it is deleted in the middle, the next binding finds none, the broker closes the
channel, and it is begun anew. What is published while there is no ring waits. On the thread of the loop.
"""

from collections import Counter
from collections.abc import Callable
from time import monotonic

import structlog
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker

from busmon.bus.causes import Cause, of_channel
from busmon.bus.retry import Retry
from busmon.bus.topology import Ring

DOUBT_SECONDS = 2.0
"""A ring that was made less long ago is taken to stand."""

_log = structlog.get_logger(__name__)


class RingMaker:
    """Makes the ring whenever something says that it doesn't stand.

    Args:
        ring: what to make.
        ioloop: what the connection runs on.
        interruptions: counted up by cause at each failure.
        made: called each time it is made.

    Attributes:
        stands: whether it was made on the present connection, and isn't being made again.
        obstacle: why it couldn't be made, in a line; empty while nothing is wrong.
    """

    def __init__(self, ring: Ring, ioloop: IOLoop, interruptions: Counter[str], made: Callable[[], None]) -> None:
        self.stands = False
        self.obstacle = ""
        self._ring = ring
        self._interruptions = interruptions
        self._made = made
        self._retry = Retry(ioloop, self._make)
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._made_at = 0.0

    def connected(self, connection: Connection) -> None:
        """From now on make it on this connection."""
        self._connection = connection

    def disconnected(self) -> None:
        """The connection is gone, or couldn't be opened."""
        self._connection = self._channel = None
        self.stands = False
        self.obstacle = ""
        self._retry.cancel()

    def doubt(self) -> None:
        """Something waits, so the ring is missing, or was: make it, unless that was just done or is to come."""
        lately = self.stands and monotonic() - self._made_at < DOUBT_SECONDS
        if not lately and not self._retry.pending:
            self._make()

    def _make(self) -> None:
        if self._connection is not None and self._connection.is_open and self._channel is None:
            self.stands = False
            self._channel = self._connection.channel(on_open_callback=self._lay)
            self._channel.add_on_close_callback(self._on_close)

    def _lay(self, channel: Channel) -> None:
        """Send all at once: the broker obeys in order, and closes the channel at the first that it can't do."""
        exchange = self._ring.exchange
        arguments = dict(exchange.arguments)
        channel.queue_declare(self._ring.lock, exclusive=True)
        # Declared first, so that one of another kind is refused, and not deleted.
        channel.exchange_declare(exchange.name, exchange.type, durable=exchange.durable, arguments=arguments)
        channel.exchange_delete(exchange.name)
        channel.exchange_declare(exchange.name, exchange.type, durable=exchange.durable, arguments=arguments)
        for binding in self._ring.deals:
            channel.queue_bind(binding.destination, binding.source, binding.routing_key, dict(binding.arguments))
        entrance = self._ring.entrance
        channel.exchange_bind(
            entrance.destination,
            entrance.source,
            entrance.routing_key,
            dict(entrance.arguments),
            callback=lambda _: self._on_made(channel),
        )

    def _on_made(self, channel: Channel) -> None:
        channel.queue_delete(self._ring.lock)
        channel.close()
        self.stands = True
        self.obstacle = ""
        self._made_at = monotonic()
        self._retry.worked()
        _log.info("ringing.made", exchange=self._ring.exchange.name)
        self._made()

    def _on_close(self, channel: Channel, reason: Exception) -> None:
        if channel is not self._channel:
            return
        self._channel = None
        if isinstance(reason, ChannelClosedByBroker):
            self._fail(of_channel(reason, missing="ring_incomplete"))

    def _fail(self, cause: Cause) -> None:
        self._interruptions[cause.name] += 1
        self._retry.failed()
        obstacle = f"can't make the ring {self._ring.exchange.name!r}, without which envelopes wait: {cause}"
        if obstacle != self.obstacle:
            self.obstacle = obstacle
            advice = "`busmon topology declare` as an operator declares what is missing and gives the fleet its rights"
            exchange = self._ring.exchange.name
            _log.warning("ringing.failed", exchange=exchange, cause=cause.name, detail=cause.detail, next=advice)


class RingBreaker:
    """Deletes the ring when one of its queues is gone, for without it the ring deals sources otherwise.

    A deletion that the connection's end cut short is made up for on the next.
    """

    def __init__(self, ring: Ring) -> None:
        self._exchange = ring.exchange.name
        self._queues = {binding.destination for binding in ring.deals}
        self._broken = False
        self._connection: Connection | None = None

    def connected(self, connection: Connection) -> None:
        """From now on delete it on this connection."""
        self._connection = connection
        if self._broken:
            self._delete()

    def lose(self, queue: str) -> None:
        """This queue is gone."""
        if queue in self._queues:
            self._broken = True
            self._delete()

    def _delete(self) -> None:
        if self._connection is not None and self._connection.is_open:
            self._connection.channel(on_open_callback=self._send)

    def _send(self, channel: Channel) -> None:
        channel.exchange_delete(self._exchange, callback=lambda _: self._on_deleted(channel))

    def _on_deleted(self, channel: Channel) -> None:
        self._broken = False
        _log.info("ringing.deleted", exchange=self._exchange)
        channel.close()
