"""A publisher's own header never says who published; a relay's does."""

from typing import Any

import pytest
from pika import BasicProperties
from pika.spec import Basic

from busmon.bus.frames.delivery import Delivery
from busmon.bus.republish.relayed import is_replayed, publisher

RELAYS = frozenset({"fleet", "operator"})


def delivery(user_id: str | None, headers: dict[str, Any] | None) -> Delivery:
    method = Basic.Deliver("busmon", 1, redelivered=False, exchange="telemetry", routing_key="a.task")
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
