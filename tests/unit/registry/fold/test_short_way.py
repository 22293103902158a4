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
from busmon.wire.floats import LARGEST
from tests.unit.registry.registries import NOW, Registry, envelope, fresh_directory

BOUNDS = ["0.1", "0.5", "1.0", "2.0", "5.0", "10.0", "+Inf"]
COUNTED = {"buckets": dict.fromkeys(BOUNDS, 2), "sum": 3.5}
KNOWN: list[dict[str, Any]] = [
    {"name": "tasks_processed_total", "labels": ["agent", "status"], "rows": [["a", "x", 1], ["b", "x", 1]]},
    {"name": "queue_size", "labels": ["queue"], "rows": [["a", 1], ["b", 1]]},
    {"name": "active_agents", "labels": ["type"], "rows": [["a", 1], ["b", 1]]},
    {"name": "task_duration_seconds", "labels": ["agent"], "rows": [["a", 1], ["b", COUNTED]]},
    {"name": "own_seconds", "type": "histogram", "labels": ["agent"], "rows": [["a", COUNTED], ["b", 1]]},
    {"name": "own_size", "type": "gauge", "labels": ["of"], "rows": [["a", 1], ["b", 1]]},
    {"name": "own_wait_seconds", "type": "summary", "labels": ["agent"], "rows": [["a", 1], ["b", [1, 2]]]},
    {"name": "own_files", "type": "gauge", "op": "add", "labels": ["agent"], "rows": [["a", 1], ["b", 1]]},
]

halves = st.integers(-3, 12) | st.integers(-6, 40).map(lambda number: number / 2)
"""Their sums are exact, in whatever order rows are folded."""
numbers = halves | st.sampled_from([-0.0, float("inf"), float("-inf"), float("nan")])
extremes = st.floats() | st.sampled_from([0.1, 2**63, 2**64 - 1, -(2**63), LARGEST, -LARGEST, 1e308, 5e-324])
odd = st.sampled_from([None, True, "1", "", {}, {"a": 1}, {"buckets": {}, "sum": 1}, {"buckets": COUNTED["buckets"]}])
counts = st.integers(0, 5) | st.sampled_from([-1, 2.0, 2.5, True, None, "1", 2**63])
bounds = st.sampled_from([BOUNDS, BOUNDS, BOUNDS[::-1], BOUNDS[:-1], [*BOUNDS[:3], "1.5", *BOUNDS[3:]], ["1", "x"]])
buckets = st.builds(
    lambda texts, drawn, total: {"buckets": dict(zip(texts, drawn, strict=False)), "sum": total},
    bounds,
    st.lists(counts, min_size=8, max_size=8),
    numbers | odd,
)
plain_buckets = st.builds(
    lambda drawn, total: {"buckets": dict(zip(BOUNDS, drawn, strict=True)), "sum": total},
    st.lists(st.integers(0, 5), min_size=7, max_size=7),
    halves,
)
cells = (
    numbers
    | numbers
    | odd
    | buckets
    | plain_buckets
    | st.lists(numbers | odd, max_size=10)
    | st.lists(numbers, max_size=4)
)
labels = st.sampled_from(["a", "a", "b", "c", "", 1, True, None, ["a"]])
stated = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["counter", "gauge", "histogram", "summary", "", None, ["gauge"]]),
        "ts": st.sampled_from(
            [NOW - 5, NOW - 5, int(NOW) - 7, NOW + 50, 0, -1, "", None, True, "2025-11-22T07:00:00Z"]
        ),
        "op": st.sampled_from(["set", "add", None, ""]),
        "more": st.just(1),
    },
)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a table of a known metric, mostly as the SDK has it, and sometimes as nobody should."""
    known = draw(st.sampled_from(KNOWN))
    width = len(known["labels"]) + draw(st.sampled_from([0, 0, 0, 0, 0, 1, -1]))
    rows: list[Any] = [[*(draw(labels) for _ in range(width)), draw(cells)] for _ in range(draw(st.integers(0, 5)))]
    if draw(st.integers(0, 9)) == 0:
        rows.append(draw(st.sampled_from([None, [], {}, "row", 3, ["a"]])))
    names = draw(st.sampled_from([known["labels"], known["labels"], known["labels"][::-1], None, ["other"]]))
    members = {"name": known["name"], "labels": names, "rows": rows, **draw(stated)}
    if draw(st.booleans()) and "type" in known:
        members["type"] = known["type"]
    return members


def state(shard: Shard) -> tuple[Any, ...]:
    """Return the changes of a shard's open batch, and its counts."""
    fold = shard.fold
    columns = [
        (sorted(column.increments.items()), sorted(column.shares.dump(whole=False)), column.times, column.unwritten)
        for column in fold._columns.values()
    ]
    return repr(columns), dict(+fold._folded), dict(fold.rejected.counts), dict(fold._left_out)


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
