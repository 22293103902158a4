"""What the consumer hands on: deliveries, and what becomes of the queue that they come from.

Types only; they are called on the thread that runs the consumer's loop.
"""

from typing import NamedTuple, Protocol

from pika import BasicProperties


class Delivery(NamedTuple):
    """One body as the broker delivered it.

    Attributes:
        delivery_tag: what `Consumer.settle` takes; never given twice by one consumer and queue, so that a tag of an
            earlier channel can be told from one of the present channel.
        redelivered: it was delivered before, to whomever, and not acknowledged.
        properties: as published. `message_id`, `content_type` and `content_encoding` are text or None, bytes that
            aren't UTF-8 escaped; the others may be such bytes. Headers are whatever the publisher sent, and None if
            pika can't decode them.
    """

    body: bytes
    delivery_tag: int
    redelivered: bool
    routing_key: str
    properties: BasicProperties


class Listener(Protocol):
    """Who takes the deliveries. What it raises ends the loop: it leaves `ioloop.start()` as it is."""

    def delivered(self, queue: str, delivery: Delivery) -> None:
        """A delivery arrived; it is the listener's until it's settled, quarantined or void."""

    def lost(self, queue: str, cause: str) -> None:
        """The queue's channel is gone: deliveries not settled by now are void and will come again."""

    def changed(self, queue: str, state: str, cause: str) -> None:
        """The queue is `connecting`, `consuming`, `blocked`, `cancelled`, `closed`, `missing` or `draining`.

        The cause is one line, empty while nothing is wrong. At `cancelled` the channel is still open: what the listener
        settles before it returns is acknowledged, and only then is the channel lost.
        """
