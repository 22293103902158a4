"""The opening of a shard: its files are checked against each other, and what a dead owner had marked is redone.

The value files give every series its cells. The journal gives the ledger, the gauge shares and the totals, and its
marked records are written to the value files. Nothing is folded before. One thread of the shard's owner.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from typing import Any

import orjson

from busmon.errors import RegistryError
from busmon.registry.admission.families import Families
from busmon.registry.series.columns import COLUMNS
from busmon.registry.shard import restoring
from busmon.registry.shard.state import ShardState
from busmon.registry.storage import compaction
from busmon.registry.storage.damage import make_damage_error
from busmon.registry.storage.journal import Journal
from busmon.registry.storage.values import FIRST_ENTRY, Extent, ValueFile, read_used_bytes

_STEP_ENTRIES = 10_000
_ODD = (ValueError, TypeError, LookupError, AttributeError, OverflowError, StopIteration)
"""Errors of reading a record that holds something else than its place has."""

_FinalValues = dict[str, dict[int, tuple[float, float]]]
"""The last value and timestamp of each slot that a journal changes, by column."""


class Opening:
    """One shard's way from files to memory."""

    def __init__(self, state: ShardState, families: Families, progress: Callable[[], object]) -> None:
        self._state = state
        self._files = state.files
        self._fold = state.fold
        self._families = families
        self._progress = progress
        self._extents: Mapping[str, Extent] = {}

    def run(self) -> bool:
        """Take over what the files say; return whether a dead owner had marked a commit that it didn't finish.

        Raises:
            RegistryError: a file isn't what it should be.
            OSError: a file can't be read or written.
        """
        try:
            self._files.journal = Journal.open(self._files.journal_path, writable=True)
        except FileNotFoundError:
            self._open_values()
            self._files.journal = self._files.create_journal(self._state.snapshot())
            return False
        return self._redo()

    # -- the value files ------------------------------------------------------------------------------------------

    def _open_values(self) -> None:
        for column in COLUMNS:
            if self._files.path(column).exists():
                self._restore(column, self._files.open_values(column))

    def _restore(self, column: str, file: ValueFile) -> None:
        """Find every series of a file again: the first cell of each, by its family and label values.

        Raises:
            RegistryError: a key isn't as busmon writes it, or the journal counts on other keys.
        """
        cells, expected = self._files.columns[column], self._extents.get(column, Extent())
        cells.size += file.used - FIRST_ENTRY
        at_extent = 0
        try:
            for slot in self._restore_entries(column, file):
                if (slot + 2) * 8 == expected.used:
                    at_extent = file.checksum
        except RegistryError as error:
            raise make_damage_error(file.path, str(error)) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise make_damage_error(file.path, f"entry {len(cells.slots)} has no key as busmon writes it") from error
        if expected.used > FIRST_ENTRY and at_extent != expected.checksum:
            raise make_damage_error(file.path, f"its keys aren't those that {self._files.journal_path.name} counts on")

    def _restore_entries(self, column: str, file: ValueFile) -> Iterator[int]:
        """Restore a file's entries one by one, and yield the slot of each."""
        families = restoring.families_of(self._families, column)
        slots = self._files.columns[column].slots
        for key, slot in file.entries():
            slots.append(slot)
            if len(slots) % _STEP_ENTRIES == 0:
                self._progress()
            restoring.restore_key(self._fold, families, column, key, len(slots) - 1)
            yield slot

    # -- the journal ----------------------------------------------------------------------------------------------

    def _redo(self) -> bool:
        """Take over the journal's snapshot and records one by one, as they may be many, and finish the last one.

        Raises:
            RegistryError: a record is torn, or isn't as busmon writes it.
        """
        try:
            return self._redo_records(self._files.journal)
        except _ODD as error:  # its checksum is right, so no version of busmon that can read it wrote it
            fault = f"a record isn't as this version of busmon writes it ({error!r:.200})"
            raise make_damage_error(self._files.journal_path, fault) from error

    def _redo_records(self, journal: Journal) -> bool:
        records = self._read_records()
        snapshot = next(records)
        paths = {column: self._files.path(column) for column in COLUMNS}
        compaction.complete(paths, snapshot.get("generations", {}))
        if journal.has_extents:
            self._extents = dict(zip(COLUMNS, self._read_extents(), strict=False))
        self._require_files()
        self._open_values()
        restoring.load(self._state, snapshot)
        final: _FinalValues = {}
        for record in records:
            self._progress()
            restoring.load(self._state, record)
            if record.get("forgets"):
                self._state.forget(record["at"])
            _lay_over(final, record)
        try:
            self._state.apply(_join_final(final))
        except (KeyError, IndexError) as error:
            fault = "it changes values that the shard's value files don't have"
            raise make_damage_error(self._files.journal_path, fault) from error
        is_unfinished = journal.unapplied
        journal.clear()
        if not journal.has_extents:
            self._state.begin_journal()
        return is_unfinished

    def _read_records(self) -> Iterator[Any]:
        """Yield the snapshot and the records.

        Raises:
            RegistryError: a record is torn.
        """
        try:
            for payload in self._files.journal.records():
                yield orjson.loads(payload)
        except RegistryError as error:
            raise make_damage_error(self._files.journal_path, str(error)) from error

    def _read_extents(self) -> list[Extent]:
        try:
            return self._files.journal.extents()
        except RegistryError as error:
            raise make_damage_error(self._files.journal_path, str(error)) from error

    def _require_files(self) -> None:
        """Hold the value files to what the journal says of them.

        Raises:
            RegistryError: a file is gone, or shorter.
        """
        journal = self._files.journal_path.name
        for column, expected in self._extents.items():
            path = self._files.path(column)
            if expected.used and not path.exists():
                raise make_damage_error(path, f"the file is gone, and {journal} counts on it")
            if expected.used and (found := read_used_bytes(path)) < expected.used:
                raise make_damage_error(path, f"{found} bytes are used, and {journal} counts on {expected.used}")


def _lay_over(final: _FinalValues, record: Mapping[str, Any]) -> None:
    """Lay a record's values over those of earlier ones: a reader of the files never sees one go back and come again."""
    for name, (slots, values, times) in record["values"].items():
        pairs = zip(values, times or repeat(record["at"]), strict=False)
        final.setdefault(name, {}).update(zip(slots, pairs, strict=True))


def _join_final(final: _FinalValues) -> dict[str, Any]:
    """Make one record of the final values."""
    return {"values": {name: (list(cells), *zip(*cells.values(), strict=True)) for name, cells in final.items()}}
