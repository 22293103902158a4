"""The first publish of a body that was published again: its user, its exchange, and the size of its properties.

The fleet and an operator publish bodies again: envelopes that waited for the ring, bodies that go to the quarantine,
and bodies that leave it. The broker accepts only their own name as `user_id`, which it compares with the connection's
login, and states the last exchange. So headers have the first user and the first exchange. The headers count only from
these users, and whoever publishes again leaves out what the publisher had set under their names. Pure.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from busmon.bus.connect.connection import user_id
from busmon.bus.frames.delivery import Delivery
from busmon.bus.frames.properties import MAX_DECODED_BYTES, MAX_PROPERTIES_BYTES, LazyProperties
from busmon.bus.frames.table import keep, read_fields

HEADER = "original_user_id"
"""The first user; empty if it wasn't stated."""

EXCHANGE = "original_exchange"
"""The first exchange."""

QUARANTINED_AT = "quarantined_at"
"""The header of a body that a worker quarantined."""

REPLAYED = "replayed"
"""The header of a body that an operator replays."""

LARGE = "large_properties"
"""The header of a body whose first publish had too large properties: their size in bytes. A relay sends no others."""

ORIGINS = frozenset({HEADER, EXCHANGE, QUARANTINED_AT, REPLAYED, LARGE, "original_routing_key", "original_expiration"})
"""The headers that say where a body is from."""

FLEETS = ORIGINS | {"reason", "detail", "agent", "queue"}
"""All headers that the fleet or an operator adds to a body."""

COUNTS = frozenset({"x-acquired-count", "x-delivery-count"})
"""The headers that RabbitMQ adds when it redelivers."""

_HEADER_NAME, _LARGE_NAME = HEADER.encode(), LARGE.encode()
_NAMES = tuple(name.encode() for name in (HEADER, EXCHANGE, REPLAYED, LARGE))

Relays = frozenset[str]
"""The users whose headers count."""


Gates = Mapping[str, str]
"""Exchanges that only relays may publish to, and for each the one that publishers publish to."""

NO_GATES: Gates = {}


def find_relays(named: Relays, amqp_url: str) -> Relays:
    """Return the topology's relays and the URL's own user."""
    own = user_id(amqp_url)
    return named if own is None else named | {own}


class FirstPublish(NamedTuple):
    """The first publish of a body, by the broker or a relay.

    Attributes:
        user: the user that published; None if the publisher didn't state one.
        exchange: published to.
        is_replayed: the body has been in the quarantine.
        large_bytes: the size of its properties, if they are too large; else 0.
    """

    user: str | None
    exchange: str
    is_replayed: bool = False
    large_bytes: int = 0


def read_first_publish(delivery: Delivery, relays: Relays, gates: Gates = NO_GATES) -> FirstPublish:
    """Read the first publish of a delivery.

    Args:
        delivery: the body.
        relays: the users whose headers count.
        gates: here all headers but the user's count without a user, since a relay that doesn't know its user states
            none.
    """
    is_by_relay, is_gate = delivery.user_id in relays, delivery.exchange in gates
    stated = _read_stated(delivery) if is_by_relay or is_gate else {}
    return FirstPublish(
        first_user(delivery.user_id, stated) if is_by_relay else delivery.user_id,
        _text(stated.get(EXCHANGE)) or gates.get(delivery.exchange, delivery.exchange),
        REPLAYED in stated,
        read_size(stated) if HEADER in stated else measure_large(delivery.encoded_properties),
    )


def state_first_publish(first: FirstPublish, here: str) -> dict[str, Any]:
    """Return the headers by which a relay states a first publish.

    There are none if no user was stated, and the broker will state the rest.

    Args:
        first: the first publish.
        here: the exchange that publishers publish to, which needs no header.
    """
    if first.user is None and first.exchange == here and not first.large_bytes:
        return {}
    return {
        HEADER: first.user or "",
        **({} if first.exchange == here else {EXCHANGE: first.exchange}),
        **({REPLAYED: True} if first.is_replayed else {}),
        **({LARGE: first.large_bytes} if first.large_bytes else {}),
    }


def first_user(relay: str | None, headers: Mapping[str, Any]) -> str | None:
    """Return the first user by the headers of a relay, which is its own publisher where it names none."""
    return _text(headers[HEADER]) if HEADER in headers else relay


def read_size(headers: Mapping[str, Any]) -> int:
    """Return the size in bytes of too large properties by the headers of a relay; 0 if it names none."""
    size = headers.get(LARGE)
    return size if isinstance(size, int) and size is not True and size > 0 else 0


def is_relayed(encoded: Iterable[bytes]) -> bool:
    """Return whether a relay may have stated the first user in one of these encoded properties."""
    return _HEADER_NAME in b"".join(encoded)


def may_be_large(encoded: Collection[bytes]) -> bool:
    """Return whether one of these encoded properties may be too large, or have been at its first publish."""
    return max(map(len, encoded)) > MAX_PROPERTIES_BYTES or _LARGE_NAME in b"".join(encoded)


def measure_large(encoded: bytes) -> int:
    """Return the size in bytes of encoded properties that are too large; 0 if they aren't.

    RabbitMQ's counts of deliveries are no part of it: with them a body might be too large only when it is redelivered.
    """
    size = len(encoded)
    if MAX_PROPERTIES_BYTES < size <= MAX_DECODED_BYTES:
        size -= len(keep(COUNTS, LazyProperties(encoded).fields))
    return size if size > MAX_PROPERTIES_BYTES else 0


def _read_stated(delivery: Delivery) -> Mapping[str, Any]:
    """Return the headers that say where a relayed body is from; no relay sends larger properties."""
    encoded = delivery.encoded_properties
    if len(encoded) > MAX_DECODED_BYTES or not any(name in encoded for name in _NAMES):
        return {}
    return read_fields(delivery.properties.fields, ORIGINS)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
