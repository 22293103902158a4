"""Every value file of a registry directory, read beside its writers without any lock.

A shard is seen at a batch boundary: its files are read between two looks at its journal's marks, and the records that
were marked in between are laid over what was read. Files of other writers in prometheus_client's format are read as
they are. A file that can't be read is skipped and named with its reason; it never hides the others. Files are read,
never mapped: a file cut short under a mapping is SIGBUS. One reader per thread.
"""

import os
import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import orjson

from busmon.errors import RegistryError
from busmon.registry.journal import Journal
from busmon.registry.values import entry_at, parse_entries

_USED = struct.Struct("i")
_ATTEMPTS = 5


class _MovedError(Exception):
    """The shard's owner began a new journal, or added series, while its files were read."""


@dataclass(slots=True)
class ValueTable:
    """One value file as last read.

    Attributes:
        column: what the file's name says of its type, such as `counter` or `gauge_sum`.
        writer: the rest of the name: `shard0`, or another writer's process id.
        keys: the key of every entry, in order; never shorter than before while `identity` is the same.
        values: aligned with `keys`.
        times: aligned with `keys`.
    """

    column: str
    writer: str
    identity: tuple[int, int]
    keys: list[bytes] = field(default_factory=list)
    slots: "array[int]" = field(default_factory=lambda: array("q"))
    values: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    parsed: int = 8

    def continues(self, buffer: bytes, used: int) -> bool:
        """Whether what was parsed still stands in the file: its number on the disk may be another file's by now."""
        if not self.keys:
            return True
        start = entry_at(self.keys[-1], self.slots[-1])
        return self.parsed <= used and next(parse_entries(buffer, used, start))[0] == self.keys[-1]

    def take(self, buffer: bytes, used: int) -> None:
        """Take over what the file says now; only the entries that are new are parsed.

        Raises:
            RegistryError: it is torn.
        """
        added = list(parse_entries(buffer, used, self.parsed))
        self.keys.extend(key for key, _ in added)
        self.slots.extend(slot for _, slot in added)
        self.parsed = max(used, self.parsed)
        doubles = memoryview(buffer)[:used].cast("d")
        self.values = [doubles[slot] for slot in self.slots]
        self.times = [doubles[slot + 1] for slot in self.slots]

    def overlay(self, slots: Iterable[int], values: Iterable[float], times: Iterable[float]) -> bool:
        """Lay a committed record's values over what was read; whether there are some of entries that weren't."""
        new = False
        for slot, value, at in zip(slots, values, times, strict=False):
            index = bisect_left(self.slots, slot)
            if index == len(self.slots) or self.slots[index] != slot:
                new = True
                continue
            self.values[index] = value
            self.times[index] = at
        return new


class Reader:
    """Reads a registry directory again and again, keeping what can't have changed.

    Attributes:
        tables: the files of the last reading, by name, in the order of their names.
        skipped: the files that couldn't be read, by name, with the reason.
    """

    def __init__(self, registry_dir: Path) -> None:
        self._directory = registry_dir
        self.tables: dict[str, ValueTable] = {}
        self.skipped: dict[str, str] = {}

    def read(self) -> None:
        """Read every file as it is now."""
        before, self.skipped = self.tables, {}
        tables: dict[str, ValueTable] = {}
        for writer, names in self._names().items():
            tables |= self._read_writer(writer, names, before)
        self.tables = dict(sorted(tables.items()))

    def _names(self) -> dict[str, list[str]]:
        """The value files' names, by writer; none where no fleet has run yet."""
        names: dict[str, list[str]] = {}
        with suppress(FileNotFoundError), os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.endswith(".db"):
                    names.setdefault(_name_parts(entry.name)[1], []).append(entry.name)
        return names

    def _read_writer(self, writer: str, names: list[str], before: Mapping[str, ValueTable]) -> Mapping[str, ValueTable]:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                tables, skipped = self._attempt(writer, names, before, last=attempt == _ATTEMPTS)
            except _MovedError:
                names = self._names().get(writer, [])
                continue
            self.skipped |= skipped
            return tables
        self.skipped[f"{writer}.journal"] = "it is made anew faster than its shard can be read"
        return {}

    def _attempt(
        self, writer: str, names: list[str], before: Mapping[str, ValueTable], *, last: bool
    ) -> tuple[dict[str, ValueTable], dict[str, str]]:
        """A writer's files, and those that are skipped."""
        path = self._directory / f"{writer}.journal"
        skipped: dict[str, str] = {}
        journal = None
        try:
            journal = _open_journal(path)
            tables = dict(self._read_files(names, before, skipped))
            if journal:
                _lay_over(journal, path, tables, skipped, last=last)
        except (OSError, RegistryError) as error:
            skipped[path.name] = str(error)
            tables = dict(self._read_files(names, before, skipped))
        finally:
            if journal:
                journal.close()
        return tables, skipped

    def _read_files(
        self, names: Iterable[str], before: Mapping[str, ValueTable], skipped: dict[str, str]
    ) -> Iterator[tuple[str, ValueTable]]:
        for name in names:
            try:
                yield name, _read_file(self._directory / name, before.get(name))
            except FileNotFoundError:
                continue
            except (OSError, RegistryError) as error:
                skipped[name] = str(error)


def _read_file(path: Path, known: ValueTable | None) -> ValueTable:
    """Read a file whole: a few MB cost less than a page fault for each value."""
    with path.open("rb", buffering=0) as stream:
        head = stream.read(_USED.size)
        status = os.fstat(stream.fileno())
        if len(head) < _USED.size:
            raise RegistryError(f"it has {len(head)} bytes, and no header")
        used = _USED.unpack(head)[0]
        buffer = head + stream.read(max(0, min(used, status.st_size) - _USED.size))
    identity = (status.st_dev, status.st_ino)
    if known is None or known.identity != identity or not known.continues(buffer, used):
        known = ValueTable(*_name_parts(path.name), identity)
    known.take(buffer, used)
    return known


def _open_journal(path: Path) -> Journal | None:
    try:
        return Journal.open(path, writable=False)
    except FileNotFoundError:
        return None


def _lay_over(
    journal: Journal, path: Path, tables: Mapping[str, ValueTable], skipped: Mapping[str, str], *, last: bool
) -> None:
    """Bring what was read since `journal` was opened to its last marked record.

    Series that were made meanwhile call for another attempt; in the last one they wait for the next reading, so that a
    shard that makes series all the time is still served.
    """
    if path.stat().st_ino != os.fstat(journal.descriptor).st_ino:
        raise _MovedError
    columns = {table.column: table for table in tables.values()}
    for payload in journal.records_since_opened():
        record: dict[str, Any] = orjson.loads(payload)
        for column, (slots, values, times) in record["values"].items():
            name = f"{column}_{path.stem}.db"
            if column in columns:
                new = columns[column].overlay(slots, values, times or repeat(record["at"]))
            else:
                new = name not in skipped and path.with_name(name).exists()
            if new and not last:
                raise _MovedError


def _name_parts(name: str) -> tuple[str, str]:
    """The column and the writer in a file's name, as prometheus_client puts them: `counter_7.db`, `gauge_sum_7.db`."""
    column, _, writer = name.removesuffix(".db").rpartition("_")
    return column, writer
