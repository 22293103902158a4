"""The few properties that a worker reads at once are those that pika decodes, whatever a publisher states."""

import struct
from contextlib import suppress
from copy import copy
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties

from busmon.bus.frames.peeled_properties import UNREAD, PropertiesReader, ReadProperties
from busmon.bus.frames.properties import LazyProperties

from .stated import PLAIN, properties, texts, told
from .ways import Reader, both_ways


def agrees(read: ReadProperties, original: BasicProperties) -> bool:
    """Compare what was read with the properties by pika; the time of the publish may be unread."""
    *texts, published_at, user_id = told(original)
    return [*read[:3], read[4]] == [*texts, user_id] and (read[3] is UNREAD or read[3] == published_at)


def read_properties(way: ModuleType, original: BasicProperties) -> ReadProperties:
    """Read properties in order and by their layout, which has to give the same."""
    (read,) = {*_read_often(Reader(way), b"".join(original.encode()))}
    return read


def _read_often(reader: Reader | PropertiesReader, encoded: bytes) -> list[ReadProperties]:
    """Read properties until their layout is remembered, and once more."""
    return [reader.read(encoded) for _ in range(6)]


@both_ways
@pytest.mark.parametrize("stamp", [0, -5, 7, 2**40])
def test_a_stamp_is_read_as_pika_reads_it(way: ModuleType, stamp: int) -> None:
    original = copy(PLAIN)
    original.headers = {"source": "a", "published_at_ns": stamp}
    assert read_properties(way, original) == told(original)


@both_ways
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
    way: ModuleType,
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
    reader = Reader(way)
    encoded = bytearray(b"".join(original.encode()))
    _read_often(reader, bytes(encoded))
    for place in spoilt:
        encoded[place % len(encoded)] ^= 1
    with suppress(IndexError, struct.error):
        assert agrees(reader.read(bytes(encoded)), LazyProperties(bytes(encoded)))


@both_ways
@given(properties)
def test_properties_are_pikas(way: ModuleType, original: BasicProperties) -> None:
    assert all(agrees(read, original) for read in _read_often(Reader(way), b"".join(original.encode())))


@both_ways
@given(properties, st.lists(properties, max_size=5))
def test_properties_are_pikas_whatever_was_read_before(
    way: ModuleType, original: BasicProperties, others: list[BasicProperties]
) -> None:
    reader = Reader(way)
    for other in others:
        _read_often(reader, b"".join(other.encode()))
    assert agrees(reader.read(b"".join(original.encode())), original)


@both_ways
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
def test_other_values_in_a_known_layout_are_read(way: ModuleType, changed: dict[str, Any]) -> None:
    reader, original = Reader(way), copy(PLAIN)
    original.user_id, original.timestamp = "ann", 1_763_794_800
    _read_often(reader, b"".join(original.encode()))
    for name, value in changed.items():
        setattr(original, name, value)
    assert reader.read(b"".join(original.encode())) == told(original)


def test_the_reader_remembers_a_bounded_number_of_layouts() -> None:
    reader, original = PropertiesReader(), copy(PLAIN)
    for number in range(1_500):
        original.headers = {"source": "a" * (number + 1)}
        _read_often(reader, b"".join(original.encode()))
    assert 0 < len(reader._layouts.entries) <= 1_000
    assert len(reader._parsed.entries) <= 1_000


@both_ways
def test_the_sdks_properties_are_read(way: ModuleType) -> None:
    assert read_properties(way, PLAIN) == ("application/json", None, "a:1", 1_763_794_800.123456789, None)


@both_ways
@pytest.mark.parametrize("timestamp", [None, 1_763_794_800])
@pytest.mark.parametrize("user", [None, "agents", "ä" * 20])
def test_the_user_is_read_with_and_without_a_timestamp(
    way: ModuleType, timestamp: int | None, user: str | None
) -> None:
    original = copy(PLAIN)
    original.timestamp, original.user_id = timestamp, user
    assert read_properties(way, original) == (
        "application/json",
        None,
        "a:1",
        1_763_794_800.123456789,
        user,
    )
