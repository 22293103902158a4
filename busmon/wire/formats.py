"""The choice of a body's decoder: by the settings' rules for its routing key, then its content type, then its JSON.

busmon's own JSON is asked for first wherever it can be, so that it costs nothing more. One object a queue; one thread.
"""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, NamedTuple, Protocol

import orjson

from busmon.bounded import BoundedCache
from busmon.errors import EnvelopeError
from busmon.reasons import BodyReason
from busmon.settings.kinds import FormatRule
from busmon.wire import celery, cloudevents, influx, json_v1, otlp, prometheus_text, statsd
from busmon.wire.arrival import MAX_POINTS, NO_HEADERS, Arrival, too_many_points
from busmon.wire.body import plain
from busmon.wire.encoding import PLAIN_ENCODINGS, find_encoding
from busmon.wire.envelope import Envelope

Decoder = Callable[[Arrival], Envelope]

Scan = Callable[[Sequence[bytes]], Sequence[Envelope | None]]
"""Reads bodies without parsing them; None in the place of each one that has to be parsed."""

DECODERS: Mapping[str, Decoder] = {
    "otlp": otlp.decode,
    "cloudevents": cloudevents.decode,
    **{dialect.value: partial(statsd.decode, dialect=dialect) for dialect in statsd.Dialect},
    "influx": influx.decode,
    "prometheus": prometheus_text.decode,
    celery.FORMAT: celery.decode,
}
"""By the name that the settings have."""

_BY_TYPE: Mapping[str, Decoder] = {
    **dict.fromkeys(otlp.PROTOBUF_TYPES, otlp.decode),
    cloudevents.CONTENT_TYPE: cloudevents.decode,
}
_OWN_TYPES = frozenset({None, "", json_v1.CONTENT_TYPE})
_JSON_TYPES = frozenset({"", json_v1.CONTENT_TYPE, "text/json", "application/x-json", "text/x-json"})
_ANY_TYPES = frozenset({"text/plain", "application/octet-stream", "binary/octet-stream", "application/data"})
"""Content types that clients state of any body, kombu's `application/data` among it."""
_MAX_KEYS = 10_000
_FEW_BYTES = 2 * MAX_POINTS
"""A body of so many bytes has no more samples than one may have: the shortest is a digit and a comma."""
_NAME_THE_FORMAT = "a body of another format takes a rule in BUSMON_FORMATS for its routing key, or its content type"


class Properties(Protocol):
    """AMQP's properties that other formats need; each may be missing or of a wrong type."""

    app_id: Any
    user_id: Any

    @property
    def headers(self) -> Mapping[str, Any] | None:
        """The headers; None if there are none, or if they can't be read."""


class Delivered(Protocol):
    """A body as it was delivered."""

    @property
    def body(self) -> bytes:
        """As published."""

    @property
    def exchange(self) -> str:
        """The exchange that it was published to."""

    @property
    def routing_key(self) -> str:
        """AMQP's."""

    @property
    def content_type(self) -> str | None:
        """AMQP's property."""

    @property
    def content_encoding(self) -> str | None:
        """AMQP's property."""

    @property
    def message_id(self) -> str | None:
        """AMQP's property."""

    @property
    def redelivered(self) -> bool:
        """It was delivered before, and not acknowledged."""

    @property
    def published_at(self) -> float | None:
        """When it was published, in seconds since the epoch, if the headers say it."""

    @property
    def properties(self) -> Properties:
        """The others, which may take a while to decode."""


class Origin(NamedTuple):
    """The first publish of a body that may have been published again.

    Attributes:
        exchange: published to.
        user: that published; None if it stated none.
    """

    exchange: str
    user: str | None


class Formats:
    """The decoders of one queue.

    Args:
        rules: the settings'.
        queue: matched by the rules, as the routing key is.
        max_bytes: the most bytes of a body.
        celery_exchanges: the exchanges that only Celery publishes to.
    """

    def __init__(
        self,
        rules: Sequence[FormatRule],
        queue: str,
        max_bytes: int,
        celery_exchanges: frozenset[str] = frozenset(),
    ) -> None:
        self._rules = rules
        self._celery_exchanges = celery_exchanges
        self._queue = queue
        self._max_bytes = max_bytes
        self._chosen: BoundedCache[str, Decoder | None] = BoundedCache(_MAX_KEYS)

    def are_own(
        self,
        bodies: Sequence[bytes],
        routing_keys: Sequence[str],
        content_types: Sequence[str | None],
        content_encodings: Sequence[str | None],
        message_ids: Sequence[str | None],
    ) -> bool:
        """Return whether all deliveries have the properties of busmon's own publishers, and no body is too large."""
        return (
            PLAIN_ENCODINGS.issuperset(content_encodings)
            and all(message_ids)
            and _OWN_TYPES.issuperset(content_types)
            and max(map(len, bodies)) <= self._max_bytes
            and not any(map(self._decoder, {*routing_keys}))
        )

    @staticmethod
    def decode_own(bodies: Sequence[bytes], scan: Scan) -> list[Envelope] | None:
        """Decode bodies in busmon's own form: those that can't be scanned are parsed. None if one has another form."""
        try:
            scanned = zip(scan(bodies), bodies, strict=True)
            envelopes = [envelope or json_v1.of_document(orjson.loads(body)) for envelope, body in scanned]
        except (EnvelopeError, orjson.JSONDecodeError):
            return None
        is_large = max(map(len, bodies)) > _FEW_BYTES
        return None if is_large and max(map(_count_samples, envelopes)) > MAX_POINTS else envelopes

    def decode(self, delivered: Delivered, origin: Origin | None = None) -> Envelope:
        """Decode the envelope in a body.

        Args:
            delivered: the body.
            origin: its first publish; None if it was published once.

        Raises:
            EnvelopeError: the body has none, or one with too many samples.
        """
        envelope = self._decode(delivered, origin)
        if _count_samples(envelope) > MAX_POINTS:
            raise too_many_points()
        return envelope

    def _decode(self, delivered: Delivered, origin: Origin | None) -> Envelope:
        decoder, content_type = self._decoder(delivered.routing_key), delivered.content_type
        if decoder is None and content_type in _OWN_TYPES and delivered.body[:1] == b"{":
            document = json_v1.parse(delivered.body, delivered.content_encoding, self._max_bytes)
            if delivered.message_id and type(document) is dict and "v" in document and "source" in document:
                return json_v1.of_document(document)
            return _of_json(document, self._arrival(delivered, origin))
        arrival = self._arrival(delivered, origin)
        return (decoder or _by_type(arrival))(arrival)

    def _decoder(self, routing_key: str) -> Decoder | None:
        """Return the settings' format for a routing key; a new key is looked up once."""
        try:
            return self._chosen.entries[routing_key]
        except KeyError:
            decoder = self._find_ruled(routing_key)
            self._chosen.keep(routing_key, decoder)
            return decoder

    def _find_ruled(self, routing_key: str) -> Decoder | None:
        for pattern, format_ in self._rules:
            if fnmatchcase(routing_key, pattern) or fnmatchcase(self._queue, pattern):
                decoder: Decoder = DECODERS.get(format_, _json)
                return decoder
        return None

    def _arrival(self, delivered: Delivered, origin: Origin | None) -> Arrival:
        properties = delivered.properties
        exchange, user = origin or (delivered.exchange, properties.user_id)
        headers = properties.headers or NO_HEADERS
        return Arrival(
            delivered.body,
            delivered.content_type,
            find_encoding(delivered.content_encoding, headers),
            self._max_bytes,
            properties.app_id,
            headers,
            delivered.published_at,
            delivered.routing_key,
            user,
            exchange in self._celery_exchanges,
        )


def _count_samples(envelope: Envelope) -> int:
    """Count the samples of busmon's own form, invalid ones too; a table is at least one."""
    rows = (table.get("rows") if type(table) is dict else None for table in envelope.tables)
    return len(envelope.samples) + sum(len(each) or 1 if type(each) is list else 1 for each in rows)


def _by_type(arrival: Arrival) -> Decoder:
    content_type = arrival.content_type or ""
    essence, _, parameters = (part.strip("\0 ").lower() for part in content_type.partition(";"))
    if essence in _JSON_TYPES or (essence.endswith("+json") and essence not in _BY_TYPE):
        return _json
    if prometheus_text.is_exposition(essence, parameters):
        return prometheus_text.decode
    if essence in _ANY_TYPES and _is_json_object(arrival):
        return _json
    if essence not in _BY_TYPE:
        known = f"expected {json_v1.CONTENT_TYPE} or another that is known, or a rule for the routing key"
        raise EnvelopeError(BodyReason.CONTENT_TYPE, f"{known}; got {content_type[:80]!r}")
    return _BY_TYPE[essence]


def _is_json_object(arrival: Arrival) -> bool:
    """Return whether a body of a type that says nothing begins as an object in JSON."""
    return json_v1.trim(plain(arrival.body, arrival.content_encoding, arrival.max_bytes)).startswith(b"{")


def _json(arrival: Arrival) -> Envelope:
    """Decode JSON.

    Raises:
        EnvelopeError: `invalid_json`, with the way to name another format, and the reasons of each format in JSON.
    """
    try:
        document = json_v1.parse(arrival.body, arrival.content_encoding, arrival.max_bytes)
    except EnvelopeError as error:
        if error.reason != BodyReason.INVALID_JSON or _is_json_object(arrival):
            raise
        raise EnvelopeError(BodyReason.INVALID_JSON, f"{error.detail}; {_NAME_THE_FORMAT}") from error
    return _of_json(document, arrival)


def _of_json(document: Any, arrival: Arrival) -> Envelope:
    """Decode JSON of any format, recognized by its members: no other format has the member `v`."""
    event = cloudevents.attributes(arrival.headers)
    if event is not None:
        return cloudevents.of_binary(event, document)
    if type(document) is dict and "v" not in document:
        if cloudevents.MEMBER in document:
            return cloudevents.of_document(document, arrival)
        if otlp.JSON_MEMBERS & document.keys():
            return otlp.of_document(document, arrival)
    if celery.is_of_celery(document):
        return celery.of_document(document, arrival)
    return json_v1.of_document(document)
