"""The AMQP properties under which a body is published again: its own, and in quarantine why it is there. Pure."""

from collections.abc import Mapping
from copy import copy
from struct import error as StructError  # noqa: N812 - struct names its exception like a variable
from typing import Any

from pika import BasicProperties, DeliveryMode, frame
from pika.exceptions import AMQPError

from busmon.bus.relayed import HEADER

# Some of the values come from the body, which is as large as its publisher liked.
MAX_HEADER_CHARACTERS = 1024

_MAX_SHORT_BYTES = 255
_UNENCODABLE = (AMQPError, ArithmeticError, RecursionError, StructError, ValueError)


def quarantine_properties(original: BasicProperties, headers: Mapping[str, str], frame_max: int) -> BasicProperties:
    """The original properties with our headers merged into theirs, such that the broker accepts them.

    As with the broker's own dead-lettering, an expiry is noted in a header instead of kept, or the body would vanish
    from the quarantine. A user id is left out: the broker compares it with the user who publishes. Original headers
    that pika can't encode, or that fill a frame, are left out.

    Args:
        original: as delivered; its header for another user isn't believed.
        headers: why and whence, and the user that published it; each value is cut at `MAX_HEADER_CHARACTERS`.
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


def forwarded_properties(
    original: BasicProperties, frame_max: int, publisher: str | None = None, forwarder: str | None = None
) -> BasicProperties:
    """Keep the original properties but for the user id: the publisher's is noted in a header.

    Of headers that pika can't encode, or that fill a frame, source and publisher alone are left.

    Args:
        original: as delivered; its header for another user isn't believed.
        frame_max: the largest frame that the connection may send, in bytes.
        publisher: the user that published it; None if it stated none.
        forwarder: the user that publishes it now.
    """
    properties = _sendable(original)
    properties.user_id = forwarder if publisher else None
    noted = {HEADER: publisher} if publisher else {}
    if noted or HEADER in (original.headers or {}):
        properties.headers = {**_others(original), **noted}
    if not _fits(properties, frame_max):
        properties.headers = {"source": (original.headers or {}).get("source"), **noted}
    return properties


def short_text(text: str) -> str:
    """The text as far as it fits into one of AMQP's short strings; one with escapes may have outgrown it."""
    return text.encode(errors="replace")[:_MAX_SHORT_BYTES].decode(errors="ignore")


def _sendable(original: BasicProperties) -> BasicProperties:
    """A copy that the broker takes from whoever sends it: it compares a user id with the user."""
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
    """Return the publisher's headers; only a relay may say who published a body."""
    return {name: value for name, value in (original.headers or {}).items() if name != HEADER}


def _fits(properties: BasicProperties, frame_max: int) -> bool:
    try:
        return len(frame.Header(1, 0, properties).marshal()) <= frame_max
    except _UNENCODABLE:
        return False
