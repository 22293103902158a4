"""The collection of all value files: one row per entry that a scrape distinguishes, merged over the files.

Keys are parsed once, when they first appear; a collection after that costs what changed. A family that two files give
different types is served as the first file has it, in the order of writers and names; the other file is named. One
thread.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from collections.abc import Collection as Names
from functools import partial
from pathlib import Path

from busmon.registry.scrape.keys import KeyParser
from busmon.registry.scrape.lines import Layout
from busmon.registry.scrape.merged import NOWHERE, MergedColumn, MergedFamily, MergedSeries
from busmon.registry.scrape.quantiles import Quantiles
from busmon.registry.scrape.reader import Reader
from busmon.registry.scrape.snapshot import RegistrySnapshot
from busmon.registry.scrape.tables import ValueTable
from busmon.registry.series.columns import SKETCH

MAX_BAD_KEYS = 1000
"""Of one file, after which no more of its keys are looked at: it is no value file, however many it has."""

Rows = defaultdict[str, dict[bytes, int]]
"""The rows of one collection's new keys, by column; held while the files are gone through."""


class Collection:
    """The merged rows of a registry directory.

    Args:
        registry_dir: where the files are.
        ahead_seconds: by how much this host's clock is ahead of a writer's, where they differ; asked each time.
        note_begin: is called before all files are read into empty tables.

    Attributes:
        families: by name; their `stale` series are those that changed.
        columns: by name.
        quantiles: of the summaries.
    """

    def __init__(
        self, registry_dir: Path, ahead_seconds: Mapping[str, float], note_begin: Callable[[], None] = lambda: None
    ) -> None:
        self._directory = registry_dir
        self._ahead_seconds = ahead_seconds
        self._note_begin = note_begin
        self._begin(())

    def _begin(self, timed: Names[str]) -> None:
        self._is_empty = True
        self.families: dict[str, MergedFamily] = {}
        self.columns: dict[str, MergedColumn] = {}
        self.quantiles = Quantiles()
        self._reader = Reader(self._directory)
        self._reader.timed.update(timed)
        self._known_ahead_seconds = dict(self._ahead_seconds)
        self._tables: dict[str, ValueTable] = {}
        self._keys = KeyParser()
        self._faults: dict[str, str] = {}
        self._bad_keys: Counter[str] = Counter()
        self._nowhere = MergedSeries(b"", Layout("", (), labelled=False))

    @property
    def skipped(self) -> dict[str, str]:
        """Return the files that aren't served, or only in part, as of the last collection."""
        return {**self._faults, **self._reader.skipped}

    def collect(self, timed: Names[str] = ()) -> RegistrySnapshot:
        """Read all files and merge them.

        Args:
            timed: the columns, in addition to the gauges', whose series' times are wanted.
        """
        self._reader.timed.update(timed)
        try:
            if self._is_empty or self._known_ahead_seconds != self._ahead_seconds or not self._follow_all():
                if not self._is_empty:
                    self._begin(self._reader.timed)
                self._fill()
            for column in self.columns.values():
                for series in column.merge():
                    self.families[series.layout.family].stale.add(series)
        except BaseException:
            self._begin(timed)  # what was taken over halfway would be missing ever after
            raise
        return RegistrySnapshot(self.families, self.columns)

    def _fill(self) -> None:
        """Read all files into empty tables."""
        self._note_begin()
        self._is_empty = False
        self._known_ahead_seconds = dict(self._ahead_seconds)
        self._follow_all()

    def _follow_all(self) -> bool:
        """Take over what is new in all files; whether each file from before is still the same one."""
        before, self._tables = self._tables, {}
        rows: Rows = defaultdict(dict)
        for name, table in self._reader.read():
            self._tables[name] = table
            table.ahead_seconds = self._known_ahead_seconds.get(table.writer, 0.0)
            if before.get(name, table) is not table:
                return False
            self._follow(name, table, rows)
        return before.keys() <= self._tables.keys()

    def _follow(self, name: str, table: ValueTable, rows: Rows) -> None:
        if table.column == SKETCH:
            self.quantiles.follow(table)
            return
        column = self.columns.get(table.column)
        if column is None:
            column = self.columns[table.column] = MergedColumn(table.column, self._nowhere)
        pid = table.writer if table.column in {"gauge_all", "gauge_liveall"} else ""
        column.follow(name, table, rows[column.name + pid], partial(self._row, name, column, pid))

    def _row(self, file: str, column: MergedColumn, pid: str, key: bytes) -> int:
        """Return the row that an entry adds to, which other files may have too, or another help."""
        if self._bad_keys[file] >= MAX_BAD_KEYS:
            return NOWHERE
        try:
            name, part, labels, help_ = self._keys.parse(column.type, key, pid)
        except ValueError as error:
            self._bad_keys[file] += 1
            self._faults[file] = f"the key {key[:80]!r}: {error}"
            return NOWHERE
        family = self.families.get(name)
        if family is None:
            family = self.families[name] = MergedFamily(name, column.name, help_)
        if family.column != column.name:
            self._faults[file] = f"{family.name!r} is a {column.name} here and a {family.column} in another file"
            return NOWHERE
        return column.add(family.get(labels), part)
