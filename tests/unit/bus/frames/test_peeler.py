"""Both peelers take the same deliveries off any bytes, leave the same rest, and keep a bounded memory of publishers."""

import struct
import tracemalloc
from collections.abc import Iterator
from random import Random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec

from busmon.bus.frames import peeler
from busmon.bus.frames.delivery import STAMPS, UnreadDelivery
from busmon.bus.frames.peeled_properties import MAX_HEADERS, UNREAD

from .stated import PLAIN
from .stated import properties as stated_properties
from .ways import COMPILED, CONTENT, DELIVER, NOW, both_ways, framed, if_compiled, long, plain, short

BASES = {1: 0, 2: 2**64}
UNKNOWN_CHANNEL = 3


GOOD = [b"", b"a", b"analyzer", b"x" * 255, "ä€😀".encode()]
BAD = [b"\xff", b"\x80", b"\xed\xa0\x80"]
words = st.sampled_from(GOOD * 8 + BAD)
shorts = words.map(short)
names = st.sampled_from([name.encode() for name, _ in STAMPS]) | words
numbers = st.sampled_from([-1, 0, 1, 2**31 - 1]) | st.integers(-(2**31), 2**31 - 1)
values = st.one_of(
    words.map(lambda text: b"S" + long(text)),
    numbers.map(lambda number: b"I" + struct.pack(">i", number)),
    (numbers | st.integers(-(2**63), 2**63 - 1)).map(lambda number: b"l" + struct.pack(">q", number)),
    st.sampled_from([b"t\1", b"F\0\0\0\0", b"V"]),
)
headers = st.lists(st.builds(lambda name, value: short(name) + value, names, values), max_size=5)
mistakes = st.sampled_from([0] * 40 + [-1, 1, 5, 2**32 - 1])


@st.composite
def encoded_properties(draw: st.DrawFn) -> bytes:
    """Properties with any flags, and fields of nearly the right form."""
    flags = draw(st.integers(0, 2**16 - 1))
    fields = [struct.pack(">H", flags)]
    for bit in range(15, 1, -1):
        if not flags & 1 << bit:
            continue
        if bit == 13:
            table = b"".join(draw(headers)) * draw(st.sampled_from([1, 1, 1, MAX_HEADERS, MAX_HEADERS + 1]))
            fields.append(long(table, draw(mistakes)))
        else:
            fields.append(draw({12: st.just(b"\2"), 11: st.just(b"\0"), 6: st.just(b"\0" * 8)}.get(bit, shorts)))
    return b"".join(fields) + draw(st.just(b"") | st.binary(max_size=5))


@st.composite
def deliveries(draw: st.DrawFn) -> bytes:
    """Three frames, most of which are a plain delivery, with any names and properties."""
    channel = draw(st.sampled_from([1, 1, 1, 1, 2, 2, UNKNOWN_CHANNEL]))
    tag = struct.pack(">QB", draw(st.integers(0, 2**64 - 1)), draw(st.integers(0, 255)))
    method = DELIVER + tag + draw(shorts) + draw(shorts) + draw(st.sampled_from([b""] * 9 + [b"\0"]))
    body = draw(st.binary(min_size=1, max_size=40))
    encoded = draw(encoded_properties() | stated_properties.map(lambda stated: b"".join(stated.encode())))
    header = CONTENT + struct.pack(">Q", (len(body) + draw(mistakes)) % 2**64) + encoded
    return (
        framed(spec.FRAME_METHOD, channel, method, draw(mistakes))
        + framed(spec.FRAME_HEADER, channel, header, draw(mistakes))
        + framed(spec.FRAME_BODY, channel, body, draw(mistakes))
    )


streams = st.lists(
    st.one_of(
        deliveries(),
        st.sampled_from([plain(1), plain(2), plain(1, b""), plain(UNKNOWN_CHANNEL), frame.Heartbeat().marshal()]),
        st.binary(max_size=30),
    ),
    max_size=6,
).map(b"".join)


def make(way: ModuleType) -> Any:
    """A peeler of two channels."""
    made = way.Peeler()
    for channel, base in BASES.items():
        made.add(channel, base)
    return made


def tell(made: Any, stream: bytes) -> tuple[Any, ...]:
    """Whatever a peeler makes of a stream, with the types of all objects."""
    position, peeled = made.take_apart(stream, NOW)
    told = [
        (channel, [(type(each), [(type(field), field) for field in tuple(each)]) for each in found])
        for channel, found in peeled.items()
    ]
    assert all((each[8] is UNREAD) is isinstance(each, UnreadDelivery) for found in peeled.values() for each in found)
    return position, type(position), told, made.is_begun(stream, position)


def spoil(stream: bytes, random: Random) -> bytes:
    """The stream with a few bytes changed, left out or added."""
    spoilt = bytearray(stream)
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        at = random.randrange(len(spoilt) + 1)
        spoilt[at : at + random.choice((0, 1, 1, 1, 4))] = random.randbytes(random.choice((0, 1, 1, 1, 4)))
    return bytes(spoilt)


@if_compiled
@given(st.lists(streams, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_both_are_equal_for_any_bytes(fed: list[bytes], random: Random) -> None:
    assert COMPILED
    pure, compiled = make(peeler), make(COMPILED)
    for stream in fed * 5:  # from the fourth time on the pure one knows the layouts
        for each in (stream, spoil(stream, random), stream[: random.randrange(len(stream) + 1)]):
            assert tell(compiled, each) == tell(pure, each)


@if_compiled
def test_both_are_equal_wherever_a_delivery_ends_or_is_spoilt() -> None:
    assert COMPILED
    pure, compiled = make(peeler), make(COMPILED)
    whole = b"".join(map(plain, (1, 2)))
    for at in range(len(whole)):
        for each in (
            whole[:at],
            *(whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :] for bits in (1, 0x80, 0xFF)),
        ):
            assert tell(compiled, each) == tell(pure, each)


def with_table(table: bytes, by: int, behind: bytes) -> bytes:
    """A plain delivery with this table, a message id, and bytes behind it."""
    return plain(encoded=struct.pack(">H", 1 << 13 | 1 << 7) + long(table, by) + short(b"a:1") + behind)


@if_compiled
@pytest.mark.parametrize("by", [0, -1, 1, -5, 5, 2**31, -40])
def test_both_are_equal_for_any_two_headers(by: int) -> None:
    assert COMPILED
    pure, compiled = make(peeler), make(COMPILED)
    names = [*(name.encode() for name, _ in STAMPS), b"source", b"", *BAD]
    values = [
        *(b"l" + struct.pack(">q", number) for number in (1_763_794_800_123_456_789, 0, -1)),
        *(b"I" + struct.pack(">i", number) for number in (5, -1)),
        *(b"S" + long(b"text", error) for error in (0, 1, -1, 100, 2**31)),
        *(b"t\1", b"V", b"l\0", b"I\0", b"S", b"S\0\0\0", b""),
    ]
    headers = [short(name) + value for name in names for value in values]
    for table in (one + two for one in headers for two in headers):
        each = with_table(table, by, b"")
        assert tell(compiled, each) == tell(pure, each)


@both_ways
@pytest.mark.parametrize("behind", [b"", b"behind"])
@pytest.mark.parametrize("by", [-1, 0, 1])
def test_as_many_headers_are_read_as_may_be(way: ModuleType, by: int, behind: bytes) -> None:
    stamp = short(b"published_at_ns") + b"l" + struct.pack(">q", 1_000_000_000)
    made = make(way)
    for count in (1, MAX_HEADERS - 1, MAX_HEADERS, MAX_HEADERS + 1):
        _, peeled = made.take_apart(with_table(stamp * count, by, behind), NOW)
        if by == 0:
            is_read = count <= MAX_HEADERS
            assert peeled[1][0][7:9] == ("a:1", 1.0 if is_read else UNREAD)
            assert isinstance(peeled[1][0], UnreadDelivery) is not is_read


@if_compiled
@pytest.mark.parametrize("size", range(14))
def test_both_are_equal_for_the_beginning_of_any_header(size: int) -> None:
    assert COMPILED
    pure, compiled = make(peeler), make(COMPILED)
    method = plain()[: plain().index(bytes([spec.FRAME_END])) + 1]
    for content in (bytes(20), b"\1" * 20):
        each = method + framed(spec.FRAME_HEADER, 1, (CONTENT + content)[:size])
        assert tell(compiled, each) == tell(pure, each)


@both_ways
def test_a_delivery_has_each_part(way: ModuleType) -> None:
    made = make(way)
    position, peeled = made.take_apart(plain(2) + plain(1) + b"\1", NOW)
    assert position == 2 * len(plain())
    encoded = b"".join(PLAIN.encode())
    names = "telemetry", "analyzer.task", "application/json", None, "a:1", 1_763_794_800.123456789, None
    assert peeled == {
        1: [(b"{}", 1, False, *names, encoded, NOW, 2 + len(encoded))],
        2: [(b"{}", 2**64 + 1, False, *names, encoded, NOW, 2 + len(encoded))],
    }
    assert [*peeled] == [1, 2]


@both_ways
@pytest.mark.parametrize("length", [0xFFFF_FFFF, 0x8000_0000, 0x7FFF_FFFF, 0xFFFF_FFF8])
@pytest.mark.parametrize("frame_number", range(3))
def test_a_frame_that_claims_more_than_there_is_waits(way: ModuleType, length: int, frame_number: int) -> None:
    ends = [at for at, byte in enumerate(plain()) if byte == spec.FRAME_END]
    start = [0, *(end + 1 for end in ends)][frame_number]
    claimed = plain()[: start + 3] + struct.pack(">I", length) + plain()[start + 7 :]
    made = make(way)
    assert made.take_apart(claimed, NOW) == (0, {1: [], 2: []})
    assert made.is_begun(claimed, 0)


def distinct(count: int) -> Iterator[bytes]:
    """Deliveries with names and user ids of their own, as long as they may be."""
    for number in range(count):
        name = short(f"{number}".zfill(255).encode())
        yield (
            framed(spec.FRAME_METHOD, 1, DELIVER + struct.pack(">QB", 1, 0) + name * 2)
            + framed(spec.FRAME_HEADER, 1, CONTENT + struct.pack(">QH", 1, 0xC010) + name * 3)
            + framed(spec.FRAME_BODY, 1, b"x")
        )


@both_ways
def test_the_memory_of_publishers_is_bounded(way: ModuleType) -> None:
    made = make(way)
    tracemalloc.start()
    try:
        for each in distinct(10_000):
            position, _ = made.take_apart(each, NOW)
            assert position == len(each)
        del each
        assert tracemalloc.get_traced_memory()[0] < 4_000_000
    finally:
        tracemalloc.stop()


def test_forms_and_names_are_bounded() -> None:
    made = make(peeler)
    for each in distinct(1_280):
        made.take_apart(each, NOW)
    for length in range(1_280):
        made.take_apart(plain(body=b"{}", encoded=b"\x00\x00" + b"x" * length), NOW)
    assert 0 < len(made._forms.entries) <= 1000
    assert 0 < len(made._names.entries) <= 1000
