"""Deliveries peeled off the bytes of a socket before pika's frame decoder, their largest cost, sees them.

Bytes in, batches of deliveries out, all else to pika: plain deliveries on a channel that has an entrance are taken
apart by a peeler. Every other frame, and every delivery that isn't plain (a body of no frame or of several, a frame
without its end), goes to pika as it is, in its order, one frame at a time. So pika's checks and errors hold, though one
in the first frames of a delivery is raised once all of it is there, and so does its count of bytes by which it judges
heartbeats. On the thread of the loop.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from pika.adapters.select_connection import SelectConnection

from busmon import compiled
from busmon.bus.frames import peeler
from busmon.bus.frames.delivery import Delivery

Entrance = Callable[[Sequence[Delivery]], None]
"""Called with deliveries that arrived together, at least one, in their order."""

_Peeler: type[peeler.Peeler] = (compiled.find("busmon.bus.frames.compiled_peeler") or peeler).Peeler


class PeelingConnection(SelectConnection):
    """A connection whose channels may have an entrance that deliveries take."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._entrances: dict[int, Entrance] = {}
        self._peeler = _Peeler()
        self._frame_buffer: bytes = b""
        super().__init__(*args, **kwargs)

    def peel(self, channel_number: int, base: int, entrance: Entrance) -> None:
        """Send this channel's deliveries, with `base` added to their tags, to the entrance from now on."""
        self._entrances[channel_number] = entrance
        self._peeler.add(channel_number, base)

    def unpeel(self, channel_number: int) -> None:
        """Leave all of this channel's frames to pika again."""
        self._entrances.pop(channel_number, None)
        self._peeler.remove(channel_number)

    def _on_data_available(self, data_in: bytes) -> None:
        """Take received bytes; called by pika's adapters."""
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
        """Return whether pika has the start of a delivery; the rest of the delivery is then pika's too."""
        channels = map(self._channels.get, self._entrances)
        return any(channel and channel._content_assembler._method_frame for channel in channels)  # noqa: SLF001 - nothing tells

    def _peel_whole_deliveries(self) -> bool:
        """Deliver the plain, whole deliveries at the buffer's start; return whether the rest waits for more bytes."""
        buffer, entrances = self._frame_buffer, self._entrances
        end, peeled = self._peeler.take_apart(buffer, time.time())
        waits = end == len(buffer) or self._peeler.is_begun(buffer, end)
        self._frame_buffer = buffer[end:]
        self.bytes_received += end
        self.frames_received += peeler.FRAMES * sum(map(len, peeled.values()))
        for number, deliveries in peeled.items():
            if deliveries and number in entrances:  # an entrance may end the connection
                entrances[number](deliveries)
        return waits or not self._frame_buffer
