"""The restoring of a shard's memory from what was written: its series from keys, the rest from records.

Shared by the opening of a shard and by a replica that follows a log. One thread.
"""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import orjson

from busmon.catalogue.family import HISTOGRAM, SUMMARY, Family
from busmon.registry.admission.families import Families
from busmon.registry.fold.fold import Fold
from busmon.registry.series.columns import SKETCH, column_of
from busmon.registry.series.latest import Share
from busmon.registry.shard.state import ShardState
from busmon.wire.floats import go_float


def families_of(families: Families, column: str) -> dict[str, Family]:
    """Return the written families whose series are in a column, by the metric's name as keys have it."""
    return {family.metric_name: family for family in families.frozen() if column_of(family) == column}


def restore_key(fold: Fold, families: Mapping[str, Family], column: str, key: bytes, cell: int) -> None:
    """Take over a series that begins with this cell, or a summary's bin; any other cell belongs to one before it.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: the key isn't as busmon writes it.
    """
    if column == SKETCH:
        fold.sketches.restore(key, cell, fold.groups)
        return
    metric_name, sample_name, labels, _ = orjson.loads(key)
    family = families.get(metric_name)
    if family is not None and _is_first_entry(family, sample_name, labels):
        fold.restore(family, tuple(labels[name] for name in family.labelnames), cell, len(key))


def load(state: ShardState, record: Mapping[str, Any]) -> None:
    """Take over what a snapshot or a record says of all that isn't in the value files."""
    state.ledger.load(record["ledger"])
    if "streams" in record:  # a journal of an earlier version has none
        state.fold.streams.load(record["streams"])
    if "celery" in record:  # nor has a record of a batch without Celery's events
        state.fold.celery.load(record["celery"])
    for name, dumped in record["shares"].items():
        column = state.files.columns[name]
        for slot, source, share in dumped:
            column.shares.load(bisect_left(column.slots, slot), source, Share(*share) if share else None)
    state.settle()


def _is_first_entry(family: Family, sample_name: str, labels: Mapping[str, str]) -> bool:
    """Return whether a series of the family begins with this entry."""
    if family.type == HISTOGRAM:
        first = go_float(family.buckets[0]) if family.buckets else "+Inf"
        return labels.get("le") == first
    return family.type != SUMMARY or sample_name.endswith("_count")
