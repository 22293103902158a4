"""What was published while the ring was missing, on its way into the ring: from the queue where it waits, unchanged.

Each delivery is acknowledged when the broker has stored it in its shard's queue, and comes again until then; the
shard's ledger knows one that comes twice. On the thread of the loop.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial

from pika.adapters.select_connection import IOLoop

from busmon.bus.causes import Cause
from busmon.bus.delivery import Delivery
from busmon.bus.outgoing import Outgoing
from busmon.bus.outgoing_properties import forwarded_properties
from busmon.bus.queue_channel import QueueChannel
from busmon.bus.ringing import RingKeeper

PREFETCH = 200
"""So many bodies are in memory at most; of a worker's other deliveries only the tags are."""


class Forwarder:
    """The listener of the queue where envelopes wait.

    Args:
        queue: the queue.
        keeper: of the ring; told when what happens here says that it is missing.
        outgoing: what to publish on.
        ioloop: what the connections run on.
        interruptions: counted up by cause.
        peeling: as of the consumer.

    Attributes:
        channel: consumes from the queue.
        forwarded: how many envelopes the ring has taken.
    """

    def __init__(  # noqa: PLR0913 - constructed in one place, by keyword
        self,
        queue: str,
        *,
        keeper: RingKeeper,
        outgoing: Outgoing,
        ioloop: IOLoop,
        interruptions: Counter[str],
        peeling: bool,
    ) -> None:
        self.forwarded = 0
        self._queue = queue
        self._keeper = keeper
        self._outlet = outgoing.outlet(keeper.exchange, "forward_refused", self._on_refused)
        self._refusal = self._trouble = ""
        self.channel = QueueChannel(
            queue=queue,
            prefetch=PREFETCH,
            listener=self,
            ioloop=ioloop,
            interruptions=interruptions,
            voided=outgoing.forget,
            cancelled=lambda: None,
            peeling=peeling,
        )

    @property
    def obstacle(self) -> str:
        """Why what waits isn't forwarded, in a line; empty while nothing is wrong."""
        trouble = self._trouble or self._refusal
        return f"what waits in {self._queue!r} isn't forwarded: {trouble}" if trouble else ""

    def delivered(self, queue: str, deliveries: Sequence[Delivery]) -> None:
        """Hold the deliveries and publish them; that any came says that the ring was missing a moment ago."""
        self._keeper.doubt()
        for delivery in deliveries:
            if self.channel.hold(delivery.delivery_tag):
                stored = partial(self._on_stored, delivery.delivery_tag)
                self._outlet.publish(queue, delivery, partial(forwarded_properties, delivery.properties), stored)

    def lost(self, queue: str, cause: str) -> None:
        """What was held comes again."""

    def changed(self, queue: str, state: str, cause: str) -> None:  # noqa: ARG002 - the listener's contract
        """Note what is wrong with the queue."""
        self._trouble = "" if state in {"consuming", "draining"} else cause
        self._refusal = ""

    def _on_stored(self, tag: int) -> None:
        self.forwarded += 1
        self._refusal = ""
        self.channel.release(tag)

    def _on_refused(self, cause: Cause) -> None:
        self._refusal = str(cause)
        self._keeper.doubt()
