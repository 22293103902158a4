"""Which decoder a body is for: what the settings say of its routing key, then its content type, then its JSON.

busmon's own JSON is asked for first wherever it can be, so that it costs nothing more. One object a queue; one thread.
"""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Protocol

from busmon.errors import EnvelopeError
from busmon.settings.kinds import FormatRule
from busmon.wire import cloudevents, influx, json_v1, otlp, prometheus_text, statsd
from busmon.wire.arrival import NO_HEADERS, Arrival
from busmon.wire.envelope import Envelope

Decoder = Callable[[Arrival], Envelope]

JSON_FORMAT = "json"
DECODERS: Mapping[str, Decoder] = {
    "otlp": otlp.decode,
    "cloudevents": cloudevents.decode,
    "statsd": statsd.decode,
    "influx": influx.decode,
    "prometheus": prometheus_text.decode,
}
"""By the name that the settings have."""

_BY_TYPE: Mapping[str, Decoder] = {
    **dict.fromkeys(otlp.PROTOBUF_TYPES, otlp.decode),
    cloudevents.CONTENT_TYPE: cloudevents.decode,
    prometheus_text.OPENMETRICS_TYPE: prometheus_text.decode,
}
_EXPOSITION = "text/plain"
_MAX_KEYS = 10_000


class Properties(Protocol):
    """AMQP's, as far as they matter here; each may be missing or of another type than it should."""

    content_type: str | None
    content_encoding: str | None
    message_id: str | None
    app_id: Any
    headers: Mapping[str, Any] | None


class Formats:
    """The decoders of one queue."""

    def __init__(self, rules: Sequence[FormatRule], queue: str, max_bytes: int) -> None:
        self._rules = rules
        self._queue = queue
        self._max_bytes = max_bytes
        self._chosen: dict[str, Decoder | None] = {}

    def decode(
        self, body: bytes, properties: Properties, routing_key: str, published_at: float | None = None
    ) -> Envelope:
        """The envelope in a body.

        Raises:
            EnvelopeError: it is none.
        """
        try:
            decoder = self._chosen[routing_key]
        except KeyError:
            decoder = self._choose(routing_key)
        content_type = properties.content_type
        if decoder is None and (not content_type or content_type == json_v1.CONTENT_TYPE):
            document = json_v1.parse(body, properties.content_encoding, self._max_bytes)
            if properties.message_id and type(document) is dict and "v" in document and "source" in document:
                return json_v1.of_document(document)
            return _of_json(document, self._arrival(body, properties, published_at))
        arrival = self._arrival(body, properties, published_at)
        return (decoder or _by_type(content_type or ""))(arrival)

    def _choose(self, routing_key: str) -> Decoder | None:
        """What the settings say; a key that is new is looked up once."""
        if len(self._chosen) >= _MAX_KEYS:
            self._chosen.clear()
        for pattern, format_ in self._rules:
            if fnmatchcase(routing_key, pattern) or fnmatchcase(self._queue, pattern):
                self._chosen[routing_key] = DECODERS.get(format_, _json)
                return self._chosen[routing_key]
        self._chosen[routing_key] = None
        return None

    def _arrival(self, body: bytes, properties: Properties, published_at: float | None) -> Arrival:
        return Arrival(
            body,
            properties.content_type,
            properties.content_encoding,
            self._max_bytes,
            properties.app_id,
            properties.headers or NO_HEADERS,
            published_at,
        )


def _by_type(content_type: str) -> Decoder:
    essence, _, parameters = (part.strip().lower() for part in content_type.partition(";"))
    if essence == json_v1.CONTENT_TYPE:
        return _json
    if essence == _EXPOSITION and "version=0.0.4" in parameters.replace(" ", ""):
        return prometheus_text.decode
    if essence not in _BY_TYPE:
        known = f"expected {json_v1.CONTENT_TYPE} or another that is known, or a rule for the routing key"
        raise EnvelopeError("content_type", f"{known}; got {content_type[:80]!r}")
    return _BY_TYPE[essence]


def _json(arrival: Arrival) -> Envelope:
    return _of_json(json_v1.parse(arrival.body, arrival.content_encoding, arrival.max_bytes), arrival)


def _of_json(document: Any, arrival: Arrival) -> Envelope:
    """JSON of any format, told by its members: no other format has the member `v`."""
    event = cloudevents.attributes(arrival.headers)
    if event is not None:
        return cloudevents.of_binary(event, document)
    if type(document) is dict and "v" not in document:
        if cloudevents.MEMBER in document:
            return cloudevents.of_document(document, arrival)
        if otlp.JSON_MEMBERS & document.keys():
            return otlp.of_document(document, arrival)
    return json_v1.of_document(document)
