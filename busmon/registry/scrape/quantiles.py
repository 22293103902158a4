"""Summaries' quantiles: the bins of all shards that lie in the window, merged when a scrape asks for them.

A bin that can't be read is left out; it costs its series' quantile some observations, and nothing else. One thread.
"""

from collections.abc import Iterable
from itertools import chain
from math import inf
from typing import Any, NamedTuple

import orjson

from busmon.registry.scrape.lines import label_text
from busmon.registry.scrape.tables import ValueTable
from busmon.registry.series.sketch import WINDOW, quantile, value_of


class SeriesName(NamedTuple):
    """A summary's series: the metric's name, and the labels as exposed."""

    metric_name: str
    labels: bytes


class Quantiles:
    """The bins of all shards.

    Attributes:
        stale: series with bins that changed since somebody cleared this.
    """

    def __init__(self) -> None:
        self.stale: set[SeriesName] = set()
        # Of each series, the bins of each step with their entries, by the table that has them.
        self._bins: dict[SeriesName, dict[ValueTable, list[tuple[int, str]]]] = {}
        self._owners: dict[ValueTable, list[SeriesName | None]] = {}
        self._names: dict[bytes, SeriesName] = {}

    def follow(self, table: ValueTable) -> None:
        """Take over what is new in a file of bins."""
        owners = self._owners.setdefault(table, [None])
        keys, changed = table.take()
        first = len(owners)
        for key in keys:
            owners.append(self._take(table, len(owners), key))
        self.stale.update(filter(None, chain(owners[first:], map(owners.__getitem__, changed))))

    def of(self, name: SeriesName, quantiles: Iterable[float], now: float) -> dict[float, float]:
        """Return a series' quantiles over the window; NaN when nothing was observed in it."""
        counts: dict[str, float] = {}
        for table, bins in self._bins.get(name, {}).items():
            values, times = table.values, table.times
            earlier, last = WINDOW.bounds(now - table.ahead_seconds)
            for entry, bin_ in bins:
                if earlier < times[entry] <= last and 0 < (count := values[entry]) < inf:
                    counts[bin_] = counts.get(bin_, 0.0) + count
        return {q: quantile(counts, q) for q in quantiles}

    def _take(self, table: ValueTable, entry: int, key: bytes) -> SeriesName | None:
        """Note where a bin stands, and name its series, which is parsed once for all bins of a step."""
        series, _, last = key.rpartition(b", ")
        try:
            bin_: Any = orjson.loads(last.rstrip()[:-1])
            value_of(bin_)
            name = self._names.get(series)
            if name is None:
                metric_name, labels, _ = orjson.loads(series + b"]")
                name = self._names[series] = SeriesName(metric_name, label_text(labels))
            self._bins.setdefault(name, {}).setdefault(table, []).append((entry, bin_))
        except (ValueError, TypeError, AttributeError, OverflowError):
            return None
        return name
