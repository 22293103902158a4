"""A publisher's own header never says who published, or where; a relay's does."""

from typing import Any

import pytest
from pika import BasicProperties
from pika.spec import Basic

from busmon.bus.frames.delivery import Delivery
from busmon.bus.republish.relayed import FirstPublish, find_relays, read_first_publish, state_first_publish
from busmon.bus.topology.topology import load

RELAYS = frozenset({"fleet", "operator"})


def delivery(user_id: str | None, headers: dict[str, Any] | None, exchange: str = "telemetry") -> Delivery:
    method = Basic.Deliver("busmon", 1, redelivered=False, exchange=exchange, routing_key="a.task")
    return Delivery.from_pika(method, BasicProperties(user_id=user_id, headers=headers), b"{}")


@pytest.mark.parametrize(
    ("user_id", "headers", "expected"),
    [
        (None, None, None),
        ("alice", None, "alice"),
        ("fleet", None, "fleet"),
        ("fleet", {"source": "a"}, "fleet"),
        ("fleet", {"original_user_id": "alice"}, "alice"),
        ("operator", {"original_user_id": "alice"}, "alice"),
        ("fleet", {"original_user_id": ""}, None),
        ("fleet", {"original_user_id": 7}, None),
        ("evil", {"original_user_id": "alice"}, "evil"),
        (None, {"original_user_id": "alice"}, None),
    ],
)
def test_the_first_publisher_is_who_the_broker_checked_or_a_relay_names(
    user_id: str | None, headers: dict[str, Any] | None, expected: str | None
) -> None:
    assert read_first_publish(delivery(user_id, headers), RELAYS).user == expected


@pytest.mark.parametrize(
    ("user_id", "headers", "expected"),
    [
        ("operator", {"original_user_id": "alice", "replayed": True}, True),
        ("fleet", {"replayed": False}, True),
        ("operator", {"original_user_id": "alice"}, False),
        ("operator", {"source": "replayed"}, False),
        ("operator", None, False),
        ("evil", {"replayed": True}, False),
        (None, {"replayed": True}, False),
    ],
)
def test_only_a_relay_says_that_a_body_was_in_quarantine(
    user_id: str | None, headers: dict[str, Any] | None, *, expected: bool
) -> None:
    assert read_first_publish(delivery(user_id, headers), RELAYS).is_replayed is expected


@pytest.mark.parametrize(
    ("user_id", "exchange", "headers", "expected"),
    [
        (None, "celeryev", None, "celeryev"),
        (None, "telemetry", {"original_exchange": "celeryev"}, "telemetry"),
        ("evil", "telemetry", {"original_exchange": "celeryev"}, "telemetry"),
        ("fleet", "telemetry", None, "telemetry"),
        ("fleet", "gate", {"original_exchange": "celeryev"}, "celeryev"),
        ("operator", "telemetry", {"original_exchange": "celeryev"}, "celeryev"),
        ("operator", "telemetry", {"original_exchange": 7}, "telemetry"),
        ("operator", "telemetry", {"original_exchange": ""}, "telemetry"),
        (None, "gate", {"original_exchange": "celeryev"}, "celeryev"),
        (None, "gate", None, "telemetry"),
    ],
)
def test_the_first_exchange_is_the_brokers_or_a_relay_names_it(
    user_id: str | None, exchange: str, headers: dict[str, Any] | None, expected: str
) -> None:
    found = read_first_publish(delivery(user_id, headers, exchange), RELAYS, {"gate": "telemetry"})
    assert found.exchange == expected


@pytest.mark.parametrize(
    ("first", "headers"),
    [
        (FirstPublish(None, "telemetry"), {}),
        (FirstPublish("alice", "telemetry"), {"original_user_id": "alice"}),
        (FirstPublish(None, "celeryev"), {"original_user_id": "", "original_exchange": "celeryev"}),
        (FirstPublish("alice", "telemetry", is_replayed=True), {"original_user_id": "alice", "replayed": True}),
        (
            FirstPublish(None, "telemetry", large_bytes=16_385),
            {"original_user_id": "", "large_properties": 16_385},
        ),
        (
            FirstPublish("alice", "celeryev", is_replayed=True, large_bytes=20_000),
            {
                "original_user_id": "alice",
                "original_exchange": "celeryev",
                "replayed": True,
                "large_properties": 20_000,
            },
        ),
    ],
)
def test_a_first_publish_is_read_as_it_was_stated(first: FirstPublish, headers: dict[str, Any]) -> None:
    assert state_first_publish(first, "telemetry") == headers
    relayed = delivery("fleet" if headers else None, headers)
    assert read_first_publish(relayed, RELAYS) == first
    assert read_first_publish(relayed._replace(exchange="gate"), RELAYS, {"gate": "telemetry"}) == first


@pytest.mark.parametrize("size", [True, -1, 0, "16385", None])
def test_a_size_that_is_none_is_left_out(size: Any) -> None:
    headers = {"original_user_id": "alice", "large_properties": size}
    assert read_first_publish(delivery("fleet", headers), RELAYS).large_bytes == 0


@pytest.mark.parametrize("user_id", ["evil", None])
def test_a_publishers_own_size_does_not_count(user_id: str | None) -> None:
    headers = {"original_user_id": "alice", "large_properties": 1, "text": "x" * 17_000}
    found = read_first_publish(delivery(user_id, headers), RELAYS)
    assert found.large_bytes == len(delivery(user_id, headers).encoded_properties)


@pytest.mark.parametrize(("added", "size"), [(0, 0), (1, 16_385)])
def test_counts_that_rabbitmq_adds_make_properties_no_larger(added: int, size: int) -> None:
    others = len(delivery("alice", {"text": ""}).encoded_properties)
    headers = {"text": "x" * (16_384 - others + added)}
    assert read_first_publish(delivery("alice", headers), RELAYS).large_bytes == size
    redelivered = delivery("alice", headers | {"x-acquired-count": 4, "x-delivery-count": 2})
    assert read_first_publish(redelivered, RELAYS).large_bytes == size


def test_the_topologys_consumer_and_operator_and_the_own_user_are_relays() -> None:
    relays = load(None, "telemetry").relays
    named = {"telemetry-consumer", "telemetry-operator"}
    assert find_relays(relays, "amqp://me:secret@rabbit.example") == named | {"me"}
    assert find_relays(relays, "amqps://rabbit.example/?auth_mechanism=external") == named
