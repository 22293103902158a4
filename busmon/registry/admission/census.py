"""The census of series: how many, and how many bytes, each shard has of each family. The whole fleet shares it.

`series.counts` and `series.bytes` are tables of 64-bit numbers, a row for each family by its number and a column for
each shard; the first rows are each shard's totals. A shard's owner writes its own column only, always the whole number
that it knows, so a crash leaves nothing wrong that the next opening doesn't write right. A number is raised under the
admission's lock, before what it counts is made; it may be lowered at any time.
"""

import mmap
import os
from contextlib import suppress
from pathlib import Path

from busmon import files
from busmon.registry.storage import disk

FILE_NAME = "series.counts"
BYTES_FILE = "series.bytes"
MAX_SHARDS = 256

_ROWS_AT_A_TIME = 16
_ROW_BYTES = 8 * MAX_SHARDS


class Census:
    """One process's view of a table, for one shard's owner or for a reader.

    Args:
        registry_dir: where the table is.
        file_name: the table's.
        totals: how many totals each shard has.
    """

    def __init__(self, registry_dir: Path, file_name: str = FILE_NAME, totals: int = 1) -> None:
        self._path = registry_dir / file_name
        self._totals = totals
        self._memory: mmap.mmap | None = None
        self._counts = memoryview(b"").cast("B").cast("Q")

    def total(self, which: int = 0, *, but: int | None = None) -> int:
        """Return one of the totals, of all shards or of all but one."""
        return self._sum(which, but)

    def of(self, family: int, *, but: int | None = None) -> int:
        """Return what is counted of a family, by its number, in all shards or in all but one."""
        return self._sum(self._totals + family, but)

    def write_total(self, shard: int, amount: int, which: int = 0) -> None:
        """Write one of the shard's totals.

        Raises:
            OSError: there is no room for the table.
        """
        self._write(which, shard, amount)

    def write(self, family: int, shard: int, amount: int) -> None:
        """Write what the shard has of a family.

        Raises:
            OSError: there is no room for the table.
        """
        self._write(self._totals + family, shard, amount)

    def close(self) -> None:
        """Unmap the table."""
        self._counts.release()
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def _sum(self, row: int, but: int | None) -> int:
        if not self._map(row):
            return 0
        first = row * MAX_SHARDS
        return sum(self._counts[first : first + MAX_SHARDS]) - (0 if but is None else self._counts[first + but])

    def _write(self, row: int, shard: int, amount: int) -> None:
        if not self._map(row):
            self._grow(row)
        self._counts[row * MAX_SHARDS + shard] = amount

    def _map(self, row: int) -> bool:
        """Return whether the row is there to be read: it may have been added by another process."""
        if len(self._counts) <= row * MAX_SHARDS:
            with suppress(FileNotFoundError):
                self._remap(files.open_file(self._path, os.O_RDWR))
        return len(self._counts) > row * MAX_SHARDS

    def _grow(self, row: int) -> None:
        descriptor = files.open_file(self._path, os.O_RDWR | os.O_CREAT)
        rows = (row // _ROWS_AT_A_TIME + 1) * _ROWS_AT_A_TIME
        try:
            disk.allocate(descriptor, rows * _ROW_BYTES, self._path)  # a full disk is an error here, and SIGBUS later
        except OSError:
            os.close(descriptor)
            raise
        self._remap(descriptor)

    def _remap(self, descriptor: int) -> None:
        try:
            if size := os.fstat(descriptor).st_size // _ROW_BYTES * _ROW_BYTES:
                self.close()
                self._memory = mmap.mmap(descriptor, size)
                self._counts = memoryview(self._memory).cast("Q")
        finally:
            os.close(descriptor)
