"""The summaries' bins of one shard: the cell of each in the column of sketches, and the additions of a batch.

A bin of a step has a cell, which later laps of the ring use again; so a series has at most `MAX_BINS` cells for each
step of the window and one more, however long it lives. Pure; one thread.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

import orjson

from busmon.catalogue.family import Family
from busmon.registry.series.columns import Column, SeriesGroup
from busmon.registry.series.entry import entry_bytes
from busmon.registry.series.sketch import WINDOW, bin_of

_Place = tuple[int, str]
"""A bin of a series: the slot of its step, and its name."""


class Sketches:
    """The sketches of one shard's summaries."""

    def __init__(self, column: Column, take_bytes: Callable[[SeriesGroup, Iterable[int]], int]) -> None:
        self._column = column
        self._take_bytes = take_bytes
        self._cells: dict[tuple[str, tuple[str, ...]], dict[_Place, int]] = {}
        self._now = self._start = 0.0
        self._slot = 0

    def observe(self, group: SeriesGroup, labelvalues: tuple[str, ...], values: Sequence[float], now: float) -> int:
        """Count values in the step that `now` lies in, in seconds since the epoch.

        Returns:
            How many values are in no bin, since the family's bytes are spent.
        """
        if now != self._now:
            self._now, self._slot, self._start = now, WINDOW.slot(now), WINDOW.start(now)
        series = group.family.name, labelvalues
        cells = self._cells.get(series)
        if cells is None:
            cells = self._cells[series] = {}
        new: Counter[_Place] = Counter()
        for value in values:
            place = self._slot, bin_of(value)
            cell = cells.get(place)
            if cell is None:
                new[place] += 1
            else:
                self._count(cell)
        return self._make(group, labelvalues, cells, new) if new else 0

    def _make(
        self, group: SeriesGroup, labelvalues: tuple[str, ...], cells: dict[_Place, int], new: Counter[_Place]
    ) -> int:
        """Make the bins of a series that there is room for, and count in them; return how many values are in no bin."""
        keys: list[bytes] = []
        taken = self._take_bytes(group, self._sizes(group.family, labelvalues, new, keys))
        for key, (place, amount) in zip(keys[:taken], new.items(), strict=False):
            self._count(self._column.allot([key], cells, place, group), amount)
        return sum(islice(new.values(), taken, None))

    def _sizes(
        self, family: Family, labelvalues: tuple[str, ...], places: Iterable[_Place], keys: list[bytes]
    ) -> Iterator[int]:
        """Yield the size of each bin that the file has room for, and keep the bin's key."""
        together = 0
        for place in places:
            key = _key(family, labelvalues, place)
            size = entry_bytes(len(key))
            together += size
            if not self._column.has_room(together):
                return
            keys.append(key)
            yield size

    def restore(self, key: bytes, cell: int, groups: Mapping[str, SeriesGroup]) -> None:
        """Take over a bin that the file has as this cell.

        Raises:
            ValueError: it is no bin's key.
        """
        try:
            metric_name, labels, slot, bin_ = orjson.loads(key)
            self._cells.setdefault((metric_name, tuple(labels.values())), {})[slot, bin_] = cell
        except (TypeError, AttributeError) as error:
            raise ValueError("expected a name, labels, a step and a bin") from error
        if group := groups.get(metric_name):
            group.size += entry_bytes(len(key))

    def _count(self, cell: int, amount: int = 1) -> None:
        """Add to a cell's count of this step; what the open batch has there of an earlier lap is too old."""
        column = self._column
        if column.times.get(cell) != self._start:
            column.times[cell] = self._start
            column.increments[cell] = 0.0
        column.increments[cell] += amount


def _key(family: Family, labelvalues: tuple[str, ...], place: _Place) -> bytes:
    """Return the labels in the family's order, so that `restore` has them without knowing the family."""
    labels = dict(zip(family.labelnames, labelvalues, strict=True))
    return json.dumps([family.name, labels, *place]).encode()
