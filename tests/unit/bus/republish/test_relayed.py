"""A publisher's own header never says who published, or where; a relay's does."""

from typing import Any

import pytest
from pika import BasicProperties
from pika.spec import Basic

from busmon.bus.frames.delivery import Delivery
from busmon.bus.republish.relayed import find_relays, first_exchange, is_replayed, publisher
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
    assert publisher(delivery(user_id, headers), RELAYS) == expected


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
    assert is_replayed(delivery(user_id, headers), RELAYS) is expected


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
    assert first_exchange(delivery(user_id, headers, exchange), RELAYS, {"gate": "telemetry"}) == expected


def test_the_topologys_consumer_and_operator_and_the_own_user_are_relays() -> None:
    relays = load(None, "telemetry").relays
    named = {"telemetry-consumer", "telemetry-operator"}
    assert find_relays(relays, "amqp://me:secret@rabbit.example") == named | {"me"}
    assert find_relays(relays, "amqps://rabbit.example/?auth_mechanism=external") == named
