"""CloudEvents 1.0 with an envelope as data: structured, where the body is the event, and binary, where headers say it.

By CloudEvents' JSON format, its AMQP binding (`cloudEvents:` or `cloudEvents_`), and Knative's RabbitMQ binding
(`ce-`). The event's `source` and `time` are the envelope's where that states none; `source` and `id` are its identity.
An event's `source` names a device or a path, so another user's device may have the same name.
Never raises anything but `EnvelopeError`. Pure.
"""

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from busmon.errors import EnvelopeError
from busmon.reasons import BodyReason
from busmon.wire import json_v1
from busmon.wire.arrival import Arrival
from busmon.wire.envelope import Envelope
from busmon.wire.members import word
from busmon.wire.times import is_time, rfc3339

CONTENT_TYPE = "application/cloudevents+json"
MEMBER = "specversion"
_PREFIXES = ("cloudEvents:", "cloudEvents_", "ce-")
_MILLISECONDS = 1e3
_VERSION = "1.0"
_MAX_CHARACTERS = 1024


def decode(arrival: Arrival) -> Envelope:
    """Decode the envelope in a structured event's body.

    Raises:
        EnvelopeError: as of `json_v1.parse`, or `invalid_cloudevent`, or what its data isn't.
    """
    return of_document(json_v1.parse(arrival.body, arrival.content_encoding, arrival.max_bytes), arrival)


def of_document(document: Any, arrival: Arrival) -> Envelope:
    """Decode the envelope in a parsed structured event.

    Raises:
        EnvelopeError: `invalid_cloudevent`, or what its data isn't.
    """
    if type(document) is not dict:
        raise EnvelopeError(BodyReason.INVALID_CLOUDEVENT, "expected an object with the member 'specversion'")
    encoded, data = document.get("data_base64"), document.get("data")
    if encoded is not None:
        data = json_v1.parse(_decode_base64(encoded), None, arrival.max_bytes)
    return _envelope(document, data)


def attributes(headers: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the attributes of a binary event; None if the headers aren't an event's."""
    for prefix in _PREFIXES:
        if f"{prefix}{MEMBER}" in headers:
            names = (name for name in headers if isinstance(name, str))  # pika leaves what isn't UTF-8 as bytes
            return {name.removeprefix(prefix): headers[name] for name in names if name.startswith(prefix)}
    return None


def of_binary(stated: Mapping[str, Any], document: Any) -> Envelope:
    """Decode the envelope in a binary event: its attributes, and the JSON body.

    Raises:
        EnvelopeError: `invalid_cloudevent`, or what its data isn't.
    """
    return _envelope(stated, document)


def _envelope(stated: Mapping[str, Any], data: Any) -> Envelope:
    if stated.get(MEMBER) != _VERSION:
        raise EnvelopeError(
            BodyReason.INVALID_CLOUDEVENT, f"expected version {_VERSION}, got {str(stated.get(MEMBER))[:80]!r}"
        )
    id_, source = _attribute(stated, "id"), _attribute(stated, "source")
    if type(data) is not dict:
        raise EnvelopeError(BodyReason.INVALID_CLOUDEVENT, "expected an envelope as its data")
    at = _time(stated.get("time"))
    is_shared = word(data.get("source")) is None
    envelope = json_v1.of_document({**data, "source": source} if is_shared else data)
    return envelope._replace(
        ts=at if envelope.ts is None else envelope.ts, identity=f"{source}#{id_}", is_shared=is_shared
    )


def _attribute(stated: Mapping[str, Any], name: str) -> str:
    value = stated.get(name)
    if type(value) is not str or not 0 < len(value) <= _MAX_CHARACTERS:
        raise EnvelopeError(BodyReason.INVALID_CLOUDEVENT, f"'{name}' is 1 to {_MAX_CHARACTERS} characters")
    return value


def _time(value: Any) -> float | None:
    """Read a time as seconds since the epoch: RFC 3339's, AMQP's in milliseconds, or pika's without a zone in UTC."""
    if value is None or value == "":
        return None
    if isinstance(value, int) and is_time(int(value)):  # pika's 64-bit integers are of a type of its own
        return value / _MILLISECONDS
    try:
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        return rfc3339(value, needs_offset=False)
    except (ValueError, TypeError, OverflowError) as error:
        raise EnvelopeError(BodyReason.INVALID_CLOUDEVENT, "'time' is a time of RFC 3339") from error


def _decode_base64(encoded: Any) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise EnvelopeError(BodyReason.INVALID_CLOUDEVENT, f"'data_base64' is no base64: {error}") from error
