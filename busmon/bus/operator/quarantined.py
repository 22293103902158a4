"""One body in quarantine: its identity, its cause, and its properties for a replay. Pure.

A worker states cause and origin in headers of its own. A body that RabbitMQ dead-lettered has the cause in `x-death`,
and every header that its publisher has set. So headers count only with the `user_id` of a relay, which the broker has
checked.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pika import BasicProperties, spec

from busmon.bus.frames.properties import LazyProperties
from busmon.bus.frames.table import leave_out, read_fields
from busmon.bus.republish.properties import make_relayed_properties
from busmon.bus.republish.relayed import (
    COUNTS,
    EXCHANGE,
    FLEETS,
    HEADER,
    ORIGINS,
    QUARANTINED_AT,
    FirstPublish,
    Relays,
    first_user,
    measure_large,
    read_size,
    state_first_publish,
)
from busmon.bus.topology.topology import Topology

_DEATHS = "x-death"
# With these headers a second dead-lettering would look like a cycle to RabbitMQ, and RabbitMQ drops cycles.
# The last death is RabbitMQ 4's, the acquired count 4.3's.
_BROKER_HEADERS = frozenset(
    {
        *COUNTS,
        _DEATHS,
        *(f"x-{which}-death-{what}" for which in ("first", "last") for what in ("exchange", "queue", "reason")),
    }
)
_READ = FLEETS | {_DEATHS}
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
        large_bytes: the size of the properties of the first publish, if they are too large and no worker has left out
            the headers; else 0.
    """

    identity: str
    cause: QuarantineCause
    body: bytes
    properties: LazyProperties
    publisher: str | None
    exchange: str | None
    is_by_worker: bool
    large_bytes: int

    def make_replay_properties(
        self, operator: str | None = None, exchange: str = "telemetry", frame_max: int = spec.FRAME_MAX_SIZE
    ) -> LazyProperties:
        """Return the properties that the body was published with, without what a worker or RabbitMQ has added.

        RabbitMQ accepts only the operator's own user id, and states the exchange of the replay. So the publisher's user
        id stays in a header, and so does another exchange than that of the replay. Another header says that the body
        comes from the quarantine: it may return there whatever else its user has sent.

        Args:
            operator: the user that publishes the body now; None if it isn't known.
            exchange: published to.
            frame_max: the largest frame that the connection may send, in bytes.
        """
        first = FirstPublish(self.publisher, self.exchange or exchange, is_replayed=True, large_bytes=self.large_bytes)
        origin = {} if operator is None else state_first_publish(first, exchange)
        added = _BROKER_HEADERS | (FLEETS if self.is_by_worker else ORIGINS)
        return make_relayed_properties(self.properties, origin, operator, frame_max, added=added)

    def choose_exchange(self, operator: str | None, topology: Topology) -> str:
        """Return the exchange of a replay.

        It is the publishers'. An operator that states no user can't vouch for another exchange in a header, so RabbitMQ
        has to state it: the replay then goes to the exchange of the first publish, if that is one of Celery's.
        """
        is_celerys = operator is None and self.exchange in topology.celery_exchanges
        return self.exchange if is_celerys and self.exchange else topology.exchange


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
    properties = LazyProperties.of(properties)
    headers, user = read_fields(properties.fields, _READ), properties.user_id or None
    is_relayed = user in relays
    # A worker that doesn't know its own user states none. Its cause and exchange count, as only the fleet may publish
    # to the quarantine; the user that such a worker names doesn't.
    is_by_worker = QUARANTINED_AT in headers and (is_relayed or (user is None and _DEATHS not in headers))
    if is_by_worker:
        cause = _read_worker_cause(headers, routing_key)
    else:
        cause = _read_broker_cause(properties.app_id, headers, routing_key)
    return Quarantined(
        _text(properties.message_id) or hashlib.sha256(body).hexdigest()[:_DIGEST_CHARACTERS],
        cause,
        body,
        properties,
        first_user(None if is_by_worker else user, headers) if is_relayed else user,
        _text(headers.get(EXCHANGE)) or None if is_relayed or is_by_worker else None,
        is_by_worker,
        0 if is_by_worker else _read_large(properties, headers if is_relayed else {}),
    )


def _read_worker_cause(headers: Mapping[str, Any], routing_key: str) -> QuarantineCause:
    return QuarantineCause(
        _seconds(headers[QUARANTINED_AT]),
        _text(headers.get("reason")) or "unknown",
        _text(headers.get("detail")),
        _text(headers.get("agent")) or "unknown",
        _text(headers.get("original_routing_key", routing_key)),
    )


def _read_broker_cause(app_id: Any, headers: Mapping[str, Any], routing_key: str) -> QuarantineCause:
    """Read the latest death, RabbitMQ's first; a body without a death was published to the quarantine directly."""
    deaths = headers.get(_DEATHS)
    agent = _text(app_id) or "unknown"
    if not isinstance(deaths, list) or not deaths or not isinstance(deaths[0], dict):
        return QuarantineCause(None, "unknown", "", agent, routing_key)
    death = deaths[0]
    detail = f"dead-lettered by RabbitMQ from queue {_text(death.get('queue'))}"
    return QuarantineCause(
        _seconds(death.get("time")), _text(death.get("reason")) or "unknown", detail, agent, routing_key
    )


def _read_large(properties: LazyProperties, stated: Mapping[str, Any]) -> int:
    """Return the size of too large properties; 0 if they aren't, as a relay that states a user has checked."""
    if HEADER in stated:
        return read_size(stated)
    published = LazyProperties.join(properties.without_headers(), leave_out(_BROKER_HEADERS, properties.fields))
    return measure_large(published.encoded)


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
