"""The AMQP properties of a body that is published again; in quarantine they state the cause. Pure."""

from collections.abc import Mapping
from copy import copy
from struct import error as StructError  # noqa: N812 - struct names its exception like a variable

from pika import BasicProperties, DeliveryMode, frame
from pika.exceptions import AMQPError

from busmon.bus.republish.relayed import FLEETS, leave_out

# Some of the values come from the body, whose size is the publisher's choice.
MAX_HEADER_CHARACTERS = 1024

_MAX_SHORT_BYTES = 255
_UNENCODABLE = (AMQPError, ArithmeticError, RecursionError, StructError, ValueError)


def quarantine_properties(
    original: BasicProperties, headers: Mapping[str, str], frame_max: int, sender: str | None = None
) -> BasicProperties:
    """Merge busmon's headers into the original properties, so that the broker accepts the result.

    As in the broker's own dead-lettering, an expiration moves to a header, or the body would expire in the quarantine.
    Original headers that pika can't encode, or that fill a frame, are left out.

    Args:
        original: as delivered; its headers with the fleet's names are left out.
        headers: cause, origin and publisher's user; each value is cut at `MAX_HEADER_CHARACTERS`.
        frame_max: the largest frame that the connection may send, in bytes.
        sender: the user that publishes the body now, which vouches for the headers; None if it isn't known.
    """
    properties = _sendable(original, sender)
    properties.expiration = None
    properties.delivery_mode = DeliveryMode.Persistent.value
    ours = _ours(original, headers)
    properties.headers = {**leave_out(FLEETS, original.headers), **ours}
    if not _fits(properties, frame_max):
        properties.headers = ours
    return properties


def make_forwarded_properties(
    original: BasicProperties, frame_max: int, origin: Mapping[str, str], forwarder: str | None = None
) -> BasicProperties:
    """Keep the original properties except the user id; the first user and exchange move to headers.

    If pika can't encode the headers, or they fill a frame, only source and origin stay; of large headers, which aren't
    decoded, only the origin.

    Args:
        original: as delivered; its headers with the fleet's names are left out.
        frame_max: the largest frame that the connection may send, in bytes.
        origin: the headers for the first user and exchange.
        forwarder: the user that publishes the body now, which vouches for the origin; None if it isn't known.
    """
    properties = _sendable(original, forwarder if origin else None)
    if origin or original.headers:
        properties.headers = {**leave_out(FLEETS, original.headers), **origin}
    if not _fits(properties, frame_max):
        properties.headers = {"source": (original.headers or {}).get("source"), **origin}
    return properties


def short_text(text: str) -> str:
    """Cut a text to the length of AMQP's short strings, which escapes may exceed."""
    return text.encode(errors="replace")[:_MAX_SHORT_BYTES].decode(errors="ignore")


def _sendable(original: BasicProperties, sender: str | None) -> BasicProperties:
    """Copy the properties with another user id: the broker accepts only the sender's."""
    properties = copy(original)
    properties.message_id, properties.content_type, properties.content_encoding = (
        None if text is None else short_text(text)
        for text in (original.message_id, original.content_type, original.content_encoding)
    )
    properties.user_id = sender
    return properties


def _ours(original: BasicProperties, headers: Mapping[str, str]) -> dict[str, str]:
    moved = {} if original.expiration is None else {"original_expiration": original.expiration}
    ours = {name: value[:MAX_HEADER_CHARACTERS].encode(errors="replace").decode() for name, value in headers.items()}
    return ours | moved


def _fits(properties: BasicProperties, frame_max: int) -> bool:
    try:
        return len(frame.Header(1, 0, properties).marshal()) <= frame_max
    except _UNENCODABLE:
        return False
