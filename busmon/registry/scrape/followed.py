"""One writer's value files, followed through its journal: always at a batch boundary, at the cost of what changed.

The files are read whole once, between two looks at the journal's marks, and the records that were marked meanwhile are
laid over what was read. From then on new records say what changed, and a file is only asked for entries that were
added. Where the journal was replaced, a file was rewritten, or so much changed that reading is the cheaper way, the
files are read again; their known keys never are. A writer without a journal, which isn't busmon, is read each time.
No writer is waited for. One thread.
"""

import os
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from typing import Any

import orjson

from busmon.errors import RegistryError
from busmon.registry.scrape.tables import Identity, ReplacedError, ValueTable, name_parts
from busmon.registry.series.columns import COLUMNS, SKETCH
from busmon.registry.storage.journal import Journal
from busmon.registry.storage.values import Extent

SUFFIXES = (".db", ".bins")

_ATTEMPTS = 5
_RECORD_COST = 30
"""Measured: taking over one byte of records takes as long as reading so many bytes of files."""


class _MovedError(Exception):
    """The writer began a new journal, or rewrote a file, since it was looked at."""


class FollowedFiles:
    """The value files of one writer.

    Attributes:
        tables: the files, by name.
        skipped: the files that couldn't be read, by name, with the reason.
    """

    def __init__(self, directory: Path, writer: str, is_timed: Callable[[str], bool]) -> None:
        self.tables: dict[str, ValueTable] = {}
        self.skipped: dict[str, str] = {}
        self._directory = directory
        self._writer = writer
        self._is_timed = is_timed
        self._journal = directory / f"{writer}.journal"
        self._journal_identity: Identity | None = None
        self._followed = 0
        self._last_bytes = b""

    def read(self, names: Collection[str]) -> None:
        """Bring the tables to the last batch that is marked now, or to what the files say if there is no journal.

        Args:
            names: the writer's files, as a look at the directory found them.
        """
        if self._journal_identity is not None and names == self.tables.keys() and self._is_timed_right():
            with suppress(_MovedError, ReplacedError, RegistryError, OSError):
                self._catch_up()
                return
        self._read_whole()

    # -- what changed ---------------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        journal = Journal.open(self._journal, writable=False)
        try:
            marked = journal.marks().marked
            if identity(journal.descriptor) != self._journal_identity or not self._continues(journal, marked):
                raise _MovedError
            if marked == self._followed:
                return
            payloads = list(journal.records_between(self._followed, marked))
            if self._is_rewritten():
                raise _MovedError
            self._lay_over(payloads)
            self._remember(journal, marked)
        finally:
            journal.close()

    def _continues(self, journal: Journal, marked: int) -> bool:
        """Return whether the journal goes on from what was followed, in steps that are worth it."""
        if marked < self._followed or journal.before(self._followed) != self._last_bytes:
            return False
        return (marked - self._followed) * _RECORD_COST <= sum(table.parsed for table in self.tables.values())

    def _remember(self, journal: Journal, marked: int) -> None:
        self._followed = marked
        self._last_bytes = journal.before(marked)

    # -- the whole ------------------------------------------------------------------------------------------------

    def _read_whole(self) -> None:
        for _ in range(_ATTEMPTS):
            try:
                self._attempt()
            except (_MovedError, ReplacedError):
                continue
            return
        self.tables, self._journal_identity = {}, None
        self.skipped = {self._journal.name: "it is replaced faster than its shard can be read"}

    def _attempt(self) -> None:
        self.skipped, self._journal_identity = {}, None
        journal = self._open_journal()
        try:
            extents = journal.extents() if journal and journal.has_extents else []
            self._read_files()  # listed from here on: a file that is made later has its batch in the journal
            if journal:
                self._read_past(journal)
                self._hold_to(extents)
        except (OSError, RegistryError) as error:
            self._read_files()
            self.skipped[self._journal.name] = str(error)
        finally:
            if journal:
                journal.close()

    def _open_journal(self) -> Journal | None:
        try:
            return Journal.open(self._journal, writable=False)
        except FileNotFoundError:
            return None
        except (OSError, RegistryError) as error:
            self.skipped[self._journal.name] = str(error)
            return None

    def _read_past(self, journal: Journal) -> None:
        """Bring what was read since `journal` was opened to its last marked record."""
        opened, now = journal.opened, journal.marks()
        if identity(self._journal) != identity(journal.descriptor) or self._is_rewritten():
            raise _MovedError
        self._lay_over(journal.records_between(opened.applied, now.marked))
        self._remember(journal, now.marked)
        if not self.skipped:
            self._journal_identity = identity(journal.descriptor)

    def _hold_to(self, extents: Iterable[Extent]) -> None:
        """Leave out and name each file that has less than the journal counts on: it was damaged, cut or deleted."""
        for column, extent in zip(COLUMNS, extents, strict=False):
            name = f"{column}_{self._writer}{SUFFIXES[column == SKETCH]}"
            if not extent.used or name in self.skipped:
                continue
            table = self.tables.get(name)
            if table is None:
                self.skipped[name] = f"it is gone, and {self._journal.name} counts on it"
            elif table.generation == extent.generation and table.parsed < extent.used:
                self.skipped[name] = f"{table.parsed} bytes are used, and {self._journal.name} counts on {extent.used}"
                del self.tables[name]
        if self.skipped:
            self._journal_identity = None

    def _read_files(self) -> None:
        known, self.tables = self.tables, {}
        is_owned = self._journal.is_file()
        for name in names_of(self._directory).get(self._writer, ()):
            timed = self._is_timed(name_parts(name)[0])
            table = known.get(name)
            if table is None or (table.timed, table.is_owned) != (timed, is_owned):
                table = ValueTable(self._directory / name, timed=timed, is_owned=is_owned)
            try:
                self.tables[name] = self._read_file(name, table)
            except FileNotFoundError:
                continue
            except (OSError, RegistryError) as error:
                self.skipped[name] = str(error)

    def _read_file(self, name: str, table: ValueTable) -> ValueTable:
        try:
            table.read()
        except ReplacedError:
            table = ValueTable(self._directory / name, timed=table.timed, is_owned=table.is_owned)
            table.read()
        return table

    # -- both -----------------------------------------------------------------------------------------------------

    def _lay_over(self, payloads: Iterable[bytes]) -> None:
        """Take over the records' values, in the files' entries as they are now.

        Raises:
            RegistryError: a record says what can't be.
        """
        for table in self.tables.values():
            table.extend()
        columns = {table.column: table for table in self.tables.values()}
        try:
            for payload in payloads:
                record: dict[str, Any] = orjson.loads(payload)
                for column, (slots, values, times) in record["values"].items():
                    if column in columns:
                        columns[column].put(slots, values, times or repeat(record["at"]))
                    elif self._is_new(column):
                        raise _MovedError
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            raise RegistryError("a record of the journal isn't as busmon writes them") from error

    def _is_rewritten(self) -> bool:
        """Return whether a file isn't the one that was read.

        To be asked after the marks: a file is rewritten before any record of its new places is marked.
        """
        return any(identity(self._directory / name) != table.identity for name, table in self.tables.items())

    def _is_new(self, column: str) -> bool:
        names = [f"{column}_{self._writer}{suffix}" for suffix in SUFFIXES]
        return any(name not in self.skipped and (self._directory / name).exists() for name in names)

    def _is_timed_right(self) -> bool:
        return all(table.timed == self._is_timed(table.column) for table in self.tables.values())


def names_of(directory: Path) -> dict[str, list[str]]:
    """Return the value files' names, by writer; none where no fleet has run yet."""
    names: dict[str, list[str]] = {}
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIXES):
                    names.setdefault(name_parts(entry.name)[1], []).append(entry.name)
    except FileNotFoundError:
        return {}
    return {writer: sorted(found) for writer, found in sorted(names.items())}


def identity(file: Path | int) -> Identity | None:
    """Return a file's identity, by its path or descriptor; None if it isn't there."""
    try:
        status = file.stat() if isinstance(file, Path) else os.fstat(file)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
