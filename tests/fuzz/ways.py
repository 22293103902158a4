"""The way of a body to its decoder: the rule, the content type, the content encoding and the headers of a delivery.

A fuzzer's input begins with four bytes that choose a way; the rest is the body. Everything that `wire/formats.py` and
`wire/encoding.py` register is chosen from, so a new decoder is fuzzed without a change here. Pure.
"""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Self

from busmon.settings.kinds import FormatRule
from busmon.wire import encoding, formats, prometheus_text

CONTROLS = 4
RULED = ("json", *formats.DECODERS)
RULES = [FormatRule(f"ruled.{name}", name) for name in RULED]
"""A rule for the routing key of each format."""

FORMATS: Sequence[str] = ("", *RULED)
"""The format that a rule names; none, for half of the ways, where the content type and the JSON decide."""

TYPES: Sequence[str] = (
    *("", "application/json; charset=utf-8", "a/b+json", "text/csv", "\0", "text/plain; version=0.0.4"),
    *sorted(formats._BY_TYPE),
    *sorted(formats._JSON_TYPES - {""}),
    *sorted(formats._ANY_TYPES),
    *(f"{prometheus_text.OPENMETRICS_TYPE}; version=1.0.0", "application/vnd.google.protobuf"),
)
PLAIN: Sequence[str] = ("", "utf-8", "identity")
ENCODINGS: Sequence[str] = (
    *PLAIN,
    *sorted(encoding._COMPRESSIONS),
    *("utf-16", "iso-8859-1", "gb18030", "gzip, bzip2", "deflate;deflate", "br", "utf-32, gzip", "utf-99", ","),
)
COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "either": zlib.compress,
    "bzip2": bz2.compress,
    "lzma": partial(lzma.compress, preset=0),
}
HEADERS: Sequence[Mapping[str, Any]] = (
    {},
    {"source": "host-1"},
    {"source": "host-1", "published_at_ns": 1_763_794_800_000_000_000, "timestamp_in_ms": 1_763_794_800_000},
    {"cloudEvents:specversion": "1.0", "cloudEvents:id": "1", "cloudEvents:source": "/s", "cloudEvents:type": "t"},
    {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "ce-time": "2025-11-22T09:00:00Z"},
    {"cloudEvents_specversion": 1, "cloudEvents_id": None, "cloudEvents_time": "yesterday"},
    {encoding.COMPRESSION: "application/x-gzip"},
    {"source": 7, "published_at_ns": "now", encoding.COMPRESSION: b"bzip2"},
)
_IDENTIFIED, _REDELIVERED, _COMPRESSED, _STATES_AGENT = 0x08, 0x10, 0x20, 0x40
_HALF = 0x80


class Way(NamedTuple):
    """The properties of one delivery.

    Attributes:
        format: named by a rule for its routing key; empty for none.
        headers: a place in `HEADERS`.
        is_compressed: the body is compressed as the content encoding says, before it is delivered.
    """

    format: str = ""
    content_type: str = ""
    content_encoding: str = ""
    headers: int = 0
    is_identified: bool = False
    is_redelivered: bool = False
    is_compressed: bool = False
    states_agent: bool = False

    @classmethod
    def read(cls, controls: bytes) -> Self:
        """Return the way that the first bytes of an input choose; any bytes choose one."""
        rule, type_, coding, flags = controls.ljust(CONTROLS, b"\0")[:CONTROLS]
        return cls(
            FORMATS[rule % len(FORMATS)] if rule < _HALF else "",
            TYPES[type_ % len(TYPES)],
            ENCODINGS[coding % len(ENCODINGS)] if coding < _HALF else "",
            flags & 7,
            bool(flags & _IDENTIFIED),
            bool(flags & _REDELIVERED),
            bool(flags & _COMPRESSED),
            bool(flags & _STATES_AGENT),
        )

    def controls(self) -> bytes:
        """Return the bytes that choose this way."""
        flags = self.headers
        flags |= _IDENTIFIED * self.is_identified | _REDELIVERED * self.is_redelivered
        flags |= _COMPRESSED * self.is_compressed | _STATES_AGENT * self.states_agent
        places = FORMATS.index(self.format), TYPES.index(self.content_type), ENCODINGS.index(self.content_encoding)
        return bytes([*places, flags])

    def deliver(self, content: bytes) -> bytes:
        """Return the body as it is delivered."""
        coding = encoding._COMPRESSIONS.get(self.content_encoding)
        return COMPRESS[coding](content) if self.is_compressed and coding else content

    @property
    def properties(self) -> dict[str, Any]:
        """The AMQP properties, but for the message id."""
        return {
            "content_type": self.content_type or None,
            "content_encoding": self.content_encoding or None,
            "headers": {**HEADERS[self.headers]} or None,
            "app_id": "analyzer" if self.states_agent else None,
        }

    @property
    def routing_key(self) -> str:
        """AMQP's."""
        return f"ruled.{self.format}" if self.format else "analyzer.task"
