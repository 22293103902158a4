"""What the consumer hands on: deliveries, and what becomes of the queue that they come from.

Called on the thread that runs the consumer's loop.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeGuard

from pika import BasicProperties
from pika.spec import Basic

STAMP = "published_at_ns"
"""The header in which a publisher says when it published, in nanoseconds since the epoch."""

NANOSECONDS = 1e9
_MILLISECONDS = 1e3


class Delivery(NamedTuple):
    """One body as the broker delivered it. The peeling and the lane go by the order of its fields.

    Attributes:
        delivery_tag: what `Consumer.settle` takes; never given twice by one consumer and queue, so that a tag of an
            earlier channel can be told from one of the present channel.
        redelivered: it was delivered before, to whomever, and not acknowledged.
        content_type: as published, text; bytes that aren't UTF-8 are escaped.
        content_encoding: likewise.
        message_id: likewise.
        published_at: when the publish itself happened, in seconds since the epoch, if the headers say it.
        user_id: the user that published it, checked by the broker against the connection's login; None if not stated.
        basic_properties: all of them, as pika decoded them or as AMQP encodes them.
    """

    body: bytes
    delivery_tag: int
    redelivered: bool
    routing_key: str
    content_type: str | None
    content_encoding: str | None
    message_id: str | None
    published_at: float | None
    user_id: str | None
    basic_properties: BasicProperties | bytes

    @classmethod
    def from_pika(cls, method: Basic.Deliver, properties: BasicProperties, body: bytes, base: int = 0) -> Self:
        """A delivery that pika decoded.

        Args:
            method: how it was delivered.
            properties: of its header; what should be text and isn't UTF-8 is made text in them.
            body: the body.
            base: added to the channel's delivery tag.
        """
        for name in ("content_type", "content_encoding", "message_id", "user_id"):
            setattr(properties, name, _text(getattr(properties, name)))
        return cls(
            body,
            base + method.delivery_tag,
            method.redelivered,
            _text(method.routing_key),
            properties.content_type,
            properties.content_encoding,
            properties.message_id,
            published_at(properties.headers),
            properties.user_id,
            properties,
        )

    @property
    def properties(self) -> BasicProperties:
        """As published. Headers are whatever the publisher sent, and None if pika can't decode them."""
        if isinstance(self.basic_properties, bytes):
            return BasicProperties().decode(self.basic_properties)
        return self.basic_properties


def _text(value: Any) -> Any:
    """Text of what pika left as bytes, as it isn't UTF-8."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def published_at(headers: Mapping[str, Any] | None) -> float | None:
    """When the publish itself happened, in seconds since the epoch: the publisher's stamp, else the broker's."""
    if not headers:
        return None
    stamp = headers.get(STAMP)
    if _is_stamp(stamp):
        return stamp / NANOSECONDS
    stamp = headers.get("timestamp_in_ms")
    if _is_stamp(stamp):
        return stamp / _MILLISECONDS
    return None


def _is_stamp(value: Any) -> TypeGuard[float]:
    """Whether a header is a positive number that isn't a boolean; pika's 64-bit ones are of a type of its own."""
    return isinstance(value, int | float) and type(value) is not bool and value > 0


class Listener(Protocol):
    """Who takes the deliveries. What it raises ends the loop: it leaves `ioloop.start()` as it is."""

    def delivered(self, queue: str, deliveries: Sequence[Delivery]) -> None:
        """Deliveries arrived together; each is the listener's until it's settled, quarantined or void."""

    def lost(self, queue: str, cause: str) -> None:
        """The queue's channel is gone: deliveries not settled by now are void and will come again."""

    def changed(self, queue: str, state: str, cause: str) -> None:
        """The queue is in another state, for another cause.

        The state is `connecting`, `consuming`, `blocked`, `cancelled`, `closed`, `missing`, `suspended` or `draining`.
        The cause is one line, empty while nothing is wrong. At `cancelled` the channel is still open: what the listener
        settles before it returns is acknowledged, and only then is the channel lost.
        """
