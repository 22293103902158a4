"""The delivery: one body as the broker delivered it, with the properties that its way through a worker takes. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self, TypeGuard

from pika import BasicProperties
from pika.spec import Basic

STAMP = "published_at_ns"
"""The header in which a publisher says when it published, in nanoseconds since the epoch."""

NANOSECONDS = 1e9
_MILLISECONDS = 1e3

STAMPS = ((STAMP, NANOSECONDS), ("timestamp_in_ms", _MILLISECONDS))
"""The headers that say the time of a publish, with their units in one second: the publisher's, and the broker's."""


class Delivery(NamedTuple):
    """One body as the broker delivered it. The peeling and the lane rely on the order of the fields.

    Attributes:
        delivery_tag: the argument of `Consumer.settle`; unique per consumer and queue, so that a tag of an earlier
            channel differs from every tag of the present channel.
        redelivered: the body was delivered before, to any consumer, and not acknowledged.
        content_type: as published, text; bytes that aren't UTF-8 are escaped.
        content_encoding: as `content_type`.
        message_id: as `content_type`.
        published_at: the time of the publish, in seconds since the epoch, if a header has it.
        user_id: the user that published it, checked by the broker against the connection's login; None if not stated.
        basic_properties: all properties, as pika decoded or as AMQP encodes them.
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
        """Make a delivery from pika's decoded frames.

        Args:
            method: the decoded `basic.deliver`.
            properties: the decoded header; text properties that aren't UTF-8 are replaced by escaped text.
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
            read_publish_time(properties.headers),
            properties.user_id,
            properties,
        )

    @property
    def properties(self) -> BasicProperties:
        """Return the properties as published. Headers are None if pika can't decode them."""
        if isinstance(self.basic_properties, bytes):
            return BasicProperties().decode(self.basic_properties)
        return self.basic_properties


def _text(value: Any) -> Any:
    """Return the escaped text of bytes that aren't UTF-8; return any other value unchanged."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def read_publish_time(headers: Mapping[str, Any] | None) -> float | None:
    """Return the time of the publish, in seconds since the epoch: the publisher's stamp, else the broker's."""
    if not headers:
        return None
    for name, unit in STAMPS:
        stamp = headers.get(name)
        if _is_stamp(stamp):
            return stamp / unit
    return None


def _is_stamp(value: Any) -> TypeGuard[float]:
    """Return whether a header is a positive number and no boolean; pika's 64-bit numbers have a type of their own."""
    return isinstance(value, int | float) and type(value) is not bool and value > 0
