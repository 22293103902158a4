"""The ring, rebuilt by one worker at a time, since the hashing depends on the order of the bindings.

Any worker may delete the ring, when a shard's queue is missing. Only the consumer of the waiting queue rebuilds the
ring: the broker serves one such consumer. The rebuilding worker holds a lock, an exclusive queue of its connection, so
that no other worker declares the exchange meanwhile. If the exchange is deleted during a rebuild, the next binding
fails, the broker closes the channel, and the rebuild starts again. Envelopes wait while the ring is missing. On the
thread of the loop.
"""

from collections.abc import Callable
from functools import partial
from time import monotonic

import structlog
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker

from busmon.bus.connect.causes import Cause, Interruptions, LossCause, of_channel
from busmon.bus.connect.retry import Retry
from busmon.bus.topology.topology import Exchange, Ring

DOUBT_SECONDS = 2.0
"""A ring that was rebuilt more recently is assumed to be complete."""

_log = structlog.get_logger(__name__)


def _declare(channel: Channel, exchange: Exchange) -> None:
    """Send the declaration of an exchange."""
    arguments = dict(exchange.arguments)
    channel.exchange_declare(exchange.name, exchange.type, durable=exchange.durable, arguments=arguments)


class RingMaker:
    """The rebuilding of the ring, whenever an envelope shows that the ring is missing.

    Args:
        ring: the exchange and its bindings.
        ioloop: runs the connection.
        interruptions: counted up by cause at each failure.
        made: called after each rebuild.

    Attributes:
        stands: the ring was rebuilt on the present connection, and no rebuild is running.
        obstacle: the reason of a failed rebuild, in a line; empty while there is none.
    """

    def __init__(self, ring: Ring, ioloop: IOLoop, interruptions: Interruptions, made: Callable[[], None]) -> None:
        self.stands = False
        self.obstacle = ""
        self._ring = ring
        self._interruptions = interruptions
        self._made = made
        self._retry = Retry(ioloop, self._make)
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._made_at = 0.0

    def on_connected(self, connection: Connection) -> None:
        """Use this connection for rebuilds from now on."""
        self._connection = connection

    def on_disconnected(self) -> None:
        """Note that the connection is lost, or couldn't be opened."""
        self._connection = self._channel = None
        self.stands = False
        self.obstacle = ""
        self._retry.cancel()

    def doubt(self) -> None:
        """Rebuild the ring, since an envelope waits; do nothing if a rebuild is recent or planned."""
        lately = self.stands and monotonic() - self._made_at < DOUBT_SECONDS
        if not lately and not self._retry.is_pending:
            self._make()

    def _make(self) -> None:
        if self._connection is not None and self._connection.is_open and self._channel is None:
            self.stands = False
            self._channel = self._connection.channel(on_open_callback=self._lay)
            self._channel.add_on_close_callback(self._on_close)

    def _lay(self, channel: Channel) -> None:
        """Send all declarations at once: the broker runs them in order, and closes the channel at the first failure."""
        exchange = self._ring.exchange
        channel.queue_declare(self._ring.lock, exclusive=True)
        # Declared before the deletion, so that an exchange of another type is refused instead of deleted.
        _declare(channel, exchange)
        channel.exchange_delete(exchange.name)
        _declare(channel, exchange)
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
        self._retry.note_success()
        _log.info("ringing.made", exchange=self._ring.exchange.name)
        self._made()

    def _on_close(self, channel: Channel, reason: Exception) -> None:
        if channel is not self._channel:
            return
        self._channel = None
        if isinstance(reason, ChannelClosedByBroker):
            self._fail(of_channel(reason, missing=LossCause.RING_INCOMPLETE))

    def _fail(self, cause: Cause) -> None:
        self._interruptions.count(cause.name)
        self._retry.note_failure()
        obstacle = f"can't make the ring {self._ring.exchange.name!r}, without which envelopes wait: {cause}"
        if obstacle != self.obstacle:
            self.obstacle = obstacle
            advice = "`busmon topology declare` as an operator declares what is missing and gives the fleet its rights"
            exchange = self._ring.exchange.name
            _log.warning("ringing.failed", exchange=exchange, cause=cause.name, detail=cause.detail, next=advice)


class RingBreaker:
    """The deletion of the ring when one of its queues is missing, since the ring would then deal sources differently.

    A deletion that a loss of the connection interrupts is repeated on the next connection.
    """

    def __init__(self, ring: Ring) -> None:
        self._exchange = ring.exchange
        self._queues = {binding.destination for binding in ring.deals}
        self._losses = self._answered = 0
        self._connection: Connection | None = None

    @property
    def is_broken(self) -> bool:
        """Return whether no deletion since the last loss of a queue is confirmed."""
        return self._answered < self._losses

    def on_connected(self, connection: Connection) -> None:
        """Use this connection for deletions from now on."""
        self._connection = connection
        if self.is_broken:
            self._delete()

    def lose(self, queue: str) -> None:
        """Note that this queue is missing."""
        if queue in self._queues:
            self._losses += 1
            self._delete()

    def _delete(self) -> None:
        if self._connection is not None and self._connection.is_open:
            self._connection.channel(on_open_callback=partial(self._send, self._losses))

    def _send(self, losses: int, channel: Channel) -> None:
        # A race of declaration and deletion can leave a remnant of the exchange in RabbitMQ 4.3.6. Each deletion of the
        # remnant fails in the broker, which closes the connection. A declaration makes an exchange of the remnant.
        _declare(channel, self._exchange)
        channel.exchange_delete(self._exchange.name, callback=lambda _: self._on_deleted(losses, channel))

    def _on_deleted(self, losses: int, channel: Channel) -> None:
        self._answered = losses
        _log.info("ringing.deleted", exchange=self._exchange.name)
        channel.close()
