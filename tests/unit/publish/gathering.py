"""Series and instruments without a thread or a broker, and what the takes of them add up to."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from math import inf
from typing import Any, TypeVar

from busmon.publish.batch import Row, Table
from busmon.publish.instruments import AccumulatingGauge, Counter, Gauge, Histogram, Instrument, Summary
from busmon.publish.pending import Distribution, Held, Pending, Shared, Sum, Values
from busmon.publish.series import Series

BOUNDS = (1.0, 2.0, 5.0)
RESEND_SECONDS = 100.0

InstrumentT = TypeVar("InstrumentT", bound=Instrument)


class Bench:
    """Instruments of every kind, each with one label or none."""

    def __init__(self, max_values: int = 1_000_000) -> None:
        self.series = Series(Shared(max_values, RESEND_SECONDS))
        self.now = 1000.0

    def counter(self, name: str = "tasks_total", *labelnames: str) -> Counter:
        return self._made(Counter, name, labelnames, Sum)

    def gauge(self, name: str = "size", *labelnames: str) -> Gauge:
        return self._made(Gauge, name, labelnames, Held)

    def accumulating(self, name: str = "documents", *labelnames: str) -> AccumulatingGauge:
        return self._made(AccumulatingGauge, name, labelnames, Sum)

    def histogram(self, name: str = "seconds", *labelnames: str) -> Histogram:
        return self._made(Histogram, name, labelnames, partial(Distribution, bounds=BOUNDS, are_agreed=True))

    def summary(self, name: str = "bytes", *labelnames: str) -> Summary:
        return self._made(Summary, name, labelnames, Values)

    def take(self) -> list[Row]:
        rows, _ = self.series.take(self.now)
        return rows

    def cells(self) -> dict[tuple[str, ...], Any]:
        """Take the cells, by name and label values."""
        return {(row.table.name, *row.labelvalues): row.cell for row in self.take()}

    def _made(
        self, kind: type[InstrumentT], name: str, labelnames: tuple[str, ...], make: Callable[[Shared], Pending]
    ) -> InstrumentT:
        return kind(Table(name, labelnames), "", self.series, make, None if labelnames else ())


class Tally:
    """The totals of rows: sums of numbers, and counts by bucket with sums of observations."""

    def __init__(self) -> None:
        self.sums: defaultdict[tuple[str, ...], float] = defaultdict(float)
        self.buckets: defaultdict[tuple[str, ...], dict[str, int]] = defaultdict(lambda: dict.fromkeys(KEYS, 0))

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._add((row.table.name, *row.labelvalues), row.cell)

    def _add(self, key: tuple[str, ...], cell: Any) -> None:
        if isinstance(cell, list):
            self.sums[key] += sum(cell)
            for value in cell:
                self.buckets[key][_bucket(value)] += 1
        elif isinstance(cell, dict):
            self.sums[key] += cell["sum"]
            for bound, count in cell["buckets"].items():
                self.buckets[key][bound] += count
        else:
            self.sums[key] += cell


KEYS = ("1.0", "2.0", "5.0", "+Inf")


def _bucket(value: float) -> str:
    return next(key for key, bound in zip(KEYS, (*BOUNDS, inf), strict=True) if value <= bound)
