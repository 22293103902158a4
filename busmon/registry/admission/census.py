"""How many series each shard has of each family: counters that the whole fleet shares.

`series.counts` is a table of 64-bit numbers, a row for each family by its number and a column for each shard; the
first row is each shard's total. A shard's owner writes its own column only, always the whole number that it knows, so
what a crash leaves wrong is right again when the shard is opened. Read and written under the admission's lock.
"""

import mmap
import os
from contextlib import suppress
from pathlib import Path

FILE_NAME = "series.counts"
MAX_SHARDS = 256

_ROWS_AT_A_TIME = 16
_ROW_BYTES = 8 * MAX_SHARDS


class Census:
    """One process's view of the table, for one shard's owner or for a reader."""

    def __init__(self, registry_dir: Path) -> None:
        self._path = registry_dir / FILE_NAME
        self._memory: mmap.mmap | None = None
        self._counts = memoryview(b"").cast("B").cast("Q")

    def total(self) -> int:
        """The series of all families in all shards."""
        return self._sum(0)

    def of(self, family: int) -> int:
        """The series of a family, by its number, in all shards."""
        return self._sum(family + 1)

    def write_total(self, shard: int, series: int) -> None:
        """Say how many series the shard has.

        Raises:
            OSError: there is no room for the table.
        """
        self._write(0, shard, series)

    def write(self, family: int, shard: int, series: int) -> None:
        """Say how many series of a family the shard has.

        Raises:
            OSError: there is no room for the table.
        """
        self._write(family + 1, shard, series)

    def close(self) -> None:
        """Unmap the table."""
        self._counts.release()
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def _sum(self, row: int) -> int:
        self._map(row)
        return sum(self._counts[row * MAX_SHARDS : (row + 1) * MAX_SHARDS])

    def _write(self, row: int, shard: int, series: int) -> None:
        if not self._map(row):
            self._grow(row)
        self._counts[row * MAX_SHARDS + shard] = series

    def _map(self, row: int) -> bool:
        """Whether the row is there to be read: it may have been added by another process."""
        if len(self._counts) <= row * MAX_SHARDS:
            with suppress(FileNotFoundError):
                self._remap(os.open(self._path, os.O_RDWR | os.O_CLOEXEC))
        return len(self._counts) > row * MAX_SHARDS

    def _grow(self, row: int) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        rows = (row // _ROWS_AT_A_TIME + 1) * _ROWS_AT_A_TIME
        try:
            os.posix_fallocate(descriptor, 0, rows * _ROW_BYTES)  # a full disk is an error here, and SIGBUS later on
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
