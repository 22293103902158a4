"""The files of one shard: its value files with the columns that describe them, its journal, and their paths.

A column knows the cells of its value file, written and unwritten. The journal's header knows the least that each value
file has. One thread of the shard's owner.
"""

from collections.abc import Mapping
from pathlib import Path

from busmon.registry.series.columns import COLUMNS, Column, SeriesGroup, file_name
from busmon.registry.storage import disk
from busmon.registry.storage.compaction import Draft
from busmon.registry.storage.journal import Journal
from busmon.registry.storage.values import Extent, ValueFile

NO_DRAFTS: Mapping[str, Draft] = {}


class ShardFiles:
    """The open files of one shard.

    Attributes:
        columns: the cells of each value file, by the column's name; all columns, with a file or without.
        values: the value files that exist, by the column's name.
        journal: set by whoever opens the shard.
        has_fsync: whether the disk must hold what is written before it counts.
        is_detached: whether the files are copies in the memory of a forked child.
    """

    journal: Journal

    def __init__(self, directory: Path, number: int, *, has_fsync: bool) -> None:
        self.directory = directory
        self.number = number
        self.has_fsync = has_fsync
        self.is_detached = False
        self.columns: dict[str, Column] = {name: Column(name) for name in COLUMNS}
        self.values: dict[str, ValueFile] = {}
        self._is_noted = True
        self._planned: dict[str, int] = {}

    @property
    def journal_path(self) -> Path:
        """Return where the journal stands."""
        return self.directory / f"shard{self.number}.journal"

    def path(self, column: str) -> Path:
        """Return where a column's value file stands, or would stand."""
        return self.directory / file_name(column, self.number)

    def open_values(self, column: str) -> ValueFile:
        """Open a column's value file, or make it.

        Raises:
            OSError: the file can't be opened or made.
            RegistryError: the file isn't whole.
        """
        file = self.values[column] = ValueFile(self.path(column), in_memory=self.is_detached)
        return file

    def write_keys(self) -> None:
        """Give every new series its place in its file, at 0: not a change, since nothing counts the series yet.

        Raises:
            OSError: the disk has no room for the keys.
        """
        self.drop_plan()
        if any(column.unwritten for column in self.columns.values()):
            self._is_noted = False
        for column in self.columns.values():
            if column.unwritten:
                file = self.values.get(column.name) or self.open_values(column.name)
                column.note_written(file.append(column.unwritten))
                if self.has_fsync:
                    file.sync()
                    disk.sync_names(self.directory)
        if not self._is_noted:
            self.note_extents()

    def note_extents(self) -> None:
        """Mark in the journal what the value files have by now.

        Raises:
            OSError: the journal can't be written.
        """
        self.journal.note(self.extents())
        self._is_noted = True

    def plan_keys(self) -> None:
        """Give every new series the slots that `write_keys` will give it; nothing in a file changes.

        Raises:
            OSError: the disk has no room for the keys.
        """
        try:
            for column in self.columns.values():
                if column.unwritten:
                    file = self.values.get(column.name) or self.open_values(column.name)
                    self._planned[column.name] = len(column.slots)
                    column.slots.extend(file.plan(column.unwritten))
        except OSError:
            self.drop_plan()
            raise

    def drop_plan(self) -> None:
        """Take the planned slots back."""
        for name, written in self._planned.items():
            del self.columns[name].slots[written:]
        self._planned = {}

    def extents(self, drafts: Mapping[str, Draft] = NO_DRAFTS) -> list[Extent]:
        """Return what each column's file has, or will have once the drafts are in place."""
        extents = {name: file.extent for name, file in self.values.items()}
        extents |= {name: draft.extent for name, draft in drafts.items()}
        return [extents.get(column, Extent()) for column in COLUMNS]

    def create_journal(self, snapshot: bytes, drafts: Mapping[str, Draft] = NO_DRAFTS) -> Journal:
        """Put a journal that begins with this snapshot in the old journal's place.

        Raises:
            OSError: the disk has no room; the old journal stands.
        """
        return Journal.create(self.journal_path, snapshot, self.extents(drafts), fsync=self.has_fsync)

    def begin_journal(self, snapshot: bytes) -> None:
        """Go on with a new journal that begins with this snapshot.

        Raises:
            OSError: the disk has no room; the old journal stands.
        """
        journal = self.create_journal(snapshot)
        self.journal.close()
        self.journal = journal
        if self.has_fsync:
            disk.sync_names(self.directory)

    def find_updated_at(self, group: SeriesGroup, labelvalues: tuple[str, ...]) -> float:
        """Return when a commit last changed a series, or a gauge's event time, in seconds since the epoch."""
        first, doubles = group.cells[labelvalues], self.values[group.column.name].doubles
        return max(doubles[slot + 1] for slot in group.column.slots[first : first + group.width])

    def sync_values(self) -> None:
        """Have the disk hold the value files, if it must."""
        if self.has_fsync:
            for file in self.values.values():
                file.sync()

    def detach(self) -> None:
        """Go on with copies in memory.

        Raises:
            OSError: there is no memory for the copies.
        """
        self.is_detached = True
        self.journal.detach()
        for file in self.values.values():
            file.detach()

    def close(self) -> None:
        """Close the files."""
        self.journal.close()
        for file in self.values.values():
            file.close()
