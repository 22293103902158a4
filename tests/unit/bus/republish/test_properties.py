import struct
from typing import Any

import pytest
from pika import BasicProperties
from pika.frame import Header

from busmon.bus.frames.properties import LazyProperties
from busmon.bus.frames.table import encode_fields
from busmon.bus.republish import properties as republish
from busmon.bus.republish.properties import MAX_HEADER_CHARACTERS, make_relayed_properties, short_text

FRAME_MAX = 131_072
OURS = {"reason": "invalid_json", "agent": "analyzer"}
ORIGIN = {"original_user_id": "agent", "original_exchange": "telemetry"}


def encoded(**stated: Any) -> LazyProperties:
    return LazyProperties.of(BasicProperties(**stated))


def quarantine_properties(original: BasicProperties, *args: Any) -> LazyProperties:
    return republish.quarantine_properties(LazyProperties.of(original), *args)


def forwarded(original: BasicProperties, origin: dict[str, Any], relay: str | None = None) -> LazyProperties:
    return make_relayed_properties(LazyProperties.of(original), origin, relay, FRAME_MAX)


def nested(depth: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for _ in range(depth):
        table = {"": table}
    return table


def test_the_original_properties_are_kept_and_the_headers_merged() -> None:
    original = BasicProperties(message_id="a:1", app_id="analyzer", timestamp=7, headers={"source": "a"})
    properties = quarantine_properties(original, OURS, FRAME_MAX)
    assert (properties.message_id, properties.app_id, properties.timestamp) == ("a:1", "analyzer", 7)
    assert properties.headers == {"source": "a", **OURS}


def test_the_delivery_itself_is_left_as_it_is() -> None:
    original = BasicProperties(headers={"source": "a"}, expiration="1000")
    quarantine_properties(original, OURS, FRAME_MAX)
    assert original == BasicProperties(headers={"source": "a"}, expiration="1000")


def test_a_body_in_quarantine_is_persistent_and_does_not_expire() -> None:
    properties = quarantine_properties(BasicProperties(delivery_mode=1, expiration="1000"), OURS, FRAME_MAX)
    assert (properties.delivery_mode, properties.expiration) == (2, None)
    assert properties.headers["original_expiration"] == "1000"


def test_another_users_id_is_noted_and_not_claimed() -> None:
    noted = {**OURS, "original_user_id": "agent"}
    properties = quarantine_properties(BasicProperties(user_id="agent"), noted, FRAME_MAX)
    assert properties.user_id is None
    assert properties.headers["original_user_id"] == "agent"
    assert quarantine_properties(BasicProperties(user_id="agent"), noted, FRAME_MAX, "fleet").user_id == "fleet"


def test_headers_of_the_fleets_own_are_left_out_of_what_a_publisher_sent() -> None:
    claims = {
        "original_user_id": "victim",
        "original_exchange": "celeryev",
        "original_routing_key": "victim.task",
        "original_expiration": "1",
        "quarantined_at": "1763794800.5",
        "replayed": True,
        "reason": "no_user",
        "detail": "mine",
        "agent": "victim",
        "queue": "telemetry.fold.0",
    }
    claim = BasicProperties(user_id="evil", headers={**claims, "source": "a"})
    assert quarantine_properties(claim, OURS, FRAME_MAX).headers == {"source": "a", **OURS}
    relayed = forwarded(claim, ORIGIN, "fleet")
    assert (relayed.user_id, relayed.headers) == ("fleet", {"source": "a", **ORIGIN})
    assert forwarded(claim, {}).headers == {"source": "a"}


DOUBLE = encode_fields({"source": "a"}) + b"\x06numberd" + struct.pack(">d", 1e300)
"""pika reads a number from a double that it can't write."""

BEYOND = encode_fields({"source": "a"}) + b"\x04timeT" + struct.pack(">Q", 1 << 40)
"""A time beyond the year 9999, which pika can't read."""


def test_headers_that_pika_cannot_encode_are_kept_in_quarantine_as_they_are() -> None:
    original = LazyProperties.join(BasicProperties(message_id="a:1"), DOUBLE)
    properties = quarantine_properties(original, OURS, FRAME_MAX)
    assert (properties.message_id, properties.fields) == ("a:1", DOUBLE + encode_fields(OURS))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(BEYOND, id="a time that pika cannot decode"),
        pytest.param(encode_fields({"text": "x" * 16_384}), id="too large"),
        pytest.param(b"\x04deep" + b"F\0\0\4\0" * 400, id="no table"),
    ],
)
def test_original_headers_that_cannot_be_shown_are_left_out_of_the_quarantine(fields: bytes) -> None:
    properties = quarantine_properties(LazyProperties.join(BasicProperties(message_id="a:1"), fields), OURS, FRAME_MAX)
    assert properties.headers == OURS
    assert properties.message_id == "a:1"


@pytest.mark.parametrize("value", ["x" * 1_000_000, "\ud800" * 5, "é" * 2000])
def test_values_of_our_headers_can_always_be_sent(value: str) -> None:
    original = LazyProperties(encoded(message_id="x" * 255).encoded.replace(b"x", b"\xff"))
    properties = quarantine_properties(original, {"agent": value}, FRAME_MAX)
    assert len(Header(1, 0, properties).marshal()) <= FRAME_MAX
    assert len(properties.headers["agent"]) <= MAX_HEADER_CHARACTERS


def test_a_short_text_is_cut_between_characters() -> None:
    assert short_text("é" * 200) == "é" * 127
    assert short_text("task.plan") == "task.plan"


def test_what_is_forwarded_keeps_its_properties_but_for_another_users_id() -> None:
    original = BasicProperties(
        content_type="text/plain",
        content_encoding="gzip",
        message_id="a:1",
        expiration="1000",
        delivery_mode=1,
        headers={"source": "a", "published_at_ns": 7},
    )
    assert forwarded(original, {}) == original
    properties = forwarded(BasicProperties(user_id="agent"), ORIGIN, "fleet")
    assert (properties.user_id, properties.headers) == ("fleet", ORIGIN)
    assert b"".join(properties.encode()) == encoded(user_id="fleet", headers=ORIGIN).encoded


@pytest.mark.parametrize("fields", [DOUBLE, BEYOND])
def test_what_is_forwarded_keeps_headers_that_pika_cannot_read_or_write(fields: bytes) -> None:
    claims = encode_fields({"replayed": True, "original_user_id": "victim"})
    original = LazyProperties.join(BasicProperties(priority=3), claims + fields + claims)
    assert forwarded(original, {}).fields == fields
    relayed = forwarded(original, ORIGIN, "fleet")
    assert (relayed.priority, relayed.user_id, relayed.fields) == (3, "fleet", fields + encode_fields(ORIGIN))


def test_what_is_forwarded_keeps_its_source_where_its_headers_fill_a_frame() -> None:
    original = encoded(headers={"text": "x" * 8000, "source": "a"})
    properties = make_relayed_properties(original, ORIGIN, "fleet", 8000)
    assert properties.headers == {"source": "a", **ORIGIN}


def test_of_too_large_properties_only_the_origin_is_forwarded() -> None:
    origin = {**ORIGIN, "large_properties": 131_000}
    assert forwarded(BasicProperties(headers={"source": "a", "text": "x" * FRAME_MAX}), origin).headers == origin
