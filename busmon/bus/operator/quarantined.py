"""One body in quarantine: its identity, its cause, and its properties for a replay. Pure.

A worker states the cause in headers of its own. A body that RabbitMQ dead-lettered has the cause in `x-death`.
"""

import hashlib
import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pika import BasicProperties

from busmon.bus.republish.relayed import HEADER, RELAYED_HEADERS, REPLAYED

# The headers that a worker adds; only a worker's body has `quarantined_at`.
_WORKER_HEADERS = frozenset(
    {
        "reason",
        "detail",
        "agent",
        "original_exchange",
        "original_routing_key",
        HEADER,
        "original_expiration",
        "queue",
        "quarantined_at",
    }
)
# With these headers a second dead-lettering would look like a cycle to RabbitMQ, and RabbitMQ drops cycles.
# The last death is RabbitMQ 4's, the acquired count 4.3's.
_BROKER_HEADERS = frozenset(
    {
        "x-acquired-count",
        "x-death",
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
    """

    identity: str
    cause: QuarantineCause
    body: bytes
    properties: BasicProperties

    @property
    def publisher(self) -> str | None:
        """Return the user that published the body, by the broker or a worker; None if the publisher stated none."""
        headers = _headers(self.properties)
        return _text(headers.get(HEADER) if "quarantined_at" in headers else self.properties.user_id) or None

    def make_replay_properties(self, operator: str | None = None) -> BasicProperties:
        """Return the properties that the body was published with, without what a worker or RabbitMQ has added.

        RabbitMQ accepts only the operator's own user id, so the publisher's user id stays in a header. Another header
        says that the body comes from the quarantine: it may return there whatever else its user has sent.
        """
        headers = _headers(self.properties)
        added = _BROKER_HEADERS | RELAYED_HEADERS | (_WORKER_HEADERS if "quarantined_at" in headers else frozenset())
        properties = copy(self.properties)
        publisher = self.publisher
        properties.user_id = None if publisher is None else operator
        properties.headers = {name: value for name, value in headers.items() if name not in added}
        if properties.user_id is not None:
            properties.headers |= {HEADER: publisher, REPLAYED: True}
        return properties


def read_quarantined(routing_key: str, properties: BasicProperties, body: bytes) -> Quarantined:
    """Read a delivery of the quarantine."""
    headers = _headers(properties)
    by_worker = "quarantined_at" in headers
    cause = _read_worker_cause(headers, routing_key) if by_worker else _read_broker_cause(properties, routing_key)
    identity = _text(properties.message_id) or hashlib.sha256(body).hexdigest()[:_DIGEST_CHARACTERS]
    return Quarantined(identity, cause, body, properties)


def _read_worker_cause(headers: Mapping[str, Any], routing_key: str) -> QuarantineCause:
    return QuarantineCause(
        _seconds(headers["quarantined_at"]),
        _text(headers.get("reason")) or "unknown",
        _text(headers.get("detail")),
        _text(headers.get("agent")) or "unknown",
        _text(headers.get("original_routing_key", routing_key)),
    )


def _read_broker_cause(properties: BasicProperties, routing_key: str) -> QuarantineCause:
    """Read the latest death, RabbitMQ's first; a body without a death was published to the quarantine directly."""
    deaths = _headers(properties).get("x-death")
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
