"""The user that published a body: AMQP's `user_id`, which the broker compares with the connection's login.

The fleet and an operator publish bodies again: envelopes that waited for the ring, and bodies that leave the
quarantine. The broker accepts only their own name as `user_id`, so a header has the name of the first publisher. The
header counts only from these users. Pure.
"""

from busmon.bus.frames.delivery import Delivery

HEADER = "original_user_id"

_ENCODED = HEADER.encode()

Relays = frozenset[str]
"""The users whose header counts."""


def publisher(delivery: Delivery, relays: Relays) -> str | None:
    """Return the user that first published the body; None if the publisher didn't state one."""
    user = delivery.user_id
    if user is None or user not in relays or not _may_have_header(delivery):
        return user
    headers = delivery.properties.headers or {}
    if HEADER not in headers:
        return user
    original = headers[HEADER]
    return original if isinstance(original, str) and original else None


def _may_have_header(delivery: Delivery) -> bool:
    """Return whether the encoded properties may contain the header."""
    return _ENCODED in delivery.encoded_properties
