import struct
from typing import Any

import pytest
from pika import BasicProperties
from pika.frame import Body, Header, Method
from pika.spec import Basic

from busmon.bus.frames.reading import ReadingConnection

PROPERTIES: dict[str, Any] = {
    "content_type": "text/plain",
    "content_encoding": "gzip",
    "message_id": "a:1",
    "timestamp": 7,
    "type": "t",
}


class Reader(ReadingConnection):
    """The part of a connection that makes frames of bytes."""

    def __init__(self) -> None:
        self._frame_buffer = b""
        self._entrances = {}
        self.bytes_received = 0
        self.frames: list[Any] = []

    def _process_frame(self, frame_value: object) -> None:
        self.frames.append(frame_value)


def with_header_value(encoded: bytes, **properties: Any) -> bytes:
    """A content header frame with one header, whose value is encoded so."""
    placeholder = b"S" + struct.pack(">I", 11) + b"placeholder"
    marshaled: bytes = Header(3, 42, BasicProperties(headers={"h": "placeholder"}, **properties)).marshal()
    payload = marshaled[7:-1].replace(placeholder, encoded)
    table_size = struct.pack(">I", 2 + len(placeholder))
    payload = payload.replace(table_size + b"\x01h", struct.pack(">I", 2 + len(encoded)) + b"\x01h")
    return marshaled[:3] + struct.pack(">I", len(payload)) + payload + marshaled[-1:]


def nested_tables(depth: int) -> bytes:
    encoded = b"V"
    for _ in range(depth):
        encoded = b"F" + struct.pack(">I", 1 + len(encoded)) + b"\x00" + encoded
    return encoded


UNDECODABLE = {
    "a timestamp beyond the year 9999": b"T" + struct.pack(">Q", 2**40),
    "a timestamp beyond the platform's": b"T" + struct.pack(">Q", 2**63),
    "a double that isn't a number": b"d" + struct.pack(">d", float("nan")),
    "an infinite float": b"f" + struct.pack(">f", float("inf")),
    "a type that pika does not know": b"?" + b"\x00",
    "tables nested deeper than Python recurses": nested_tables(3000),
}


@pytest.mark.parametrize("encoded", UNDECODABLE.values(), ids=UNDECODABLE.keys())
@pytest.mark.parametrize("names", [(), ("content_type",), ("message_id",), tuple(PROPERTIES)])
def test_headers_that_cannot_be_decoded_are_left_out_and_nothing_else(encoded: bytes, names: tuple[str, ...]) -> None:
    properties: dict[str, Any] = {name: PROPERTIES[name] for name in names}
    reader = Reader()
    reader._on_data_available(with_header_value(encoded, **properties) + Body(3, b"next").marshal())
    header, body = reader.frames
    assert (header.channel_number, header.body_size) == (3, 42)
    assert header.properties == BasicProperties(**properties)
    assert body.fragment == b"next"


def test_headers_that_can_be_decoded_are_kept() -> None:
    reader = Reader()
    reader._on_data_available(with_header_value(b"t\x01", **PROPERTIES))
    assert reader.frames[0].properties == BasicProperties(headers={"h": True}, **PROPERTIES)


def test_frames_may_be_cut_at_any_byte() -> None:
    sent = with_header_value(UNDECODABLE["a timestamp beyond the year 9999"], **PROPERTIES)
    for cut in range(len(sent)):
        reader = Reader()
        reader._on_data_available(sent[:cut])
        reader._on_data_available(sent[cut:])
        assert [frame.properties for frame in reader.frames] == [BasicProperties(**PROPERTIES)]


def test_a_broken_method_frame_still_ends_the_connection() -> None:
    sent = bytearray(Method(1, Basic.Deliver("tag", delivery_tag=1, exchange="", routing_key="key")).marshal())
    sent[11] = 200
    with pytest.raises(struct.error):
        Reader()._on_data_available(bytes(sent))
