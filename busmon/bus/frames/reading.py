"""The consumer's connection, which turns the bytes of its socket into frames and deliveries.

It differs from pika's connection in two points. First, headers that pika can't decode don't end the connection. A
timestamp beyond the year 9999, or tables nested a thousand deep, pass through RabbitMQ and raise in pika's decoder.
pika would drop the connection, and the redelivered body would end each later connection too. Second, a delivery that
arrives after a cancel is not rejected.
"""

from collections.abc import Callable
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names its exception like a variable
from typing import Any

from pika import BasicProperties, frame, spec
from pika.channel import Channel
from pika.exceptions import AMQPError, StreamLostError

from busmon.bus.frames.greeting import CLOSED, NotAmqpError, describe, is_amqp
from busmon.bus.frames.peeling import PeelingConnection

_UNDECODABLE = (AMQPError, ArithmeticError, OSError, RecursionError, StructError, ValueError)

# pika asks the socket for 4 KiB at a time, which is a system call and a turn of its loop for a few deliveries.
_RECEIVE_BYTES = 262_144

# In one turn of the loop pika reads 100 KiB. A worker that is behind folds for a quarter of a second between two turns.
# So an envelope behind a few MB of another publisher would wait for a minute before the worker knows its publisher.
_TURN_BYTES = 2_097_152

_EOF = "Transport indicated EOF"

_FRAME = Struct(">BHI")
_CONTENT = Struct(">HHQ")
_FLAGS = Struct(">H")
_LENGTH = Struct(">I")


class ReadingConnection(PeelingConnection):
    """A connection that leaves out undecodable headers, and describes a server that isn't a broker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._stranger: str | None = None
        self._on_data_available = self._on_first_data  # type: ignore[method-assign]
        super().__init__(*args, **kwargs)

    def _on_first_data(self, data_in: bytes) -> None:
        """Check the first bytes; later bytes go to pika's own method, at no cost."""
        del self._on_data_available
        self._stranger = None if is_amqp(data_in) else describe(data_in)
        if self._stranger:
            raise NotAmqpError(self._stranger)
        self._on_data_available(data_in)

    def _on_stream_terminated(self, error: BaseException | None) -> None:
        """Raise the description of the server, where pika's error only says that the stream ended."""
        if isinstance(error, StreamLostError):
            # Over TLS the end may be the broker's verdict on a certificate.
            is_mute = not self.bytes_received and self.params.ssl_options is None and _EOF in str(error)
            stranger = self._stranger or (CLOSED if is_mute else None)
            error = NotAmqpError(stranger) if stranger else error
        super()._on_stream_terminated(error)

    def _read_frame(self) -> tuple[int, frame.Frame | frame.ProtocolHeader | None]:
        try:
            return frame.decode_frame(self._frame_buffer)
        except _UNDECODABLE:
            if self._frame_buffer[0] != spec.FRAME_HEADER:
                raise
            return _decode_without_headers(self._frame_buffer)

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES = _RECEIVE_BYTES  # noqa: SLF001 - pika has no setting for it
        transport._MAX_CONSUME_BYTES = _TURN_BYTES  # noqa: SLF001 - nor for this
        super()._proto_connection_made(transport)

    def _create_channel(self, channel_number: int, on_open_callback: Callable[[Channel], Any] | None) -> Channel:
        return _ReadingChannel(self, channel_number, on_open_callback)


class _ReadingChannel(Channel):
    """A channel that doesn't reject deliveries for a consumer that is being cancelled.

    pika would reject them one by one. Up to a prefetch of rejects would keep the last acks from reaching the queue
    before the channel closes. Closing the channel requeues the deliveries anyway.
    """

    def _on_deliver(self, method_frame: frame.Method, header_frame: frame.Header, body: bytes) -> None:
        method = method_frame.method
        if method.consumer_tag in self._consumers and method.consumer_tag not in self._cancelled:
            self._consumers[method.consumer_tag](self, method, header_frame.properties, body)


def _decode_without_headers(buffer: bytes) -> tuple[int, frame.Frame]:
    """Decode the content header frame at the start of the buffer; return its length and the frame."""
    _kind, channel, size = _FRAME.unpack_from(buffer)
    _class, _weight, body_size = _CONTENT.unpack_from(buffer, _FRAME.size)
    encoded = _without_headers(buffer[_FRAME.size + _CONTENT.size : _FRAME.size + size])
    length = _FRAME.size + size + spec.FRAME_END_SIZE
    return length, frame.Header(channel, body_size, BasicProperties().decode(encoded))


def _without_headers(encoded: bytes) -> bytes:
    """Return the encoded properties without the headers; only content type and content encoding precede the headers."""
    flags = _FLAGS.unpack_from(encoded)[0]
    start = _FLAGS.size
    for flag in (BasicProperties.FLAG_CONTENT_TYPE, BasicProperties.FLAG_CONTENT_ENCODING):
        if flags & flag:
            start += 1 + encoded[start]
    end = start + _LENGTH.size + _LENGTH.unpack_from(encoded, start)[0]
    return _FLAGS.pack(flags & ~BasicProperties.FLAG_HEADERS) + encoded[_FLAGS.size : start] + encoded[end:]
