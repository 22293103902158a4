"""The AMQP properties of a body that is published again; in quarantine they state the cause. Pure."""

from collections.abc import Mapping
from copy import copy
from struct import error as StructError  # noqa: N812 - struct names its exception like a variable
from typing import Any

from pika import BasicProperties, DeliveryMode, frame
from pika.exceptions import AMQPError

from busmon.bus.republish.relayed import HEADER, RELAYED_HEADERS

# Some of the values come from the body, whose size is the publisher's choice.
MAX_HEADER_CHARACTERS = 1024

_MAX_SHORT_BYTES = 255
_UNENCODABLE = (AMQPError, ArithmeticError, RecursionError, StructError, ValueError)


def quarantine_properties(original: BasicProperties, headers: Mapping[str, str], frame_max: int) -> BasicProperties:
    """Merge busmon's headers into the original properties, so that the broker accepts the result.

    As in the broker's own dead-lettering, an expiration moves to a header, or the body would expire in the quarantine.
    The user id is left out: the broker compares it with the publishing user. Original headers that pika can't encode,
    or that fill a frame, are left out.

    Args:
        original: as delivered; its header for the publisher's user is ignored.
        headers: cause, origin and publisher's user; each value is cut at `MAX_HEADER_CHARACTERS`.
        frame_max: the largest frame that the connection may send, in bytes.
    """
    properties = _sendable(original)
    properties.expiration = None
    properties.delivery_mode = DeliveryMode.Persistent.value
    ours = _ours(original, headers)
    properties.headers = {**_others(original), **ours}
    if not _fits(properties, frame_max):
        properties.headers = ours
    return properties


def make_forwarded_properties(
    original: BasicProperties, frame_max: int, publisher: str | None = None, forwarder: str | None = None
) -> BasicProperties:
    """Keep the original properties except the user id; the publisher's user moves to a header.

    If pika can't encode the headers, or they fill a frame, only source and publisher stay.

    Args:
        original: as delivered; its header for the publisher's user is ignored.
        frame_max: the largest frame that the connection may send, in bytes.
        publisher: the user that first published the body; None if the publisher stated none.
        forwarder: the user that publishes the body now.
    """
    properties = _sendable(original)
    properties.user_id = forwarder if publisher else None
    noted = {HEADER: publisher} if publisher else {}
    if noted or not RELAYED_HEADERS.isdisjoint(original.headers or {}):
        properties.headers = {**_others(original), **noted}
    if not _fits(properties, frame_max):
        properties.headers = {"source": (original.headers or {}).get("source"), **noted}
    return properties


def short_text(text: str) -> str:
    """Cut a text to the length of AMQP's short strings, which escapes may exceed."""
    return text.encode(errors="replace")[:_MAX_SHORT_BYTES].decode(errors="ignore")


def _sendable(original: BasicProperties) -> BasicProperties:
    """Copy the properties without the user id, which the broker compares with the sender."""
    properties = copy(original)
    properties.message_id, properties.content_type, properties.content_encoding = (
        None if text is None else short_text(text)
        for text in (original.message_id, original.content_type, original.content_encoding)
    )
    properties.user_id = None
    return properties


def _ours(original: BasicProperties, headers: Mapping[str, str]) -> dict[str, str]:
    moved = {} if original.expiration is None else {"original_expiration": original.expiration}
    ours = {name: value[:MAX_HEADER_CHARACTERS].encode(errors="replace").decode() for name, value in headers.items()}
    return ours | moved


def _others(original: BasicProperties) -> dict[str, Any]:
    """Return the publisher's headers without those that only a relay may set."""
    return {name: value for name, value in (original.headers or {}).items() if name not in RELAYED_HEADERS}


def _fits(properties: BasicProperties, frame_max: int) -> bool:
    try:
        return len(frame.Header(1, 0, properties).marshal()) <= frame_max
    except _UNENCODABLE:
        return False
