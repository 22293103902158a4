"""Entries of all files of one kind, merged into rows: one row per sample that a scrape distinguishes.

Only rows that a file's change touches are merged again. Sums add the files in the order of their names, so a sum is
the same float however it came about. One thread.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from math import copysign, isfinite, isinf
from operator import add, itemgetter
from typing import TypeVar

from busmon.registry.scrape.lines import Layout, SeriesPart
from busmon.registry.scrape.tables import ValueTable
from busmon.wire.floats import LARGEST

Number = TypeVar("Number", int, float)

NOWHERE = 0
"""The row that takes what isn't served."""


class MergedFamily:
    """One metric family of the scrape.

    Attributes:
        name: without a counter's `_total`.
        column: of the files that have it, such as `counter` or `gauge_sum`.
        series: by their labels, as exposed.
        hidden: how many of them are.
        stale: series that changed since somebody cleared this.
        lines: of each series, in the order of their labels, as last written.
        hides: the TTL that was applied last, and when the next series hides by it; both in seconds.
    """

    __slots__ = ("_layouts", "column", "help", "hidden", "hides", "lines", "name", "series", "stale")

    def __init__(self, name: str, column: str, help_: str) -> None:
        self.name = name
        self.column = column
        self.help = help_
        self.series: dict[bytes, MergedSeries] = {}
        self.hidden = 0
        self.stale: set[MergedSeries] = set()
        self.lines: list[bytes] = []
        self.hides: tuple[float, float] | None = None
        self._layouts = [Layout(name, (), labelled=labelled) for labelled in (False, True)]

    @property
    def type(self) -> str:
        """The type, as exposed."""
        return self.column.partition("_")[0]

    def get(self, labels: bytes) -> "MergedSeries":
        """Return the series with these labels, which is made if it doesn't exist."""
        series = self.series.get(labels)
        if series is None:
            series = self.series[labels] = MergedSeries(labels, self._layouts[bool(labels)])
        return series


class MergedSeries:
    """The rows of one family that have the same labels, `le` apart.

    The layout names the family. A reference to the family would be a cycle, so dropped tables would stay in memory
    until a full garbage collection.

    Attributes:
        labels: as exposed, without braces.
        first: the number of its first row, in the order of the layout's parts.
        others: of its other rows; most series have none, and a tuple of one number takes 48 bytes.
        updated: the latest time of its rows by the reader's clock, in seconds since the epoch; 0 if none is known.
        hidden: whether it was silent for too long to be shown.
        place: among its family's lines.
    """

    __slots__ = ("first", "hidden", "labels", "layout", "others", "place", "updated")

    def __init__(self, labels: bytes, layout: Layout) -> None:
        self.labels = labels
        self.layout = layout
        self.first = NOWHERE
        self.others: tuple[int, ...] = ()
        self.updated = 0.0
        self.hidden = False
        self.place = 0

    @property
    def rows(self) -> tuple[int, ...]:
        """Return the numbers of its rows."""
        return (self.first, *self.others) if self.layout.parts else ()

    def row(self, part: SeriesPart, new: int) -> int:
        """Return the number of the row that is this part; `new` if there was none."""
        place = self.layout.places.get(part)
        if place is not None:
            return self.rows[place]
        rows, self.layout = list(self.rows), self.layout.grow(part)
        if not rows:
            self.first = new
            return new
        rows.insert(self.layout.places[part], new)
        self.first, *others = rows
        self.others = tuple(others)
        return new


class _Member:
    """One file's part in a column.

    Attributes:
        rows: the row of each entry.
        layers: the entry of each row; a second one where a file has several entries for a row, as of changed help.
    """

    __slots__ = ("layers", "rows", "table")

    def __init__(self, table: ValueTable) -> None:
        self.table = table
        self.rows = array("I", [NOWHERE])
        self.layers = [array("I")]

    def widen(self, rows: int) -> None:
        """Make room for as many rows."""
        for layer in self.layers:
            layer.frombytes(bytes(layer.itemsize * (rows - len(layer))))

    def place(self, entry: int, row: int) -> None:
        """Note an entry of a row that has one already."""
        for layer in self.layers[1:]:
            if not layer[row]:
                layer[row] = entry
                return
        self.layers.append(array("I", bytes(self.layers[0].itemsize * len(self.layers[0]))))
        self.layers[-1][row] = entry


class MergedColumn:
    """The rows of all files of one kind, such as `counter` or `gauge_max`.

    Attributes:
        type: of its families, as exposed.
        series: each row's.
        values: each row's; None where no file has one.
    """

    def __init__(self, name: str, nowhere: MergedSeries) -> None:
        self.name = name
        self.type = name.partition("_")[0]
        self.series = [nowhere]
        self.values: list[float | None] = [None]
        self._times = array("d", [0.0])
        self._members: dict[str, _Member] = {}
        self._dirty = {NOWHERE}

    def add(self, series: MergedSeries, part: SeriesPart) -> int:
        """Return the row of a part of a series, which is made if it doesn't exist."""
        row = series.row(part, len(self.series))
        if row == len(self.series):
            self.series.append(series)
            self.values.append(None)
            self._times.append(0.0)
        return row

    def follow(self, name: str, table: ValueTable, rows: dict[bytes, int], row_of: Callable[[bytes], int]) -> None:
        """Take over what is new in a file.

        Args:
            name: the file's.
            table: the same one each time.
            rows: by the keys of all files that this collection has met; it is added to.
            row_of: gives the row of a key that isn't among them.
        """
        member = self._members.get(name)
        if member is None:
            member = self._members[name] = _Member(table)
            self._members = dict(sorted(self._members.items()))
        keys, changed = table.take()
        first = len(member.rows)
        try:
            member.rows.extend(map(rows.__getitem__, keys))
        except KeyError:
            del member.rows[first:]
            member.rows.extend([rows.get(key) or rows.setdefault(key, row_of(key)) for key in keys])
        if len(self._dirty) < len(self.series):
            self._dirty.update(map(member.rows.__getitem__, changed), member.rows[first:])
        member.widen(len(self.series))
        layer = member.layers[0]
        for entry, row in enumerate(member.rows[first:], first):
            if not layer[row]:
                layer[row] = entry
            elif row != NOWHERE:
                member.place(entry, row)

    def merge(self) -> Iterable[MergedSeries]:
        """Merge the rows that changed, and return the series that aren't as they were; one may be there twice."""
        self._dirty.discard(NOWHERE)
        rows, self._dirty = sorted(self._dirty), {NOWHERE}  # in their order in memory
        if not rows:
            return ()
        for member in self._members.values():
            member.widen(len(self.series))
        values = self._merge_gauges(rows) if self.name.startswith("gauge") else self._sums(rows)
        changed = [row for row, value in zip(rows, values, strict=True) if self.values[row] != value]
        for row, value in zip(rows, values, strict=True):
            self.values[row] = value
        return chain(map(self.series.__getitem__, changed), self._find_touched(rows))

    def _sums(self, rows: list[int]) -> list[float]:
        sums = [0.0] * len(rows)
        for values, _, layer in self._layers():
            sums = list(map(add, sums, _pick(values, _pick(layer, rows))))
        return sums if isfinite(sum(sums)) else self._hold_sums(rows)

    def _hold_sums(self, rows: list[int]) -> list[float]:
        """Return sums of which some are beyond the largest float, or in which a file of another writer has infinity."""
        sums = [0.0] * len(rows)
        for values, _, layer in self._layers():
            sums = list(map(_add, sums, _pick(values, _pick(layer, rows))))
        return sums

    def _merge_gauges(self, rows: list[int]) -> list[float | None]:
        """Return what the column's mode makes of each row; an entry that was never set counts for nothing."""
        mode = self.name.removeprefix("gauge_").removeprefix("live")
        merged: list[float | None] = [None] * len(rows)
        latest = [0.0] * len(rows)
        for (values, times, layer), member in zip(self._layers(), self._repeat_members(), strict=True):
            always_set = not member.table.writer.startswith("shard") and mode != "mostrecent"
            for place, row in enumerate(rows):
                entry = layer[row]
                if not entry or not (times[entry] or always_set):
                    continue
                # Without its sign a zero equals what it replaces, and shows it.
                at, value, current = times[entry], values[entry] + 0.0, merged[place]
                merged[place] = value if current is None else _merge(mode, current, value, later=at > latest[place])
                latest[place] = max(at, latest[place])
        return merged

    def _find_touched(self, rows: list[int]) -> Iterator[MergedSeries]:
        """Yield the series that hide, or may have to sooner than they were to, for what their rows' times are now."""
        if not all(member.table.timed for member in self._members.values()):
            return
        latest = [0.0] * len(rows)
        for (_, times, layer), member in zip(self._layers(), self._repeat_members(), strict=True):
            found, ahead_seconds = _pick(times, _pick(layer, rows)), member.table.ahead_seconds
            if ahead_seconds:
                found = [at and at + ahead_seconds for at in found]
            latest = list(map(max, latest, found))
        for row, at in zip(rows, latest, strict=True):
            self._times[row] = at
        for series in map(self.series.__getitem__, rows):
            updated = max(map(self._times.__getitem__, series.rows))
            if series.hidden or updated < series.updated:
                yield series
            series.updated = updated

    def _layers(self) -> Iterator[tuple["array[float]", "array[float]", "array[int]"]]:
        for member in self._members.values():
            for layer in member.layers:
                yield member.table.values, member.table.times, layer

    def _repeat_members(self) -> Iterator[_Member]:
        for member in self._members.values():
            yield from repeat(member, len(member.layers))


def _pick(numbers: "array[Number]", places: Sequence[int]) -> Sequence[Number]:
    """Return the numbers in these places; `itemgetter` takes half the time of a loop, however it is written."""
    return itemgetter(*places)(numbers) if len(places) > 1 else [numbers[place] for place in places]


def _add(one: float, other: float) -> float:
    """Add two values; the sum of finite ones stays finite, at the largest float, as it does in a shard."""
    total = one + other
    return copysign(LARGEST, total) if isinf(total) and isfinite(one) and isfinite(other) else total


def _merge(mode: str, current: float, value: float, *, later: bool) -> float:
    if mode == "sum":
        return _add(current, value)
    if mode == "min":
        return min(current, value)
    if mode == "max":
        return max(current, value)
    return value if later else current
