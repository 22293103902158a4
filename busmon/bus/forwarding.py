"""What was published while the ring was missing, on its way to the shards: from the queue where it waits, unchanged.

It goes through the gate, as all else does, so none meets half a ring: what finds none is stored where it was again.
Each delivery is acknowledged when the broker has stored it, and comes again until then; the shard's ledger knows one
that comes twice. On the thread of the loop.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial

from pika import BasicProperties
from pika.adapters.select_connection import IOLoop

from busmon.bus.causes import Cause
from busmon.bus.delivery import Delivery
from busmon.bus.outgoing import Outgoing
from busmon.bus.outgoing_properties import forwarded_properties
from busmon.bus.queue_channel import QueueChannel
from busmon.bus.relayed import Relays, publisher
from busmon.bus.ringing import RingMaker
from busmon.bus.topology import Ring

PREFETCH = 200
"""So many bodies are in memory at most; of a worker's other deliveries only the tags are."""


class Forwarder:
    """The listener of the queue where envelopes wait.

    Args:
        queue: the queue.
        ring: made whenever something waits.
        outgoing: what to publish on.
        ioloop: what the connections run on.
        interruptions: counted up by cause.
        peeling: as of the consumer.
        user_id: the user of the outgoing connection; None if it isn't known.
        relays: the users that may say who published a body.

    Attributes:
        channel: consumes from the queue.
        maker: of the ring.
        forwarded: how many envelopes were sent on.
    """

    def __init__(  # noqa: PLR0913 - constructed in one place, by keyword
        self,
        queue: str,
        *,
        ring: Ring,
        outgoing: Outgoing,
        ioloop: IOLoop,
        interruptions: Counter[str],
        peeling: bool,
        user_id: str | None = None,
        relays: Relays = frozenset(),
    ) -> None:
        self.forwarded = 0
        self._queue = queue
        self._user_id = user_id
        self._relays = relays
        self._outlet = outgoing.outlet(ring.entrance.source, "forward_refused", self._on_refused)
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
        """Why what waits isn't forwarded, in a line; empty while nothing is wrong."""
        trouble = self._trouble or self._outlet.obstacle
        return f"what waits in {self._queue!r} isn't forwarded: {trouble}" if trouble else ""

    def delivered(self, queue: str, deliveries: Sequence[Delivery]) -> None:  # noqa: ARG002 - the listener's contract
        """Hold the deliveries until they are stored elsewhere; that any came says that the ring was missing."""
        self._early.extend(delivery for delivery in deliveries if self.channel.hold(delivery.delivery_tag))
        self.maker.doubt()
        if self.maker.stands:
            self._send_on()

    def lost(self, queue: str, cause: str) -> None:  # noqa: ARG002 - the listener's contract
        """What was held comes again."""
        self._early.clear()

    def changed(self, queue: str, state: str, cause: str) -> None:  # noqa: ARG002 - the listener's contract
        """Note what is wrong with the queue."""
        self._trouble = "" if state in {"consuming", "draining"} else cause

    def _send_on(self) -> None:
        early, self._early = self._early, []
        for delivery in early:
            stored = partial(self._on_stored, delivery.delivery_tag)
            self._outlet.publish(self._queue, delivery, partial(self._properties, delivery), stored)

    def _properties(self, delivery: Delivery, frame_max: int) -> BasicProperties:
        by = publisher(delivery, self._relays)
        return forwarded_properties(delivery.properties, frame_max, by, self._user_id)

    def _on_refused(self, cause: Cause) -> None:
        if "user_id" in cause.detail:  # the broker knows this user by another name than the URL
            self._user_id = None
        self.maker.doubt()

    def _on_stored(self, tag: int) -> None:
        self.forwarded += 1
        self.channel.release(tag)
