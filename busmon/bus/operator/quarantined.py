"""One body in quarantine: its identity, its cause, and its properties for a replay. Pure.

A worker states cause and origin in headers of its own. A body that RabbitMQ dead-lettered has the cause in `x-death`,
and every header that its publisher has set. So headers count only with the `user_id` of a relay, which the broker has
checked.
"""

import hashlib
import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pika import BasicProperties

from busmon.bus.republish.relayed import (
    EXCHANGE,
    FLEETS,
    ORIGINS,
    QUARANTINED_AT,
    REPLAYED,
    Relays,
    first_user,
    leave_out,
    make_origin,
)

_DEATHS = "x-death"
# With these headers a second dead-lettering would look like a cycle to RabbitMQ, and RabbitMQ drops cycles.
# The last death is RabbitMQ 4's, the acquired count 4.3's.
_BROKER_HEADERS = frozenset(
    {
        "x-acquired-count",
        _DEATHS,
        "x-delivery-count",
        *(f"x-{which}-death-{what}" for which in ("first", "last") for what in ("exchange", "queue", "reason")),
    }
)
_DIGEST_CHARACTERS = 12


class QuarantineCause(NamedTuple):
    """The cause for which a body is in quarantine.

    Attributes:
        quarantined_at: seconds since the epoch; None if no header has the time.
        reason: a constant word; RabbitMQ's own are `rejected`, `expired`, `maxlen` and `delivery_limit`.
        agent: the agent that published the body; `unknown` if it isn't known.
        routing_key: the routing key of the first publish.
    """

    quarantined_at: float | None
    reason: str
    detail: str
    agent: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A body in quarantine.

    Attributes:
        identity: the `message_id`, or without one the first 12 hex digits of the body's SHA-256. The identity is
            constant; copies of one body share it.
        publisher: the user that published the body, by the broker or a relay; None if the publisher stated none.
        exchange: the exchange that the body was first published to, by a relay; None if no relay states it.
        is_by_worker: a worker has added headers to the publisher's.
    """

    identity: str
    cause: QuarantineCause
    body: bytes
    properties: BasicProperties
    publisher: str | None
    exchange: str | None
    is_by_worker: bool

    def make_replay_properties(self, operator: str | None = None, exchange: str = "telemetry") -> BasicProperties:
        """Return the properties that the body was published with, without what a worker or RabbitMQ has added.

        RabbitMQ accepts only the operator's own user id, and states the exchange of the replay. So the publisher's user
        id stays in a header, and so does another exchange than that of the replay. Another header says that the body
        comes from the quarantine: it may return there whatever else its user has sent.

        Args:
            operator: the user that publishes the body now; None if it isn't known.
            exchange: published to.
        """
        properties = copy(self.properties)
        properties.headers = leave_out(
            _BROKER_HEADERS | (FLEETS if self.is_by_worker else ORIGINS), self.properties.headers
        )
        origin = {} if operator is None else make_origin(self.publisher, self.exchange, exchange)
        properties.user_id = operator if origin else None
        properties.headers |= origin | ({REPLAYED: True} if origin else {})
        return properties


def read_quarantined(
    routing_key: str, properties: BasicProperties, body: bytes, relays: Relays = frozenset()
) -> Quarantined:
    """Read a delivery of the quarantine.

    Args:
        routing_key: the delivery's.
        properties: the delivery's.
        body: the delivery's.
        relays: the users whose headers count.
    """
    headers, user = _headers(properties), _text(properties.user_id) or None
    is_relayed = user in relays
    # A worker that doesn't know its own user states none. Its cause is shown, as only the fleet may publish there.
    is_by_worker = QUARANTINED_AT in headers and (is_relayed or (user is None and _DEATHS not in headers))
    return Quarantined(
        _text(properties.message_id) or hashlib.sha256(body).hexdigest()[:_DIGEST_CHARACTERS],
        _read_worker_cause(headers, routing_key) if is_by_worker else _read_broker_cause(properties, routing_key),
        body,
        properties,
        first_user(None if is_by_worker else user, headers) if is_relayed else user,
        _text(headers.get(EXCHANGE)) or None if is_relayed else None,
        is_by_worker,
    )


def _read_worker_cause(headers: Mapping[str, Any], routing_key: str) -> QuarantineCause:
    return QuarantineCause(
        _seconds(headers[QUARANTINED_AT]),
        _text(headers.get("reason")) or "unknown",
        _text(headers.get("detail")),
        _text(headers.get("agent")) or "unknown",
        _text(headers.get("original_routing_key", routing_key)),
    )


def _read_broker_cause(properties: BasicProperties, routing_key: str) -> QuarantineCause:
    """Read the latest death, RabbitMQ's first; a body without a death was published to the quarantine directly."""
    deaths = _headers(properties).get(_DEATHS)
    agent = _text(properties.app_id) or "unknown"
    if not isinstance(deaths, list) or not deaths or not isinstance(deaths[0], dict):
        return QuarantineCause(None, "unknown", "", agent, routing_key)
    death = deaths[0]
    detail = f"dead-lettered by RabbitMQ from queue {_text(death.get('queue'))}"
    return QuarantineCause(
        _seconds(death.get("time")), _text(death.get("reason")) or "unknown", detail, agent, routing_key
    )


def _headers(properties: BasicProperties) -> Mapping[str, Any]:
    return properties.headers or {}


def _seconds(value: Any) -> float | None:
    try:
        seconds = value.timestamp() if isinstance(value, datetime) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return "" if value is None else str(value)
