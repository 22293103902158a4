"""AMQP's basic properties as they are encoded, with headers that are decoded when they are first read.

It differs from pika's decoder in three points. First, it reads the flags as RabbitMQ does. AMQP has a flag for a second
word of flags, which RabbitMQ ignores and pika follows, so a publisher could show pika another `user_id` than the one
that the broker has checked. Second, headers that pika can't decode are left out: a timestamp beyond the year 9999, or
tables nested a thousand deep, pass through RabbitMQ. Third, large headers are left out. Pure.
"""

from functools import cached_property
from struct import Struct
from typing import Any, Self

from pika import BasicProperties
from pika.data import decode_table

from busmon.bus.frames.table import UNDECODABLE

MAX_PROPERTIES_BYTES = 16_384
"""Of all properties, as their publisher encodes them. pika decodes headers of this size in up to 4 ms."""

MAX_DECODED_BYTES = MAX_PROPERTIES_BYTES + 2_048
"""Of all properties, with what the fleet and RabbitMQ have added: names of 255 bytes, and counts of deliveries."""

KNOWN_FLAGS = 0xFFFC
"""The flags of AMQP's 14 properties; RabbitMQ ignores the two below."""

_TEXTS = ("content_type", "content_encoding", "message_id", "user_id")
_BEFORE_HEADERS = BasicProperties.FLAG_CONTENT_TYPE, BasicProperties.FLAG_CONTENT_ENCODING
_FLAGS = Struct(">H")
_LENGTH = Struct(">I")


class LazyProperties(BasicProperties):
    """The properties of one delivery or publish, which can't be changed; a copy is pika's, and can.

    The texts that a worker reads are escaped where they aren't UTF-8; pika gives bytes for the others.

    Args:
        encoded: the properties, as AMQP encodes them.

    Attributes:
        encoded: as given.

    Raises:
        IndexError, struct.error: the bytes aren't properties; RabbitMQ sends no such bytes.
    """

    __slots__ = ("_table", "encoded")

    def __init__(self, encoded: bytes) -> None:
        super().__init__()
        flags = _FLAGS.unpack_from(encoded)[0] & KNOWN_FLAGS
        start = end = _find_headers(encoded)
        if flags & BasicProperties.FLAG_HEADERS:
            end = start + _LENGTH.size + _LENGTH.unpack_from(encoded, start)[0]
        self.decode(_FLAGS.pack(flags & ~BasicProperties.FLAG_HEADERS) + encoded[_FLAGS.size : start] + encoded[end:])
        for name in _TEXTS:
            setattr(self, name, escape(getattr(self, name)))
        del self.headers  # pika has set None, which would hide the property below
        self._table = encoded[start:end]
        self.encoded = encoded

    @classmethod
    def of(cls, properties: BasicProperties) -> Self:
        """Return these properties, encoded if they aren't yet.

        Raises:
            pika.exceptions.AMQPError, struct.error: they have no encoding.
        """
        return properties if isinstance(properties, cls) else cls(b"".join(properties.encode()))

    @classmethod
    def join(cls, properties: BasicProperties, fields: bytes) -> Self:
        """Return properties that have no headers with encoded headers; with none if `fields` is empty."""
        encoded = b"".join(properties.encode())
        if not fields:
            return cls(encoded)
        flags, start = _FLAGS.unpack_from(encoded)[0] | BasicProperties.FLAG_HEADERS, _find_headers(encoded)
        table = _LENGTH.pack(len(fields)) + fields
        return cls(_FLAGS.pack(flags) + encoded[_FLAGS.size : start] + table + encoded[start:])

    @property
    def fields(self) -> bytes:
        """Return the encoded headers, without their length."""
        return self._table[_LENGTH.size :]

    @cached_property
    def headers(self) -> Any:  # type: ignore[override]  # pika's is an attribute
        """Return the headers; None if there are none, if pika can't decode them, or if the properties are large."""
        if not self._table or len(self.encoded) > MAX_DECODED_BYTES:
            return None
        try:
            return decode_table(self._table, 0)[0]
        except UNDECODABLE:
            return None

    def encode(self) -> list[bytes]:
        """Return the properties as given."""
        return [self.encoded]

    def __copy__(self) -> BasicProperties:
        """Return pika's properties, with decoded headers."""
        return self.without_headers(headers=self.headers)

    def without_headers(self, **changed: Any) -> BasicProperties:
        """Return pika's properties without the headers, and with other values for some."""
        return BasicProperties(**{**vars(self), "headers": None, **changed})

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute while the properties are made.

        Raises:
            AttributeError: they are made, and the encoded properties would differ.
        """
        if hasattr(self, "encoded"):
            raise AttributeError(f"{name!r} of encoded properties can't be set; a copy's can")
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        """Compare all properties, the headers included."""
        return bool(self.headers == getattr(other, "headers", None) and super().__eq__(other))

    __hash__ = None  # type: ignore[assignment]  # as pika's


def _find_headers(encoded: bytes) -> int:
    """Return the place at which the headers are, or would be."""
    flags, at = _FLAGS.unpack_from(encoded)[0], _FLAGS.size
    for flag in _BEFORE_HEADERS:
        if flags & flag:
            at += 1 + encoded[at]
    return at


def escape(value: Any) -> Any:
    """Return the escaped text of bytes that aren't UTF-8; return any other value unchanged."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
