"""Peeled or decoded by pika, the same bytes give the same deliveries and the same errors, wherever they are cut."""

import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from copy import copy
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pika import BasicProperties, frame, spec
from pika.callback import CallbackManager
from pika.channel import Channel

from busmon.bounded import BoundedCache
from busmon.bus.frames.delivery import Delivery, read_publish_time
from busmon.bus.frames.peeled_properties import UNREAD, PropertiesReader, ReadProperties
from busmon.bus.frames.peeling import PeelingConnection
from busmon.bus.frames.properties import MAX_DECODED_BYTES, LazyProperties
from busmon.bus.frames.reading import ReadingConnection

CONSUMED, OTHER = 1, 2
FIELDS = (
    *("content_type", "content_encoding", "headers", "delivery_mode", "priority", "correlation_id", "reply_to"),
    *("expiration", "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id"),
)


class Socketless(ReadingConnection):
    """A connection that is fed by hand, and notes what reaches its consumers, peeled or not."""

    def __init__(self, *, peeling: bool) -> None:
        self._entrances = {}
        self._forms = BoundedCache(1000)
        self._names = BoundedCache(1000)
        self._read_properties = PropertiesReader().read
        self._frame_buffer = b""
        self._heartbeat_checker = None
        self.bytes_received = self.frames_received = self.peeled = 0
        self.callbacks = CallbackManager()
        self.got: list[Any] = []
        self._channels = {number: self._opened(number) for number in (CONSUMED, OTHER)}
        if peeling:
            self.peel(CONSUMED, 0, self._take_peeled)

    def feed(self, pieces: Iterable[bytes]) -> tuple[list[Any], str]:
        """Feed these bytes; return the results, and the error that ended them."""
        try:
            for piece in pieces:
                self._on_data_available(piece)
        except Exception as error:  # noqa: BLE001 - whatever pika raises, both have to
            return self.got, type(error).__name__
        return self.got, ""

    def _opened(self, number: int) -> Channel:
        channel = Channel(self, number, lambda _: None)
        channel._state = Channel.OPEN
        channel._consumers["busmon"] = self._take
        return channel

    def _take(self, channel: Channel, method: Any, properties: BasicProperties, body: bytes) -> None:
        number = channel.channel_number
        assert channel is self._channels[number]
        self._note(number, Delivery.from_pika(method, properties, body))

    def _take_peeled(self, deliveries: Sequence[Delivery]) -> None:
        self.peeled += len(deliveries)
        for each in deliveries:
            self._note(CONSUMED, each)

    def _note(self, number: int, found: Delivery) -> None:
        properties = found.properties
        stated = found.content_type, found.content_encoding, found.message_id, found.published_at, found.user_id
        assert stated == _told(properties)
        names = found.exchange, found.routing_key
        self.got.append((number, found.delivery_tag, found.redelivered, *names, _fields(properties), found.body))


def _fields(properties: BasicProperties) -> list[Any]:
    return [getattr(properties, name) for name in FIELDS]


def _told(properties: BasicProperties) -> tuple[Any, ...]:
    names = ("content_type", "content_encoding", "message_id")
    return *(getattr(properties, name) for name in names), read_publish_time(properties.headers), properties.user_id


def delivery(number: int, properties: BasicProperties, body: bytes, largest: int = 1000) -> bytes:
    """A delivery's frames, with body frames of at most `largest` bytes."""
    method = spec.Basic.Deliver("busmon", len(body) + 1, len(body) % 2 == 1, "telemetry", "analyzer.task")
    bodies = [frame.Body(number, body[at : at + largest]).marshal() for at in range(0, len(body), largest)]
    return b"".join(
        [frame.Method(number, method).marshal(), frame.Header(number, len(body), properties).marshal(), *bodies]
    )


PLAIN = BasicProperties(
    content_type="application/json",
    delivery_mode=2,
    message_id="a:1",
    app_id="a",
    headers={"source": "a", "published_at_ns": 1_763_794_800_123_456_789},
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
headers = st.dictionaries(
    texts,
    st.one_of(texts, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.none()),
    max_size=4,
)
properties = st.builds(
    BasicProperties,
    content_type=st.none() | texts,
    content_encoding=st.none() | texts,
    headers=st.none() | headers,
    delivery_mode=st.none() | st.integers(1, 2),
    priority=st.none() | st.integers(0, 255),
    correlation_id=st.none() | texts,
    reply_to=st.none() | texts,
    message_id=st.none() | texts,
    timestamp=st.none() | st.integers(0, 2**31),
    type=st.none() | texts,
    user_id=st.none() | texts,
    app_id=st.none() | texts,
)
frames = st.one_of(
    st.builds(
        delivery, st.sampled_from([CONSUMED, OTHER]), properties, st.binary(max_size=60), st.sampled_from([7, 1000])
    ),
    st.just(delivery(CONSUMED, PLAIN, b"{}")),
    st.just(frame.Heartbeat().marshal()),
    st.just(frame.Method(OTHER, spec.Basic.Ack(1)).marshal()),
)
streams = st.lists(frames, max_size=8).map(b"".join)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """The stream in pieces."""
    at = [0, *sorted({place % (len(stream) + 1) for place in places}), len(stream)]
    return [stream[start:end] for start, end in pairwise(at)]


@given(streams, st.lists(st.integers(0), max_size=12))
def test_it_delivers_what_pika_delivers_wherever_the_bytes_are_cut(stream: bytes, places: list[int]) -> None:
    peeling, plain = Socketless(peeling=True), Socketless(peeling=False)
    assert peeling.feed(cut(stream, places)) == plain.feed([stream])
    assert (peeling.bytes_received, peeling.frames_received) == (plain.bytes_received, plain.frames_received)


@given(streams.filter(bool), st.data())
@example(delivery(CONSUMED, PLAIN, b"{}"), None)
def test_a_spoilt_byte_ends_both_alike(stream: bytes, data: st.DataObject | None) -> None:
    at = data.draw(st.integers(0, len(stream) - 1)) if data else len(stream) - 1
    spoilt = stream[:at] + bytes([stream[at] ^ 0xFF]) + stream[at + 1 :]
    assert Socketless(peeling=True).feed([spoilt]) == Socketless(peeling=False).feed([spoilt])


def test_a_plain_delivery_is_peeled() -> None:
    connection = Socketless(peeling=True)
    connection.feed([delivery(CONSUMED, PLAIN, b"{}") * 3])
    assert connection.peeled == 3


@pytest.mark.parametrize(
    "headers",
    [
        {"deep": {"a": [1, {"b": True}]}, "published_at_ns": 1_763_794_800_000_000_000},
        {"published_at_ns": 1_763_794_800_000_000_000, **{f"h{number}": number for number in range(100)}},
        {"published_at_ns": True},
        {"deep": [None] * 100_000},
    ],
    ids=["nested", "many", "of another kind", "large"],
)
def test_a_delivery_with_any_headers_is_peeled_and_its_headers_are_left_for_later(
    headers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = copy(PLAIN)
    stated.headers, stated.user_id = headers, "ann"
    stream = delivery(CONSUMED, stated, b"{}")
    got: list[Delivery] = []
    connection = Socketless(peeling=True)
    connection.peel(CONSUMED, 0, got.extend)
    with monkeypatch.context() as patched:
        patched.setattr(BasicProperties, "decode", fail)
        patched.setattr("busmon.bus.frames.properties.decode_table", fail)
        connection._on_data_available(stream)
    (found,) = got
    assert (found.message_id, found.user_id, found.exchange) == ("a:1", "ann", "telemetry")
    assert found.published_at == read_publish_time(
        None if len(found.encoded_properties) > MAX_DECODED_BYTES else headers
    )


@pytest.mark.parametrize("body", [b"", b"x" * 2500], ids=["of no frame", "of several frames"])
def test_headers_of_a_delivery_that_is_not_peeled_are_left_for_later_too(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = Socketless(peeling=True)
    monkeypatch.setattr("busmon.bus.frames.properties.decode_table", fail)
    monkeypatch.setattr(connection, "_note", lambda *_: None)
    assert connection.feed([delivery(CONSUMED, PLAIN, body)]) == ([], "")


@pytest.mark.parametrize("body", [b"", b"x" * 2500])
def test_a_body_of_no_frame_or_of_several_arrives_whole(body: bytes) -> None:
    got, error = Socketless(peeling=True).feed([delivery(CONSUMED, PLAIN, body)])
    assert not error
    assert [each[-1] for each in got] == [body]


def test_a_channel_without_entrance_is_pikas_again() -> None:
    connection = Socketless(peeling=True)
    connection.unpeel(CONSUMED)
    connection.feed([delivery(CONSUMED, PLAIN, b"{}")])
    assert connection.peeled == 0
    assert len(connection.got) == 1


def fail(*_: object) -> None:
    raise ZeroDivisionError


def test_what_an_entrance_raises_comes_out_and_the_rest_of_the_bytes_stays() -> None:
    connection = Socketless(peeling=True)
    connection.peel(CONSUMED, 0, fail)
    ack = frame.Method(OTHER, spec.Basic.Ack(1)).marshal()
    with pytest.raises(ZeroDivisionError):
        connection._on_data_available(delivery(CONSUMED, PLAIN, b"{}") * 2 + ack)
    assert connection._frame_buffer == ack


def test_while_pika_assembles_a_delivery_the_channel_is_pikas_whatever_comes_on_another() -> None:
    whole = delivery(CONSUMED, PLAIN, b"x" * 1500)
    begun = whole[: whole.index(frame.Body(CONSUMED, b"x" * 500).marshal())]
    stream = begun + frame.Method(OTHER, spec.Basic.Ack(1)).marshal() + delivery(CONSUMED, PLAIN, b"{}")
    assert Socketless(peeling=True).feed([stream]) == Socketless(peeling=False).feed([stream])


def test_what_arrives_together_is_delivered_together_channel_by_channel() -> None:
    connection = Socketless(peeling=True)
    heard: list[tuple[int, list[int]]] = []
    connection.peel(CONSUMED, 0, lambda got: heard.append((CONSUMED, [each.delivery_tag for each in got])))
    connection.peel(OTHER, 1000, lambda got: heard.append((OTHER, [each.delivery_tag for each in got])))
    connection._on_data_available(b"".join(delivery(number, PLAIN, b"{}") for number in (CONSUMED, OTHER, CONSUMED)))
    assert heard == [(CONSUMED, [3, 3]), (OTHER, [1003])]


def test_a_channels_new_base_is_of_its_deliveries_from_then_on() -> None:
    connection = Socketless(peeling=True)
    tags: list[int] = []
    for base in (0, 1000):
        connection.peel(CONSUMED, base, lambda got: tags.extend(each.delivery_tag for each in got))
        connection.feed([delivery(CONSUMED, PLAIN, b"{}")])
    assert tags == [3, 1003]


def test_what_is_remembered_of_publishers_is_bounded() -> None:
    connection = Socketless(peeling=True)
    for number in range(1280):
        method = spec.Basic.Deliver("busmon", 1, redelivered=False, exchange="x", routing_key=f"{number}".zfill(240))
        named = copy(PLAIN)
        named.message_id = "i" * (number % 250)
        named.app_id = "a" * (number // 250 + 1)
        frames = frame.Method(CONSUMED, method), frame.Header(CONSUMED, 2, named), frame.Body(CONSUMED, b"{}")
        connection.feed([b"".join(each.marshal() for each in frames)])
    assert connection.peeled == 1280
    assert len(connection._forms.entries) <= 1000
    assert len(connection._names.entries) <= 1000


@pytest.mark.parametrize("size", [1, 3])
def test_a_body_frame_of_another_size_than_the_header_says_is_pikas(size: int) -> None:
    frames = delivery(CONSUMED, PLAIN, b"{}").rpartition(frame.Body(CONSUMED, b"{}").marshal())[0]
    stream = frames + frame.Body(CONSUMED, b"x" * size).marshal() + frame.Heartbeat().marshal()
    assert Socketless(peeling=True).feed([stream]) == Socketless(peeling=False).feed([stream])


def agrees(read: ReadProperties, original: BasicProperties) -> bool:
    """Compare what was read with the properties by pika; the time of the publish may be unread."""
    *texts, published_at, user_id = _told(original)
    return [*read[:3], read[4]] == [*texts, user_id] and (read[3] is UNREAD or read[3] == published_at)


def read_properties(original: BasicProperties) -> ReadProperties:
    """Read properties in order and by their layout, which has to give the same."""
    (read,) = {*_read_often(PropertiesReader(), b"".join(original.encode()))}
    return read


def _read_often(reader: PropertiesReader, encoded: bytes) -> list[ReadProperties]:
    """Read properties until their layout is remembered, and once more."""
    return [reader.read(encoded) for _ in range(6)]


@pytest.mark.parametrize("stamp", [0, -5, 7, 2**40])
def test_a_stamp_is_read_as_pika_reads_it(stamp: int) -> None:
    original = copy(PLAIN)
    original.headers = {"source": "a", "published_at_ns": stamp}
    assert read_properties(original) == _told(original)


def test_deliveries_of_a_channel_that_an_entrance_has_ended_are_left_to_come_again() -> None:
    connection = Socketless(peeling=True)
    connection.peel(OTHER, 0, fail)
    connection.peel(CONSUMED, 0, lambda _: connection.unpeel(OTHER))
    connection._on_data_available(delivery(CONSUMED, PLAIN, b"{}") + delivery(OTHER, PLAIN, b"{}"))
    assert not connection._frame_buffer


@given(
    texts,
    texts.filter(bool),
    st.integers(-1, 2**63 - 1),
    texts,
    st.none() | texts,
    st.none() | st.integers(0, 2**63 - 1),
    st.lists(st.integers(0), max_size=2),
)
def test_the_sdks_properties_are_pikas_however_spoilt(  # noqa: PLR0913, PLR0917 - one for each property
    source: str,
    message_id: str,
    stamp: int,
    agent: str,
    user: str | None,
    timestamp: int | None,
    spoilt: list[int],
) -> None:
    original = BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        message_id=message_id,
        app_id=agent,
        user_id=user,
        timestamp=timestamp,
        headers={"source": source, "published_at_ns": stamp},
    )
    reader = PropertiesReader()
    encoded = bytearray(b"".join(original.encode()))
    _read_often(reader, bytes(encoded))
    for place in spoilt:
        encoded[place % len(encoded)] ^= 1
    with suppress(IndexError, struct.error, UnicodeDecodeError):
        assert agrees(reader.read(bytes(encoded)), LazyProperties(bytes(encoded)))


@given(properties)
def test_properties_are_pikas(original: BasicProperties) -> None:
    assert all(agrees(read, original) for read in _read_often(PropertiesReader(), b"".join(original.encode())))


@given(properties, st.lists(properties, max_size=5))
def test_properties_are_pikas_whatever_was_read_before(
    original: BasicProperties, others: list[BasicProperties]
) -> None:
    reader = PropertiesReader()
    for other in others:
        _read_often(reader, b"".join(other.encode()))
    assert agrees(reader.read(b"".join(original.encode())), original)


@pytest.mark.parametrize(
    "changed",
    [
        {"message_id": "b:2"},
        {"headers": {"source": "b", "published_at_ns": 1}},
        {"headers": {"source": "b", "published_at_ns": 0}},
        {"headers": {"sourcf": "a", "published_at_ns": 1_763_794_800_123_456_789}},
        {"headers": {"source": "a", "timestamp_in_msx": 5}},
        {"user_id": "bob"},
        {"app_id": "another"},
        {"content_type": "application/jsoN"},
        {"delivery_mode": 1},
        {"timestamp": 7},
    ],
    ids=str,
)
def test_other_values_in_a_known_layout_are_read(changed: dict[str, Any]) -> None:
    reader, original = PropertiesReader(), copy(PLAIN)
    original.user_id, original.timestamp = "ann", 1_763_794_800
    _read_often(reader, b"".join(original.encode()))
    for name, value in changed.items():
        setattr(original, name, value)
    assert reader.read(b"".join(original.encode())) == _told(original)


def test_the_reader_remembers_a_bounded_number_of_layouts() -> None:
    reader, original = PropertiesReader(), copy(PLAIN)
    for number in range(1_500):
        original.headers = {"source": "a" * (number + 1)}
        _read_often(reader, b"".join(original.encode()))
    assert 0 < len(reader._layouts.entries) <= 1_000
    assert len(reader._parsed.entries) <= 1_000


def test_the_sdks_properties_are_read() -> None:
    assert read_properties(PLAIN) == ("application/json", None, "a:1", 1_763_794_800.123456789, None)


@pytest.mark.parametrize("timestamp", [None, 1_763_794_800])
@pytest.mark.parametrize("user", [None, "agents", "ä" * 20])
def test_the_user_is_read_with_and_without_a_timestamp(timestamp: int | None, user: str | None) -> None:
    original = copy(PLAIN)
    original.timestamp, original.user_id = timestamp, user
    assert read_properties(original) == (
        "application/json",
        None,
        "a:1",
        1_763_794_800.123456789,
        user,
    )


def test_pika_still_has_the_hook_that_received_bytes_pass_through() -> None:
    hook = "_on_data_available"
    assert hook in vars(PeelingConnection.__mro__[-2]) or any(
        hook in vars(base) for base in PeelingConnection.__mro__[1:]
    ), "pika renamed the hook of its adapters: port bus/frames/peeling.py before widening the range in pyproject.toml"
