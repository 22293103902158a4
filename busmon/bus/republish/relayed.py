"""The first publish of a body that was published again: its user and its exchange.

The fleet and an operator publish bodies again: envelopes that waited for the ring, bodies that go to the quarantine,
and bodies that leave it. The broker accepts only their own name as `user_id`, which it compares with the connection's
login, and states the last exchange. So headers have the first user and the first exchange. The headers count only from
these users, and whoever publishes again leaves out what the publisher had set under their names. Pure.
"""

from collections.abc import Mapping
from typing import Any

from busmon.bus.connect.connection import user_id
from busmon.bus.frames.delivery import Delivery

HEADER = "original_user_id"
"""The first user; empty if it wasn't stated."""

EXCHANGE = "original_exchange"
"""The first exchange."""

QUARANTINED_AT = "quarantined_at"
"""The header of a body that a worker quarantined."""

REPLAYED = "replayed"
"""The header of a body that an operator replays."""

ORIGINS = frozenset({HEADER, EXCHANGE, QUARANTINED_AT, REPLAYED, "original_routing_key", "original_expiration"})
"""The headers that say where a body is from."""

FLEETS = ORIGINS | {"reason", "detail", "agent", "queue"}
"""All headers that the fleet or an operator adds to a body."""

Relays = frozenset[str]
"""The users whose headers count."""


Gates = Mapping[str, str]
"""Exchanges that only relays may publish to, and for each the one that publishers publish to."""

NO_GATES: Gates = {}


def find_relays(named: Relays, amqp_url: str) -> Relays:
    """Return the topology's relays and the URL's own user."""
    own = user_id(amqp_url)
    return named if own is None else named | {own}


def publisher(delivery: Delivery, relays: Relays) -> str | None:
    """Return the user that first published the body; None if the publisher didn't state one."""
    user = delivery.user_id
    if user not in relays or not _may_have(delivery, HEADER):
        return user
    return first_user(user, delivery.properties.headers or {})


def first_user(relay: str | None, headers: Mapping[str, Any]) -> str | None:
    """Return the first user by the headers of a relay, which is its own publisher where it names none."""
    if HEADER not in headers:
        return relay
    original = headers[HEADER]
    return original if isinstance(original, str) and original else None


def first_exchange(delivery: Delivery, relays: Relays, gates: Gates = NO_GATES) -> str:
    """Return the exchange that the body was first published to.

    Args:
        delivery: the body.
        relays: the users whose header counts.
        gates: here the header counts without a user, since a relay that doesn't know its user states none.
    """
    here = gates.get(delivery.exchange, delivery.exchange)
    is_relayed = delivery.user_id in relays or delivery.exchange in gates
    if not is_relayed or not _may_have(delivery, EXCHANGE):
        return here
    original = (delivery.properties.headers or {}).get(EXCHANGE)
    return original if isinstance(original, str) and original else here


def is_replayed(delivery: Delivery, relays: Relays) -> bool:
    """Return whether the body comes from the quarantine, by the word of a relay."""
    if delivery.user_id not in relays or not _may_have(delivery, REPLAYED):
        return False
    return REPLAYED in (delivery.properties.headers or {})


def make_origin(user: str | None, exchange: str | None, here: str) -> dict[str, str]:
    """Return the headers by which a relay states a body's origin; none if no user was stated and it is from here.

    Args:
        user: the first; None if the publisher stated none.
        exchange: the first; None if it isn't known.
        here: the exchange that publishers publish to.
    """
    elsewhere = {} if exchange is None or exchange == here else {EXCHANGE: exchange}
    return {HEADER: user or "", **elsewhere} if user or elsewhere else {}


def leave_out(names: frozenset[str], headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the headers without those of these names."""
    return {name: value for name, value in (headers or {}).items() if name not in names}


def _may_have(delivery: Delivery, header: str) -> bool:
    """Return whether the encoded properties may contain the header."""
    return header.encode() in delivery.encoded_properties
