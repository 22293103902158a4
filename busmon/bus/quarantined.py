"""One body in quarantine: what it is called, why it is there, and how it goes back to the telemetry exchange. Pure.

A worker says why in headers of its own; a body that RabbitMQ itself dead-lettered has the reason in `x-death`.
"""

import hashlib
import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pika import BasicProperties

from busmon.bus.relayed import HEADER

# What a worker adds; `quarantined_at` tells such a body from one of RabbitMQ's.
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
# With these a second dead-lettering would look like a cycle to RabbitMQ, which ends cycles by dropping.
_BROKER_HEADERS = frozenset(
    {"x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason", "x-delivery-count"}
)
_DIGEST_CHARACTERS = 12


class Cause(NamedTuple):
    """Why a body is in quarantine.

    Attributes:
        quarantined_at: seconds since the epoch, None where nobody noted it.
        reason: a constant word; RabbitMQ's own are `rejected`, `expired`, `maxlen` and `delivery_limit`.
        agent: who published it, as far as that is known, else `unknown`.
        routing_key: the one that it was published with.
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
        identity: its `message_id`, or, where it has none, the first 12 hex digits of the body's SHA-256. It stays the
            same for as long as the body is there; copies of one body share it.
    """

    identity: str
    cause: Cause
    body: bytes
    properties: BasicProperties

    @property
    def publisher(self) -> str | None:
        """Return the user that published the body, by the broker or a worker; None if the publisher stated none."""
        headers = _headers(self.properties)
        return _text(headers.get(HEADER) if "quarantined_at" in headers else self.properties.user_id) or None

    def replayed_properties(self, operator: str | None = None) -> BasicProperties:
        """Return the properties that the body was published with, without what a worker or RabbitMQ has added.

        RabbitMQ takes no other user id than the operator's own, so the publisher's stays in a header.
        """
        headers = _headers(self.properties)
        added = _BROKER_HEADERS | {HEADER} | (_WORKER_HEADERS if "quarantined_at" in headers else frozenset())
        properties = copy(self.properties)
        publisher = self.publisher
        properties.user_id = None if publisher is None else operator
        properties.headers = {name: value for name, value in headers.items() if name not in added}
        if properties.user_id is not None:
            properties.headers[HEADER] = publisher
        return properties


def quarantined(routing_key: str, properties: BasicProperties, body: bytes) -> Quarantined:
    """What the quarantine delivered."""
    headers = _headers(properties)
    by_worker = "quarantined_at" in headers
    cause = _said_by_worker(headers, routing_key) if by_worker else _said_by_broker(properties, routing_key)
    identity = _text(properties.message_id) or hashlib.sha256(body).hexdigest()[:_DIGEST_CHARACTERS]
    return Quarantined(identity, cause, body, properties)


def _said_by_worker(headers: Mapping[str, Any], routing_key: str) -> Cause:
    return Cause(
        _seconds(headers["quarantined_at"]),
        _text(headers.get("reason")) or "unknown",
        _text(headers.get("detail")),
        _text(headers.get("agent")) or "unknown",
        _text(headers.get("original_routing_key", routing_key)),
    )


def _said_by_broker(properties: BasicProperties, routing_key: str) -> Cause:
    """The latest death, which RabbitMQ puts first; a body without one was published to the quarantine by somebody."""
    deaths = _headers(properties).get("x-death")
    agent = _text(properties.app_id) or "unknown"
    if not isinstance(deaths, list) or not deaths or not isinstance(deaths[0], dict):
        return Cause(None, "unknown", "", agent, routing_key)
    death = deaths[0]
    detail = f"dead-lettered by RabbitMQ from queue {_text(death.get('queue'))}"
    return Cause(_seconds(death.get("time")), _text(death.get("reason")) or "unknown", detail, agent, routing_key)


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
