"""Deliveries peeled off the bytes of a socket before pika's frame decoder, their largest cost, sees them.

Bytes in, batches of deliveries out, all else to pika: deliveries of three whole frames on a channel that has an
entrance are taken apart with a few `struct` calls each. Every other frame, and every delivery that isn't of that plain
form (a body of several frames, a frame without its end, odd properties), goes to pika as it is, in its order, one frame
at a time. So pika's checks and errors hold, and its count of bytes by which it judges heartbeats. On the thread of the
loop.
"""

from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names its exception like a variable
from typing import Any

from pika import spec
from pika.adapters.select_connection import SelectConnection

from busmon.bus.delivery import Delivery
from busmon.bus.peeled_properties import peeled_properties

CONSUMER_TAG = "busmon"
"""The one consumer of a channel with an entrance; it is part of every delivery, and one of pika's has 38 bytes."""

Entrance = Callable[[Sequence[Delivery]], None]
"""Called with deliveries that arrived together, at least one, in their order."""

_CONSUMER = bytes([len(CONSUMER_TAG)]) + CONSUMER_TAG.encode()
_DELIVER_FRAME = Struct(f">BHII{len(_CONSUMER)}sQBB")  # as far as the length of the exchange's name
_HEADER_FRAME = Struct(">BHIHHQ")
_BODY_FRAME = Struct(">BHI")

_unpack_deliver, _unpack_header, _unpack_body = (
    shape.unpack_from for shape in (_DELIVER_FRAME, _HEADER_FRAME, _BODY_FRAME)
)

_METHOD, _HEADER, _BODY = spec.FRAME_METHOD, spec.FRAME_HEADER, spec.FRAME_BODY
_OVERHEAD = spec.FRAME_HEADER_SIZE + spec.FRAME_END_SIZE
_BASIC = spec.BasicProperties.INDEX
_DELIVER = spec.Basic.Deliver.INDEX
_END = spec.FRAME_END
_HEADER_BEGINS = {b"", bytes([_END]), bytes([_END, spec.FRAME_HEADER])}
_BODY_BEGINS = {b"", bytes([_END])}
_FRAMES = 3


class PeelingConnection(SelectConnection):  # type: ignore[misc]  # pika isn't typed
    """A connection whose channels may have an entrance that deliveries take."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._entrances: dict[int, tuple[int, Entrance]] = {}
        self._frame_buffer: bytes = b""
        super().__init__(*args, **kwargs)

    def peel(self, channel_number: int, base: int, entrance: Entrance) -> None:
        """From now on give the deliveries of this channel, with `base` added to their tags, to the entrance."""
        self._entrances[channel_number] = base, entrance

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
            self._process_frame(frame)

    def _pika_assembles(self) -> bool:
        """Whether pika has the beginning of a delivery, the rest of which is then pika's too."""
        channels = map(self._channels.get, self._entrances)
        return any(channel and channel._content_assembler._method_frame for channel in channels)  # noqa: SLF001 - nothing tells

    def _peel_whole_deliveries(self) -> bool:
        """Deliver what stands plain and whole at the start of the buffer; whether the rest waits for more bytes."""
        buffer, entrances, position = self._frame_buffer, self._entrances, 0
        peeled: dict[int, list[Delivery]] = {number: [] for number in entrances}
        while True:
            number, delivery, end = _delivery(buffer, position, entrances)
            if delivery is None:
                break
            peeled[number].append(delivery)
            self.frames_received += _FRAMES if delivery.body else _FRAMES - 1
            position = end
        self._frame_buffer = buffer[position:]
        self.bytes_received += position
        for number, deliveries in peeled.items():
            if deliveries and number in entrances:  # what is delivered may end the connection
                entrances[number][1](deliveries)
        return end > len(buffer) or not self._frame_buffer


_NOT_PLAIN = 0, None, 0


def _delivery(  # noqa: C901, PLR0911 - one look at each frame, which may not be there yet, or be another
    buffer: bytes, position: int, entrances: Mapping[int, tuple[int, Entrance]]
) -> tuple[int, Delivery | None, int]:
    """The plain delivery that begins here, with its channel and its end.

    Of one that isn't whole, an end beyond the buffer; of anything else, neither.
    """
    size = len(buffer)
    if size - position < _DELIVER_FRAME.size:
        return _NOT_PLAIN
    kind, number, length, method, consumer, tag, bits, skipped = _unpack_deliver(buffer, position)
    if method != _DELIVER or consumer != _CONSUMER or kind != _METHOD or number not in entrances:
        return _NOT_PLAIN
    header_at = position + length + _OVERHEAD
    if size < header_at + _HEADER_FRAME.size:
        return (0, None, size + 1) if buffer[header_at - 1 : header_at + 1] in _HEADER_BEGINS else _NOT_PLAIN
    kind, of, length, class_, _weight, body_size = _unpack_header(buffer, header_at)
    if kind != _HEADER or of != number or class_ != _BASIC:
        return _NOT_PLAIN
    end = body_at = header_at + length + _OVERHEAD
    if body_size:
        end += body_size + _OVERHEAD
        if size >= body_at + spec.FRAME_HEADER_SIZE and _unpack_body(buffer, body_at) != (_BODY, number, body_size):
            return _NOT_PLAIN
    if size < end:
        is_whole_so_far = buffer[header_at - 1] == _END and buffer[body_at - 1 : body_at] in _BODY_BEGINS
        return (0, None, size + 1) if is_whole_so_far else _NOT_PLAIN
    if not buffer[header_at - 1] == buffer[body_at - 1] == buffer[end - 1] == _END:
        return _NOT_PLAIN
    try:
        at = position + _DELIVER_FRAME.size + skipped
        routing_key = buffer[at + 1 : header_at - 1]
        peeled = peeled_properties(buffer[header_at + _HEADER_FRAME.size : body_at - 1])
        if peeled is None or at + 1 + buffer[at] != header_at - 1:
            return _NOT_PLAIN
        body = buffer[body_at + spec.FRAME_HEADER_SIZE : end - 1] if body_size else b""
        tag += entrances[number][0]
        return number, Delivery(body, tag, bits & 1 == 1, routing_key.decode(), *peeled), end
    except (IndexError, StructError, UnicodeDecodeError):
        return _NOT_PLAIN
