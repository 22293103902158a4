"""The redo journal of one shard: an append-only log of what each batch changes, as absolute values.

A file opens with a header (`marked`, `applied`: offsets) and the extents of the value files, then a snapshot record,
then one record per commit. A commit is append → mark → apply → clear: a record counts once `marked` covers it, and
until `applied` reaches it the value files may hold only part of it. Records stay until the next checkpoint, so an
opener can replay them all and a reader that saw the header before and after it read the values can lay the records
between over them. Only the shard's owner writes.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from busmon import files
from busmon.errors import RegistryError
from busmon.registry.storage import disk
from busmon.registry.storage.values import Extent

_HEADER = struct.Struct("<8sQQ")
_OFFSET = struct.Struct("<Q")
_RECORD = struct.Struct("<II")
_MAGIC = b"busmonJ2"
_FIRST_MAGIC = b"busmonJ1"
"""Of a journal without extents."""
_MARKED_AT = 8
_APPLIED_AT = 16
_EXTENT = struct.Struct("<III")
_CHECKSUM = struct.Struct("<I")
MAX_EXTENTS = 16
_EXTENTS_AT = _HEADER.size
_EXTENTS_BYTES = MAX_EXTENTS * _EXTENT.size
_START = _EXTENTS_AT + _EXTENTS_BYTES + _CHECKSUM.size + 4
_TELLING_BYTES = 4096
_ATTEMPTS = 3

CAPACITY_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Marks:
    """The ends of the last whole record, and of the last that the value files are known to hold."""

    marked: int
    applied: int


class Journal:
    """One journal file, open for its shard's owner or for a reader.

    Attributes:
        opened: the marks as they were when it was opened.
        has_extents: whether it says what the value files have; not one of the format's first version.
    """

    def __init__(self, descriptor: int, marks: Marks, *, has_extents: bool = True) -> None:
        self.descriptor = descriptor
        self.opened = marks
        self.has_extents = has_extents
        self._start = _START if has_extents else _EXTENTS_AT
        self._marked = marks.marked
        self._capacity = os.fstat(descriptor).st_size

    @classmethod
    def create(cls, path: Path, snapshot: bytes, extents: Sequence[Extent] = (), *, fsync: bool) -> Self:
        """Put a journal that starts with this snapshot in the place of the one at `path`, atomically.

        Args:
            path: where it is to stand.
            snapshot: its first record.
            extents: of the value files, in the order of the columns.
            fsync: have the disk hold it before it takes its place.

        Raises:
            OSError: there is no room for it; the old journal still stands.
        """
        with ExitStack() as undo:
            with files.replacing(path) as descriptor:
                end = _START + _RECORD.size + len(snapshot)
                disk.allocate(descriptor, end + CAPACITY_BYTES, path)
                head = _HEADER.pack(_MAGIC, end, end) + _pack(extents)
                disk.write(descriptor, head.ljust(_START, b"\0") + _frame(snapshot), 0)
                if fsync:
                    os.fsync(descriptor)
                kept = os.dup(descriptor)
                undo.callback(os.close, kept)
            undo.pop_all()
        return cls(kept, Marks(end, end))

    @classmethod
    def open(cls, path: Path, *, writable: bool) -> Self:
        """Return the journal that stands at `path`.

        Raises:
            FileNotFoundError: there is none.
            RegistryError: what stands there is no journal of this version.
        """
        descriptor = files.open_file(path, os.O_RDWR if writable else os.O_RDONLY)
        try:
            has_extents = os.pread(descriptor, len(_MAGIC), 0) == _MAGIC
            return cls(descriptor, _read_marks(descriptor), has_extents=has_extents)
        except RegistryError as error:
            os.close(descriptor)
            raise RegistryError(f"{path}: {error}") from error

    def has_room(self, payload: bytes) -> bool:
        """Return whether a record of this payload fits before a checkpoint is due."""
        return self._marked + _RECORD.size + len(payload) <= self._capacity

    def commit(self, payload: bytes, *, fsync: bool) -> None:
        """Append the record and mark it: from here on it happened, whatever dies.

        Raises:
            OSError: it didn't happen.
        """
        marked = self.append(payload)
        try:
            disk.write(self.descriptor, _OFFSET.pack(marked), _MARKED_AT)
            if fsync:
                os.fdatasync(self.descriptor)
        except OSError:
            disk.write(self.descriptor, _OFFSET.pack(self._marked), _MARKED_AT)
            raise
        self._marked = marked

    def extents(self) -> list[Extent]:
        """Return what the value files have at least, in the order of the columns.

        Raises:
            RegistryError: it is damaged.
        """
        for _ in range(_ATTEMPTS):  # a reader may come between two halves of a write
            table = os.pread(self.descriptor, _EXTENTS_BYTES + _CHECKSUM.size, _EXTENTS_AT)
            if len(table) == _EXTENTS_BYTES + _CHECKSUM.size and table[_EXTENTS_BYTES:] == _sum_of(
                table[:_EXTENTS_BYTES]
            ):
                return [Extent(*fields) for fields in _EXTENT.iter_unpack(table[:_EXTENTS_BYTES])]
        raise RegistryError("the journal's extents of the value files are damaged")

    def note(self, extents: Sequence[Extent]) -> None:
        """Mark the extents that the value files have by now, before their new entries count.

        Raises:
            OSError: it can't be written.
        """
        disk.write(self.descriptor, _pack(extents), _EXTENTS_AT)

    def append(self, payload: bytes) -> int:
        """Write the record where the next commit's belongs, unmarked; return where it ends.

        Raises:
            OSError: the file doesn't take it.
        """
        record = _frame(payload)
        disk.write(self.descriptor, record, self._marked)
        return self._marked + len(record)

    def clear(self) -> None:
        """Mark that the value files hold every marked record."""
        disk.write(self.descriptor, _OFFSET.pack(self._marked), _APPLIED_AT)

    @property
    def unapplied(self) -> bool:
        """True if the value files may have held only part of the last record when the journal was opened."""
        return self.opened.applied < self.opened.marked

    def records(self) -> Iterator[bytes]:
        """Yield the payloads of the snapshot and of every commit since, in order; for the owner alone.

        A torn record that isn't known to be applied ends the journal: its mark reached the disk in a power cut before
        it did itself, so with `fsync` its commit never returned, and nothing of it is acknowledged.

        Raises:
            RegistryError: a record is torn that was applied.
        """
        end = self._start
        try:
            for payload in self._records(self._start, self._marked):
                yield payload
                end += _RECORD.size + len(payload)
        except RegistryError:
            if end < self.opened.applied:
                raise
            disk.write(self.descriptor, _OFFSET.pack(end), _MARKED_AT)
            self._marked = end

    def read_last(self) -> bytes:
        """Return the payload of the last marked record, or of the snapshot if there is none.

        Raises:
            RegistryError: a record is torn.
        """
        last = b""
        for payload in self._records(self._start, self._marked):
            last = payload
        return last

    def marks(self) -> Marks:
        """Return the marks as they are now.

        Raises:
            RegistryError: they can't be.
        """
        return _read_marks(self.descriptor)

    def records_between(self, start: int, end: int) -> Iterator[bytes]:
        """Return the payloads of the records between two marks.

        Raises:
            RegistryError: a record is torn.
        """
        return self._records(start, end)

    def before(self, offset: int) -> bytes:
        """Return the last bytes before an offset: they tell the records there from others that may be there later."""
        start = max(self._start, offset - _TELLING_BYTES)
        return os.pread(self.descriptor, offset - start, start)

    def _records(self, offset: int, end: int) -> Iterator[bytes]:
        while offset < end:
            head = os.pread(self.descriptor, _RECORD.size, offset).ljust(_RECORD.size, b"\0")
            size, checksum = _RECORD.unpack(head)
            start = offset + _RECORD.size
            payload = os.pread(self.descriptor, size, start) if start + size <= end else b""
            if not payload or len(payload) != size or zlib.crc32(payload) != checksum:
                raise RegistryError(f"the journal's record at byte {offset} is torn")
            yield payload
            offset = start + size

    def detach(self) -> None:
        """Go on in memory, with the same marks and no records.

        Raises:
            OSError: there is no memory for it.
        """
        header = os.pread(self.descriptor, self._start, 0)
        os.close(self.descriptor)
        self.descriptor = os.memfd_create("journal")
        disk.write(self.descriptor, header, 0)

    def close(self) -> None:
        """Close the file; its contents are complete at any time."""
        os.close(self.descriptor)


def _read_marks(descriptor: int) -> Marks:
    """Return the header's marks as they are now.

    Raises:
        RegistryError: the file doesn't open as a journal does.
    """
    header = os.pread(descriptor, _HEADER.size, 0)
    if len(header) != _HEADER.size or not header.startswith((_MAGIC, _FIRST_MAGIC)):
        raise RegistryError("not a journal of this version of busmon")
    magic, marked, applied = _HEADER.unpack(header)
    start = _START if magic == _MAGIC else _EXTENTS_AT
    if not start < applied <= marked <= os.fstat(descriptor).st_size:
        raise RegistryError(f"a journal's marks can't be {marked} and {applied}")
    return Marks(marked, applied)


def _frame(payload: bytes) -> bytes:
    return _RECORD.pack(len(payload), zlib.crc32(payload)) + payload


def _pack(extents: Sequence[Extent]) -> bytes:
    table = b"".join(_EXTENT.pack(*extent) for extent in extents).ljust(_EXTENTS_BYTES, b"\0")
    return table + _sum_of(table)


def _sum_of(table: bytes) -> bytes:
    return _CHECKSUM.pack(zlib.crc32(table))
