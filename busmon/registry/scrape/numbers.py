"""The numbers of one value file's entries, gathered in blocks at the places that its keys leave for them.

A block of entries keeps its places while the file lives. So a compiled struct takes its numbers out of its bytes, with
the keys between them as padding. Only bytes that differ from the ones before are compared number by number. One thread.
"""

import os
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import compress, count, pairwise
from operator import ne

from busmon.errors import RegistryError
from busmon.registry.series.entry import VALUE_BYTES

_NUMBER_BYTES = 8
_BLOCK = 1024
"""Entries that are read together: their bytes stay in the processor's cache until their numbers are taken."""

_STEP_BYTES = 32 * _NUMBER_BYTES


class EntryNumbers:
    """The numbers of a file's entries; entry 0 isn't in the file, and has value and time 0.

    Args:
        timed: whether `times` is kept.
        is_compiled: whether the places of a block are compiled once it is read again, at 36 bytes an entry.

    Attributes:
        values: by entry.
        times: by entry, if they are kept.
    """

    def __init__(self, *, timed: bool, is_compiled: bool) -> None:
        self.values = array("d", [0.0])
        self.times = array("d", [0.0])
        self._timed = timed
        self._is_compiled = is_compiled
        self._layouts: list[struct.Struct] = []

    def extend(self, entries: int) -> None:
        """Have so many entries; nothing was counted in the new ones yet."""
        unknown = bytes(_NUMBER_BYTES * (entries - len(self.values)))
        self.values.frombytes(unknown)
        if self._timed:
            self.times.frombytes(unknown)

    def gather(self, descriptor: int, slots: Sequence[int]) -> list[int]:
        """Read all numbers, and return the entries that were known and changed; one may be there twice.

        Args:
            descriptor: of the open file.
            slots: of the entries, the one of entry 0 included.

        Raises:
            OSError: the file can't be read.
            RegistryError: the file ends before its last entry.
        """
        known, changed = len(self.values), list[int]()
        self.extend(len(slots))
        for first, block in _blocks(descriptor, slots):
            last = min(first + _BLOCK, len(slots))
            values, times = self._take(block, slots[first:last], first // _BLOCK, is_known=last <= known)
            changed += _replace(self.values, first, values, known)
            if self._timed:
                changed += _replace(self.times, first, times, known)
        return changed

    def _take(
        self, block: memoryview, slots: Sequence[int], number: int, *, is_known: bool
    ) -> tuple[Sequence[float], Sequence[float]]:
        """Return the values and the times in a block's bytes, which begin with its first value."""
        if self._is_compiled and is_known:
            numbers = self._layout(number, slots).unpack_from(block)
            return (numbers[::2], numbers[1::2]) if self._timed else (numbers, ())
        doubles, places = block.cast("d"), [slot - slots[0] for slot in slots]
        times = [*map(doubles[1:].__getitem__, places)] if self._timed else ()
        return [*map(doubles.__getitem__, places)], times

    def _layout(self, number: int, slots: Sequence[int]) -> struct.Struct:
        """Return the places in a block; the file's last block may have grown since they were compiled."""
        taken = 1 + self._timed
        size = (slots[-1] - slots[0] + taken) * _NUMBER_BYTES
        if number < len(self._layouts) and self._layouts[number].size < size:
            self._layouts.pop()
        if number == len(self._layouts):
            code = f"{taken}d"
            padding = [f"{(later - slot - taken) * _NUMBER_BYTES}x" for slot, later in pairwise(slots)]
            self._layouts.append(struct.Struct(code + "".join([f"{pad}{code}" for pad in padding])))
        return self._layouts[number]


def _blocks(descriptor: int, slots: Sequence[int]) -> Iterator[tuple[int, memoryview]]:
    """Yield each block's first entry and its bytes, which hold until the next one."""
    firsts = range(1, len(slots), _BLOCK)
    spans = [
        (slots[first] * _NUMBER_BYTES, slots[min(first + _BLOCK, len(slots)) - 1] * _NUMBER_BYTES + VALUE_BYTES)
        for first in firsts
    ]
    buffer = memoryview(bytearray(max((end - start for start, end in spans), default=0)))
    for first, (start, end) in zip(firsts, spans, strict=True):
        block = buffer[: end - start]
        if os.preadv(descriptor, [block], start) < len(block):
            raise RegistryError(f"it ends before byte {end}, and its header says that this one is used")
        yield first, block


@lru_cache(maxsize=64)
def _packer(size: int) -> Callable[..., bytes]:
    return struct.Struct(f"{size}d").pack


def _replace(numbers: "array[float]", first: int, new: Sequence[float], known: int) -> list[int]:
    """Put a block's numbers in their places; return the entries below `known` that changed."""
    packed = _packer(len(new))(*new)
    start, stop = first * _NUMBER_BYTES, first * _NUMBER_BYTES + len(packed)
    with memoryview(numbers) as whole, whole.cast("B") as octets:
        before = octets[start:stop].tobytes()
        if before == packed:
            return []
        octets[start:stop] = packed
    compared = _NUMBER_BYTES * min(len(new), max(0, known - first))
    return [
        entry
        for at in range(0, compared, _STEP_BYTES)
        if (old := before[at : at + _STEP_BYTES]) != (now := packed[at : at + _STEP_BYTES])
        for entry in compress(count(first + at // _NUMBER_BYTES), map(ne, array("d", old), array("d", now)))
        if entry < known
    ]
