"""Samples that a person wrote are judged here as the fold will judge them."""

import tempfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busmon.catalogue import Catalogue
from busmon.publish.samples import SampleChecks, SampleError
from busmon.registry.admission.families import Families
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.shard.shard import Shard
from busmon.wire.json_v1 import decode

CATALOGUE = Catalogue.load()
BOUNDS = {"0.1": 1, "0.5": 0, "1": 2, "2": 0, "5": 0, "10": 0, "+Inf": 1}

names: st.SearchStrategy[Any] = st.sampled_from(
    [
        "tasks_processed_total",
        "queue_size",
        "task_duration_seconds",
        "request_size_bytes",
        "hits_total",
        "busmon_batches_total",
        "busmon_x",
        "tasks_processed_created",
        "no-name",
        "",
        7,
        None,
        "x" * 201,
    ]
)
types: st.SearchStrategy[Any] = st.sampled_from([None, "", "counter", "gauge", "histogram", "summary", "info", 7, []])
lifetimes: st.SearchStrategy[Any] = st.sampled_from([None, None, True, True, False, 1, 0, "true", []])
ops: st.SearchStrategy[Any] = st.sampled_from([None, None, "", "set", "add", "sub", [], 1])
labels: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        {},
        {"agent": "a"},
        {"agent": "a", "status": "ok"},
        {"status": "", "agent": "a"},
        {"queue": "q"},
        {"queue": 1},
        {"queue": 2.0},
        {"queue": False},
        {"queue": {}},
        {"queue": "q" * 1025},
        {"queue": "q" * 257},
        {"le": "1"},
        {"__x": "1"},
        {"job": "j"},
        {"two words": "x"},
        {"agent": None},
        [],
        ["queue"],
        "queue",
        {f"l{number}": "" for number in range(33)},
    ]
)
numbers: st.SearchStrategy[Any] = st.sampled_from([0, 1, -1, 2.5, -0.0, 1e308, True, None, "1", [], {}])
values: st.SearchStrategy[Any] = st.sampled_from([None, [], [1, 2.5], [-1], [True], ["1"], [1e308, 1e308], 1, {}])
buckets: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        {},
        BOUNDS,
        BOUNDS | {"3": 1},
        {"1": 1, "+Inf": 0},
        BOUNDS | {"5": -1},
        BOUNDS | {"5": 1.5},
        BOUNDS | {"5": 1.0},
        BOUNDS | {"5": 1e300},
        {"+Inf": 2.0},
        {str(number): 1 for number in range(65)},
        BOUNDS | {"5": True},
        BOUNDS | {"five": 1},
        BOUNDS | {"nan": 1},
        BOUNDS | {"-Inf": 1},
        BOUNDS | {"5.0": 1},
        [],
    ]
)
times: st.SearchStrategy[Any] = st.sampled_from(
    [None, None, None, 1.5, 0, "", "2025-11-22t07:00:00z", "0001-01-01T00:00:00Z", -1, True, "now", "2025-11-22T07:00"]
)
traces: st.SearchStrategy[Any] = st.sampled_from([None, None, "", "4bf92f3577b34da6", "t" * 121, 7, []])
samples: st.SearchStrategy[Any] = st.one_of(
    st.builds(
        dict,
        name=names,
        type=types,
        op=ops,
        labels=labels,
        value=numbers,
        values=st.one_of(st.none(), values),
        buckets=st.one_of(st.none(), buckets),
        sum=numbers,
        ts=times,
        trace_id=traces,
    ),
    st.builds(dict, name=names, type=types, op=ops, value=numbers, outlives_source=lifetimes),
    st.builds(
        dict,
        name=st.sampled_from(["batch_job_last_success_timestamp_seconds", "queue_size"]),
        labels=st.sampled_from([{"job_name": "j"}, {"queue": "q"}]),
        value=numbers,
        outlives_source=lifetimes,
    ),
    st.builds(dict, name=st.just("queue_size"), labels=st.just({"queue": "q"}), value=numbers, ts=times, op=ops),
    st.builds(dict, name=st.just("request_size_bytes"), value=numbers, values=values),
    st.builds(
        dict, name=st.just("task_duration_seconds"), labels=st.just({"agent": "a"}), buckets=buckets, sum=numbers
    ),
    st.builds(dict, name=st.just("x"), type=types, labels=labels, value=numbers, op=ops),
    st.builds(dict, name=st.just("x"), type=st.just("histogram"), buckets=buckets, sum=numbers),
    st.sampled_from([[], 7, "x", None]),
)


def refused_by_the_publisher(sample: Any) -> bool:
    try:
        SampleChecks(CATALOGUE).check(orjson.loads(orjson.dumps(sample)))
    except SampleError:
        return True
    return False


def refused_by_the_fold(sample: Any) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        shard = Shard.open(Path(directory), 0, Families(Path(directory), CATALOGUE, 100))
        body = orjson.dumps({"v": 1, "source": "s", "samples": [sample]})
        shard.fold.envelope(decode(body, None, None, 1 << 20), now=1000.0)
        shard.commit(1000.0)
        shard.close()
        return Exposition(Path(directory)).collect().value("busmon_samples_rejected_total") > 0


HISTOGRAM = {"name": "task_duration_seconds", "labels": {"agent": "a"}, "sum": 1.5}
UNKNOWN = {"name": "x", "type": "histogram", "sum": 1.5}


@pytest.mark.parametrize(
    ("sample", "is_refused"),
    [
        ({**HISTOGRAM, "buckets": BOUNDS}, False),
        ({**HISTOGRAM, "buckets": {bound: float(count) for bound, count in BOUNDS.items()}}, False),
        ({**HISTOGRAM, "buckets": BOUNDS | {"5": 1.5}}, True),
        ({**HISTOGRAM, "buckets": BOUNDS | {"5": True}}, True),
        ({**HISTOGRAM, "buckets": BOUNDS | {"5": "1"}}, True),
        ({**HISTOGRAM, "buckets": {"0.1": 1, "+Inf": 1}}, True),
        ({**UNKNOWN, "buckets": {"+Inf": 2.0}}, False),
        ({**UNKNOWN, "buckets": {"1": 1.0, "Inf": 0}}, False),
        ({**UNKNOWN, "buckets": {str(bound): 1 for bound in range(64)}}, False),
        ({**UNKNOWN, "buckets": {str(bound): 1 for bound in range(65)}}, True),
        ({"name": "x", "type": "gauge", "labels": {"q": "q" * 256}, "value": 1}, False),
        ({"name": "x", "type": "gauge", "labels": {"q": "q" * 257}, "value": 1}, True),
        ({"name": "queue_size", "labels": {"queue": "q" * 1024}, "value": 1}, False),
        ({"name": "queue_size", "labels": {"queue": "q"}, "value": 1, "trace_id": "t" * 121}, True),
        ({"name": "queue_size", "labels": {"queue": "q"}, "value": 1, "ts": 1763794800.0}, False),
    ],
)
def test_a_publisher_and_the_fold_agree(sample: Any, is_refused: bool) -> None:  # noqa: FBT001
    assert refused_by_the_publisher(sample) == is_refused
    assert refused_by_the_fold(sample) == is_refused


@settings(max_examples=200, deadline=None)
@given(samples)
def test_what_the_fold_would_refuse_is_refused_and_nothing_else(sample: Any) -> None:
    assert refused_by_the_publisher(sample) == refused_by_the_fold(sample)


@pytest.mark.parametrize(
    ("sample", "complaint"),
    [
        ({"name": "queue_siz", "value": 1}, "did you mean 'queue_size'"),
        ({"name": "hits", "value": 1}, "give its type: counter, "),
        ({"name": "queue_size", "value": 1}, r"its labels are \[queue\]"),
        ({"name": "queue_size", "labels": {"queue": None}, "value": 1}, "a text of at most 1024 characters"),
        ({"name": "x", "type": "gauge", "labels": {"q": "q" * 257}, "value": 1}, "at most 256 characters"),
        ({"name": "queue_size", "labels": {"queue": "q"}, "value": 1, "trace_id": 7}, "'trace_id' is a text"),
        ({"name": "task_duration_seconds", "labels": {"agent": "a"}, "buckets": {"1": 1}, "sum": 1}, "a bound of the"),
        ({"name": "queue_size", "type": "counter", "labels": {"queue": "q"}, "value": 1}, "has it as a gauge"),
        ({"name": "queue_size", "labels": {"queue": "q"}, "value": True}, "a gauge takes a finite number"),
        ({"name": "queue_size", "labels": {"queue": "q"}, "value": 1, "op": "add"}, "'op' is 'set'"),
        (
            {"name": "queue_size", "labels": {"queue": "q"}, "value": 1, "outlives_source": True},
            "by the catalogue it doesn't outlive its source",
        ),
        ({"name": "x", "type": "gauge", "value": 1, "outlives_source": 1}, "'outlives_source' is true or false"),
        ({"name": "x", "type": "gauge", "value": 1, "op": "add", "outlives_source": True}, "is added to"),
        ({"name": "x", "type": "counter", "value": 1, "outlives_source": True}, "only a gauge that is set outlives"),
        ({"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": -1}, "at least 0"),
        ({"name": "request_size_bytes", "value": 1, "values": [1]}, "or a list"),
        ({"name": "queue_size", "labels": {"queue": "q"}, "value": 1, "ts": "now"}, "'ts' is seconds"),
    ],
)
def test_a_refusal_says_why(sample: Any, complaint: str) -> None:
    with pytest.raises(SampleError, match=complaint):
        SampleChecks(CATALOGUE).check(sample)
