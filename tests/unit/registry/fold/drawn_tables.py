"""Tables of known metrics, mostly as the SDK has them, and sometimes as nobody should; and what a fold made of them."""

from typing import Any

from hypothesis import strategies as st

from busmon.registry.shard.shard import Shard
from busmon.wire.floats import LARGEST
from tests.unit.registry.registries import NOW

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
    """Draw one."""
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
