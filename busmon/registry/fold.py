"""The fold: envelopes into the changes of one batch.

It looks at each sample once, in the pass that counts it: a bad sample is rejected by reason and agent and leaves no
trace in its neighbours. Everything stays in memory until the shard commits; `rollback` forgets the batch. The result
is the same however envelopes are cut into batches. One thread.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM, Family
from busmon.errors import AdoptionError
from busmon.registry.checks import RejectedError, check_labels, checked, value_of
from busmon.registry.columns import Column, Group
from busmon.registry.families import Families
from busmon.registry.numbers import LARGEST
from busmon.registry.routes import Route, Routes, of_sample, of_table
from busmon.wire.envelope import Envelope
from busmon.wire.json_v1 import is_time

_FEW_VALUES = 8


class Fold:
    """The open batch of one shard."""

    def __init__(self, families: Families, columns: Mapping[str, Column]) -> None:
        self._columns = columns
        self._routes = Routes(families, columns)
        self._folded: Counter[str] = Counter()
        self._rejected: Counter[tuple[str, str]] = Counter()

    def envelope(self, envelope: Envelope, now: float) -> None:
        """Fold every sample of an envelope that arrived at `now`, in seconds since the epoch."""
        source, agent, ts, samples, tables = envelope
        at = now if ts is None or ts > now else ts
        for table in tables:
            try:
                self._table(table, source, agent, at, now)
            except RejectedError as rejected:
                self._rejected[str(rejected), agent] += _row_count(table)
        for sample in samples:
            try:
                self._sample(sample, source, at, now)
            except RejectedError as rejected:
                self._rejected[str(rejected), agent] += 1

    # -- busmon's own ---------------------------------------------------------------------------------------------

    def count(self, name: str, labelvalues: tuple[str, ...] = (), amount: float = 1) -> None:
        """Increment a counter that busmon measures."""
        group = self._routes.own(name)
        group.column.increments[group.cell(labelvalues)] += amount

    def observe(self, name: str, labelvalues: tuple[str, ...], values: Sequence[float]) -> None:
        """Observe values in a histogram that busmon measures."""
        group = self._routes.own(name)
        _observe(group, group.cell(labelvalues), values)

    def set(self, name: str, labelvalues: tuple[str, ...], value: float, at: float) -> None:
        """Set a gauge of busmon's own, which no source holds."""
        group = self._routes.own(name)
        group.column.shares.set(group.cell(labelvalues), "", value, at)

    # -- the batch ------------------------------------------------------------------------------------------------

    def seal(self) -> None:
        """Add what the fold counted of itself to the batch; to be called before the commit."""
        for type_, amount in self._folded.items():
            self.count("busmon_samples_folded_total", (type_,), amount)
        for labelvalues, amount in self._rejected.items():
            self.count("busmon_samples_rejected_total", labelvalues, amount)
        self._forget_counts()

    def rollback(self) -> None:
        """The open batch never happened."""
        for column in self._columns.values():
            column.rollback()
        self._forget_counts()

    # -- series ---------------------------------------------------------------------------------------------------

    def restore(self, family: Family, labelvalues: tuple[str, ...], cell: int) -> None:
        """Take over a series that stands in a value file from this cell on."""
        self._routes.group(family).adopt(labelvalues, cell)

    def expose_at_zero(self, family: Family) -> None:
        """Make the series of a family whose label values are all known, so that their first increase is seen.

        Not of one that was written with other labels, or can't be written as another occupies its name.
        """
        with suppress(AdoptionError):
            for labelvalues in family.bounded_series():
                group = self._routes.group(family)
                if (group.family.type, group.family.labelnames) == (family.type, family.labelnames):
                    group.cell(labelvalues)

    def reroute(self) -> None:
        """Resolve names again: the families have changed."""
        self._routes.forget()

    def series(self) -> dict[str, int]:
        """How many series each family has in this shard."""
        return {name: len(group.cells) for name, group in self._routes.groups.items()}

    # -- tables ---------------------------------------------------------------------------------------------------

    def _table(self, table: Any, source: str, agent: str, at: float, now: float) -> None:
        if type(table) is not dict or type(rows := table.get("rows")) is not list:
            raise RejectedError("invalid_table")
        labels = table.get("labels")
        if labels is None:
            labels = []
        elif type(labels) is not list:
            raise RejectedError("invalid_label")
        if (ts := table.get("ts")) is not None:
            at = _event_time(ts, now)
        route = self._routes.find(table, tuple(labels), of_table)
        if route.order is None and route.type == COUNTER:
            rows = self._count_rows(route.group, rows)
        elif route.order is None and route.type == HISTOGRAM:
            rows = self._observe_rows(route.group, rows)
        for row in rows:
            try:
                self._row(route, row, source, at)
            except RejectedError as rejected:
                self._rejected[str(rejected), agent] += 1

    def _count_rows(self, group: Group, rows: list[Any]) -> list[Any]:
        """Add the rows of known series, and give back all others.

        The common case, with no call for a row: its label values as they stand find the cell, so they need no check.
        """
        cells, increments, others = group.cells, group.column.increments, []
        for row in rows:
            try:
                value = row.pop()
                if (type(value) is int or type(value) is float) and 0 <= value <= LARGEST:
                    increments[cells[tuple(row)]] += value
                    continue
                row.append(value)
            except (KeyError, TypeError):
                if type(row) is list:
                    row.append(value)
            except (AttributeError, IndexError):
                pass
            others.append(row)
        self._folded[COUNTER] += len(rows) - len(others)
        return others

    def _observe_rows(self, group: Group, rows: list[Any]) -> list[Any]:
        """Observe the rows of known series that have a single value, as `_count_rows` does; give back all others."""
        cells, increments, others = group.cells, group.column.increments, []
        bounds, total = group.family.buckets, group.sum
        for row in rows:
            try:
                cell = cells[tuple(row[:-1])]
                value = row[-1]
                if type(value) is list and len(value) == 1:
                    value = value[0]
                if (type(value) is float or type(value) is int) and -LARGEST <= value <= LARGEST:
                    increments[cell + bisect_left(bounds, value)] += 1
                    increments[cell + total] += value
                    continue
            except (KeyError, TypeError, IndexError):
                pass
            others.append(row)
        self._folded[HISTOGRAM] += len(rows) - len(others)
        return others

    def _row(self, route: Route, row: Any, source: str, at: float) -> None:
        if type(row) is not list or not row:
            raise RejectedError("invalid_row")
        self._value(route, tuple(row[:-1]), row[-1], source, at)

    # -- samples --------------------------------------------------------------------------------------------------

    def _sample(self, sample: Any, source: str, at: float, now: float) -> None:
        if type(sample) is not dict:
            raise RejectedError("invalid_sample")
        labels = sample.get("labels")
        if labels is None:
            labels = {}
        elif type(labels) is not dict:
            raise RejectedError("invalid_label")
        value = value_of(sample)
        if (ts := sample.get("ts")) is not None:
            at = _event_time(ts, now)
        route = self._routes.find(sample, tuple(labels), of_sample)
        self._value(route, tuple(labels.values()), value, source, at)

    def _value(self, route: Route, labelvalues: tuple[Any, ...], value: Any, source: str, at: float) -> None:
        group, type_ = route.group, route.type
        change = checked(group.family, value)
        if route.order is not None and len(labelvalues) == len(route.order):
            labelvalues = tuple([labelvalues[i] for i in route.order])
        cell = _cell(group, labelvalues)
        if type_ == COUNTER:
            group.column.increments[cell] += change
        elif type_ != GAUGE:
            _observe(group, cell, change)
        elif route.accumulates:
            _add(group.column, cell, change, at)
        else:
            group.column.shares.set(cell, source, change, at)
        self._folded[type_] += 1

    def _forget_counts(self) -> None:
        self._folded.clear()
        self._rejected.clear()


def _row_count(table: Any) -> int:
    """How many samples a rejected table has; at least the one that it itself is."""
    rows = table.get("rows") if type(table) is dict else None
    return max(1, len(rows)) if type(rows) is list else 1


def _event_time(ts: Any, now: float) -> float:
    if not is_time(ts):
        raise RejectedError("invalid_timestamp")
    return min(float(ts), now)


def _cell(group: Group, labelvalues: tuple[Any, ...]) -> int:
    try:
        return group.cells[labelvalues]
    except (KeyError, TypeError):
        check_labels(group.family.labelnames, labelvalues)
        return group.cell(labelvalues)


def _observe(group: Group, cell: int, change: Sequence[float] | dict[str, Any]) -> None:
    increments = group.column.increments
    if type(change) is dict:
        for bound, count in change["buckets"].items():
            increments[cell + bisect_left(group.family.buckets, float(bound))] += count
        increments[cell + group.sum] += change["sum"]
        return
    values: Sequence[float] = change  # type: ignore[assignment]
    increments[cell + group.sum] += sum(values)
    if group.family.type != HISTOGRAM:
        increments[cell] += len(values)
    elif len(values) <= _FEW_VALUES:
        for value in values:
            increments[cell + bisect_left(group.family.buckets, value)] += 1
    else:
        _observe_many(group, cell, values)


def _observe_many(group: Group, cell: int, values: Sequence[float]) -> None:
    """One search for each bound instead of one for each value, for the latencies of a whole batch."""
    ordered = sorted(values)
    ends = [0, *(bisect_right(ordered, bound) for bound in group.family.buckets), len(ordered)]
    for offset, (start, end) in enumerate(pairwise(ends)):
        if end > start:
            group.column.increments[cell + offset] += end - start


def _add(column: Column, cell: int, change: float, at: float) -> None:
    column.increments[cell] += change
    column.times[cell] = max(at, column.times.get(cell, 0.0))
