"""AMQP's basic properties, with headers that are decoded when they are first read.

It differs from pika's decoder in three points. First, it reads the flags as RabbitMQ does. AMQP has a flag for a second
word of flags, which RabbitMQ ignores and pika follows, so a publisher could show pika another `user_id` than the one
that the broker has checked. Second, headers that pika can't decode are left out: a timestamp beyond the year 9999, or
tables nested a thousand deep, pass through RabbitMQ. Third, large headers are left out. Pure.
"""

from functools import cached_property
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names its exception like a variable
from typing import Any

from pika import BasicProperties
from pika.data import decode_table
from pika.exceptions import AMQPError

MAX_PROPERTIES_BYTES = 16_384
"""Of all properties, as encoded. pika decodes headers of this size in up to 4 ms, and encodes them in 5 ms."""

KNOWN_FLAGS = 0xFFFC
"""The flags of AMQP's 14 properties; RabbitMQ ignores the two below."""

_UNDECODABLE = (AMQPError, ArithmeticError, OSError, RecursionError, StructError, ValueError)
_TEXTS = ("content_type", "content_encoding", "message_id", "user_id")
_FLAGS = Struct(">H")
_LENGTH = Struct(">I")


class LazyProperties(BasicProperties):
    """The properties of one delivery.

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
        start = end = _FLAGS.size
        if flags & BasicProperties.FLAG_HEADERS:
            for flag in (BasicProperties.FLAG_CONTENT_TYPE, BasicProperties.FLAG_CONTENT_ENCODING):
                if flags & flag:
                    start += 1 + encoded[start]
            end = start + _LENGTH.size + _LENGTH.unpack_from(encoded, start)[0]
        self.encoded = encoded
        self._table = encoded[start:end]
        self.decode(_FLAGS.pack(flags & ~BasicProperties.FLAG_HEADERS) + encoded[_FLAGS.size : start] + encoded[end:])
        for name in _TEXTS:
            setattr(self, name, escape(getattr(self, name)))
        del self.headers  # pika has set None, which would hide the property below

    @cached_property
    def headers(self) -> Any:  # type: ignore[override]  # it may be set, as pika's may
        """Return the headers; None if there are none, if pika can't decode them, or if the properties are large."""
        if not self._table or len(self.encoded) > MAX_PROPERTIES_BYTES:
            return None
        try:
            return decode_table(self._table, 0)[0]
        except _UNDECODABLE:
            return None

    def __eq__(self, other: object) -> bool:
        """Compare all properties, the headers included."""
        return bool(self.headers == getattr(other, "headers", None) and super().__eq__(other))

    __hash__ = None  # type: ignore[assignment]  # as pika's


def escape(value: Any) -> Any:
    """Return the escaped text of bytes that aren't UTF-8; return any other value unchanged."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
