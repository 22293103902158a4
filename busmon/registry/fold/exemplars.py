"""OpenMetrics exemplars of one shard: for each counter and each bucket the last sample that named a trace.

A convenience in addition to the counts, and not exact: exemplars are kept in memory and written now and then. They are
neither rolled back with a batch nor read after a restart, when the first new one replaces the file. Bounded: the series
with the oldest exemplar gives way. One thread.
"""

from bisect import bisect_left
from collections import OrderedDict
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from busmon import files
from busmon.catalogue.family import COUNTER, HISTOGRAM, Family
from busmon.wire.floats import go_float

MAX_EXEMPLARS = 10_000


class Exemplar(NamedTuple):
    """One observation or increment, and the trace that it belongs to; `at` is in seconds since the epoch."""

    labelnames: tuple[str, ...]
    trace_id: str
    value: float
    at: float


class Exemplars:
    """The exemplars of one shard's series, by metric, label values and bucket."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, tuple[str, ...], str], Exemplar] = OrderedDict()
        self._is_written = True

    def take(self, family: Family, labelvalues: tuple[str, ...], value: Any, trace_id: str, at: float) -> None:
        """Keep a checked sample's exemplar; of several values the last is taken, of counts by bucket none."""
        if type(value) is list and value:
            value = value[-1]
        if family.type not in {COUNTER, HISTOGRAM} or type(value) in {list, dict}:
            return
        bound = go_float([*family.buckets, inf][bisect_left(family.buckets, value)]) if family.type == HISTOGRAM else ""
        key = family.metric_name, labelvalues, bound
        self._kept[key] = Exemplar(family.labelnames, trace_id, value, at)
        self._kept.move_to_end(key)
        self._is_written = False
        if len(self._kept) > MAX_EXEMPLARS:
            self._kept.popitem(last=False)

    def rewind(self, now: float) -> None:
        """Let no exemplar be later than now, or it would outlast all of other shards."""
        for key, exemplar in self._kept.items():
            if exemplar.at > now:
                self._kept[key] = exemplar._replace(at=now)
                self._is_written = False

    def write(self, path: Path) -> None:
        """Put them in the place of the file at `path`, if there are new ones since it was written.

        Raises:
            OSError: there is no room; the old file stands, and the next call tries again.
        """
        if self._is_written:
            return
        files.replace(path, orjson.dumps(self._by_metric()))
        self._is_written = True

    def _by_metric(self) -> dict[str, list[Any]]:
        by_metric: dict[str, list[Any]] = {}
        for (metric_name, labelvalues, bound), (labelnames, trace_id, value, at) in self._kept.items():
            labels = dict(zip(labelnames, labelvalues, strict=True))
            by_metric.setdefault(metric_name, []).append([labels, bound, {"trace_id": trace_id}, value, at])
        return by_metric
