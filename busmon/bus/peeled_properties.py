"""What a delivery tells of AMQP's basic properties, read off their encoding without the others.

The encoding is that of AMQP 0-9-1, section 4.2.6.1: flags, then the properties that they name, in order. Pure.
"""

from struct import Struct
from typing import Any

from pika import BasicProperties

from busmon.bus.delivery import NANOSECONDS, STAMP, published_at

CONTENT_TYPE = "application/json"

Told = tuple[str | None, str | None, str | None, float | None, str | None]
"""Content type, content encoding, message id, the time of the publish, and the user id."""

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
_TIMESTAMP = BasicProperties.FLAG_TIMESTAMP
_TYPE = BasicProperties.FLAG_TYPE
_USER_ID = BasicProperties.FLAG_USER_ID
_TIMESTAMP_BYTES = 8
_MORE_FLAGS = 1
_STRING = ord("S")
_INTEGERS = {ord("l"): _LONG, ord("I"): Struct(">i")}

# What the SDK sends: these flags, this content type, the table of these two headers; delivery mode, message id,
# timestamp, user id where the URL names one, app id. A publisher by hand leaves the timestamp out.
_BARE_FLAGS = _CONTENT_TYPE | _HEADERS | _DELIVERY_MODE | _MESSAGE_ID | BasicProperties.FLAG_APP_ID


def _start(flags: int) -> bytes:
    return _FLAGS.pack(flags) + bytes([len(CONTENT_TYPE)]) + CONTENT_TYPE.encode()


_TAILS = {
    _start(_BARE_FLAGS | _TIMESTAMP | _USER_ID): (_TIMESTAMP_BYTES, True),
    _start(_BARE_FLAGS | _TIMESTAMP): (_TIMESTAMP_BYTES, False),
    _start(_BARE_FLAGS | _USER_ID): (0, True),
    _start(_BARE_FLAGS): (0, False),
}
"""By how such properties start: the bytes between message id and user id, and whether there is one."""

_SOURCE = b"\x06sourceS"
_STAMP = bytes([len(STAMP)]) + STAMP.encode() + b"l"
_TO_SOURCE = Struct(f">{len(_start(0))}sI{len(_SOURCE)}sI")
_FROM_STAMP = Struct(f">{len(_STAMP)}sqBB")
_TO_SOURCE_BYTES, _FROM_STAMP_BYTES = _TO_SOURCE.size, _FROM_STAMP.size
_USUAL_TABLE_BYTES = len(_SOURCE) + _LENGTH.size + len(_STAMP) + _LONG.size

_unpack_to_source, _unpack_from_stamp = _TO_SOURCE.unpack_from, _FROM_STAMP.unpack_from


def told(encoded: bytes) -> Told | None:
    """What the properties tell; None if pika had better look at them.

    Raises:
        IndexError, struct.error, UnicodeDecodeError: likewise.
    """
    if len(encoded) > _TO_SOURCE_BYTES:
        start, table, mark, length = _unpack_to_source(encoded)
        tail = _TAILS.get(start)
        if tail is not None and mark == _SOURCE and table == _USUAL_TABLE_BYTES + length:
            at = _TO_SOURCE_BYTES + length
            mark, nanoseconds, _delivery_mode, length = _unpack_from_stamp(encoded, at)
            at += _FROM_STAMP_BYTES
            end = at + length
            message_id, (skipped, has_user) = encoded[at:end].decode(), tail
            end += skipped
            user = None
            if has_user:
                at, end = end + 1, end + 1 + encoded[end]
                user = encoded[at:end].decode()
            if mark == _STAMP and nanoseconds > 0 and end + 1 + encoded[end] == len(encoded):
                return CONTENT_TYPE, None, message_id, nanoseconds / NANOSECONDS, user
    return _told_otherwise(encoded)


def _told_otherwise(encoded: bytes) -> Told | None:
    flags, at = _FLAGS.unpack_from(encoded)[0], _FLAGS.size
    content_type = content_encoding = headers = None
    if flags & _MORE_FLAGS:
        return None
    if flags & _CONTENT_TYPE:
        content_type, at = _text(encoded, at)
    if flags & _CONTENT_ENCODING:
        content_encoding, at = _text(encoded, at)
    if flags & _HEADERS:
        start = at + _LENGTH.size
        at = start + _LENGTH.unpack_from(encoded, at)[0]
        headers = _table(encoded, start, at)
        if headers is None:
            return None
    message_id, user_id = _ids(encoded, flags, at)
    return content_type, content_encoding, message_id, published_at(headers), user_id


def _ids(encoded: bytes, flags: int, at: int) -> tuple[str | None, str | None]:
    """Read message id and user id, and skip the properties between the headers and them."""
    message_id = user_id = None
    at += (flags & _DELIVERY_MODE > 0) + (flags & _PRIORITY > 0)
    if flags & _TEXTS_BEFORE:
        for flag in _TEXTS:
            if flags & flag:
                at += 1 + encoded[at]
    if flags & _MESSAGE_ID:
        message_id, at = _text(encoded, at)
    if flags & _USER_ID:
        at += _TIMESTAMP_BYTES * (flags & _TIMESTAMP > 0)
        if flags & _TYPE:
            at += 1 + encoded[at]
        user_id, at = _text(encoded, at)
    return message_id, user_id


def _text(encoded: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + encoded[at]
    return encoded[at + 1 : end].decode(), end


def _table(encoded: bytes, at: int, end: int) -> dict[str, Any] | None:
    """A table of strings and integers as pika sends them; None if there is anything else in it."""
    table: dict[str, Any] = {}
    while at < end:
        name, at = _text(encoded, at)
        kind = encoded[at]
        if kind == _STRING:
            start = at + 1 + _LENGTH.size
            at = start + _LENGTH.unpack_from(encoded, at + 1)[0]
            table[name] = encoded[start:at].decode()
        elif shape := _INTEGERS.get(kind):
            table[name] = shape.unpack_from(encoded, at + 1)[0]
            at += 1 + shape.size
        else:
            return None
    return table if at == end <= len(encoded) else None
