"""The fold of observations into a batch: a histogram's buckets and sum, a summary's count and sum. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from busmon.catalogue.family import HISTOGRAM
from busmon.registry.series.columns import Column, SeriesGroup
from busmon.wire.envelope import Observed
from busmon.wire.floats import is_number

_FEW_VALUES = 8
_WHOLE = {int}


def observe(group: SeriesGroup, cell: int, change: Sequence[float] | dict[str, Any] | Observed) -> None:
    """Add observations to the series that begins with this cell.

    Args:
        group: a histogram's or a summary's.
        cell: the first of the series.
        change: values as `checked` returns them: a list, buckets with their sum, or what another format counted.
    """
    increments = group.column.increments
    if type(change) is Observed:
        _observe_counted(group, cell, change)
        return
    if type(change) is dict:
        buckets = change["buckets"]
        for offset, count in zip(_offsets(group, (*buckets,)), buckets.values(), strict=True):
            if count:
                increments[cell + offset] += count
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


def find_known_counts(group: SeriesGroup, value: dict[str, Any]) -> list[int] | None:
    """Return the counts of buckets that have the bounds stated last; None where they or the sum need a closer look."""
    buckets = value.get("buckets")
    if type(buckets) is not dict or (*buckets,) != group.stated_bounds or not is_number(value.get("sum")):
        return None
    counts = [*buckets.values()]
    return counts if {*map(type, counts)} == _WHOLE and min(counts) >= 0 else None


def _offsets(group: SeriesGroup, bounds: tuple[str, ...]) -> Sequence[int]:
    """Return where in a series the buckets with these upper bounds count, all of which are sound and the family's."""
    if bounds != group.stated_bounds:
        group.stated_bounds = bounds
        group.stated_offsets = [bisect_left(group.family.buckets, float(bound)) for bound in bounds]
    return group.stated_offsets


def _observe_counted(group: SeriesGroup, cell: int, observed: Observed) -> None:
    increments, above = group.column.increments, observed.count
    increments[cell + group.sum] += observed.sum
    if group.family.type == HISTOGRAM:
        for bound, count in observed.buckets.items():
            increments[cell + bisect_left(group.family.buckets, bound)] += count
            above -= count
    increments[cell + group.infinity] += above


def _observe_many(group: SeriesGroup, cell: int, values: Sequence[float]) -> None:
    """Search once for each bound instead of once for each value, for the latencies of a whole batch."""
    ordered = sorted(values)
    ends = [0, *(bisect_right(ordered, bound) for bound in group.family.buckets), len(ordered)]
    for offset, (start, end) in enumerate(pairwise(ends)):
        if end > start:
            group.column.increments[cell + offset] += end - start


def add(column: Column, cell: int, change: float, at: float) -> None:
    """Add to a gauge that accumulates."""
    column.increments[cell] += change
    column.times[cell] = max(at, column.times.get(cell, 0.0))
