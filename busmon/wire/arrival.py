"""The AMQP properties of a body of another format that decoders need.

Properties are what a publisher sent: of any type, and any of them may be missing. Pure.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from busmon.errors import EnvelopeError
from busmon.reasons import BodyReason
from busmon.wire.json_v1 import MAX_NAME_CHARACTERS, UNKNOWN_AGENT

MAX_POINTS = 50_000
"""Values in one body, which a worker folds in one piece: one takes 20 to 40 µs. Real ones of 1 MiB have fewer."""

MAX_PARTS = 10_000
"""Sources in one body; the fleet remembers each of them for a day."""

MAX_METRIC_CHARACTERS = 255
"""Of a metric's name as its producer has it, by OpenTelemetry's limit; each of its points has a copy."""

NO_HEADERS: Mapping[str, Any] = {}

_DIGEST_BYTES = 16


class Arrival(NamedTuple):
    """A body with its properties.

    Attributes:
        max_bytes: what the body may have, after decompression.
        headers: AMQP's, by name.
        published_at: when it was published, in seconds since the epoch, if the headers say it.
        routing_key: AMQP's.
        user_id: the user that first published it, by AMQP's property, which the broker checks, or by a relay's header.
        is_celerys: it came through Celery's exchange.
    """

    body: bytes
    content_type: str | None
    content_encoding: str | None
    max_bytes: int
    app_id: Any = None
    headers: Mapping[str, Any] = NO_HEADERS
    published_at: float | None = None
    routing_key: str = ""
    user_id: Any = None
    is_celerys: bool = False

    @property
    def agent(self) -> str:
        """AMQP's `app_id`, or that nobody knows."""
        return name_of(self.app_id) or UNKNOWN_AGENT

    @property
    def source(self) -> str | None:
        """The header `source`."""
        return name_of(self.headers.get("source"))

    @property
    def sender(self) -> str:
        """Return the header `source`, or else a name of the agent, the user and the routing key that are stated."""
        if self.source:
            return self.source
        stated = (name_of(part) for part in (self.app_id, self.user_id, self.routing_key))
        joined = "/".join(filter(None, stated)) or UNKNOWN_AGENT
        return name_of(joined) or blake2b(joined.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def name_of(value: Any) -> str | None:
    """Return a text that can name a source or an agent; else None."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARACTERS else None


def too_many_points() -> EnvelopeError:
    """Make the error of a body with more values than are taken from one."""
    return EnvelopeError(BodyReason.TOO_MANY_SAMPLES, f"more than {MAX_POINTS} values; publish them in smaller bodies")


def too_many_parts() -> EnvelopeError:
    """Make the error of a body with more sources than are taken from one."""
    return EnvelopeError(BodyReason.TOO_MANY_SAMPLES, f"more than {MAX_PARTS} sources; publish them in smaller bodies")
