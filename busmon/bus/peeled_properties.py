"""AMQP's basic properties, decoded as far as every delivery needs them; the rest when it is asked for.

The encoding is that of AMQP 0-9-1, section 4.2.6.1: flags, then the properties that they name, in order. Pure.
"""

from struct import Struct
from typing import Any

from pika import BasicProperties

from busmon.bus.delivery import NANOSECONDS, STAMP, published_at

CONTENT_TYPE = "application/json"

_FLAGS = Struct(">H")
_LENGTH = Struct(">I")
_LONG = Struct(">q")

_CONTENT_TYPE = BasicProperties.FLAG_CONTENT_TYPE
_CONTENT_ENCODING = BasicProperties.FLAG_CONTENT_ENCODING
_HEADERS = BasicProperties.FLAG_HEADERS
_DELIVERY_MODE = BasicProperties.FLAG_DELIVERY_MODE
_PRIORITY = BasicProperties.FLAG_PRIORITY
_TEXTS = BasicProperties.FLAG_CORRELATION_ID, BasicProperties.FLAG_REPLY_TO, BasicProperties.FLAG_EXPIRATION
_TEXTS_BEFORE = sum(_TEXTS)
_MESSAGE_ID = BasicProperties.FLAG_MESSAGE_ID
_MORE_FLAGS = 1
_STRING = ord("S")
_INTEGER = ord("l")

# What the SDK sends: these flags, this content type, the table of these two headers; delivery mode, message id, app id.
_USUAL_FLAGS = _CONTENT_TYPE | _HEADERS | _DELIVERY_MODE | _MESSAGE_ID | BasicProperties.FLAG_APP_ID
_USUAL = _FLAGS.pack(_USUAL_FLAGS) + bytes([len(CONTENT_TYPE)]) + CONTENT_TYPE.encode()
_SOURCE = b"\x06sourceS"
_STAMP = bytes([len(STAMP)]) + STAMP.encode() + b"l"
_TO_SOURCE = Struct(f">{len(_USUAL)}sI{len(_SOURCE)}sI")
_FROM_STAMP = Struct(f">{len(_STAMP)}sqBB")
_USUAL_TABLE = len(_SOURCE) + _LENGTH.size + len(_STAMP) + _LONG.size


class PeeledProperties(BasicProperties):  # type: ignore[misc]  # pika isn't typed
    """Properties that know their encoding, and decode what isn't decoded yet when it is first asked for."""

    __slots__ = ("_encoded",)  # beside the fields, which pika looks for in `__dict__`

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded

    def __getattr__(self, name: str) -> Any:
        """Decode all that isn't decoded; what has been set since stays as it is."""
        if name.startswith("_"):
            raise AttributeError(name)
        for field, value in vars(BasicProperties().decode(self._encoded)).items():
            self.__dict__.setdefault(field, value)
        return self.__dict__[name]

    def __eq__(self, other: object) -> bool:
        _ = self.cluster_id  # asking for one that isn't decoded yet decodes them all
        return bool(super().__eq__(other))

    __hash__ = None  # type: ignore[assignment]


class UsualProperties(PeeledProperties):
    """Properties as busmon's own publishers send them: most of all deliveries."""

    content_type = CONTENT_TYPE
    content_encoding = None

    def __init__(self, encoded: bytes, message_id: str) -> None:
        self._encoded = encoded
        self.message_id = message_id


def peeled_properties(encoded: bytes) -> tuple[PeeledProperties, float | None] | None:
    """The properties, and when the publish happened by them; None if pika had better look at them.

    Raises:
        IndexError, struct.error, UnicodeDecodeError: likewise.
    """
    if len(encoded) > _TO_SOURCE.size:
        start, table, mark, length = _TO_SOURCE.unpack_from(encoded)
        if start == _USUAL and mark == _SOURCE and table == _USUAL_TABLE + length:
            return _usual(encoded, _TO_SOURCE.size + length) or _decoded(encoded)
    return _decoded(encoded)


def _usual(encoded: bytes, at: int) -> tuple[PeeledProperties, float] | None:
    """Usual properties, from behind the source on; None if they aren't."""
    mark, nanoseconds, _delivery_mode, length = _FROM_STAMP.unpack_from(encoded, at)
    start = at + _FROM_STAMP.size
    end = start + length
    if mark != _STAMP or nanoseconds <= 0 or end + 1 + encoded[end] != len(encoded):
        return None
    return UsualProperties(encoded, encoded[start:end].decode()), nanoseconds / NANOSECONDS


def _decoded(encoded: bytes) -> tuple[PeeledProperties, float | None] | None:
    properties = PeeledProperties(encoded)
    flags, at = _FLAGS.unpack_from(encoded)[0], _FLAGS.size
    properties.content_type = properties.content_encoding = properties.headers = None
    if flags & _MORE_FLAGS:
        return None
    if flags & _CONTENT_TYPE:
        properties.content_type, at = _text(encoded, at)
    if flags & _CONTENT_ENCODING:
        properties.content_encoding, at = _text(encoded, at)
    if flags & _HEADERS:
        start = at + _LENGTH.size
        at = start + _LENGTH.unpack_from(encoded, at)[0]
        properties.headers = _table(encoded, start, at)
        if properties.headers is None:
            return None
    properties.message_id = _message_id(encoded, flags, at)
    return properties, published_at(properties.headers)


def _message_id(encoded: bytes, flags: int, at: int) -> str | None:
    """The message id, behind the properties that stand between the headers and it."""
    if not flags & _MESSAGE_ID:
        return None
    at += (flags & _DELIVERY_MODE > 0) + (flags & _PRIORITY > 0)
    if flags & _TEXTS_BEFORE:
        for flag in _TEXTS:
            if flags & flag:
                at += 1 + encoded[at]
    return _text(encoded, at)[0]


def _text(encoded: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + encoded[at]
    return encoded[at + 1 : end].decode(), end


def _table(encoded: bytes, at: int, end: int) -> dict[str, Any] | None:
    """A table of strings and 64-bit integers, as publishers of envelopes send; None if there is anything else in it."""
    table: dict[str, Any] = {}
    while at < end:
        name, at = _text(encoded, at)
        kind = encoded[at]
        if kind == _STRING:
            start = at + 1 + _LENGTH.size
            at = start + _LENGTH.unpack_from(encoded, at + 1)[0]
            table[name] = encoded[start:at].decode()
        elif kind == _INTEGER:
            table[name] = _LONG.unpack_from(encoded, at + 1)[0]
            at += 1 + _LONG.size
        else:
            return None
    return table if at == end <= len(encoded) else None
