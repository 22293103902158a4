"""Properties are read as the broker reads them, and headers cost nothing until somebody reads them."""

import struct
from copy import copy
from typing import Any

import pytest
from hypothesis import given
from pika import BasicProperties

from busmon.bus.frames.peeled_properties import PropertiesReader
from busmon.bus.frames.properties import MAX_DECODED_BYTES, LazyProperties

from .stated import properties

USER, TYPE = BasicProperties.FLAG_USER_ID, BasicProperties.FLAG_CONTENT_TYPE


def encode(stated: BasicProperties) -> bytes:
    return b"".join(stated.encode())


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


@given(properties)
def test_they_are_pikas(original: BasicProperties) -> None:
    read = LazyProperties(encode(original))
    assert read == BasicProperties().decode(encode(original))
    assert BasicProperties().decode(encode(original)) == read
    assert encode(read) == encode(original)


@given(properties)
def test_a_copy_is_changed_alone(original: BasicProperties) -> None:
    read = LazyProperties(encode(original))
    other = copy(read)
    assert type(other) is BasicProperties
    other.headers = {"mine": 1}
    assert BasicProperties().decode(encode(other)).headers == {"mine": 1}
    assert read == BasicProperties().decode(encode(original))


def test_encoded_properties_cannot_be_set() -> None:
    read = LazyProperties(encode(BasicProperties(user_id="ann", headers={"source": "a"})))
    for name in ("headers", "user_id"):
        with pytest.raises(AttributeError, match=f"^'{name}' of encoded properties can't be set"):
            setattr(read, name, None)
    assert (read.user_id, read.headers) == ("ann", {"source": "a"})


def test_a_flag_that_rabbitmq_ignores_shows_nobody_another_user() -> None:
    shifted = b"\0" + short(b"text/plain") + short(b"victim")
    for unused in (1, 2, 3):
        encoded = struct.pack(">H", TYPE | USER | unused) + short(shifted) + short(b"evil")
        assert LazyProperties(encoded).user_id == "evil"
        assert {PropertiesReader().read(encoded)[4] for _ in range(6)} == {"evil"}


@pytest.mark.parametrize(
    ("added", "expected"), [(0, {"text": "x"}), (1, None)], ids=["as large as they may be", "larger"]
)
def test_headers_of_large_properties_are_left_out_and_nothing_else(added: int, expected: Any) -> None:
    stated = BasicProperties(headers={"text": ""}, message_id="a:1", user_id="ann")
    stated.headers = {"text": "x" * (MAX_DECODED_BYTES - len(encode(stated)) + added)}
    read = LazyProperties(encode(stated))
    assert (read.message_id, read.user_id) == ("a:1", "ann")
    assert read.headers == (stated.headers if expected else None)


def test_bytes_that_are_no_text_are_escaped() -> None:
    encoded = struct.pack(">H", TYPE | USER) + short(b"\xff") + short(b"ann")
    assert LazyProperties(encoded).content_type == "\\xff"
