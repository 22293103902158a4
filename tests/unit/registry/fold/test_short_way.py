"""A table that takes the short way means what it means when each of its rows is looked at with care."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busmon.registry.fold import shortcuts
from busmon.registry.shard.shard import Shard
from tests.unit.registry.fold.drawn_tables import BOUNDS, COUNTED, KNOWN, counts, extremes, state, tables
from tests.unit.registry.registries import NOW, Registry, envelope, fresh_directory


@pytest.fixture(scope="module")
def shards() -> Iterator[tuple[Shard, Shard]]:
    """Two shards that have met the series of the examples."""
    with fresh_directory() as one, fresh_directory() as other, Registry(one) as short, Registry(other) as ordinary:
        for registry in (short, ordinary):
            registry.fold(tables=deepcopy(KNOWN))
            registry.commit()
        yield short.shard, ordinary.shard


def require_same(shards: tuple[Shard, Shard], said: list[list[dict[str, Any]]]) -> None:
    """Fold the same in both shards, in one of them by the ordinary way, and require the same batch."""
    short, ordinary = shards
    for number, of_envelope in enumerate(said):
        for shard, by_type in ((short, shortcuts._BY_TYPE), (ordinary, {})):
            document = envelope()._replace(source=f"s-{number % 2}", ts=NOW - 10 + number, tables=deepcopy(of_envelope))
            with patch.object(shortcuts, "_BY_TYPE", by_type):
                if not by_type:
                    shard.fold._table_ways.clear()
                shard.fold.envelope(document, NOW)
    try:
        assert state(short) == state(ordinary)
    finally:
        for shard in shards:
            shard.rollback()


@settings(max_examples=400, deadline=None)
@given(said=st.lists(st.lists(tables(), min_size=1, max_size=4), min_size=1, max_size=3))
def test_the_short_way_counts_what_the_ordinary_way_counts(
    shards: tuple[Shard, Shard], said: list[list[dict[str, Any]]]
) -> None:
    require_same(shards, said)


@settings(max_examples=200, deadline=None)
@given(
    known=st.sampled_from(KNOWN),
    cell=extremes
    | st.lists(extremes, max_size=12)
    | st.builds(lambda total, count: {"buckets": dict.fromkeys(BOUNDS, count), "sum": total}, extremes, counts),
)
def test_each_number_is_the_same_on_both_ways(shards: tuple[Shard, Shard], known: dict[str, Any], cell: Any) -> None:
    require_same(shards, [[{**known, "rows": [[*known["rows"][0][:-1], cell]]}]])


@pytest.mark.parametrize("ts", [NOW - 5, int(NOW) - 5, NOW + 50, 0, -1, None, True, "2025-11-22T07:00:00Z", "x"])
@pytest.mark.parametrize("known", KNOWN, ids=lambda known: str(known["name"]))
def test_each_time_is_the_same_on_both_ways(shards: tuple[Shard, Shard], known: dict[str, Any], ts: Any) -> None:
    require_same(shards, [[{**known, "ts": ts}]])


@pytest.mark.parametrize(
    "table",
    [
        {"name": "queue_size", "ts": NOW - 3, "labels": ["queue"], "rows": [["a", 5]]},
        {"name": "own_size", "type": "gauge", "ts": NOW - 3, "labels": ["of"], "rows": [["a", 5], ["b", 2.5]]},
        {"name": "task_duration_seconds", "labels": ["agent"], "rows": [["a", [0.1, 7, 0.2]], ["b", COUNTED]]},
        {"name": "own_seconds", "type": "histogram", "labels": ["agent"], "rows": [["a", COUNTED], ["b", [1.5]]]},
    ],
    ids=lambda table: str(table["name"]),
)
def test_what_the_sdk_publishes_takes_the_short_way(shards: tuple[Shard, Shard], table: dict[str, Any]) -> None:
    shard, _ = shards
    with patch.object(type(shard.fold), "_table", side_effect=AssertionError("the ordinary way")):
        shard.fold.envelope(envelope(tables=[deepcopy(table)]), NOW)
    assert sum(shard.fold._folded.values()) == len(table["rows"])
    shard.rollback()
