"""The basic properties that a worker reads, decoded without the others and in steps that no publisher can multiply.

The encoding is that of AMQP 0-9-1, section 4.2.6.1: flags, then the properties that they name, in order. The properties
of one publisher differ in a few values and not in their *layout*: flags, names, kinds and lengths. A layout that was
parsed some times is remembered with its fixed bytes. Properties with the same fixed bytes have their values in the same
places. Headers that are many, or of other kinds than strings and integers, are skipped by their length. Pure memory.
"""

from collections.abc import Callable, Iterable
from struct import Struct
from typing import Any, NamedTuple

from pika import BasicProperties

from busmon.bounded import BoundedCache
from busmon.bus.frames.delivery import STAMPS, read_publish_time
from busmon.bus.frames.properties import KNOWN_FLAGS

ReadProperties = tuple[str | None, str | None, str | None, float | None, str | None]
"""Content type, content encoding, message id, the time of the publish or `UNREAD`, and the user id."""

UNREAD = -1.0
"""In the place of the time, this object and no equal one: it is in headers that were skipped."""

_FLAGS = Struct(">H")
_LENGTH = Struct(">I")

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
_STRING = ord("S")
_INTEGERS = {ord("l"): Struct(">q"), ord("I"): Struct(">i")}
_INTEGER_CODES = {8: "q", 4: "i"}

_KEY_BYTES = 23
"""Of flags, the usual content type and the length of the headers: with the length of all, they nearly tell a layout."""

_PARSED_BEFORE = 3
"""So many properties are parsed before their layout is remembered: to make one costs as much as to parse twice."""

_MAX_LAYOUTS = 1000

MAX_HEADERS = 32
"""More are skipped. The SDK sends two, and a header costs 0.3 µs before users have their turns."""

_Span = tuple[int, int]
"""The places of a value: its first byte, and the one behind its last."""


class _Header(NamedTuple):
    """A header, with the places of its value."""

    name: str
    kind: int
    span: _Span


class _Parsed(NamedTuple):
    """Properties, as parsed in order.

    Attributes:
        headers: None if they were skipped.
        varying: the places of values that differ from delivery to delivery, ascending.
        end: the place behind what was parsed; nothing behind it is of use.
    """

    content_type: str | None
    content_encoding: str | None
    headers: list[_Header] | None
    message_id: _Span | None
    user_id: _Span | None
    varying: list[_Span]
    end: int


class _Layout(NamedTuple):
    """A layout of properties.

    Attributes:
        find_fixed: gives the fixed parts of encoded properties.
        fixed: these parts in the layout.
        find_values: gives stamp, message id and user id; empty bytes where the layout has none.
        unit: of the stamp, in one second; 0 where the layout has none.
    """

    find_fixed: Callable[[bytes], tuple[Any, ...]]
    fixed: tuple[Any, ...]
    find_values: Callable[[bytes], tuple[Any, ...]]
    content_type: str | None
    content_encoding: str | None
    unit: float
    has_message_id: bool
    has_user_id: bool


class PropertiesReader:
    """The reader of the deliveries' properties, with the layouts that it knows."""

    def __init__(self) -> None:
        self._layouts: BoundedCache[tuple[int, bytes], _Layout] = BoundedCache(_MAX_LAYOUTS)
        self._parsed: BoundedCache[tuple[int, bytes], int] = BoundedCache(_MAX_LAYOUTS)
        self._known = self._layouts.entries

    def read(self, encoded: bytes) -> ReadProperties:
        """Read the properties that a worker uses.

        Raises:
            IndexError, struct.error, UnicodeDecodeError: pika has to decode the properties.
        """
        layout = self._known.get((len(encoded), encoded[:_KEY_BYTES]))
        if layout is not None:
            find_fixed, fixed, find_values, content_type, content_encoding, unit, has_message_id, has_user_id = layout
            if find_fixed(encoded) == fixed:
                stamp, message_id, user_id = find_values(encoded)
                if not unit or stamp > 0:
                    return (
                        content_type,
                        content_encoding,
                        message_id.decode() if has_message_id else None,
                        stamp / unit if unit else None,
                        user_id.decode() if has_user_id else None,
                    )
        return self._read_in_order(encoded)

    def _read_in_order(self, encoded: bytes) -> ReadProperties:
        parsed = _parse(encoded)
        headers = parsed.headers
        if headers is not None:
            self._remember(encoded, parsed, headers)
        return (
            parsed.content_type,
            parsed.content_encoding,
            _decode(encoded, parsed.message_id),
            UNREAD if headers is None else read_publish_time(_read_integers(encoded, headers)),
            _decode(encoded, parsed.user_id),
        )

    def _remember(self, encoded: bytes, parsed: _Parsed, headers: list[_Header]) -> None:
        """Count the properties, and remember their layout once there were some."""
        key = (len(encoded), encoded[:_KEY_BYTES])
        times = self._parsed.entries.get(key, 0)
        if times < _PARSED_BEFORE:
            self._parsed.keep(key, times + 1)
        elif len({header.name for header in headers}) == len(headers):
            self._layouts.keep(key, _make_layout(encoded, parsed, headers))
            self._parsed.entries[key] = 0


def _parse(encoded: bytes) -> _Parsed:
    flags, at = _FLAGS.unpack_from(encoded)[0] & KNOWN_FLAGS, _FLAGS.size
    content_type = content_encoding = None
    if flags & _CONTENT_TYPE:
        content_type, at = _text(encoded, at)
    if flags & _CONTENT_ENCODING:
        content_encoding, at = _text(encoded, at)
    headers: list[_Header] | None = []
    if flags & _HEADERS:
        start = at + _LENGTH.size
        at = start + _LENGTH.unpack_from(encoded, at)[0]
        headers = _find_headers(encoded, start, at)
    varying = [header.span for header in headers or ()]
    message_id, user_id, end = _find_ids(encoded, flags, at, varying)
    if end > len(encoded):
        raise IndexError
    return _Parsed(content_type, content_encoding, headers, message_id, user_id, varying, end)


def _find_headers(encoded: bytes, at: int, end: int) -> list[_Header] | None:
    """Find the strings and integers of a table as pika sends it; None if there is anything else in it, or too many."""
    headers: list[_Header] = []
    while at < end and len(headers) < MAX_HEADERS:
        name, at = _text(encoded, at)
        kind = encoded[at]
        start = at + 1
        if kind == _STRING:
            start += _LENGTH.size
            at = start + _LENGTH.unpack_from(encoded, start - _LENGTH.size)[0]
        elif shape := _INTEGERS.get(kind):
            at = start + shape.size
        else:
            return None
        headers.append(_Header(name, kind, (start, at)))
    return headers if at == end <= len(encoded) else None


def _find_ids(encoded: bytes, flags: int, at: int, varying: list[_Span]) -> tuple[_Span | None, _Span | None, int]:
    """Find message id and user id, past the properties between the headers and them; return where they end, too."""
    message_id = user_id = None
    at += (flags & _DELIVERY_MODE > 0) + (flags & _PRIORITY > 0)
    if flags & _TEXTS_BEFORE:
        for flag in _TEXTS:
            if flags & flag:
                at += 1 + encoded[at]
    if flags & _MESSAGE_ID:
        message_id = at + 1, at + 1 + encoded[at]
        at = message_id[1]
        varying.append(message_id)
    if flags & _USER_ID:
        if flags & _TIMESTAMP:
            varying.append((at, at + _TIMESTAMP_BYTES))
            at += _TIMESTAMP_BYTES
        if flags & _TYPE:
            at += 1 + encoded[at]
        user_id = at + 1, at + 1 + encoded[at]
        at = user_id[1]
        varying.append(user_id)
    return message_id, user_id, at


def _read_integers(encoded: bytes, headers: Iterable[_Header]) -> dict[str, int]:
    """Return the headers that are integers; of several with one name the last counts, whatever its kind."""
    integers: dict[str, int] = {}
    for name, kind, (start, _) in headers:
        if shape := _INTEGERS.get(kind):
            integers[name] = shape.unpack_from(encoded, start)[0]
        else:
            integers.pop(name, None)
    return integers


def _make_layout(encoded: bytes, parsed: _Parsed, headers: Iterable[_Header]) -> _Layout:
    integers = {header.name: header.span for header in headers if header.kind in _INTEGERS}
    name, unit = next((stamp for stamp in STAMPS if stamp[0] in integers), ("", 0.0))
    find_fixed = _finder_of_fixed(parsed)
    return _Layout(
        find_fixed,
        find_fixed(encoded),
        _finder_of_values(parsed, integers[name] if unit else None),
        parsed.content_type,
        parsed.content_encoding,
        unit,
        parsed.message_id is not None,
        parsed.user_id is not None,
    )


def _finder_of_fixed(parsed: _Parsed) -> Callable[[bytes], tuple[Any, ...]]:
    parts, at = ">", 0
    for start, end in parsed.varying:
        parts += f"{start - at}s{end - start}x"
        at = end
    return Struct(f"{parts}{parsed.end - at}s").unpack_from


def _finder_of_values(parsed: _Parsed, stamp: _Span | None) -> Callable[[bytes], tuple[Any, ...]]:
    parts, at = ">", 0
    for span in (stamp, parsed.message_id, parsed.user_id):
        start, end = span or (at, at)
        parts += f"{start - at}x"
        parts += _INTEGER_CODES[end - start] if stamp and span is stamp else f"{end - start}s"
        at = end
    return Struct(parts).unpack_from


def _text(encoded: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + encoded[at]
    return encoded[at + 1 : end].decode(), end


def _decode(encoded: bytes, span: _Span | None) -> str | None:
    return None if span is None else encoded[slice(*span)].decode()
