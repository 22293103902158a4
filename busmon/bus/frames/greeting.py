"""The first bytes of the server at the broker's address, and their meaning if the server does not speak AMQP 0-9-1.

Pure. RabbitMQ opens with `connection.start`, the first frame of channel 0; a broker of another version answers with its
own protocol header.
"""

from pika import BlockingConnection
from pika.exceptions import AMQPConnectionError

_START = b"\x01\x00\x00"  # a method frame of channel 0
_TLS_RECORDS = (b"\x14\x03", b"\x15\x03", b"\x16\x03", b"\x17\x03")
_OWN_HEADER = b"AMQP\x00\x00\x09\x01"
_SHOWN_BYTES = 80

CLOSED = "it closed the connection before it said anything: is this RabbitMQ's AMQP port, or one for TLS (amqps://)?"


class NotAmqpError(AMQPConnectionError):
    """The error for a server that isn't an AMQP 0-9-1 broker; the argument describes the server."""


def is_amqp(first: bytes) -> bool:
    """Return whether the bytes begin like RabbitMQ's greeting, of which they may be a part."""
    return _START.startswith(first[: len(_START)])


def broker_version(connection: BlockingConnection) -> str:
    """Return the version in the broker's greeting; empty if the greeting has none."""
    properties = getattr(connection._impl, "server_properties", None) or {}  # noqa: SLF001 - pika has no public way
    return str(properties.get("version", ""))


def describe(first: bytes) -> str:
    """Describe the server that sent these bytes."""
    if first.startswith(_TLS_RECORDS):
        return "it speaks TLS: use amqps:// there"
    if first.startswith(_OWN_HEADER):
        return "it answers with AMQP's own header, as a broker does that did not get it whole: is a proxy between?"
    if first.startswith(b"AMQP"):
        return f"it speaks {_version(first[4:8])}, and busmon speaks AMQP 0-9-1"
    if first.startswith(b"HTTP/"):
        return f"an HTTP server answers there, with {_line(first)}: AMQP is another port, 5672 by default"
    if first.startswith(b"SSH-"):
        return f"an SSH server answers there, with {_line(first)}"
    return f"the server there does not speak AMQP: it sent {_line(first)}"


def _version(numbers: bytes) -> str:
    protocol, *version = numbers.ljust(4, b"\0")
    names = {0: "AMQP", 1: "AMQP", 2: "AMQP over TLS", 3: "AMQP with SASL"}
    return f"{names.get(protocol, f'AMQP, protocol {protocol},')} {'.'.join(map(str, version))}"


def _line(first: bytes) -> str:
    """Show the first line, escaped and cut short."""
    return repr(first[:_SHOWN_BYTES].splitlines()[0] if first.strip() else first[:_SHOWN_BYTES])[1:]
