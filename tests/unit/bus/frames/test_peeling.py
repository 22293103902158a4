"""Peeled or decoded by pika, the same bytes give the same deliveries and the same errors, wherever they are cut."""

from collections.abc import Iterable, Sequence
from copy import copy
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pika import BasicProperties, frame, spec
from pika.callback import CallbackManager
from pika.channel import Channel

from busmon.bus.frames.delivery import Delivery, read_publish_time
from busmon.bus.frames.peeling import PeelingConnection
from busmon.bus.frames.properties import MAX_DECODED_BYTES
from busmon.bus.frames.reading import ReadingConnection

from .stated import PLAIN, properties, told
from .ways import both_ways

CONSUMED, OTHER = 1, 2
FIELDS = (
    *("content_type", "content_encoding", "headers", "delivery_mode", "priority", "correlation_id", "reply_to"),
    *("expiration", "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id"),
)


class Socketless(ReadingConnection):
    """A connection that is fed by hand, and notes what reaches its consumers, peeled or not."""

    def __init__(self, way: ModuleType | None) -> None:
        self._entrances = {}
        self._frame_buffer = b""
        self._heartbeat_checker = self._transport = None
        self._is_paused = False
        self.bytes_received = self.frames_received = self.peeled = 0
        self.callbacks = CallbackManager()
        self.got: list[Any] = []
        self._channels = {number: self._opened(number) for number in (CONSUMED, OTHER)}
        if way:
            self._peeler = way.Peeler()
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
        assert stated == told(properties)
        names = found.exchange, found.routing_key
        self.got.append((number, found.delivery_tag, found.redelivered, *names, _fields(properties), found.body))


def _fields(properties: BasicProperties) -> list[Any]:
    return [getattr(properties, name) for name in FIELDS]


def delivery(number: int, properties: BasicProperties, body: bytes, largest: int = 1000) -> bytes:
    """A delivery's frames, with body frames of at most `largest` bytes."""
    method = spec.Basic.Deliver("busmon", len(body) + 1, len(body) % 2 == 1, "telemetry", "analyzer.task")
    bodies = [frame.Body(number, body[at : at + largest]).marshal() for at in range(0, len(body), largest)]
    return b"".join(
        [frame.Method(number, method).marshal(), frame.Header(number, len(body), properties).marshal(), *bodies]
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


@both_ways
@given(streams, st.lists(st.integers(0), max_size=12))
def test_it_delivers_what_pika_delivers_wherever_the_bytes_are_cut(
    way: ModuleType, stream: bytes, places: list[int]
) -> None:
    peeling, plain = Socketless(way), Socketless(None)
    assert peeling.feed(cut(stream, places)) == plain.feed([stream])
    assert (peeling.bytes_received, peeling.frames_received) == (plain.bytes_received, plain.frames_received)


@both_ways
@given(streams.filter(bool), st.data())
@example(delivery(CONSUMED, PLAIN, b"{}"), None)
def test_a_spoilt_byte_ends_both_alike(way: ModuleType, stream: bytes, data: st.DataObject | None) -> None:
    at = data.draw(st.integers(0, len(stream) - 1)) if data else len(stream) - 1
    spoilt = stream[:at] + bytes([stream[at] ^ 0xFF]) + stream[at + 1 :]
    assert Socketless(way).feed([spoilt]) == Socketless(None).feed([spoilt])


@both_ways
def test_a_plain_delivery_is_peeled(way: ModuleType) -> None:
    connection = Socketless(way)
    connection.feed([delivery(CONSUMED, PLAIN, b"{}") * 3])
    assert connection.peeled == 3


@both_ways
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
    way: ModuleType, headers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = copy(PLAIN)
    stated.headers, stated.user_id = headers, "ann"
    stream = delivery(CONSUMED, stated, b"{}")
    got: list[Delivery] = []
    connection = Socketless(way)
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


@both_ways
@pytest.mark.parametrize("body", [b"", b"x" * 2500], ids=["of no frame", "of several frames"])
def test_headers_of_a_delivery_that_is_not_peeled_are_left_for_later_too(
    way: ModuleType, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = Socketless(way)
    monkeypatch.setattr("busmon.bus.frames.properties.decode_table", fail)
    monkeypatch.setattr(connection, "_note", lambda *_: None)
    assert connection.feed([delivery(CONSUMED, PLAIN, body)]) == ([], "")


@both_ways
@pytest.mark.parametrize("body", [b"", b"x" * 2500])
def test_a_body_of_no_frame_or_of_several_arrives_whole(way: ModuleType, body: bytes) -> None:
    got, error = Socketless(way).feed([delivery(CONSUMED, PLAIN, body)])
    assert not error
    assert [each[-1] for each in got] == [body]


@both_ways
def test_a_channel_without_entrance_is_pikas_again(way: ModuleType) -> None:
    connection = Socketless(way)
    connection.unpeel(CONSUMED)
    connection.feed([delivery(CONSUMED, PLAIN, b"{}")])
    assert connection.peeled == 0
    assert len(connection.got) == 1


def fail(*_: object) -> None:
    raise ZeroDivisionError


@both_ways
def test_what_an_entrance_raises_comes_out_and_the_rest_of_the_bytes_stays(way: ModuleType) -> None:
    connection = Socketless(way)
    connection.peel(CONSUMED, 0, fail)
    ack = frame.Method(OTHER, spec.Basic.Ack(1)).marshal()
    with pytest.raises(ZeroDivisionError):
        connection._on_data_available(delivery(CONSUMED, PLAIN, b"{}") * 2 + ack)
    assert connection._frame_buffer == ack


@both_ways
def test_while_pika_assembles_a_delivery_the_channel_is_pikas_whatever_comes_on_another(way: ModuleType) -> None:
    whole = delivery(CONSUMED, PLAIN, b"x" * 1500)
    begun = whole[: whole.index(frame.Body(CONSUMED, b"x" * 500).marshal())]
    stream = begun + frame.Method(OTHER, spec.Basic.Ack(1)).marshal() + delivery(CONSUMED, PLAIN, b"{}")
    assert Socketless(way).feed([stream]) == Socketless(None).feed([stream])


@both_ways
def test_what_arrives_together_is_delivered_together_channel_by_channel(way: ModuleType) -> None:
    connection = Socketless(way)
    heard: list[tuple[int, list[int]]] = []
    connection.peel(CONSUMED, 0, lambda got: heard.append((CONSUMED, [each.delivery_tag for each in got])))
    connection.peel(OTHER, 1000, lambda got: heard.append((OTHER, [each.delivery_tag for each in got])))
    connection._on_data_available(b"".join(delivery(number, PLAIN, b"{}") for number in (CONSUMED, OTHER, CONSUMED)))
    assert heard == [(CONSUMED, [3, 3]), (OTHER, [1003])]


@both_ways
def test_a_channels_new_base_is_of_its_deliveries_from_then_on(way: ModuleType) -> None:
    connection = Socketless(way)
    tags: list[int] = []
    for base in (0, 1000):
        connection.peel(CONSUMED, base, lambda got: tags.extend(each.delivery_tag for each in got))
        connection.feed([delivery(CONSUMED, PLAIN, b"{}")])
    assert tags == [3, 1003]


@both_ways
def test_what_is_remembered_of_publishers_is_bounded(way: ModuleType) -> None:
    connection = Socketless(way)
    for number in range(1280):
        method = spec.Basic.Deliver("busmon", 1, redelivered=False, exchange="x", routing_key=f"{number}".zfill(240))
        named = copy(PLAIN)
        named.message_id = "i" * (number % 250)
        named.app_id = "a" * (number // 250 + 1)
        frames = frame.Method(CONSUMED, method), frame.Header(CONSUMED, 2, named), frame.Body(CONSUMED, b"{}")
        connection.feed([b"".join(each.marshal() for each in frames)])
    assert connection.peeled == 1280


@both_ways
@pytest.mark.parametrize("size", [1, 3])
def test_a_body_frame_of_another_size_than_the_header_says_is_pikas(way: ModuleType, size: int) -> None:
    frames = delivery(CONSUMED, PLAIN, b"{}").rpartition(frame.Body(CONSUMED, b"{}").marshal())[0]
    stream = frames + frame.Body(CONSUMED, b"x" * size).marshal() + frame.Heartbeat().marshal()
    assert Socketless(way).feed([stream]) == Socketless(None).feed([stream])


@both_ways
def test_deliveries_of_a_channel_that_an_entrance_has_ended_are_left_to_come_again(way: ModuleType) -> None:
    connection = Socketless(way)
    connection.peel(OTHER, 0, fail)
    connection.peel(CONSUMED, 0, lambda _: connection.unpeel(OTHER))
    connection._on_data_available(delivery(CONSUMED, PLAIN, b"{}") + delivery(OTHER, PLAIN, b"{}"))
    assert not connection._frame_buffer


def test_pika_still_has_the_hook_that_received_bytes_pass_through() -> None:
    hook = "_on_data_available"
    assert hook in vars(PeelingConnection.__mro__[-2]) or any(
        hook in vars(base) for base in PeelingConnection.__mro__[1:]
    ), "pika renamed the hook of its adapters: port bus/frames/peeling.py before widening the range in pyproject.toml"
