"""A bad sample is counted by reason and agent, leaves no trace, and never costs its neighbours."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from busmon.registry.scrape.exposition import Exposition
from busmon.wire.json_v1 import decode
from tests.unit.registry.registries import MAX_BYTES, NOW, Registry


class Bad(NamedTuple):
    name: str
    reason: str
    sample: Any


NEIGHBOUR = {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1}
QUEUE = {"name": "queue_size", "labels": {"queue": "q"}, "value": 1}
WAITS = {"name": "task_duration_seconds", "labels": {"agent": "a"}}
BUCKETS = {"0.1": 1, "0.5": 0, "1": 2, "2": 0, "5": 0, "10": 0, "+Inf": 0}


def unknown(type_: str = "gauge", **members: Any) -> dict[str, Any]:
    return {"name": "nodes", "type": type_, "value": 1} | members


SAMPLES = [
    Bad("a number", "invalid_sample", 7),
    Bad("a list", "invalid_sample", [QUEUE]),
    Bad("null", "invalid_sample", None),
    Bad("an object for a name", "invalid_sample", QUEUE | {"name": {"a": 1}}),
    Bad("a list for a type", "invalid_sample", QUEUE | {"type": ["gauge"]}),
    Bad("no name", "invalid_name", {"value": 1}),
    Bad("a number for a name", "invalid_name", QUEUE | {"name": 7}),
    Bad("an unknown name without a type", "unknown_metric", {"name": "nodes", "value": 1}),
    Bad("an unknown name that is none", "invalid_name", unknown(name="a b")),
    Bad("a counter's name that is only its suffix", "invalid_name", unknown("counter", name="_total")),
    Bad("a name as long as a body", "invalid_name", unknown(name="n" * 201)),
    Bad(
        "busmon's own family", "reserved_name", {"name": "busmon_batches_total", "labels": {"trigger": "x"}, "value": 1}
    ),
    Bad("a reserved name", "reserved_name", unknown(name="up")),
    Bad("a reserved prefix", "reserved_name", unknown(name="scrape_nodes")),
    Bad("a histogram's count", "name_clash", unknown(name="task_duration_seconds_count")),
    Bad("a counter without its suffix", "name_clash", unknown("counter", name="votes_cast")),
    Bad("another type", "type_mismatch", QUEUE | {"type": "counter"}),
    Bad("no type that there is", "invalid_type", QUEUE | {"type": "info"}),
    Bad("no op that there is", "invalid_op", QUEUE | {"op": "max"}),
    Bad("adding to a gauge that is set", "op_mismatch", QUEUE | {"op": "add"}),
    Bad("an op on a counter", "op_mismatch", NEIGHBOUR | {"op": "add"}),
    Bad("a text for its lifetime", "invalid_outlives_source", unknown(outlives_source="true")),
    Bad("a number for its lifetime", "invalid_outlives_source", unknown(outlives_source=1)),
    Bad("an object for its lifetime", "invalid_outlives_source", QUEUE | {"outlives_source": {}}),
    Bad("outliving where the catalogue says no", "outlives_source_mismatch", QUEUE | {"outlives_source": True}),
    Bad("a counter that outlives its source", "outlives_source_mismatch", NEIGHBOUR | {"outlives_source": True}),
    Bad("an unknown one", "outlives_source_mismatch", unknown("counter", name="n_total", outlives_source=True)),
    Bad("an unknown one that is added to", "outlives_source_mismatch", unknown(op="add", outlives_source=True)),
    Bad("labels in a list", "invalid_label", QUEUE | {"labels": ["queue"]}),
    Bad("labels that are false", "invalid_label", QUEUE | {"labels": False}),
    Bad("a label too few", "label_mismatch", QUEUE | {"labels": {}}),
    Bad("a label too many", "label_mismatch", QUEUE | {"labels": {"queue": "q", "x": "y"}}),
    Bad("another label", "label_mismatch", QUEUE | {"labels": {"queues": "q"}}),
    Bad("a label value that is null", "invalid_label", QUEUE | {"labels": {"queue": None}}),
    Bad("a label value that is an infinity", "invalid_label", QUEUE | {"labels": {"queue": float("inf")}}),
    Bad("a label value that is a list", "invalid_label", QUEUE | {"labels": {"queue": ["q"]}}),
    Bad("a label value that is too long", "invalid_label", QUEUE | {"labels": {"queue": "q" * 1025}}),
    Bad("a reserved label's prefix", "invalid_label", unknown(labels={"__name__": "x"})),
    Bad("a label that isn't a name", "invalid_label", unknown(labels={"a.b": "1"})),
    Bad("two labels that become one", "invalid_label", unknown(labels={"job": "1", "exported_job": "2"})),
    Bad("more labels than are taken", "invalid_label", unknown(labels={f"l{i}": "" for i in range(33)})),
    Bad("an unknown metric's label value", "invalid_label", unknown(labels={"a": {}})),
    Bad("no value", "invalid_value", {"name": "queue_size", "labels": {"queue": "q"}}),
    Bad("value and values", "invalid_value", WAITS | {"value": 1, "values": [1]}),
    Bad("a value in text", "invalid_value", QUEUE | {"value": "1"}),
    Bad("true for a value", "invalid_value", QUEUE | {"value": True}),
    Bad("a list for a value", "invalid_value", WAITS | {"value": [1]}),
    Bad("an object for values", "invalid_value", WAITS | {"values": {"0": 1}}),
    Bad("true among values", "invalid_value", WAITS | {"values": [1, True]}),
    Bad("observations of a gauge", "invalid_value", {"name": "queue_size", "labels": {"queue": "q"}, "values": [1]}),
    Bad("buckets of a counter", "invalid_value", {**NEIGHBOUR, "value": None, "buckets": {"1": 1}, "sum": 1}),
    Bad("a negative increment", "negative_increment", NEIGHBOUR | {"value": -1}),
    Bad("values whose sum is infinite", "non_finite", WAITS | {"values": [1e308, 1e308]}),
    Bad("buckets without a sum", "invalid_value", WAITS | {"buckets": BUCKETS}),
    Bad("a sum that is true", "invalid_value", WAITS | {"buckets": BUCKETS, "sum": True}),
    Bad("buckets in a list", "invalid_value", WAITS | {"buckets": [1], "sum": 1}),
    Bad("no buckets", "invalid_value", WAITS | {"buckets": {}, "sum": 1}),
    Bad("no buckets of an unknown metric", "invalid_value", unknown("histogram", value=None, buckets={}, sum=1)),
    Bad("half an observation", "invalid_value", WAITS | {"buckets": BUCKETS | {"1": 0.5}, "sum": 1}),
    Bad("a negative count", "invalid_value", WAITS | {"buckets": BUCKETS | {"1": -1}, "sum": 1}),
    Bad("a bound that isn't a number", "invalid_value", WAITS | {"buckets": BUCKETS | {"NaN": 1}, "sum": 1}),
    Bad("a bound below all", "invalid_value", WAITS | {"buckets": BUCKETS | {"-Inf": 1}, "sum": 1}),
    Bad("a bound beyond all floats", "invalid_value", WAITS | {"buckets": BUCKETS | {"-1e999": 1}, "sum": 1}),
    Bad("a bound of Python's", "invalid_value", WAITS | {"buckets": BUCKETS | {"1_0": 1}, "sum": 1}),
    Bad("one of the family's bounds missing", "bucket_mismatch", WAITS | {"buckets": {"0.1": 1, "+Inf": 0}, "sum": 1}),
    Bad("an unknown histogram's bound", "invalid_value", unknown("histogram", value=None, buckets={"NaN": 1}, sum=1)),
    Bad("a time in text", "invalid_timestamp", QUEUE | {"ts": "now"}),
    Bad("false for a time", "invalid_timestamp", QUEUE | {"ts": False}),
    Bad("a time without an offset", "invalid_timestamp", QUEUE | {"ts": "2025-11-22T07:00:00"}),
    Bad("a day that isn't", "invalid_timestamp", QUEUE | {"ts": "2025-02-30T07:00:00Z"}),
    Bad("an unknown metric's time", "invalid_timestamp", unknown(ts=-1)),
]

TABLE = {"name": "queue_size", "labels": ["queue"], "rows": [["q", 1], ["r", 1]]}

TABLES = [
    Bad("a list", "invalid_table", [1]),
    Bad("no rows", "invalid_table", {"name": "queue_size", "labels": ["queue"]}),
    Bad("rows in an object", "invalid_table", TABLE | {"rows": {"q": 1}}),
    Bad("labels in text", "invalid_label", TABLE | {"labels": "queue"}),
    Bad("a label in a list", "invalid_sample", TABLE | {"labels": [["queue"]]}),
    Bad("a label that is a number", "invalid_label", TABLE | {"labels": [7]}),
    Bad("a label twice", "invalid_label", TABLE | {"labels": ["queue", "queue"]}),
    Bad("a time in text", "invalid_timestamp", TABLE | {"ts": "now"}),
    Bad("an unknown metric", "unknown_metric", TABLE | {"name": "nodes"}),
    Bad(
        "no good row of an unknown metric",
        "invalid_value",
        TABLE | {"name": "nodes", "type": "gauge", "rows": [["q", "1"]]},
    ),
]

ROWS = [
    Bad("a number", "invalid_row", 7),
    Bad("an object", "invalid_row", {"type": "upvote"}),
    Bad("text", "invalid_row", "x1"),
    Bad("an empty row", "invalid_row", []),
    Bad("a value alone", "label_mismatch", [1]),
    Bad("a label value too many", "label_mismatch", ["upvote", "x", 1]),
    Bad("null for a label value", "invalid_label", [None, 1]),
    Bad("a list for a label value", "invalid_label", [["upvote"], 1]),
    Bad("null for a value", "invalid_value", ["upvote", None]),
    Bad("true for a value", "invalid_value", ["upvote", True]),
    Bad("text for a value", "invalid_value", ["upvote", "1"]),
    Bad("a negative increment", "negative_increment", ["upvote", -1]),
]


def named(table: list[Bad]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bad", table, ids=lambda bad: bad.name)


@named(SAMPLES)
def test_a_bad_sample_never_costs_its_neighbours(bad: Bad, tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(NEIGHBOUR, bad.sample, NEIGHBOUR)
        registry.commit()
        assert registry.text() == 'votes_cast_total{type="upvote"} 2.0\n'
        assert registry.rejected() == {bad.reason: 1.0}


@named(SAMPLES)
def test_a_rejected_sample_freezes_no_family(bad: Bad, tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(bad.sample)
        registry.commit()
        frozen = {family.name for family in registry.families.frozen() if family.name.startswith("nodes")}
    assert frozen == set()


@named(TABLES)
def test_a_bad_table_never_costs_its_neighbours(bad: Bad, tmp_path: Path) -> None:
    good = {"name": "votes_cast_total", "labels": ["type"], "rows": [["upvote", 1]]}
    with Registry(tmp_path) as registry:
        registry.fold(NEIGHBOUR, tables=[good, bad.sample, good])
        registry.commit()
        assert registry.text() == 'votes_cast_total{type="upvote"} 3.0\n'
        rows = bad.sample.get("rows", [1]) if isinstance(bad.sample, dict) else [1]
        assert registry.rejected() == {bad.reason: float(len(rows))}


@pytest.mark.parametrize("known", [False, True], ids=["new series", "known series"])
@named(ROWS)
def test_a_bad_row_never_costs_its_neighbours(bad: Bad, known: bool, tmp_path: Path) -> None:  # noqa: FBT001
    with Registry(tmp_path) as registry:
        if known:
            registry.fold(NEIGHBOUR)
        rows = [["upvote", 1], bad.sample, ["upvote", 1]]
        registry.fold(tables=[{"name": "votes_cast_total", "labels": ["type"], "rows": rows}])
        registry.commit()
        assert registry.text() == f'votes_cast_total{{type="upvote"}} {2.0 + known}\n'
        assert registry.rejected() == {bad.reason: 1.0}


@pytest.mark.parametrize("cell", ["x", None, True, {}, {"buckets": {}}, ["x"], [True], [None]])
def test_a_bad_histograms_row_never_costs_its_neighbours(cell: Any, tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        for _ in range(2):
            registry.fold(tables=[WAITS | {"labels": ["agent"], "rows": [["a", 1], ["a", cell], ["a", [2]]]}])
        registry.commit()
        assert registry.text("task_duration_seconds_count", "task_duration_seconds_sum") == (
            'task_duration_seconds_sum{agent="a"} 6.0\ntask_duration_seconds_count{agent="a"} 4.0\n'
        )
        assert sum(registry.rejected().values()) == 2.0


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_only_the_samples_that_hold_no_number_are_lost(literal: str, tmp_path: Path) -> None:
    body = """{"v": 1, "source": "s", "samples": [
        {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1},
        {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": %s},
        {"name": "queue_size", "labels": {"queue": "q"}, "value": %s},
        {"name": "task_duration_seconds", "labels": {"agent": "a"}, "values": [1, %s]},
        {"name": "request_size_bytes", "value": %s}],
        "tables": [{"name": "votes_cast_total", "labels": ["type"], "rows": [["upvote", 1], ["upvote", %s]]}]}"""
    with Registry(tmp_path) as registry:
        opened = decode(body.replace("%s", literal).encode(), None, None, MAX_BYTES)
        registry.shard.fold.envelope(opened, NOW)
        registry.commit()
        assert registry.text() == 'votes_cast_total{type="upvote"} 2.0\n'
        assert registry.rejected() == {"non_finite": 5.0}


def test_what_is_rejected_is_counted_for_its_agent(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(7, 8, agent="planner")
        registry.fold(QUEUE | {"value": "x"}, agent="analyzer")
        registry.commit()
        by_agent = Exposition(tmp_path).collect().by_label("busmon_samples_rejected_total", "agent")
    assert by_agent == {"planner": 2.0, "analyzer": 1.0}


def test_what_is_rejected_in_a_batch_that_is_rolled_back_is_not_counted(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(7, NEIGHBOUR)
        registry.shard.rollback()
        registry.fold(NEIGHBOUR)
        registry.commit()
        assert registry.rejected() == {}
        assert registry.text() == 'votes_cast_total{type="upvote"} 1.0\n'


def test_refused_statements_take_bounded_memory(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        for number in range(50):
            registry.fold({"name": f"{number}" * 10_000, "type": "gauge", "value": 1})
            registry.fold({"name": "nodes", "type": f"{number}" * 10_000, "value": 1})
            registry.fold({"name": "nodes", "type": "gauge", "labels": {f"{number}" * 10_000: ""}, "value": 1})
        kept = sum(len(str(key)) for key in registry.shard.fold._routes._routes.entries)
    assert kept < 10_000
