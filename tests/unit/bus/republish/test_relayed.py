"""A publisher's own header never says who published; a relay's does."""

from typing import Any

import pytest
from pika import BasicProperties
from pika.spec import Basic

from busmon.bus.frames.delivery import Delivery
from busmon.bus.republish.relayed import publisher

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
