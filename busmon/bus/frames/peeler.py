"""Plain deliveries, taken apart where they are in received bytes.

A plain delivery has three whole frames with their ends: the method with the tag of the one consumer, the header, and
one frame of a body that isn't empty. One `struct` call, made for frames of just these lengths, takes it apart.
`compiled_peeler.pyx` has the same class, and is used where it is built. Pure memory. On the thread of the loop.
"""

from collections.abc import Callable
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names its exception like a variable
from typing import Any, NamedTuple

from pika import spec

from busmon.bare import bare
from busmon.bounded import BoundedCache
from busmon.bus.frames.delivery import Delivery, UnreadDelivery
from busmon.bus.frames.peeled_properties import UNREAD, PropertiesReader

CONSUMER_TAG = "busmon"
"""The one consumer of a channel with plain deliveries; it is part of each of them, and one of pika's has 38 bytes."""

CONSUMER = bytes([len(CONSUMER_TAG)]) + CONSUMER_TAG.encode()
"""The consumer's tag, encoded."""

FRAMES = 3
"""The frames of a plain delivery."""

Peeled = dict[int, list[Delivery]]
"""Deliveries in their order, by the number of their channel."""

_START = Struct(">xHI")  # of a frame: channel and length, behind its type
_METHOD = Struct(f">BHII{len(CONSUMER)}s")  # the start of a frame, `basic.deliver`, the consumer
_HEADER = Struct(">BBHIHH")  # the end of the frame before, the start of a frame, class and weight
_BODY = Struct(">BBH")  # the end of the frame before, the start of a frame but for its length
_SIZE = slice(_START.size + 4, _START.size + 12)  # of a header frame: the body's

_OVERHEAD = spec.FRAME_HEADER_SIZE + spec.FRAME_END_SIZE
_BEFORE_NAMES = _METHOD.size + 9 - _START.size  # 8 of the tag, 1 of bits
_BEFORE_PROPERTIES = 12  # class, weight, size of the body
_END = spec.FRAME_END
_MAX_REMEMBERED = 1000
"""Forms, and names: publishers choose what is in them, and how long it is."""

_unpack_start = _START.unpack_from


class _Form(NamedTuple):
    """The form of plain deliveries on one channel whose first two frames have certain lengths.

    Attributes:
        unpack: gives the parts of what stands at a place in a buffer: `method`, tag, bits, names, `header`, size of the
            body, properties, `body`, and length of the body's frame.
        method: this part of a plain delivery.
        header: as `method`.
        body: as `method`.
        size: of all of them, behind which the body stands.
        base: added to the tag.
    """

    unpack: Callable[[bytes, int], tuple[Any, ...]]
    method: bytes
    header: bytes
    body: bytes
    size: int
    base: int


class Peeler:
    """The channels that have plain deliveries, and the ways to take them apart."""

    def __init__(self) -> None:
        self._bases: dict[int, int] = {}
        self._forms: BoundedCache[tuple[int, int, int], _Form] = BoundedCache(_MAX_REMEMBERED)
        self._names: BoundedCache[bytes, tuple[str, str]] = BoundedCache(_MAX_REMEMBERED)
        self._read_properties = PropertiesReader().read

    def add(self, channel_number: int, base: int) -> None:
        """Take this channel's deliveries apart from now on, with `base` added to their tags."""
        self._bases[channel_number] = base
        self._forms.clear()

    def remove(self, channel_number: int) -> None:
        """Leave this channel's deliveries from now on."""
        self._bases.pop(channel_number, None)
        self._forms.clear()

    def take_apart(self, buffer: bytes, received_at: float) -> tuple[int, Peeled]:
        """Take apart the plain and whole deliveries at the buffer's start.

        Args:
            buffer: received bytes.
            received_at: the deliveries' time of receipt, in seconds since the epoch.

        Returns:
            where the rest begins, and the deliveries of each channel, in the order in which channels were added.
        """
        peeled: Peeled = {number: [] for number in self._bases}
        return self._take_apart(buffer, received_at, peeled), peeled

    def _take_apart(self, buffer: bytes, received_at: float, peeled: Peeled) -> int:
        forms, known_names, position = self._forms.entries, self._names.entries, 0
        read_properties = self._read_properties
        try:
            while True:
                number, method_bytes = _unpack_start(buffer, position)
                _, header_bytes = _unpack_start(buffer, position + method_bytes + _OVERHEAD)
                form = forms.get((number, method_bytes, header_bytes)) or self._form(number, method_bytes, header_bytes)
                unpack, plain_method, plain_header, plain_body, parts_size, base = form
                method, tag, bits, names, header, size, encoded, body, length = unpack(buffer, position)
                start = position + parts_size
                end = start + size
                properties = read_properties(encoded)
                if (
                    method != plain_method
                    or header != plain_header
                    or body != plain_body
                    or not 0 < length == size
                    or buffer[end] != _END
                ):
                    break
                told_names = known_names.get(names) or self._read_names(names)
                stated = *told_names, *properties, encoded
                fields = buffer[start:end], base + tag, bits & 1 == 1, *stated, received_at, size + len(encoded)
                peeled[number].append(bare(Delivery if properties[3] is not UNREAD else UnreadDelivery, fields))
                position = end + 1
        except (IndexError, KeyError, StructError, UnicodeDecodeError):
            pass  # the next delivery isn't whole yet, or isn't plain
        return position

    def is_begun(self, buffer: bytes, position: int) -> bool:
        """Return whether the rest begins a plain delivery and isn't whole: pika would wait for its frame, too."""
        frames = _whole_frames(buffer, position)
        if not frames:
            return True
        number, method_bytes = _unpack_start(frames[0])
        if number not in self._bases or len(frames) == FRAMES:
            return False
        plain = _method(number, method_bytes), _header(number, len(frames[-1]) - _OVERHEAD)[1:]
        return all(
            frame.startswith(start) and frame[-1] == _END for frame, start in zip(frames, plain, strict=False)
        ) and (len(frames) == 1 or any(frames[1][_SIZE]))

    def _form(self, number: int, method_bytes: int, header_bytes: int) -> _Form:
        """Make the form of plain deliveries with frames of these lengths.

        Raises:
            KeyError: the channel wasn't added.
            struct.error: no delivery has such frames.
        """
        names, properties = method_bytes - _BEFORE_NAMES, header_bytes - _BEFORE_PROPERTIES
        parts = Struct(f">{_METHOD.size}sQB{names}s{_HEADER.size}sQ{properties}s{_BODY.size}sI")
        form = _Form(
            parts.unpack_from,
            _method(number, method_bytes),
            _header(number, header_bytes),
            _BODY.pack(_END, spec.FRAME_BODY, number),
            parts.size,
            self._bases[number],
        )
        self._forms.keep((number, method_bytes, header_bytes), form)
        return form

    def _read_names(self, names: bytes) -> tuple[str, str]:
        """Return the exchange and the routing key.

        Raises:
            IndexError, UnicodeDecodeError: the bytes aren't these two names.
        """
        at = 1 + names[0]
        if at + 1 + names[at] != len(names):
            raise IndexError
        read = names[1:at].decode(), names[at + 1 :].decode()
        self._names.keep(names, read)
        return read


def _whole_frames(buffer: bytes, position: int) -> list[bytes]:
    """Return the whole frames of one delivery."""
    frames: list[bytes] = []
    while len(frames) < FRAMES and len(buffer) >= position + spec.FRAME_HEADER_SIZE:
        end = position + _unpack_start(buffer, position)[1] + _OVERHEAD
        if len(buffer) < end:
            break
        frames.append(buffer[position:end])
        position = end
    return frames


def _method(number: int, length: int) -> bytes:
    """Return the beginning of a plain delivery's method frame."""
    return _METHOD.pack(spec.FRAME_METHOD, number, length, spec.Basic.Deliver.INDEX, CONSUMER)


def _header(number: int, length: int) -> bytes:
    """Return the beginning of a plain delivery's header frame, with the end of the method frame."""
    return _HEADER.pack(_END, spec.FRAME_HEADER, number, length, spec.BasicProperties.INDEX, 0)
