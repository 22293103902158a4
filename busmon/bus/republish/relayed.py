"""The user that published a body: AMQP's `user_id`, which the broker compares with the connection's login.

The fleet and an operator publish bodies again: envelopes that waited for the ring, and bodies that leave the
quarantine. The broker accepts only their own name as `user_id`, so a header has the name of the first publisher, and
another one says that a body was in quarantine before. The headers count only from these users. Pure.
"""

from busmon.bus.frames.delivery import Delivery

HEADER = "original_user_id"

REPLAYED = "replayed"
"""The header of a body that an operator replays."""

RELAYED_HEADERS = frozenset({HEADER, REPLAYED})
"""The headers that only a relay may set."""

Relays = frozenset[str]
"""The users whose header counts."""


def publisher(delivery: Delivery, relays: Relays) -> str | None:
    """Return the user that first published the body; None if the publisher didn't state one."""
    user = delivery.user_id
    if user is None or user not in relays or not _may_have_header(delivery, HEADER):
        return user
    headers = delivery.properties.headers or {}
    if HEADER not in headers:
        return user
    original = headers[HEADER]
    return original if isinstance(original, str) and original else None


def is_replayed(delivery: Delivery, relays: Relays) -> bool:
    """Return whether the body comes from the quarantine, by the word of a relay."""
    if delivery.user_id not in relays or not _may_have_header(delivery, REPLAYED):
        return False
    return REPLAYED in (delivery.properties.headers or {})


def _may_have_header(delivery: Delivery, name: str) -> bool:
    """Return whether the encoded properties may contain the header."""
    return name.encode() in delivery.encoded_properties
