"""One value file of a shard, in prometheus_client's multiprocess format (`MmapedDict`), open for its only writer.

The format: a native int32 `used`, 4 bytes that prometheus_client leaves at 0 and where ours have their generation
(`compaction.py`), then entries of an int32 key length, the key padded to 8 bytes,
a double value and a double timestamp. A *slot* is the index of an entry's value when the file is seen as doubles; it
never changes while the file lives. Space is allocated before it is mapped, so a full disk is an `OSError` and not
SIGBUS.
"""

import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from busmon.errors import RegistryError
from busmon.registry.shard import disk

_USED = struct.Struct("i")
_HEADER = struct.Struct("iI")
_ENTRY_KEY = struct.Struct("i")
_FIRST_ENTRY = 8
_INITIAL_BYTES = 1 << 16
_VALUE = struct.Struct("dd")
_NO_VALUE = bytes(_VALUE.size)


class ValueFile:
    """The values and timestamps of one type's series in one shard.

    Attributes:
        path: where it stands.
        generation: how often it was rewritten.
    """

    def __init__(self, path: Path) -> None:
        """Open the file at `path`, or make it.

        Raises:
            OSError: it can't be opened or grown.
            RegistryError: it isn't whole.
        """
        if not path.exists():
            _create(path)
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR)
        self._map()
        self._used, self.generation = _HEADER.unpack_from(self._memory)
        if not _FIRST_ENTRY <= self._used <= len(self._memory):
            self.close()
            raise RegistryError(f"{path}: {self._used} bytes are said to be used")

    def entries(self) -> Iterator[tuple[bytes, int]]:
        """Every key with its slot, in the order in which they were appended."""
        yield from parse_entries(self._memory, self._used)

    def append(self, keys: Sequence[bytes]) -> list[int]:
        """Add entries that are 0 and never updated; return their slots.

        They become visible together, so a reader never sees part of a series.
        """
        entries = [_entry(key) for key in keys]
        grown = self._used + sum(map(len, entries))
        self._reserve(grown)
        self._memory[self._used : grown] = b"".join(entries)
        slots = []
        end = self._used
        for entry in entries:
            end += len(entry)
            slots.append(end // 8 - 2)
        self._memory[0 : _USED.size] = _USED.pack(grown)
        self._used = grown
        return slots

    def sync(self) -> None:
        """Have the disk hold what the file holds."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Unmap and close the file."""
        self.doubles.release()
        self._memory.close()
        os.close(self._descriptor)

    def _map(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size < _INITIAL_BYTES or size % 8:
            os.close(self._descriptor)
            raise RegistryError(f"{self.path}: {size} bytes are no value file")
        self._memory = mmap.mmap(self._descriptor, size)
        self.doubles = memoryview(self._memory).cast("d")

    def _reserve(self, used: int) -> None:
        if used <= len(self._memory):
            return
        os.posix_fallocate(self._descriptor, 0, _size_for(used))
        self.doubles.release()
        self._memory.close()
        self._map()


def parse_entries(
    buffer: bytes | bytearray | mmap.mmap, used: int, start: int = _FIRST_ENTRY
) -> Iterator[tuple[bytes, int]]:
    """Every key between byte `start` and `used` with its slot.

    Raises:
        RegistryError: a length leads outside of what is used, so the file is torn or foreign.
    """
    return zip(*keys_and_slots(buffer, used, start), strict=True)


def keys_and_slots(
    buffer: bytes | bytearray | mmap.mmap, used: int, start: int = _FIRST_ENTRY
) -> tuple[list[bytes], list[int]]:
    """Every key between byte `start` and `used`, and its slot.

    Raises:
        RegistryError: a length leads outside of what is used, so the file is torn or foreign.
    """
    keys: list[bytes] = []
    slots: list[int] = []
    if used == 0:
        return keys, slots
    if not _FIRST_ENTRY <= used <= len(buffer) or used % 8:
        raise RegistryError(f"{used} bytes are said to be used of {len(buffer)}")
    add_key, add_slot, position = keys.append, slots.append, start
    with memoryview(buffer) as whole, whole[:used] as part, part.cast("i") as lengths:
        while position < used:
            length = lengths[position >> 2]
            value_at = (position + length + 12) & -8
            if length < 0 or value_at + 16 > used:
                raise RegistryError(f"the entry at byte {position} leads outside of the file")
            add_key(bytes(buffer[position + 4 : position + 4 + length]))
            add_slot(value_at >> 3)
            position = value_at + 16
    return keys, slots


def stands_at(buffer: bytes, key: bytes, slot: int) -> bool:
    """Whether the entry of this slot has this key."""
    start = slot * 8 - _padded(len(key))
    return buffer[start : start + 4 + len(key)] == _ENTRY_KEY.pack(len(key)) + key


def _padded(key_length: int) -> int:
    return 4 + key_length + (8 - (key_length + 4) % 8)


def _entry(key: bytes) -> bytes:
    padding = _padded(len(key)) - 4 - len(key)
    return _ENTRY_KEY.pack(len(key)) + key + b" " * padding + _NO_VALUE


def contents(path: Path) -> tuple[bytes, int]:
    """A value file's bytes as far as they are used, and how many these are.

    Raises:
        OSError: it can't be read.
        RegistryError: it is too short for what it says.
    """
    with path.open("rb") as stream:
        header = stream.read(_HEADER.size)
        used = _USED.unpack_from(header)[0] if len(header) == _HEADER.size else 0
        buffer = header + stream.read(max(0, used - len(header)))
    if not _FIRST_ENTRY <= used == len(buffer):
        raise RegistryError(f"{path}: {used} bytes are said to be used of {len(buffer)}")
    return buffer, used


def generation_of(path: Path) -> int:
    """How often the file was rewritten; -1 where there is none, or no whole header.

    Raises:
        OSError: it can't be read.
    """
    try:
        with path.open("rb") as stream:
            header = stream.read(_HEADER.size)
    except FileNotFoundError:
        return -1
    return int(_HEADER.unpack(header)[1]) if len(header) == _HEADER.size else -1


def write_file(path: Path, entries: Sequence[tuple[bytes, float, float]], generation: int, *, fsync: bool) -> list[int]:
    """Write a file of keys with values and timestamps; return their slots.

    Raises:
        OSError: there is no room for it; nothing of it stays.
    """
    parts = [_HEADER.pack(0, generation)]
    slots, end = [], _FIRST_ENTRY
    for key, value, at in entries:
        parts.append(_entry(key)[: -len(_NO_VALUE)] + _VALUE.pack(value, at))
        end += len(parts[-1])
        slots.append(end // 8 - 2)
    parts[0] = _HEADER.pack(end, generation)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, _size_for(end))
        disk.write(descriptor, b"".join(parts), 0)
        if fsync:
            os.fsync(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return slots


def _size_for(used: int) -> int:
    size = _INITIAL_BYTES
    while size < used:
        size *= 2
    return size


def _create(path: Path) -> None:
    """Make an empty file whole before it has its name: stock readers choke on a file of 0 bytes."""
    draft = path.with_suffix(".tmp")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, _INITIAL_BYTES)
        os.pwrite(descriptor, _USED.pack(_FIRST_ENTRY), 0)
        draft.replace(path)
    finally:
        os.close(descriptor)
