"""The common case of the fold, with few calls for a sample: what known series are usually said to have.

The label values as they stand find the cell, so they need no check. What isn't as common, or isn't right, is given back
unchanged, for the fold to look at with care: a row gives its value away, as a copy of its labels would cost as much as
all the rest, and gets it back where it isn't folded. Pure but for the open batch; one thread.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from math import isfinite
from typing import Any

from busmon.bare import bare
from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM
from busmon.errors import RejectedError
from busmon.registry.fold.observing import find_known_counts
from busmon.registry.fold.routes import SampleWay, Shortcut, TableWay
from busmon.registry.series.columns import SeriesGroup
from busmon.registry.series.latest import Share
from busmon.sample_checks import NUMBERS
from busmon.wire.floats import LARGEST
from busmon.wire.times import is_time

_PLAIN_MEMBERS = 3
"""Of a sample that is nothing but `name`, `labels` and `value`, and of a table with `rows`."""


def of_rows(group: SeriesGroup) -> Shortcut:
    """Return what folds the rows of this family's tables, their labels in its order, and gives back the others."""
    return _BY_TYPE.get(group.family.type, _none)


def tables(  # noqa: PLR0913 - called in one place
    ways: Mapping[str, TableWay], tables: list[Any], source: str, at: float, folded: Counter[str], *, now: float
) -> list[Any]:
    """Fold the tables with the members that the SDK states, and count their rows; give back the others, and other rows.

    Args:
        ways: of the tables that are known, by name.
        tables: of one envelope.
        source: the envelope's.
        at: the envelope's time, in seconds since the epoch.
        folded: the samples that were folded, by type.
        now: the present, which no time is later than.
    """
    others = []
    for table in tables:
        try:
            labels, shortcut, group, type_ = ways[table["name"]]
            given, since, more = table["rows"], at, len(table) - _PLAIN_MEMBERS
            if more and table.get("type") == type_:
                more -= 1
            if more and is_time(ts := table.get("ts")):
                since, more = min(float(ts), now), more - 1
            is_plain = not more and labels == table["labels"] and type(given) is list
        except (KeyError, TypeError):
            is_plain = False
        if not is_plain:
            others.append(table)
            continue
        left = shortcut(group, given, source, since)
        folded[type_] += len(given) - len(left)
        if left:
            others.append({**table, "rows": left})
    return others


def samples(
    ways: Mapping[tuple[Any, ...], SampleWay], samples: list[Any], source: str, at: float, folded: Counter[str]
) -> list[Any]:
    """Fold the samples that are a name, labels, a number and perhaps the type, and count them; give back the others."""
    others, counters, gauges, histograms = [], 0, 0, 0
    for sample in samples:
        try:
            labels, value = sample["labels"], sample["value"]
            cells, column, type_, bounds, total = ways[sample["name"], *labels]
            cell = cells[*labels.values()]
            is_plain = len(sample) == _PLAIN_MEMBERS or (
                len(sample) == _PLAIN_MEMBERS + 1 and sample.get("type") == type_
            )
            if is_plain and (type(value) is int or type(value) is float) and -LARGEST <= value <= LARGEST:
                if type_ == COUNTER and value >= 0:
                    column.increments[cell] += value
                    counters += 1
                    continue
                if type_ == HISTOGRAM:
                    column.increments[cell + bisect_left(bounds, value)] += 1
                    column.increments[cell + total] += value
                    histograms += 1
                    continue
                if type_ == GAUGE:
                    column.shares.set(cell, source, value, at)
                    gauges += 1
                    continue
        except (KeyError, TypeError, AttributeError, RejectedError):
            pass
        others.append(sample)
    for type_, count in ((COUNTER, counters), (GAUGE, gauges), (HISTOGRAM, histograms)):
        folded[type_] += count
    return others


def _none(_group: SeriesGroup, rows: list[Any], _source: str, _at: float) -> list[Any]:
    return rows


def _count(group: SeriesGroup, rows: list[Any], _source: str, _at: float) -> list[Any]:
    cells, increments, others = group.cells, group.column.increments, []
    for row in rows:
        try:
            value = row.pop()
            # JSON's whole numbers have 64 bits.
            if (type(value) is int and value >= 0) or (type(value) is float and 0 <= value <= LARGEST):
                increments[cells[tuple(row)]] += value
                continue
            row.append(value)
        except (KeyError, TypeError):
            if type(row) is list:
                row.append(value)
        except (AttributeError, IndexError):
            pass
        others.append(row)
    return others


def _set(group: SeriesGroup, rows: list[Any], source: str, at: float) -> list[Any]:
    cells, shares, since, others = group.cells, group.column.shares, float(at), []
    opened, held = shares.find(source)
    for row in rows:
        try:
            value = row.pop()
            if (type(value) is float or type(value) is int) and -LARGEST <= value <= LARGEST:
                cell = cells[tuple(row)]
                known = opened.get(cell) or held.get(cell)
                if known is not None and not known[2] and since > known[0]:
                    opened[cell] = bare(Share, (since, float(value), False))
                else:
                    shares.set(cell, source, value, since)
                continue
            row.append(value)
        except (KeyError, TypeError, RejectedError):
            if type(row) is list:
                row.append(value)
        except (AttributeError, IndexError):
            pass
        others.append(row)
    return others


def _observe(group: SeriesGroup, rows: list[Any], _source: str, _at: float) -> list[Any]:
    cells, increments, others = group.cells, group.column.increments, []
    bounds, total = group.family.buckets, group.sum
    for row in rows:
        try:
            value = row.pop()
            number = value[0] if type(value) is list and len(value) == 1 else value
            if type(number) is float or type(number) is int:
                if -LARGEST <= number <= LARGEST:
                    cell = cells[tuple(row)]
                    increments[cell + bisect_left(bounds, number)] += 1
                    increments[cell + total] += number
                    continue
            elif _observe_several(group, row, value):
                continue
            row.append(value)
        except (KeyError, TypeError):
            if type(row) is list:
                row.append(value)
        except (AttributeError, IndexError):
            pass
        others.append(row)
    return others


def _observe_several(group: SeriesGroup, labelvalues: list[Any], value: Any) -> bool:
    """Fold a list of observations, or their counts by bucket, and return whether that was done.

    Raises:
        KeyError, TypeError: no series is known that has these label values.
    """
    increments, bounds = group.column.increments, group.family.buckets
    if type(value) is list:
        if NUMBERS.issuperset(map(type, value)) and isfinite(added := sum(value)):
            cell = group.cells[tuple(labelvalues)]
            increments[cell + group.sum] += added
            for number in value:
                increments[cell + bisect_left(bounds, number)] += 1
            return True
    elif type(value) is dict and (counts := find_known_counts(group, value)):
        cell = group.cells[tuple(labelvalues)]
        increments[cell + group.sum] += value["sum"]
        for offset, count in zip(group.stated_offsets, counts, strict=True):
            if count:
                increments[cell + offset] += count
        return True
    return False


_BY_TYPE: Mapping[str, Shortcut] = {
    COUNTER: _count,
    GAUGE: _set,
    HISTOGRAM: _observe,
}
