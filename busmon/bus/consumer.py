"""The fleet's consumer: deliveries of several queues to one listener, settled after the commit, whatever happens.

One `SelectConnection` with a channel for each queue, a second connection for what is published, both on the caller's
loop and only on its thread. What waits as it found no way to a shard's queue is sent on, the way made first. What
ends a connection, a channel or a consumer is counted in `reconnects`, logged and told to the listener, and what can be
opened again is, with jittered back-off. No exception of pika's reaches the caller, and none of the caller's is lost in
pika.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from time import monotonic

import structlog
from pika.adapters.select_connection import IOLoop
from pika.connection import Connection

from busmon.bus.causes import Cause
from busmon.bus.connection import parameters, user_id
from busmon.bus.delivery import Delivery, Listener
from busmon.bus.depths import Depth, Depths
from busmon.bus.forwarding import Forwarder
from busmon.bus.gather import Gather
from busmon.bus.link import CLOSE_SECONDS, Link
from busmon.bus.outgoing import Outgoing
from busmon.bus.outgoing_properties import quarantine_properties
from busmon.bus.queue_channel import QueueChannel
from busmon.bus.relayed import Relays
from busmon.bus.ringing import RingBreaker
from busmon.bus.surfacing import surfacing
from busmon.bus.topology import Ring

__all__ = ["Consumer", "Delivery", "Listener"]

WATCH_SECONDS = 1.0
CANCEL_SECONDS = 1.0
FLUSH_SECONDS = 1.0
# What the broker needs to hand single acks on to the queue (see `settling`).
HAND_ON_SECONDS = 0.25

_log = structlog.get_logger(__name__)


class Consumer:
    """Consumes from queues.

    Args:
        amqp_url: the broker.
        queues: one channel each.
        quarantine_exchange: where `quarantine` publishes.
        prefetch: how many deliveries of one queue may be unsettled.
        name: what the connections are called on the broker.
        listener: gets the deliveries.
        ioloop: pika's loop, run by the caller.
        ring: deleted when one of its queues is gone; None if nothing hashes.
        waiting: the queue of what found no ring: make the ring and send on; empty if that is another worker's to do.
        relays: the users that may say who published a body.
        peeling: take deliveries before pika decodes them, at a third of the cost.

    Attributes:
        reconnects: how often a connection, a channel or a consumer was interrupted or an attempt failed, by cause.

    Raises:
        SettingsError: the URL isn't accepted.
    """

    def __init__(  # noqa: PLR0913 - constructed in one place, by keyword
        self,
        amqp_url: str,
        *,
        queues: Sequence[str],
        quarantine_exchange: str,
        prefetch: int,
        name: str,
        listener: Listener,
        ioloop: IOLoop,
        ring: Ring | None = None,
        waiting: str = "",
        relays: Relays = frozenset(),
        peeling: bool = True,
    ) -> None:
        self.reconnects: Counter[str] = Counter()
        self._ioloop = ioloop
        self._draining = False
        self._watched_at = 0.0
        self._link = Link(
            parameters(amqp_url, name), ioloop, opened=self._on_open, lost=self._on_lost, blocked=self._on_blocked
        )
        self._outgoing = Outgoing(
            parameters(amqp_url, f"{name} publishing"), ioloop, self.reconnects, self._on_publishing_blocked
        )
        self._quarantine = self._outgoing.outlet(quarantine_exchange, "quarantine_refused", lambda _: None)
        self._breaker = None if ring is None else RingBreaker(ring)
        self._depths = Depths()
        self._channels = {queue: self._channel(queue, prefetch, listener, peeling=peeling) for queue in queues}
        self._forwarder: Forwarder | None = None
        if ring is not None and waiting:
            self._forwarder = Forwarder(
                waiting,
                ring=ring,
                outgoing=self._outgoing,
                ioloop=ioloop,
                interruptions=self.reconnects,
                peeling=peeling,
                user_id=user_id(amqp_url),
                relays=relays,
            )
            self._channels[waiting] = self._forwarder.channel

    def _channel(self, queue: str, prefetch: int, listener: Listener, *, peeling: bool) -> QueueChannel:
        return QueueChannel(
            queue=queue,
            prefetch=prefetch,
            listener=listener,
            ioloop=self._ioloop,
            interruptions=self.reconnects,
            voided=self._outgoing.forget,
            gone=partial(self._on_gone, queue),
            cancelled=partial(self._on_cancelled, queue),
            peeling=peeling,
        )

    @property
    def forwarded(self) -> int:
        """How many envelopes were sent on, as they had been published while the ring was missing."""
        return self._forwarder.forwarded if self._forwarder else 0

    @property
    def obstacles(self) -> list[str]:
        """What is wrong on the way to the queues, a line each."""
        lines = (self._forwarder.maker.obstacle, self._forwarder.obstacle) if self._forwarder else ()
        return [line for line in lines if line]

    def start(self) -> None:
        """Connect and consume; all that follows happens on the loop."""
        self._link.open()
        self._watched_at = monotonic()
        self._ioloop.call_later(WATCH_SECONDS, self._watch)

    def settle(self, queue: str, tags: Sequence[int]) -> None:
        """Acknowledge committed deliveries: by one ack, those above a held or open one with a short delay.

        Args:
            queue: where they came from.
            tags: their delivery tags, in order. Tags of a lost channel are passed over, as are held deliveries'.
        """
        settler = self._channels[queue].settler
        if settler is not None:
            settler.settle(tags)

    def quarantine(self, queue: str, delivery: Delivery, headers: Mapping[str, str]) -> None:
        """Publish a delivery to quarantine, and acknowledge it once the broker has confirmed that.

        Until then it is held: no `settle` acknowledges it. If its channel is lost meanwhile, it is forgotten, as it
        will come again. Its properties are kept; `headers` are merged into its own.
        """
        channel = self._channels[queue]
        if channel.hold(delivery.delivery_tag):
            confirmed = partial(channel.release, delivery.delivery_tag)
            properties = partial(quarantine_properties, delivery.properties, headers)
            self._quarantine.publish(queue, delivery, properties, confirmed)

    def suspend(self, queues: Iterable[str]) -> None:
        """Consume no more from these queues once their channels are lost, until `resume`.

        What is delivered stays the listener's: giving it back would count as a failed delivery of each.
        """
        for queue in queues:
            self._channels[queue].suspend()

    def resume(self, queues: Iterable[str]) -> None:
        """Consume from these queues again."""
        for queue in queues:
            self._channels[queue].resume()

    def held(self, queue: str) -> int:
        """How many deliveries await their quarantine's confirm."""
        settler = self._channels[queue].settler
        return 0 if settler is None else settler.held

    def unsettled(self, queue: str) -> int:
        """Count the deliveries from the queue that are not committed, or await their quarantine's confirm."""
        return self._channels[queue].unsettled

    def is_served(self, queue: str) -> bool:
        """Tell if the broker has delivered from the queue since it is consumed from."""
        return self._channels[queue].is_served

    def depth(self, queue: str, callback: Callable[[Depth], None]) -> None:
        """Call back with the queue's depth, unknown if it's missing or can't be asked now."""
        self._depths.ask(self._link.connection, queue, surfacing(self._ioloop, callback))

    def cancel(self, on_done: Callable[[], None]) -> None:
        """Stop consuming, for good.

        From this call on nothing is delivered: what was already under way comes again once the channel is closed. What
        the listener has may still be settled or quarantined.

        Args:
            on_done: called once the broker has agreed for every queue, at once if not connected, and after
                `CANCEL_SECONDS` in any case.
        """
        self._draining = True
        self._link.retire()
        agreed = Gather(self._ioloop, len(self._channels), CANCEL_SECONDS, surfacing(self._ioloop, on_done))
        for channel in self._channels.values():
            channel.cancel(agreed.part)

    def close(self, on_done: Callable[[], None]) -> None:
        """Close both connections, the acks flushed.

        Publishes under way are waited for, `FLUSH_SECONDS` at most, and not if the broker refuses or doesn't read
        them. What isn't settled by then comes again.

        Args:
            on_done: called once both connections are closed, by force if the broker doesn't answer in time.
        """
        self._draining = True
        self._link.retire()
        flushed = Gather(self._ioloop, 1, FLUSH_SECONDS, partial(self._flush_acks, on_done))
        self._outgoing.flush(flushed.part)

    def _flush_acks(self, on_done: Callable[[], None]) -> None:
        settlers = [channel.settler for channel in self._channels.values() if channel.settler is not None]
        for settler in settlers:
            settler.flush()
        last_single = max((settler.last_single for settler in settlers), default=-math.inf)
        wait = last_single + HAND_ON_SECONDS - monotonic()
        if wait > 0:
            self._ioloop.call_later(wait, partial(self._close_links, on_done))
        else:
            self._close_links(on_done)

    def _close_links(self, on_done: Callable[[], None]) -> None:
        closed = Gather(self._ioloop, 2, 2 * CLOSE_SECONDS, surfacing(self._ioloop, on_done))
        self._outgoing.close(closed.part)
        self._link.close(closed.part)

    def _on_open(self, connection: Connection) -> None:
        _log.info("consumer.connected")
        if not self._draining:
            if self._breaker is not None:
                self._breaker.connected(connection)
            if self._forwarder is not None:
                self._forwarder.maker.connected(connection)
            for channel in self._channels.values():
                channel.connected(connection)

    def _on_lost(self, cause: Cause, wait: float | None) -> None:
        self.reconnects[cause.name] += 1
        _log.warning("consumer.connection_lost", cause=cause.name, detail=cause.detail, retry_in_seconds=wait)
        if self._forwarder is not None:
            self._forwarder.maker.disconnected()
        for channel in self._channels.values():
            channel.disconnected(cause)

    def _on_blocked(self, reason: str) -> None:
        if reason:
            self.reconnects["connection_blocked"] += 1
            _log.warning("consumer.connection_blocked", reason=reason)
        else:
            _log.info("consumer.connection_unblocked")
        for channel in self._channels.values():
            channel.block(reason)

    def _watch(self) -> None:
        """Look once a second if the broker still serves each channel, and open another connection if it does not."""
        if self._draining:
            return
        self._ioloop.call_later(WATCH_SECONDS, self._watch)
        now = monotonic()
        elapsed_seconds, self._watched_at = now - self._watched_at, now
        self._outgoing.watch(elapsed_seconds)
        silent = [channel.watch(elapsed_seconds) for channel in self._channels.values()]
        silent.append(self._depths.watch(elapsed_seconds))
        if cause := next(filter(None, silent), None):
            self._link.give_up(cause)

    def _on_cancelled(self, queue: str) -> None:
        """Ask what the broker cancelled the consumer for: RabbitMQ 4.3 ends a consumer timeout so, too."""
        self._depths.ask(self._link.connection, queue, surfacing(self._ioloop, partial(self._on_looked_up, queue)))

    def _on_looked_up(self, queue: str, depth: Depth) -> None:
        if depth.is_missing:
            self._on_gone(queue)

    def _on_gone(self, queue: str) -> None:
        if self._breaker is not None:
            self._breaker.lose(queue)

    def _on_publishing_blocked(self, reason: str) -> None:
        for channel in self._channels.values():
            channel.block_publishing(reason)
