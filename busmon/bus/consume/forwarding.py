"""The forwarding of envelopes that were published while the ring was missing: from their queue, unchanged.

Envelopes are published to the gate, so no envelope meets half a ring: an envelope that finds no ring is stored in the
waiting queue again. Each delivery is acknowledged when the broker has stored its copy. The shard's ledger drops
duplicates. On the thread of the loop.
"""

from collections.abc import Sequence
from functools import partial

from pika import BasicProperties
from pika.adapters.select_connection import IOLoop

from busmon.bus.connect.causes import Cause, Interruptions, LossCause
from busmon.bus.consume.queue_channel import QueueChannel
from busmon.bus.consume.ringing import RingMaker
from busmon.bus.frames.delivery import Delivery
from busmon.bus.republish.outgoing import Outgoing
from busmon.bus.republish.properties import make_relayed_properties
from busmon.bus.republish.relayed import Relays, read_first_publish, state_first_publish
from busmon.bus.topology.topology import Ring
from busmon.status import ConsumerState

PREFETCH = 200
"""The most bodies in memory; of a worker's other deliveries only the tags are kept."""

_HARMLESS = frozenset({ConsumerState.CONSUMING, ConsumerState.DRAINING, ConsumerState.SUSPENDED})
"""A suspended forwarder leaves the queue to another host."""


class Forwarder:
    """The listener of the queue in which envelopes wait for the ring.

    Args:
        queue: the queue.
        exchange: publishers publish to it.
        ring: rebuilt whenever an envelope waits.
        outgoing: the connection that publishes.
        ioloop: runs the connections.
        interruptions: counted up by cause.
        peeling: as for the consumer.
        relays: the users that may name the publisher of a body.

    Attributes:
        queue: the queue.
        channel: consumes from the queue.
        maker: of the ring.
        forwarded: the number of forwarded envelopes.
    """

    def __init__(  # noqa: PLR0913 - constructed in one place, by keyword
        self,
        queue: str,
        *,
        exchange: str,
        ring: Ring,
        outgoing: Outgoing,
        ioloop: IOLoop,
        interruptions: Interruptions,
        peeling: bool,
        relays: Relays = frozenset(),
    ) -> None:
        self.forwarded = 0
        self.queue = queue
        self._relays = relays
        self._exchange = exchange
        self._gates = {ring.entrance.source: exchange}
        self._outgoing = outgoing
        self._outlet = outgoing.outlet(ring.entrance.source, LossCause.FORWARD_REFUSED, self._on_refused)
        self._early: list[Delivery] = []
        self._trouble = ""
        self.maker = RingMaker(ring, ioloop, interruptions, self._send_on)
        self.channel = QueueChannel(
            queue=queue,
            prefetch=PREFETCH,
            listener=self,
            ioloop=ioloop,
            interruptions=interruptions,
            voided=outgoing.forget,
            gone=lambda: None,
            cancelled=lambda: None,
            peeling=peeling,
        )

    @property
    def obstacle(self) -> str:
        """Return the reason for which nothing is forwarded, in a line; empty while nothing is wrong."""
        trouble = self._trouble or self._outlet.obstacle
        return f"what waits in {self.queue!r} isn't forwarded: {trouble}" if trouble else ""

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Hold the deliveries until the broker stores their copies; a delivery means that the ring was missing."""
        self._early.extend(delivery for delivery in deliveries if self.channel.hold(delivery.delivery_tag))
        self.maker.doubt()
        if self.maker.stands:
            self._send_on()

    def void(self) -> None:
        """Forget the held deliveries: the broker redelivers them."""
        self._early.clear()

    def change(self, state: str, cause: str) -> None:
        """Note the state of the queue and its cause."""
        self._trouble = "" if state in _HARMLESS else cause

    def _send_on(self) -> None:
        early, self._early = self._early, []
        for delivery in early:
            stored = partial(self._on_stored, delivery.delivery_tag)
            self._outlet.publish(self.queue, delivery, partial(self._properties, delivery), stored)

    def _properties(self, delivery: Delivery, frame_max: int) -> BasicProperties:
        origin = state_first_publish(read_first_publish(delivery, self._relays, self._gates), self._exchange)
        return make_relayed_properties(delivery.properties, origin, self._outgoing.user_id, frame_max)

    def _on_refused(self, _cause: Cause) -> None:
        self.maker.doubt()

    def _on_stored(self, tag: int) -> None:
        self.forwarded += 1
        self.channel.release(tag)
