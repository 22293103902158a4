"""Body in, scrape text out: what one commit makes of each form of sample."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.unit.registry.registries import NOW, Registry


class Case(NamedTuple):
    name: str
    samples: list[dict[str, Any]]
    text: str


VOTES = {"name": "votes_cast_total", "labels": {"type": "upvote"}}
TASKS = {"name": "tasks_processed_total", "labels": {"agent": "a", "status": "success"}}
QUEUE = {"name": "queue_size", "labels": {"queue": "q"}}
WAITS = {"name": "task_duration_seconds", "labels": {"agent": "a"}}
SIZES = {"name": "request_size_bytes"}
OPEN_FILES = {"name": "open_files", "type": "gauge", "op": "add"}
BUCKETS = {"0.1": 1, "0.5": 0, "1": 2, "2": 0, "5": 0, "10": 0}
WAITS_TEXT = """\
task_duration_seconds_sum{agent="a"} 13.8125
task_duration_seconds_bucket{agent="a",le="0.1"} 1.0
task_duration_seconds_bucket{agent="a",le="0.5"} 1.0
task_duration_seconds_bucket{agent="a",le="1.0"} 3.0
task_duration_seconds_bucket{agent="a",le="2.0"} 3.0
task_duration_seconds_bucket{agent="a",le="5.0"} 3.0
task_duration_seconds_bucket{agent="a",le="10.0"} 3.0
task_duration_seconds_bucket{agent="a",le="+Inf"} 4.0
task_duration_seconds_count{agent="a"} 4.0
"""

CASES = [
    Case("a counter", [VOTES | {"value": 1}], 'votes_cast_total{type="upvote"} 1.0\n'),
    Case("increments add up", [VOTES | {"value": 2}, VOTES | {"value": 0.5}], 'votes_cast_total{type="upvote"} 2.5\n'),
    Case("an increment of 0 makes a series", [VOTES | {"value": 0}], 'votes_cast_total{type="upvote"} 0.0\n'),
    Case(
        "labels in any order are one series",
        [TASKS | {"value": 1}, TASKS | {"labels": {"status": "success", "agent": "a"}, "value": 1}],
        'tasks_processed_total{agent="a",status="success"} 2.0\n',
    ),
    Case("no labels", [{"name": "user_online_count", "value": 3}], "user_online_count 3.0\n"),
    Case("null labels", [{"name": "user_online_count", "labels": None, "value": 3}], "user_online_count 3.0\n"),
    Case(
        "an empty label value",
        [{"name": "votes_cast_total", "labels": {"type": ""}, "value": 1}],
        'votes_cast_total{type=""} 1.0\n',
    ),
    Case(
        "label values with every escape",
        [{"name": "queue_size", "labels": {"queue": 'a\\b"c\nd,{e}=é'}, "value": 1}],
        'queue_size{queue="a\\\\b\\"c\\nd,{e}=é"} 1.0\n',
    ),
    Case(
        "a gauge keeps its last value",
        [QUEUE | {"value": 41, "ts": 1.0}, QUEUE | {"value": -42, "ts": 2.0}],
        'queue_size{queue="q"} -42.0\n',
    ),
    Case(
        "a gauge's event time decides, not its place",
        [
            QUEUE | {"value": 1, "ts": 2.0},
            QUEUE | {"value": 9, "ts": 1.0},
        ],
        'queue_size{queue="q"} 1.0\n',
    ),
    Case(
        "of two at one time the larger counts",
        [
            QUEUE | {"value": 9, "ts": 1.0},
            QUEUE | {"value": 1, "ts": 1.0},
        ],
        'queue_size{queue="q"} 9.0\n',
    ),
    Case(
        "the future is now",
        [
            QUEUE | {"value": 1, "ts": NOW + 1e6},
            QUEUE | {"value": 2},
        ],
        'queue_size{queue="q"} 2.0\n',
    ),
    Case("a gauge that accumulates", [OPEN_FILES | {"value": 5}, OPEN_FILES | {"value": -7}], "open_files -2.0\n"),
    Case("observations", [WAITS | {"value": 0.0625}, WAITS | {"values": [0.75, 1]}, WAITS | {"value": 12}], WAITS_TEXT),
    Case("a bucketed histogram", [WAITS | {"buckets": BUCKETS | {"+Inf": 1}, "sum": 13.8125}], WAITS_TEXT),
    Case(
        "whole counts written as floats",
        [WAITS | {"buckets": BUCKETS | {"1": 2.0, "+Inf": 1e0}, "sum": 13.8125}],
        WAITS_TEXT,
    ),
    Case(
        "bounds beyond the family's go up to its next one",
        [WAITS | {"buckets": {**BUCKETS, "0.05": 1, "0.1": 0, "0.7": 2, "1": 0, "1e2": 1, "+Inf": 0}, "sum": 13.8125}],
        WAITS_TEXT,
    ),
    Case(
        "no observation makes a series",
        [SIZES | {"values": []}],
        "request_size_bytes_count 0.0\nrequest_size_bytes_sum 0.0\n",
    ),
    Case(
        "a summary",
        [SIZES | {"values": [512, 0.5]}, SIZES | {"value": 1}],
        "request_size_bytes_count 3.0\nrequest_size_bytes_sum 513.5\n",
    ),
    Case(
        "labels that a scrape sets are renamed",
        [{"name": "cores", "type": "gauge", "labels": {"job": "j", "instance": "i"}, "value": 1}],
        'cores{exported_instance="i",exported_job="j"} 1.0\n',
    ),
    Case("an unknown counter gets its suffix", [{"name": "hits", "type": "counter", "value": 2}], "hits_total 2.0\n"),
    Case(
        "an unknown histogram has the bounds that its first sample has",
        [{"name": "waits", "type": "histogram", "buckets": {"2": 1, "1": 0, "+Inf": 1}, "sum": 5}],
        'waits_sum 5.0\nwaits_bucket{le="1.0"} 0.0\nwaits_bucket{le="2.0"} 1.0\nwaits_bucket{le="+Inf"} 2.0\n'
        "waits_count 2.0\n",
    ),
    Case(
        "an unknown member is of no matter",
        [{"name": "nodes", "type": "gauge", "value": 1, "rows": [], "unit": "nodes"}],
        "nodes 1.0\n",
    ),
    Case(
        "whole numbers beyond 64 bits",
        [{"name": "large_gauge", "type": "gauge", "value": 2**64 - 1}],
        "large_gauge 1.8446744073709552e+19\n",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_samples_become_this_text(case: Case, tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(*case.samples)
        registry.commit()
        assert registry.text() == case.text
        assert registry.rejected() == {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_restart_changes_no_text(case: Case, tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(*case.samples)
        registry.commit()
    with Registry(tmp_path) as registry:
        assert registry.text() == case.text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_tables_say_the_same_as_samples(case: Case, tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(tables=[as_table(sample) for sample in case.samples])
        registry.commit()
        assert registry.text() == case.text
        assert registry.rejected() == {}


def test_rows_of_one_table_are_samples_each(tmp_path: Path) -> None:
    rows = [["a", "success", 1], ["b", "success", 2], ["a", "success", 3]]
    with Registry(tmp_path) as registry:
        for _ in range(2):  # once for series that are new, once for known ones
            registry.fold(tables=[{"name": "tasks_processed_total", "labels": ["agent", "status"], "rows": rows}])
            registry.commit()
            rows = [["b", "success", 1]]
        assert registry.text() == (
            'tasks_processed_total{agent="a",status="success"} 4.0\n'
            'tasks_processed_total{agent="b",status="success"} 3.0\n'
        )


def test_rows_in_another_order_of_labels_are_the_same_series(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(
            tables=[{"name": "tasks_processed_total", "labels": ["agent", "status"], "rows": [["a", "b", 1]]}]
        )
        registry.fold(
            tables=[{"name": "tasks_processed_total", "labels": ["status", "agent"], "rows": [["b", "a", 2]]}]
        )
        registry.commit()
        assert registry.text() == 'tasks_processed_total{agent="a",status="b"} 3.0\n'


def test_tables_of_one_name_and_other_orders_of_labels_are_told_apart_each_time(tmp_path: Path) -> None:
    def table(labels: list[str], *row: object) -> dict[str, object]:
        return {"name": "messages_published_total", "labels": labels, "rows": [[*row]]}

    usual, other = ["exchange", "routing_key"], ["routing_key", "exchange"]
    with Registry(tmp_path) as registry:
        for each in (table(usual, "e", "k", 1), table(usual, "k", "e", 1), table(other, "k", "e", 1)):
            registry.fold(tables=[each])
        registry.commit()
        assert registry.text("messages_published_total").splitlines() == [
            'messages_published_total{exchange="e",routing_key="k"} 2.0',
            'messages_published_total{exchange="k",routing_key="e"} 1.0',
        ]


def test_an_envelopes_time_is_its_samples_unless_they_say_their_own(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(QUEUE | {"value": 1}, ts=NOW - 10)
        registry.fold(QUEUE | {"value": 2}, ts=NOW - 20)
        registry.fold(QUEUE | {"value": 3, "ts": NOW - 15}, ts=NOW - 1)
        registry.commit()
        assert registry.text() == 'queue_size{queue="q"} 1.0\n'
        registry.fold(QUEUE | {"value": 4}, ts=NOW + 1e9)
        registry.fold(QUEUE | {"value": 5}, now=NOW + 1)
        registry.commit()
        assert registry.text() == 'queue_size{queue="q"} 5.0\n'


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("queue_size{queue", 2.0),
        ("active_agents{type", 8.0),
        ("service_up{service", 1.0),
        ("memory_usage_bytes{process", 5.0),
    ],
    ids=["latest", "sum", "min", "max"],
)
def test_a_gauges_sources_are_merged_as_the_family_says(family: str, expected: float, tmp_path: Path) -> None:
    name, _, label = family.partition("{")
    gauge = {"name": name, "labels": {label: "x"}}
    with Registry(tmp_path) as registry:
        registry.fold(gauge | {"value": 5, "ts": 3.0}, source="s-1")
        registry.fold(gauge | {"value": 9, "ts": 2.0}, source="s-2")
        registry.fold(gauge | {"value": 1, "ts": 5.0}, source="s-2")
        registry.commit()
        registry.fold(gauge | {"value": 2, "ts": 6.0}, source="s-3")
        registry.commit()
        assert registry.text() == f'{name}{{{label}="x"}} {expected}\n'


def test_what_was_folded_is_counted_by_type(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(*(sample for case in CASES for sample in case.samples))
        registry.commit()
        counted = registry.text("busmon_samples_folded_total")
    by_type = {line.split('"')[1]: float(line.split()[-1]) for line in counted.splitlines()}
    assert sum(by_type.values()) == sum(len(case.samples) for case in CASES)
    assert by_type["summary"] == 3


def as_table(sample: dict[str, Any]) -> dict[str, Any]:
    """The sample as a table of one row."""
    labels = sample.get("labels") or {}
    stated = {key: sample[key] for key in ("name", "type", "op", "ts") if key in sample}
    value = next((sample[key] for key in ("value", "values") if key in sample), None)
    if value is None:
        value = {"buckets": sample["buckets"], "sum": sample["sum"]}
    return stated | {"labels": [*labels], "rows": [[*labels.values(), value]]}
