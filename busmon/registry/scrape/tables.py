"""One value file as a reader knows it: numbers at known places, and which of them changed since they were last taken.

A file's keys are parsed once. After that its numbers are either gathered again at the known places, or told by a
journal's records. Entries have numbers, in the order of the file, from 1; number 0 stands for an entry that isn't
there, with value and time 0. Files are read, never mapped: a file cut short under a mapping is SIGBUS. One thread.
"""

import os
import struct
from array import array
from collections.abc import Iterable
from operator import sub
from pathlib import Path

from busmon import files
from busmon.errors import RegistryError
from busmon.registry.scrape.numbers import EntryNumbers
from busmon.registry.series.entry import MAX_FILE_BYTES, pad_key_bytes
from busmon.registry.storage.values import keys_and_slots, stands_at

Identity = tuple[int, int]
"""A file's device and number on it."""

_HEADER = struct.Struct("iI")

MAX_FOREIGN_BYTES = 64 * 1024 * 1024
"""Of a file whose writer has no journal: it is read whole by each scrape, and nothing says that it is a value file."""


class ReplacedError(Exception):
    """Another file, or another generation, has taken the place of the one that was read before."""


class ValueTable:
    """One value file as last read.

    Attributes:
        column: what the file's name says of its type, such as `counter` or `gauge_sum`.
        writer: the rest of the name: `shard0`, or another writer's process id.
        timed: whether `times` is kept.
        is_owned: whether its writer has a journal.
        generation: as of the file that was read.
        values: by entry.
        times: by entry.
        identity: of the file that was read.
        parsed: how much of the file its known entries take, in bytes.
        ahead_seconds: by how much the reader's clock is ahead of the one that the file's times are of.
    """

    def __init__(self, path: Path, *, timed: bool, is_owned: bool = False) -> None:
        self.is_owned = is_owned
        self.column, self.writer = name_parts(path.name)
        self.timed = timed
        self.ahead_seconds = 0.0
        self._numbers = EntryNumbers(timed=timed, is_compiled=not is_owned)
        self.values = self._numbers.values
        self.times = self._numbers.times
        self.identity: Identity | None = None
        self.parsed = _HEADER.size
        self._path = path
        self.generation = 0
        self._slots = array("I", [0])
        self._entries = array("I")
        self._shift = 0
        self._last_key = b""
        self._keys: list[bytes] = []
        self._changed: list[int] = []

    def read(self) -> None:
        """Read the whole file as it is now.

        Raises:
            OSError: it can't be read.
            RegistryError: it is torn.
            ReplacedError: it isn't the file that was read before.
        """
        with os.fdopen(files.open_file(self._path), "rb", buffering=0) as stream:
            used = self._look(stream.fileno())
            if not self._continues(stream.fileno(), used):
                raise ReplacedError
            self._parse(stream.fileno(), used)
            self._changed += self._numbers.gather(stream.fileno(), self._slots)

    def extend(self) -> None:
        """Read what the file has grown by, as entries that nothing was counted in yet.

        Raises:
            OSError: it can't be read.
            RegistryError: it is torn.
            ReplacedError: it isn't the file that was read before.
        """
        with os.fdopen(files.open_file(self._path), "rb", buffering=0) as stream:
            self._parse(stream.fileno(), self._look(stream.fileno()))
        self._numbers.extend(len(self._slots))

    def put(self, slots: Iterable[int], values: Iterable[float], times: Iterable[float]) -> None:
        """Take over a record's values.

        Raises:
            RegistryError: there is no entry in one of the slots.
        """
        entries = self._at(slots)
        for entry, value in zip(entries, values, strict=False):
            self.values[entry] = value
        if self.timed:
            for entry, at in zip(entries, times, strict=False):
                self.times[entry] = at
        self._changed += entries

    def take(self) -> tuple[list[bytes], list[int]]:
        """Return the keys of the entries that are new since this was called last, and the entries that changed.

        An entry may be there twice.
        """
        taken = self._keys, self._changed
        self._keys, self._changed = [], []
        return taken

    def _look(self, descriptor: int) -> int:
        """Return how much of the file is used."""
        head = os.pread(descriptor, _HEADER.size, 0)
        if len(head) < _HEADER.size:
            raise RegistryError(f"it has {len(head)} bytes, and no header")
        used: int
        used, generation = _HEADER.unpack(head)
        most = MAX_FILE_BYTES if self.is_owned else MAX_FOREIGN_BYTES
        if used > most:
            raise RegistryError(f"{used} bytes are used; at most {most} are read")
        if used > len(head) and not os.pread(descriptor, 4, len(head)).strip(b"\0"):
            raise RegistryError("its first entry has no key")  # said before a file that is one hole is read
        if used < len(head) and (used or self.is_owned):
            raise RegistryError(f"its header says that {used} bytes are used")
        status = os.fstat(descriptor)
        if used > status.st_size:
            raise RegistryError(f"{used} bytes are said to be used of {status.st_size}")
        identity = (status.st_dev, status.st_ino)
        if self.identity is None:
            self.identity, self.generation = identity, generation
        elif (self.identity, self.generation) != (identity, generation):
            raise ReplacedError
        return used

    def _continues(self, descriptor: int, used: int) -> bool:
        """Return whether the file still holds what was parsed: its number on the disk may be another file's by now."""
        if not self._last_key:
            return True
        size = pad_key_bytes(len(self._last_key))
        at = self._slots[-1] * 8 - size
        return self.parsed <= used and stands_at(os.pread(descriptor, size, at), self._last_key, size // 8)

    def _parse(self, descriptor: int, used: int) -> None:
        """Take over the keys between `parsed` and `used`."""
        if used <= self.parsed:
            return
        base = self.parsed if self._last_key else 0
        keys, slots = keys_and_slots(os.pread(descriptor, used - base, base), used - base, self.parsed - base)
        self._keys += keys
        self._slots.extend([slot + base // 8 for slot in slots] if base else slots)
        self._last_key = keys[-1]
        self.parsed = used

    def _at(self, slots: Iterable[int]) -> list[int]:
        """Return the entries that have their values in these slots."""
        self._place()
        try:
            entries = [self._entries[slot >> self._shift] for slot in slots]
        except IndexError:
            entries = []
        if [self._slots[entry] for entry in entries] != slots:
            raise RegistryError(f"{self._path.name} has no entries where the journal changes some")
        return entries

    def _place(self) -> None:
        """Bring the way from slots to entries up to date.

        Entries are told apart by their slots' higher bits: as few of them as the shortest entry leaves different.
        """
        first = self._entries[-1] + 1 if self._entries else 1
        if first == len(self._slots):
            return
        nearest = min(map(sub, self._slots[first:], self._slots[first - 1 :]))
        if first == 1 or nearest >> self._shift == 0:
            self._entries, first = array("I"), 1
            self._shift = nearest.bit_length() - 1
        room = (self._slots[-1] >> self._shift) + 1 - len(self._entries)
        self._entries.frombytes(bytes(self._entries.itemsize * room))
        for entry, slot in enumerate(self._slots[first:], first):
            self._entries[slot >> self._shift] = entry


def name_parts(name: str) -> tuple[str, str]:
    """Return the column and the writer in a file's name, such as `counter_7.db` or `gauge_sum_7.db`."""
    column, _, writer = name.rpartition(".")[0].rpartition("_")
    return column, writer
