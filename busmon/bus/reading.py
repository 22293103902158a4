"""The consumer's connection: what is read off its socket becomes frames and deliveries here.

pika's own, but for two things. Headers that pika can't decode don't cost the connection: a timestamp beyond the year
9999 or tables nested a thousand deep pass through RabbitMQ and raise in pika's decoder, which drops the connection; the
body would come again and end the next one, too, for ever. And a delivery that arrives after a cancel is left alone.
"""

from collections.abc import Callable
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names its exception like a variable
from typing import Any

from pika import BasicProperties, frame, spec
from pika.channel import Channel
from pika.exceptions import AMQPError, StreamLostError

from busmon.bus.greeting import CLOSED, NotAmqpError, described, is_amqp
from busmon.bus.peeling import PeelingConnection

_UNDECODABLE = (AMQPError, ArithmeticError, OSError, RecursionError, StructError, ValueError)

# pika asks the socket for 4 KiB at a time, which is a system call and a turn of its loop for a few deliveries.
_RECEIVE_BYTES = 262_144

_EOF = "Transport indicated EOF"

_FRAME = Struct(">BHI")
_CONTENT = Struct(">HHQ")
_FLAGS = Struct(">H")
_LENGTH = Struct(">I")


class ReadingConnection(PeelingConnection):
    """A connection that leaves out headers that can't be decoded, and says what answers if that is no broker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._stranger: str | None = None
        self._on_data_available = self._on_first_data  # type: ignore[method-assign]
        super().__init__(*args, **kwargs)

    def _on_first_data(self, data_in: bytes) -> None:
        """Take what the other side says first; all that follows is taken as ever, at no cost."""
        del self._on_data_available
        self._stranger = None if is_amqp(data_in) else described(data_in)
        if self._stranger:
            raise NotAmqpError(self._stranger)
        self._on_data_available(data_in)

    def _on_stream_terminated(self, error: BaseException) -> None:
        """Say what answered, where pika's own error only says that the stream ended."""
        if isinstance(error, StreamLostError):
            # Over TLS the end may be the broker's verdict on a certificate.
            is_mute = not self.bytes_received and self.params.ssl_options is None and _EOF in str(error)
            stranger = self._stranger or (CLOSED if is_mute else None)
            error = NotAmqpError(stranger) if stranger else error
        super()._on_stream_terminated(error)

    def _read_frame(self) -> tuple[int, frame.Frame | None]:
        try:
            return frame.decode_frame(self._frame_buffer)  # type: ignore[no-any-return]
        except _UNDECODABLE:
            if self._frame_buffer[0] != spec.FRAME_HEADER:
                raise
            return _decode_without_headers(self._frame_buffer)

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES = _RECEIVE_BYTES  # noqa: SLF001 - pika has no setting for it
        super()._proto_connection_made(transport)

    def _create_channel(self, channel_number: int, on_open_callback: Callable[[Channel], Any] | None) -> Channel:
        return _ReadingChannel(self, channel_number, on_open_callback)


class _ReadingChannel(Channel):  # type: ignore[misc]  # pika isn't typed
    """A channel that doesn't reject what arrives for a consumer that is being cancelled.

    pika would, one by one; up to a prefetch of rejects would keep the last acks from reaching the queue before the
    channel closes, which gives all of it back anyway.
    """

    def _on_deliver(self, method_frame: frame.Method, header_frame: frame.Header, body: bytes) -> None:
        method = method_frame.method
        if method.consumer_tag in self._consumers and method.consumer_tag not in self._cancelled:
            self._consumers[method.consumer_tag](self, method, header_frame.properties, body)


def _decode_without_headers(buffer: bytes) -> tuple[int, frame.Frame]:
    """The content header frame at the start of the buffer, and its length."""
    _kind, channel, size = _FRAME.unpack_from(buffer)
    _class, _weight, body_size = _CONTENT.unpack_from(buffer, _FRAME.size)
    encoded = _without_headers(buffer[_FRAME.size + _CONTENT.size : _FRAME.size + size])
    length = _FRAME.size + size + spec.FRAME_END_SIZE
    return length, frame.Header(channel, body_size, BasicProperties().decode(encoded))


def _without_headers(encoded: bytes) -> bytes:
    """Encoded properties without the headers, before which only content type and content encoding can stand."""
    flags = _FLAGS.unpack_from(encoded)[0]
    start = _FLAGS.size
    for flag in (BasicProperties.FLAG_CONTENT_TYPE, BasicProperties.FLAG_CONTENT_ENCODING):
        if flags & flag:
            start += 1 + encoded[start]
    end = start + _LENGTH.size + _LENGTH.unpack_from(encoded, start)[0]
    return _FLAGS.pack(flags & ~BasicProperties.FLAG_HEADERS) + encoded[_FLAGS.size : start] + encoded[end:]
