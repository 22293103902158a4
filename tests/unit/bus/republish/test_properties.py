from typing import Any

import pytest
from pika import BasicProperties
from pika.frame import Header

from busmon.bus.republish.properties import (
    MAX_HEADER_CHARACTERS,
    make_forwarded_properties,
    quarantine_properties,
    short_text,
)

FRAME_MAX = 131_072
OURS = {"reason": "invalid_json", "agent": "analyzer"}
ORIGIN = {"original_user_id": "agent", "original_exchange": "telemetry"}


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
    forwarded = make_forwarded_properties(claim, FRAME_MAX, ORIGIN, "fleet")
    assert (forwarded.user_id, forwarded.headers) == ("fleet", {"source": "a", **ORIGIN})
    assert make_forwarded_properties(claim, FRAME_MAX, {}).headers == {"source": "a"}


UNSENDABLE = pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"n": 10**300}, id="a number that pika reads from a double and cannot write"),
        pytest.param({"text": "x" * FRAME_MAX}, id="larger than a frame"),
        pytest.param(nested(2000), id="nested deeper than Python recurses"),
    ],
)


@UNSENDABLE
def test_original_headers_that_cannot_be_sent_are_left_out(headers: dict[str, Any]) -> None:
    properties = quarantine_properties(BasicProperties(message_id="a:1", headers=headers), OURS, FRAME_MAX)
    assert properties.headers == OURS
    assert properties.message_id == "a:1"


@pytest.mark.parametrize("value", ["x" * 1_000_000, "\ud800" * 5, "é" * 2000])
def test_values_of_our_headers_can_always_be_sent(value: str) -> None:
    properties = quarantine_properties(BasicProperties(message_id="\\xff" * 255), {"agent": value}, FRAME_MAX)
    assert len(Header(1, 0, properties).marshal()) <= FRAME_MAX
    assert len(properties.headers["agent"]) <= MAX_HEADER_CHARACTERS


def test_a_short_text_is_cut_between_characters() -> None:
    assert short_text("é" * 200) == "é" * 127
    assert short_text("task.plan") == "task.plan"


def test_what_is_forwarded_keeps_its_properties_but_for_another_users_id() -> None:
    original = BasicProperties(
        message_id="a:1", expiration="1000", delivery_mode=1, headers={"source": "a", "published_at_ns": 7}
    )
    assert make_forwarded_properties(original, FRAME_MAX, {}) == original
    properties = make_forwarded_properties(BasicProperties(user_id="agent"), FRAME_MAX, ORIGIN, "fleet")
    assert (properties.user_id, properties.headers) == ("fleet", ORIGIN)


@UNSENDABLE
def test_what_is_forwarded_keeps_its_source_whatever_else_cannot_be_sent(headers: dict[str, Any]) -> None:
    properties = make_forwarded_properties(BasicProperties(headers={"source": "a", **headers}), FRAME_MAX, ORIGIN)
    assert properties.headers == {"source": "a", **ORIGIN}
