"""The delivery: one body as the broker delivered it, with the properties that its way through a worker takes. Pure."""

import time
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any, NamedTuple, TypeGuard

from pika import BasicProperties
from pika.spec import Basic

from busmon.bus.frames.properties import LazyProperties, escape

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
        exchange: the exchange that the body was published to, whatever exchanges it passed after that.
        content_type: as published, text; bytes that aren't UTF-8 are escaped.
        content_encoding: as `content_type`.
        message_id: as `content_type`.
        published_at: the time of the publish, in seconds since the epoch, if a header has it.
        user_id: the user that published it, checked by the broker against the connection's login; None if not stated.
        encoded_properties: all properties, as AMQP encodes them.
        received_at: the time at which its bytes were read from the socket, in seconds since the epoch.
        size: the bytes of its body and properties: headers take as much time and memory as bodies.
    """

    body: bytes
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    content_type: str | None
    content_encoding: str | None
    message_id: str | None
    published_at: float | None
    user_id: str | None
    encoded_properties: bytes
    received_at: float
    size: int

    @staticmethod
    def from_pika(method: Basic.Deliver, properties: BasicProperties, body: bytes, base: int = 0) -> "Delivery":
        """Make a delivery from frames that pika decoded.

        Args:
            method: the decoded `basic.deliver`.
            properties: the header.
            body: the body.
            base: added to the channel's delivery tag.
        """
        properties = LazyProperties.of(properties)
        return UnreadDelivery(
            body,
            base + method.delivery_tag,
            method.redelivered,
            escape(method.exchange),
            escape(method.routing_key),
            properties.content_type,
            properties.content_encoding,
            properties.message_id,
            None,
            properties.user_id,
            properties.encoded,
            time.time(),
            len(body) + len(properties.encoded),
        )

    @property
    def properties(self) -> LazyProperties:
        """Return the properties as published. Headers are None if pika can't decode them, or if they are large."""
        return LazyProperties(self.encoded_properties)


_size_of = attrgetter("size")


def sizes_of(deliveries: Iterable[Delivery]) -> Iterator[int]:
    """Yield the size of each one."""
    return map(_size_of, deliveries)


class UnreadDelivery(Delivery):
    """A delivery whose headers take a while to decode, so that they are decoded when their user has its turn."""

    __slots__ = ()

    @property
    def published_at(self) -> float | None:
        """As of a delivery."""
        return read_publish_time(self.properties.headers)


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
