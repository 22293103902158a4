"""The columns of a shard's value files: cells, the changes of the open batch, and keys that aren't written yet.

A *cell* is the number of an entry in its file, in order; a series has a run of them. One column per file that a shard
may have. Pure: the shard gives cells their slots when it commits.
"""

import json
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from math import inf
from typing import Any, NamedTuple

from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM, SUMMARY, Family
from busmon.registry.series.entry import HEADER_BYTES, MAX_FILE_BYTES, entry_bytes
from busmon.registry.series.shares import MERGES, Shares, sum_of
from busmon.wire.floats import go_float

SKETCH = "sketch"
"""The column of the summaries' bins."""

COLUMNS = (COUNTER, HISTOGRAM, SUMMARY, *MERGES, SKETCH)

_GAUGE_COLUMNS: Mapping[str, str] = {
    "latest": "gauge_mostrecent",
    "sum": "gauge_sum",
    "add": "gauge_sum",
    "min": "gauge_min",
    "max": "gauge_max",
}


def column_of(family: Family) -> str:
    """Return the name of the column, and of its file, that has a family's series."""
    return _GAUGE_COLUMNS[family.merge] if family.type == GAUGE else family.type


def file_name(column: str, shard: int) -> str:
    """Return a column's file; prometheus_client's collector reads every `.db` and can't read bins."""
    return f"{column}_shard{shard}.{'bins' if column == SKETCH else 'db'}"


class _Made(NamedTuple):
    """Cells of the open batch: where their first one is found, and whose bytes they are."""

    cells: MutableMapping[Any, int]
    key: Any
    group: "SeriesGroup"
    size: int


class Column:
    """One value file's cells.

    Attributes:
        size: the bytes of the header and of all entries, written and unwritten.
        slots: the slot of each cell that is in the file.
        unwritten: the keys of the cells after those.
        increments: what the open batch adds, by cell.
        times: of the increments, by cell, where the column has times of its own: a gauge's latest event time, or the
            start of the step that a bin counts.
        is_timed: whether it has; the other columns' times are those of commits.
        restarts: a cell counts from 0 again when its time changes.
        shares: of set gauges; always empty in a column of another type.
    """

    __slots__ = (
        "_made",
        "increments",
        "is_timed",
        "name",
        "restarts",
        "shares",
        "size",
        "slots",
        "times",
        "unwritten",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.size = HEADER_BYTES
        self._made: list[_Made] = []
        self.slots = array("q")
        self.unwritten: list[bytes] = []
        self.increments: defaultdict[int, float] = defaultdict(float)
        self.times: dict[int, float] = {}
        self.restarts = name == SKETCH
        self.is_timed = name in MERGES or self.restarts
        self.shares = Shares(MERGES.get(name, sum_of))

    def has_room(self, size: int) -> bool:
        """Return whether entries of so many bytes more fit the file's format."""
        return self.size + size <= MAX_FILE_BYTES

    def allot(self, keys: Sequence[bytes], cells: MutableMapping[Any, int], key: Any, group: "SeriesGroup") -> int:
        """Add cells at the end of the column, for the open batch.

        Args:
            keys: one for each cell.
            cells: takes the number of the first one.
            key: what that number is found by.
            group: whose bytes the cells are.

        Returns:
            The number of the first one.
        """
        first = cells[key] = len(self.slots) + len(self.unwritten)
        size = sum(entry_bytes(len(each)) for each in keys)
        self.unwritten.extend(keys)
        self._made.append(_Made(cells, key, group, size))
        self.size += size
        group.size += size
        return first

    @property
    def unwritten_families(self) -> set[str]:
        """Return the names of the families of the unwritten cells."""
        return {made.group.family.name for made in self._made}

    def restore(self, keys: Sequence[bytes], slots: Sequence[int]) -> int:
        """Take over cells that the file has in these slots; return the first one's number."""
        first = len(self.slots)
        self.slots.extend(slots)
        self.size += sum(entry_bytes(len(key)) for key in keys)
        return first

    def note_written(self, slots: Sequence[int]) -> None:
        """Note that the file has the unwritten cells, in these slots; no rollback takes them out again."""
        self.slots.extend(slots)
        self.unwritten.clear()
        self._made.clear()

    def rewind(self, now: float, stamps: Collection[int]) -> bool:
        """Let no share and no open increment be later than now; return whether a share was."""
        if self.is_timed and not self.restarts:
            self.times = {cell: min(at, now) for cell, at in self.times.items()}
        return self.shares.rewind(now, stamps)

    def settle(self) -> None:
        """Begin the next batch: the open one is applied."""
        self.increments.clear()
        self.times.clear()

    def rollback(self) -> bool:
        """Undo the open batch and the cells that it made; return whether it made any."""
        for cells, key, group, size in self._made:
            del cells[key]
            self.size -= size
            group.size -= size
        is_shorter = bool(self._made)
        self._made.clear()
        self.unwritten.clear()
        self.settle()
        self.shares.rollback()
        return is_shorter


class SeriesGroup:
    """One family's series in one shard: label values to the first cell of each.

    Attributes:
        size: the bytes that the entries of all series take, those of a summary's bins among them.
        stated_bounds: of a histogram: the texts of the bounds that counts by bucket stated last; None before the first.
        stated_offsets: of the cells where they count, from a series' first cell on.
    """

    __slots__ = (
        "_key_bytes",
        "cells",
        "column",
        "family",
        "infinity",
        "size",
        "stated_bounds",
        "stated_offsets",
        "sum",
    )

    def __init__(self, family: Family, column: Column) -> None:
        self.family = family
        self.column = column
        self.cells: dict[tuple[str, ...], int] = {}
        self.infinity = len(family.buckets)
        self.sum = self.infinity + 1 if family.type == HISTOGRAM else 1
        self.size = 0
        self.stated_bounds: tuple[str, ...] | None = None
        self.stated_offsets: Sequence[int] = ()
        unlabelled = dict.fromkeys(family.labelnames, "")
        bare = len(_key(family, "", unlabelled))
        self._key_bytes = [len(key) - bare for key in self._keys(("",) * len(family.labelnames))]

    def cell(self, labelvalues: tuple[str, ...]) -> int:
        """Return the first cell of a series, which is made if it doesn't exist."""
        cell = self.cells.get(labelvalues)
        if cell is None:
            cell = self.column.allot(list(self._keys(labelvalues)), self.cells, labelvalues, self)
        return cell

    def cost(self, labelvalues: tuple[str, ...]) -> int:
        """Return what a series with these label values takes in its file, in bytes, without making its keys."""
        return self._cost(len(_key(self.family, "", dict(zip(self.family.labelnames, labelvalues, strict=True)))))

    def _cost(self, bare: int) -> int:
        """Add up a series' entries; `bare` is the length of its key without the name of the sample."""
        return sum(entry_bytes(bare + more) for more in self._key_bytes)

    @property
    def width(self) -> int:
        """Return how many cells a series has."""
        return self.sum + 1 if self.family.type in {HISTOGRAM, SUMMARY} else 1

    def labels(self, labelvalues: tuple[str, ...]) -> frozenset[tuple[str, str]]:
        """Return a series' label names and values."""
        return frozenset(zip(self.family.labelnames, labelvalues, strict=True))

    def adopt(self, labelvalues: tuple[str, ...], cell: int, key_bytes: int) -> None:
        """Take over a series that the file has from its first cell on; its key has `key_bytes` bytes."""
        if labelvalues not in self.cells:
            self.cells[labelvalues] = cell
            self.size += self._cost(key_bytes - self._key_bytes[0])

    def _keys(self, labelvalues: tuple[str, ...]) -> Iterator[bytes]:
        family, name = self.family, self.family.metric_name
        labels = dict(zip(family.labelnames, labelvalues, strict=True))
        if family.type == HISTOGRAM:
            yield from _bucket_keys(family, labels)
            yield _key(family, f"{name}_sum", labels)
        elif family.type == SUMMARY:
            yield _key(family, f"{name}_count", labels)
            yield _key(family, f"{name}_sum", labels)
        else:
            yield _key(family, f"{name}_total" if family.type == COUNTER else name, labels)


def _bucket_keys(family: Family, labels: Mapping[str, str]) -> Iterator[bytes]:
    """Yield the key of each bucket. Labels may be long and bounds many: the common part is encoded once."""
    name, help_ = json.dumps(family.metric_name), json.dumps(family.help)
    bucket = json.dumps(f"{family.metric_name}_bucket")
    before = json.dumps({label: value for label, value in labels.items() if label < "le"}, sort_keys=True)[1:-1]
    after = json.dumps({label: value for label, value in labels.items() if label > "le"}, sort_keys=True)[1:-1]
    start = f'[{name}, {bucket}, {{{before}{", " if before else ""}"le": "'
    end = f'"{", " if after else ""}{after}}}, {help_}]'
    for bound in (*family.buckets, inf):
        yield f"{start}{go_float(bound)}{end}".encode()


def _key(family: Family, sample_name: str, labels: Mapping[str, str]) -> bytes:
    """Write prometheus_client's `mmap_key`, byte for byte, so that stock readers merge ours with theirs."""
    return json.dumps([family.metric_name, sample_name, labels, family.help], sort_keys=True).encode()
