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
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from busmon import files
from busmon.errors import RegistryError
from busmon.registry.series.entry import HEADER_BYTES, MAX_FILE_BYTES, entry_bytes, pad_key_bytes
from busmon.registry.storage import disk
from busmon.registry.storage.damage import make_damage_error

_USED = struct.Struct("i")
_HEADER = struct.Struct("iI")
_ENTRY_KEY = struct.Struct("i")
FIRST_ENTRY = HEADER_BYTES
_INITIAL_BYTES = 1 << 16
_VALUE = struct.Struct("dd")
_NO_VALUE = bytes(_VALUE.size)


class Extent(NamedTuple):
    """The least that a value file has; all 0 where there is no file.

    Attributes:
        generation: how often it was rewritten.
        used: bytes of header and entries.
        checksum: of the entries' keys.
    """

    generation: int = 0
    used: int = 0
    checksum: int = 0


class ValueFile:
    """The values and timestamps of one type's series in one shard.

    Attributes:
        path: where it stands.
        generation: how often it was rewritten.
        checksum: of its keys, those of `entries` once they were gone through.
    """

    def __init__(self, path: Path, *, in_memory: bool = False) -> None:
        """Open the file at `path`, or make it; in memory, make one that would stand there.

        Raises:
            OSError: it can't be opened or grown.
            RegistryError: it isn't whole.
        """
        self.path = path
        self.checksum = 0
        self._take(_in_memory(path.name) if in_memory else _open(path))

    def detach(self) -> None:
        """Go on with a copy in memory.

        Raises:
            OSError: there is no memory for it.
        """
        copy = os.memfd_create(self.path.name)
        os.posix_fallocate(copy, 0, len(self._memory))
        disk.write(copy, self._memory[: self._used], 0)
        self.close()
        self._take(copy)

    def _take(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map()
        self._used: int
        self._used, self.generation = _HEADER.unpack_from(self._memory)
        if not FIRST_ENTRY <= self._used <= len(self._memory):
            self.close()
            raise make_damage_error(self.path, f"its header says that {self._used} bytes are used")

    @property
    def used(self) -> int:
        """Return how many bytes header and entries take."""
        return self._used

    @property
    def extent(self) -> Extent:
        """Return the file's extent; its checksum is right once the entries were gone through."""
        return Extent(self.generation, self._used, self.checksum)

    def entries(self) -> Iterator[tuple[bytes, int]]:
        """Yield every key with its slot, in the order in which they were appended."""
        self.checksum = 0
        for key, slot in parse_entries(self._memory, self._used):
            self.checksum = zlib.crc32(key, self.checksum)
            yield key, slot

    def plan(self, keys: Sequence[bytes]) -> list[int]:
        """Make room for entries that `append` will add; return the slots that they will have.

        Raises:
            OSError, OverflowError: as of `append`.
        """
        self._reserve(self._require_room(keys))
        slots, end = [], self._used
        for key in keys:
            end += entry_bytes(len(key))
            slots.append(end // 8 - 2)
        return slots

    def _require_room(self, keys: Sequence[bytes]) -> int:
        """Return how many bytes the file uses with these keys."""
        grown = self._used + sum(entry_bytes(len(key)) for key in keys)
        if grown > MAX_FILE_BYTES:
            raise OverflowError(f"{self.path}: {grown} bytes; a value file has at most {MAX_FILE_BYTES}")
        return grown

    def content(self) -> bytes:
        """Return all entries, with their values and timestamps."""
        return self._memory[FIRST_ENTRY : self._used]

    def append(self, keys: Sequence[bytes]) -> list[int]:
        """Add entries that are 0 and never updated; return their slots.

        They become visible together, so a reader never sees part of a series.

        Raises:
            OSError: there is no room for them.
            OverflowError: the file would be larger than the format's 32 bits can say.
        """
        grown = self._require_room(keys)
        self._reserve(grown)
        slots, end = [], self._used
        for key in keys:
            entry = _entry(key)
            self.checksum = zlib.crc32(key, self.checksum)
            self._memory[end : end + len(entry)] = entry
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
            raise make_damage_error(self.path, f"{size} bytes are no value file")
        self._memory = mmap.mmap(self._descriptor, size)
        self.doubles = memoryview(self._memory).cast("d")

    def _reserve(self, used: int) -> None:
        if used <= len(self._memory):
            return
        disk.allocate(self._descriptor, _size_for(used), self.path)
        self.doubles.release()
        self._memory.close()
        self._map()


def parse_entries(buffer: bytes | mmap.mmap, used: int, start: int = FIRST_ENTRY) -> Iterator[tuple[bytes, int]]:
    """Return every key between byte `start` and `used` with its slot.

    Raises:
        RegistryError: a length leads outside of what is used, so the file is torn or foreign.
    """
    return zip(*keys_and_slots(buffer, used, start), strict=True)


def keys_and_slots(buffer: bytes | mmap.mmap, used: int, start: int = FIRST_ENTRY) -> tuple[list[bytes], list[int]]:
    """Return every key between byte `start` and `used`, and its slot.

    Raises:
        RegistryError: a length leads outside of what is used, so the file is torn or foreign.
    """
    keys: list[bytes] = []
    slots: list[int] = []
    if used == 0:
        return keys, slots
    if not FIRST_ENTRY <= used <= len(buffer) or used % 8:
        raise RegistryError(f"{used} bytes are said to be used of {len(buffer)}")
    add_key, add_slot, position = keys.append, slots.append, start
    with memoryview(buffer) as whole, whole[:used] as part, part.cast("i") as lengths:
        while position < used:
            length = lengths[position >> 2]
            value_at = (position + length + 12) & -8
            if length <= 0 or value_at + 16 > used:
                raise RegistryError(f"the entry at byte {position} leads outside of the file")
            add_key(buffer[position + 4 : position + 4 + length])
            add_slot(value_at >> 3)
            position = value_at + 16
    return keys, slots


def stands_at(buffer: bytes, key: bytes, slot: int) -> bool:
    """Return whether the entry of this slot has this key."""
    start = slot * 8 - pad_key_bytes(len(key))
    return buffer[start : start + 4 + len(key)] == _ENTRY_KEY.pack(len(key)) + key


def _entry(key: bytes) -> bytes:
    padding = pad_key_bytes(len(key)) - 4 - len(key)
    return _ENTRY_KEY.pack(len(key)) + key + b" " * padding + _NO_VALUE


def contents(path: Path, most: int = MAX_FILE_BYTES) -> tuple[bytes, int]:
    """Return a value file's used bytes, and how many there are.

    Raises:
        OSError: it can't be read.
        RegistryError: it is too short for what it says.
    """
    with os.fdopen(files.open_file(path), "rb") as stream:
        header = stream.read(_HEADER.size)
        used = _USED.unpack_from(header)[0] if len(header) == _HEADER.size else 0
        if used > min(most, os.fstat(stream.fileno()).st_size):
            raise RegistryError(f"{path}: {used} bytes are said to be used")
        buffer = header + stream.read(max(0, used - len(header)))
    if not FIRST_ENTRY <= used == len(buffer):
        raise RegistryError(f"{path}: {used} bytes are said to be used of {len(buffer)}")
    return buffer, used


def generation_of(path: Path) -> int:
    """Return how often the file was rewritten; -1 where there is none, or no whole header.

    Raises:
        OSError: it can't be read.
    """
    return _header(path)[1]


def read_used_bytes(path: Path) -> int:
    """Return how many bytes the header says are used; -1 where there is no file, or no whole header.

    Raises:
        OSError: it can't be read.
    """
    return _header(path)[0]


def _header(path: Path) -> tuple[int, int]:
    try:
        with os.fdopen(files.open_file(path), "rb") as stream:
            header = stream.read(_HEADER.size)
    except FileNotFoundError:
        return -1, -1
    return _HEADER.unpack(header) if len(header) == _HEADER.size else (-1, -1)


def write_file(
    path: Path, entries: Sequence[tuple[bytes, float, float]], generation: int, *, fsync: bool
) -> tuple[list[int], Extent]:
    """Write a file of keys with values and timestamps; return their slots, and what the file has.

    Raises:
        OSError: there is no room for it; nothing of it stays.
    """
    parts = [_HEADER.pack(0, generation)]
    slots, end, checksum = [], FIRST_ENTRY, 0
    for key, value, at in entries:
        checksum = zlib.crc32(key, checksum)
        parts.append(_entry(key)[: -len(_NO_VALUE)] + _VALUE.pack(value, at))
        end += len(parts[-1])
        slots.append(end // 8 - 2)
    parts[0] = _HEADER.pack(end, generation)
    descriptor = files.draft(path)
    try:
        disk.allocate(descriptor, _size_for(end), path)
        disk.write(descriptor, b"".join(parts), 0)
        if fsync:
            os.fsync(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return slots, Extent(generation, end, checksum)


def _size_for(used: int) -> int:
    size = _INITIAL_BYTES
    while size < used:
        size *= 2
    return size


def _create(path: Path) -> None:
    """Make an empty file whole before it has its name: stock readers choke on a file of 0 bytes."""
    with files.replacing(path) as descriptor:
        _begin(descriptor, path)


def _open(path: Path) -> int:
    if not path.exists():
        _create(path)
    return files.open_file(path, os.O_RDWR)


def _in_memory(name: str) -> int:
    descriptor = os.memfd_create(name)
    _begin(descriptor, Path(name))
    return descriptor


def _begin(descriptor: int, path: Path) -> None:
    disk.allocate(descriptor, _INITIAL_BYTES, path)
    disk.write(descriptor, _USED.pack(FIRST_ENTRY), 0)
