"""The consumer's connection, which turns the bytes of its socket into frames and deliveries.

It differs from pika's connection in three points. First, headers aren't decoded on receipt. So headers that take long
delay nobody else, and headers that pika can't decode don't end the connection: pika would drop it, and the redelivered
body would end each later connection too. Second, a delivery that arrives after a cancel is not rejected. Third, it can
pause between two reads.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any

from pika import frame, spec
from pika.channel import Channel
from pika.exceptions import InvalidFrameError, StreamLostError

from busmon.bus.frames.greeting import CLOSED, NotAmqpError, describe, is_amqp
from busmon.bus.frames.peeling import PeelingConnection
from busmon.bus.frames.properties import LazyProperties

# pika asks the socket for 4 KiB at a time, which is a system call and a turn of its loop for a few deliveries.
_RECEIVE_BYTES = 262_144

# In one turn of the loop pika reads 100 KiB. A worker that is behind folds for a quarter of a second between two turns.
# So an envelope behind a few MB of another publisher would wait for a minute before the worker knows its publisher.
_TURN_BYTES = 2_097_152

_EOF = "Transport indicated EOF"

_FRAME = Struct(">BHI")
_CONTENT = Struct(">HHQ")
_HEADER = bytes([spec.FRAME_HEADER])


class ReadingConnection(PeelingConnection):
    """A connection that leaves headers undecoded, and describes a server that isn't a broker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._stranger: str | None = None
        self._is_paused = False
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
        if self._frame_buffer.startswith(_HEADER):
            return _decode_header(self._frame_buffer)
        return frame.decode_frame(self._frame_buffer)

    def pause(self, seconds: float) -> None:
        """Read nothing for so long, unless a pause has begun. What is sent, and the timers, don't wait."""
        transport: Any = self._transport
        if not self._is_paused and _reads(transport):
            self._is_paused = transport._nbio.remove_reader(transport._sock.fileno())  # noqa: SLF001 - pika has no pause
            self._nbio.call_later(seconds, self.end_pause)

    def end_pause(self) -> None:
        """Read what has arrived in a pause, if there is one, and go on reading."""
        transport: Any = self._transport
        is_paused, self._is_paused = self._is_paused, False
        if is_paused and _reads(transport):
            transport._nbio.set_reader(transport._sock.fileno(), transport._on_socket_readable)  # noqa: SLF001 - as above
            transport._on_socket_readable()  # noqa: SLF001 - as above

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


def _reads(transport: Any) -> bool:
    """Return whether a connection's transport waits for bytes; one for TLS may wait to write before it reads."""
    is_active = transport is not None and transport._state == transport._STATE_ACTIVE  # noqa: SLF001 - nothing else tells
    return is_active and getattr(transport, "_ssl_readable_action", True) is not None


def _decode_header(buffer: bytes) -> tuple[int, frame.Frame | None]:
    """Decode the content header frame at the start of the buffer; return its length and the frame, if it is whole.

    Raises:
        InvalidFrameError: the bytes aren't a header of `basic`, the only class with contents.
    """
    if len(buffer) < _FRAME.size:
        return 0, None
    _, channel, size = _FRAME.unpack_from(buffer)
    length = _FRAME.size + size + spec.FRAME_END_SIZE
    if len(buffer) < length:
        return 0, None
    class_id, _, body_size = _CONTENT.unpack_from(buffer, _FRAME.size)
    if buffer[length - 1] != spec.FRAME_END or class_id != spec.BasicProperties.INDEX:
        raise InvalidFrameError("Invalid content header")
    encoded = buffer[_FRAME.size + _CONTENT.size : length - spec.FRAME_END_SIZE]
    return length, frame.Header(channel, body_size, LazyProperties(encoded))
