"""The ways to take deliveries apart, in pure Python and compiled, and the bytes of deliveries for them."""

import struct
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
from pika import spec

from busmon.bus.frames import peeler
from busmon.bus.frames.delivery import Delivery
from busmon.bus.frames.peeled_properties import ReadProperties

from .stated import PLAIN

CHANNEL = 1
NOW = 1_763_794_800.0
DELIVER = struct.pack(">I", spec.Basic.Deliver.INDEX) + b"\x06busmon"
CONTENT = struct.pack(">HH", spec.BasicProperties.INDEX, 0)

_MODULE = "busmon.bus.frames.compiled_peeler"

COMPILED: ModuleType | None = import_module(_MODULE) if find_spec(_MODULE) else None
if_compiled = pytest.mark.skipif(COMPILED is None, reason=f"{_MODULE} isn't built")
both_ways = pytest.mark.parametrize(
    "way", [pytest.param(peeler, id="pure"), pytest.param(COMPILED, id="compiled", marks=if_compiled)]
)


class Reader:
    """A reader of properties: those of deliveries that one peeler takes apart."""

    def __init__(self, way: ModuleType) -> None:
        self._peeler = way.Peeler()
        self._peeler.add(CHANNEL, 0)

    def peel(self, delivery: bytes) -> Delivery:
        """Take a delivery apart.

        Raises:
            IndexError: it isn't plain.
        """
        found: Delivery = self._peeler.take_apart(delivery, NOW)[1][CHANNEL][0]
        return found

    def read(self, encoded: bytes) -> ReadProperties:
        """Read properties, as `PropertiesReader` does; raises as `peel`."""
        fields: Any = tuple(self.peel(plain(encoded=encoded)))
        read: ReadProperties = fields[5:10]
        return read


def short(text: bytes) -> bytes:
    """A short string."""
    return bytes([len(text)]) + text


def long(content: bytes, by: int = 0) -> bytes:
    """A long string or a table, whose length may be wrong."""
    return struct.pack(">I", (len(content) + by) % 2**32) + content


def framed(kind: int, channel: int, payload: bytes, by: int = 0) -> bytes:
    """A frame, whose length may be wrong."""
    return struct.pack(">BH", kind, channel) + long(payload, by) + bytes([spec.FRAME_END])


def plain(
    channel: int = CHANNEL,
    body: bytes = b"{}",
    encoded: bytes = b"".join(PLAIN.encode()),
    routing_key: bytes = b"analyzer.task",
) -> bytes:
    """A plain delivery, if its body isn't empty."""
    method = DELIVER + struct.pack(">QB", 1, 0) + short(b"telemetry") + short(routing_key)
    return (
        framed(spec.FRAME_METHOD, channel, method)
        + framed(spec.FRAME_HEADER, channel, CONTENT + struct.pack(">Q", len(body)) + encoded)
        + framed(spec.FRAME_BODY, channel, body)
    )
