"""The AMQP properties of a body that is published again; in quarantine they state the cause. Pure."""

from collections.abc import Mapping
from typing import Any

from pika import BasicProperties, DeliveryMode, frame

from busmon.bus.frames.properties import LazyProperties
from busmon.bus.frames.table import encode_fields, keep, leave_out
from busmon.bus.republish.relayed import FLEETS, LARGE, measure_large

# Some of the values come from the body, whose size is the publisher's choice.
MAX_HEADER_CHARACTERS = 1024

_MAX_SHORT_BYTES = 255
_SOURCE = frozenset({"source"})


def quarantine_properties(
    original: LazyProperties, headers: Mapping[str, str], frame_max: int, sender: str | None = None
) -> LazyProperties:
    """Append busmon's headers to the original properties, so that the broker accepts the result.

    As in the broker's own dead-lettering, an expiration moves to a header, or the body would expire in the quarantine.
    Original headers that pika can't decode, that are too large, or that fill a frame, are left out.

    Args:
        original: as delivered; its headers with the fleet's names are left out.
        headers: cause, origin and publisher's user; each value is cut at `MAX_HEADER_CHARACTERS`.
        frame_max: the largest frame that the connection may send, in bytes.
        sender: the user that publishes the body now, which vouches for the headers; None if it isn't known.
    """
    properties = _make_sendable(original, sender)
    properties.expiration = None
    properties.delivery_mode = DeliveryMode.Persistent.value
    ours = encode_fields(_ours(original, headers))
    made = LazyProperties.join(properties, _publishers(original) + ours)
    return made if _fits(made, frame_max) else LazyProperties.join(properties, ours)


def make_relayed_properties(
    original: LazyProperties,
    origin: Mapping[str, Any],
    relay: str | None,
    frame_max: int,
    *,
    added: frozenset[str] = FLEETS,
) -> LazyProperties:
    """Keep the original properties except the user id, and append the headers of the first publish.

    The publisher's headers stay as they are encoded. If they fill a frame, only source and origin stay; of too large
    properties, only the origin.

    Args:
        original: as delivered.
        origin: the headers by which a relay states the first publish.
        relay: the user that publishes the body now, which vouches for the origin; None if it isn't known.
        frame_max: the largest frame that the connection may send, in bytes.
        added: the names of the headers that are left out.
    """
    properties, ours = _make_sendable(original, relay if origin else None), encode_fields(origin)
    publishers = b"" if LARGE in origin else leave_out(added, original.fields)
    made = LazyProperties.join(properties, publishers + ours)
    return made if _fits(made, frame_max) else LazyProperties.join(properties, keep(_SOURCE, publishers) + ours)


def _make_sendable(original: LazyProperties, sender: str | None) -> BasicProperties:
    """Return the properties without headers and with another user id: the broker accepts only the sender's."""
    texts = ("message_id", "content_type", "content_encoding")
    cut = {name: None if (text := getattr(original, name)) is None else short_text(text) for name in texts}
    return original.without_headers(user_id=sender, **cut)


def short_text(text: str) -> str:
    """Cut a text to the length of AMQP's short strings, which escapes may exceed."""
    return text.encode(errors="replace")[:_MAX_SHORT_BYTES].decode(errors="ignore")


def _publishers(original: LazyProperties) -> bytes:
    """Return the publisher's headers as encoded; none if they can't be decoded or are too large."""
    if original.headers is None:
        return b""
    fields = leave_out(FLEETS, original.fields)
    stated = LazyProperties.join(original.without_headers(), fields)
    return b"" if measure_large(stated.encoded) else fields


def _ours(original: BasicProperties, headers: Mapping[str, str]) -> dict[str, str]:
    moved = {} if original.expiration is None else {"original_expiration": original.expiration}
    ours = {name: value[:MAX_HEADER_CHARACTERS].encode(errors="replace").decode() for name, value in headers.items()}
    return ours | moved


def _fits(properties: BasicProperties, frame_max: int) -> bool:
    return len(frame.Header(1, 0, properties).marshal()) <= frame_max
