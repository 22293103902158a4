"""The fleet's consumer: deliveries of several queues, each to its listener, settled after the commit.

One `SelectConnection` has a channel for each queue; a second connection publishes. Both run on the caller's loop and
only on its thread. Envelopes that waited because the ring was missing are forwarded after the ring is rebuilt. Each end
of a connection, a channel or a consumer is counted in `reconnects`, logged and reported to the listeners; then the
consumer reconnects with jittered backoff. No exception of pika reaches the caller, and no exception of the caller is
lost in pika.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from time import monotonic

import structlog
from pika import BasicProperties
from pika.adapters.select_connection import IOLoop
from pika.connection import Connection

from busmon.bus.connect.callbacks import Gather, surfacing
from busmon.bus.connect.causes import Cause, Interruptions, LossCause
from busmon.bus.connect.connection import user_id
from busmon.bus.connect.dialling import Addresses
from busmon.bus.connect.link import CLOSE_SECONDS, Link
from busmon.bus.connect.repeats import Repeats
from busmon.bus.consume.depths import Depth, Depths
from busmon.bus.consume.forwarding import Forwarder
from busmon.bus.consume.listener import Listener
from busmon.bus.consume.queue_channel import QueueChannel
from busmon.bus.consume.ringing import RingBreaker
from busmon.bus.frames.delivery import Delivery
from busmon.bus.frames.reading import ReadingConnection
from busmon.bus.republish.outgoing import Outgoing
from busmon.bus.republish.properties import quarantine_properties
from busmon.bus.republish.relayed import Relays
from busmon.bus.topology.topology import Ring

WATCH_SECONDS = 1.0
CANCEL_SECONDS = 1.0
FLUSH_SECONDS = 1.0
# The time in which the broker hands single acks on to the queue (see `settling.py`).
HAND_ON_SECONDS = 0.25

_log = structlog.get_logger(__name__)


class Consumer:
    """Consumes from queues.

    Args:
        amqp_url: the broker.
        quarantine_exchange: where `quarantine` publishes.
        prefetch: how many deliveries of one queue may be unsettled.
        name: the connections' name on the broker.
        ioloop: pika's loop, run by the caller.
        ring: deleted when one of its queues is gone; None if nothing hashes.
        waiting: the queue of envelopes that found no ring: rebuild the ring and forward them; empty for no forwarding.
        relays: the users that may name the publisher of a body.
        exchange: publishers publish to it.
        peeling: take deliveries before pika decodes them, at a third of the cost.

    Raises:
        SettingsError: the URL isn't accepted.
    """

    def __init__(  # noqa: PLR0913 - constructed in one place, by keyword
        self,
        amqp_url: str,
        *,
        quarantine_exchange: str,
        prefetch: int,
        name: str,
        ioloop: IOLoop,
        ring: Ring | None = None,
        waiting: str = "",
        relays: Relays = frozenset(),
        exchange: str = "telemetry",
        peeling: bool = True,
    ) -> None:
        self._interruptions = Interruptions()
        self._ioloop = ioloop
        self._prefetch = prefetch
        self._peeling = peeling
        self._draining = self._was_open = False
        self._losses = self._failed_attempts = 0
        self._repeats = Repeats()
        self._watched_at = 0.0
        self._link = Link(
            Addresses(amqp_url, name), ioloop, opened=self._on_open, lost=self._on_lost, blocked=self._on_blocked
        )
        self._outgoing = Outgoing(
            Addresses(amqp_url, f"{name} publishing"),
            ioloop,
            self._interruptions,
            self._on_publishing_blocked,
            user_id=user_id(amqp_url),
        )
        self._quarantine = self._outgoing.outlet(quarantine_exchange, LossCause.QUARANTINE_REFUSED, lambda _: None)
        self._breaker = None if ring is None else RingBreaker(ring)
        self._depths = Depths()
        self._others = Depths()
        self._channels: dict[str, QueueChannel] = {}
        self._forwarder: Forwarder | None = None
        if ring is not None and waiting:
            self._forwarder = Forwarder(
                waiting,
                exchange=exchange,
                ring=ring,
                outgoing=self._outgoing,
                ioloop=ioloop,
                interruptions=self._interruptions,
                peeling=peeling,
                relays=relays,
            )

    def consume(self, queue: str, listener: Listener) -> None:
        """Consume from a queue, on a channel of its own, once the consumer is started."""
        self._channels[queue] = QueueChannel(
            queue=queue,
            prefetch=self._prefetch,
            listener=listener,
            ioloop=self._ioloop,
            interruptions=self._interruptions,
            voided=self._outgoing.forget,
            gone=partial(self._on_gone, queue),
            cancelled=partial(self._on_cancelled, queue),
            peeling=self._peeling,
        )

    @property
    def reconnects(self) -> Counter[str]:
        """Return how often a connection, a channel or a consumer was interrupted or an attempt failed, by cause."""
        return self._interruptions.counts

    @property
    def forwarded(self) -> int:
        """Return the number of forwarded envelopes, which were published while the ring was missing."""
        return self._forwarder.forwarded if self._forwarder else 0

    @property
    def obstacles(self) -> list[str]:
        """Return the obstacles on the way to the queues, a line each."""
        lines = (self._forwarder.maker.obstacle, self._forwarder.obstacle) if self._forwarder else ()
        return [line for line in lines if line]

    def start(self) -> None:
        """Connect and consume; everything after this call happens on the loop."""
        if self._forwarder is not None:
            self._channels[self._forwarder.queue] = self._forwarder.channel
        self._link.open()
        self._watched_at = monotonic()
        self._ioloop.call_later(WATCH_SECONDS, self._watch)

    def settle(self, queue: str, tags: Sequence[int]) -> None:
        """Acknowledge committed deliveries by one ack; deliveries above a held or open one wait shortly.

        Args:
            queue: the deliveries' origin.
            tags: the delivery tags, in order. Tags of a lost channel and of held deliveries are ignored.
        """
        settler = self._channels[queue].settler
        if settler is not None:
            settler.settle(tags)

    def quarantine(
        self, queue: str, delivery: Delivery, headers: Mapping[str, str], stored: Callable[[], None]
    ) -> None:
        """Publish a delivery to quarantine, and acknowledge the delivery after the publish's confirm.

        Until then the delivery is held: no `settle` acknowledges it. If its channel is lost meanwhile, the delivery is
        forgotten, since the broker redelivers it. Its properties stay but for the user, which is this consumer's and
        vouches for `headers`; these are merged into its headers.

        Args:
            queue: the delivery's origin.
            delivery: its body and routing key are published.
            headers: say why.
            stored: called at the confirm, unless the delivery has become void.
        """
        channel = self._channels[queue]
        if channel.hold(delivery.delivery_tag):

            def release() -> None:
                stored()
                channel.release(delivery.delivery_tag)

            self._quarantine.publish(queue, delivery, partial(self._explain, delivery, headers), release)

    def _explain(self, delivery: Delivery, headers: Mapping[str, str], frame_max: int) -> BasicProperties:
        return quarantine_properties(delivery.properties, headers, frame_max, self._outgoing.user_id)

    def renew(self, queue: str, detail: str) -> None:
        """Drop a queue's channel and consume on another one: the broker redelivers its deliveries, here or elsewhere.

        The consumer begins again behind the other consumers of the queue.
        """
        self._channels[queue].renew(Cause(LossCause.SHARD_LOST, detail))

    def suspend(self, queues: Iterable[str]) -> None:
        """Consume no more from these queues once their channels are lost, until `resume`.

        Deliveries that the listener has stay with the listener: a requeue would count as a failed delivery of each.
        """
        for queue in queues:
            self._channels[queue].suspend()

    def resume(self, queues: Iterable[str]) -> None:
        """Consume from these queues again."""
        for queue in queues:
            self._channels[queue].resume()

    def count_held(self, queue: str) -> int:
        """Count the deliveries that await their quarantine's confirm."""
        settler = self._channels[queue].settler
        return 0 if settler is None else settler.held

    def count_unsettled(self, queue: str) -> int:
        """Count the deliveries from the queue that are not committed, or await their quarantine's confirm."""
        return self._channels[queue].unsettled

    def measure_unserved_seconds(self, queue: str) -> float | None:
        """Return the seconds since the last delivery from the queue; None if the channel has had no delivery."""
        return self._channels[queue].unserved_seconds

    @property
    def losses(self) -> int:
        """Return how often the consuming connection was lost."""
        return self._losses

    def depth(self, queue: str, callback: Callable[[Depth], None]) -> None:
        """Call back with the queue's depth, which is unknown if the queue is missing or the connection is lost."""
        self._depths.ask(self._link.connection, queue, surfacing(self._ioloop, callback))

    def look_up(self, queue: str, callback: Callable[[Depth], None]) -> None:
        """Call back with the depth of another program's queue; no request for the fleet's queues is lost with it."""
        self._others.ask(self._link.connection, queue, surfacing(self._ioloop, callback))

    def cancel(self, on_done: Callable[[], None]) -> None:
        """Stop consuming permanently.

        After this call nothing is delivered: deliveries in flight are requeued when the channel is closed. Deliveries
        that the listener has may still be settled or quarantined.

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
        """Flush the acks and close both connections.

        Publishes in flight are awaited for at most `FLUSH_SECONDS`, but not if the broker refuses or doesn't read them.
        Deliveries that aren't settled by then are requeued.

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
        self._was_open, self._failed_attempts = True, 0
        self._repeats.end()
        if not self._draining:
            if self._breaker is not None:
                self._breaker.on_connected(connection)
            if self._forwarder is not None:
                self._forwarder.maker.on_connected(connection)
            for channel in self._channels.values():
                channel.on_connected(connection)

    def _on_lost(self, cause: Cause, wait: float | None) -> None:
        self._interruptions.count(cause.name)
        # An attempt that failed leaves no consumer behind on the broker.
        if self._was_open:
            self._was_open, self._losses = False, self._losses + 1
            _log.warning("consumer.connection_lost", cause=cause.name, detail=cause.detail, retry_in_seconds=wait)
        else:
            self._failed_attempts += 1
            if self._repeats.is_due(cause):
                told = {"attempt": self._failed_attempts, "cause": cause.name, "detail": cause.detail}
                _log.warning("consumer.attempt_failed", **told, retry_in_seconds=wait)
        if self._forwarder is not None:
            self._forwarder.maker.on_disconnected()
        for channel in self._channels.values():
            channel.on_disconnected(cause)

    def _on_blocked(self, reason: str) -> None:
        if reason:
            self._interruptions.count(LossCause.CONNECTION_BLOCKED)
            _log.warning("consumer.connection_blocked", reason=reason)
        else:
            _log.info("consumer.connection_unblocked")
        for channel in self._channels.values():
            channel.block(reason)

    def _watch(self) -> None:
        """Check once a second that the broker serves each channel, and reconnect if it does not."""
        if self._draining:
            return
        self._ioloop.call_later(WATCH_SECONDS, self._watch)
        if isinstance(connection := self._link.connection, ReadingConnection):
            connection.end_pause()  # an answer may have arrived in it
        now = monotonic()
        elapsed_seconds, self._watched_at = now - self._watched_at, now
        self._outgoing.watch(elapsed_seconds)
        silent = [channel.watch(elapsed_seconds) for channel in self._channels.values()]
        silent.append(self._depths.watch(elapsed_seconds))
        if cause := next(filter(None, silent), None):
            self._link.give_up(cause)

    def _on_cancelled(self, queue: str) -> None:
        """Check whether the queue exists after a cancel: RabbitMQ 4.3 also cancels after a consumer timeout."""
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
