"""Deliveries peeled off the bytes of a socket before pika's frame decoder, their largest cost, sees them.

Bytes in, deliveries out, all else to pika: a delivery of three whole frames on a channel that has an entrance is taken
apart with a few `struct` calls. Every other frame, and every delivery that isn't of that plain form (a body of several
frames, a frame without its end, odd properties), goes to pika as it is, in its order, one frame at a time. So pika's
checks and errors hold, and its count of bytes by which it judges heartbeats. On the thread of the loop.
"""

from collections.abc import Callable, Container
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names its exception like a variable
from typing import Any

from pika import BasicProperties, spec
from pika.adapters.select_connection import SelectConnection

from busmon.bus.peeled_properties import PeeledProperties, peeled_properties

Entrance = Callable[[int, bool, str, BasicProperties, bytes], None]
"""Called with a delivery's tag, whether it was delivered before, its routing key, its properties and its body."""

_METHOD_FRAME = Struct(">BHII")
_HEADER_FRAME = Struct(">BHIHHQ")
_FRAME = Struct(">BHI")
_TAG = Struct(">QB")

_OVERHEAD = spec.FRAME_HEADER_SIZE + spec.FRAME_END_SIZE
_BASIC = spec.BasicProperties.INDEX
_DELIVER = spec.Basic.Deliver.INDEX
_END = spec.FRAME_END
_HEADER_BEGINS = {b"", bytes([spec.FRAME_HEADER])}
_FRAMES = 3


class PeelingConnection(SelectConnection):  # type: ignore[misc]  # pika isn't typed
    """A connection whose channels may have an entrance that deliveries take."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._entrances: dict[int, tuple[bytes, Entrance]] = {}
        self._frame_buffer: bytes = b""
        self._handed_over = 0
        super().__init__(*args, **kwargs)

    def peel(self, channel_number: int, consumer_tag: str, entrance: Entrance) -> None:
        """From now on give the deliveries to this channel's consumer, its only one, to the entrance."""
        encoded = consumer_tag.encode()
        self._entrances[channel_number] = bytes([len(encoded)]) + encoded, entrance

    def unpeel(self, channel_number: int) -> None:
        """Let pika have all of this channel's frames again."""
        self._entrances.pop(channel_number, None)

    def _on_data_available(self, data_in: bytes) -> None:
        """The hook that pika's adapters call with what they received."""
        self._frame_buffer += data_in
        while self._frame_buffer:
            if self._entrances and not self._pika_assembles() and self._peel_whole_deliveries():
                return
            consumed, frame = self._read_frame()
            if frame is None:
                return
            self._trim_frame_buffer(consumed)
            if self._entrances and frame.frame_type == spec.FRAME_METHOD:
                self._handed_over = frame.channel_number
            self._process_frame(frame)

    def _pika_assembles(self) -> bool:
        """Whether pika has the beginning of a delivery, the rest of which is then pika's too."""
        channel = self._channels.get(self._handed_over)
        if channel is not None and channel._content_assembler._method_frame is not None:  # noqa: SLF001 - nothing tells
            return True
        self._handed_over = 0
        return False

    def _peel_whole_deliveries(self) -> bool:
        """Deliver what stands plain and whole at the start of the buffer; whether the rest waits for more bytes."""
        buffer, entrances, position, incomplete = self._frame_buffer, self._entrances, 0, False
        try:
            while (ends := _ends(buffer, position, entrances)) is not None:
                header_at, body_at, end = ends
                if end > len(buffer):
                    incomplete = True
                    break
                consumer_tag, entrance = entrances[int.from_bytes(buffer[position + 1 : position + 3])]
                plain = _taken_apart(buffer, position, header_at, body_at, end, consumer_tag)
                if plain is None:
                    break
                position = end
                self.frames_received += _FRAMES if end > body_at else _FRAMES - 1
                entrance(*plain)
        finally:
            # A callback may have ended the connection, which empties the buffer.
            if self._frame_buffer is buffer:
                self._frame_buffer = buffer[position:]
                self.bytes_received += position
        return incomplete or not self._frame_buffer


def _ends(  # noqa: PLR0911 - a return for each frame that may not be there yet, or may be another
    buffer: bytes, position: int, entrances: Container[int]
) -> tuple[int, int, int] | None:
    """Where the frames of a delivery end, if one that may be plain begins here.

    The last end lies beyond the buffer while the delivery isn't whole.
    """
    size = len(buffer)
    if size - position < _METHOD_FRAME.size:
        return None
    kind, channel, length, index = _METHOD_FRAME.unpack_from(buffer, position)
    if index != _DELIVER or kind != spec.FRAME_METHOD or channel not in entrances:
        return None
    header_at = position + length + _OVERHEAD
    if size < header_at + _HEADER_FRAME.size:
        return (header_at, header_at, size + 1) if buffer[header_at : header_at + 1] in _HEADER_BEGINS else None
    kind, of, length, class_, _weight, body_size = _HEADER_FRAME.unpack_from(buffer, header_at)
    if kind != spec.FRAME_HEADER or of != channel or class_ != _BASIC:
        return None
    body_at = header_at + length + _OVERHEAD
    if not body_size:
        return header_at, body_at, body_at
    if size < body_at + spec.FRAME_HEADER_SIZE:
        return header_at, body_at, size + 1
    if _FRAME.unpack_from(buffer, body_at) != (spec.FRAME_BODY, channel, body_size):
        return None
    return header_at, body_at, body_at + body_size + _OVERHEAD


def _taken_apart(  # noqa: PLR0913, PLR0917 - the places in the buffer, found a moment ago
    buffer: bytes, position: int, header_at: int, body_at: int, end: int, consumer_tag: bytes
) -> tuple[int, bool, str, PeeledProperties, bytes] | None:
    """What an entrance is called with; None for a delivery that is for pika."""
    if not buffer[header_at - 1] == buffer[body_at - 1] == buffer[end - 1] == _END:
        return None
    try:
        at = position + _METHOD_FRAME.size
        if not buffer.startswith(consumer_tag, at):
            return None
        at += len(consumer_tag)
        tag, bits = _TAG.unpack_from(buffer, at)
        at += _TAG.size
        at += 1 + buffer[at]
        routing_key = buffer[at + 1 : header_at - 1]
        properties = peeled_properties(buffer[header_at + _HEADER_FRAME.size : body_at - 1])
        if properties is None or buffer[at] != len(routing_key):
            return None
        body = buffer[body_at + spec.FRAME_HEADER_SIZE : end - 1] if end > body_at else b""
        return tag, bits & 1 == 1, routing_key.decode(), properties, body
    except (IndexError, StructError, UnicodeDecodeError):
        return None
