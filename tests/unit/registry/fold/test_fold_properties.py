"""The fold's result depends on what was published alone: not on batches, order or restarts; a plain model agrees."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import accumulate
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busmon.wire.floats import go_float
from tests.unit.registry.registries import NOW, Registry, Series, fresh_directory, parsed, series, without_own

BOUNDS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)

labelvalues = st.sampled_from(["a", "b", "c\n"])
whole = st.integers(0, 2**40)
signed = st.integers(-(2**40), 2**40)
increments = st.integers(0, 10**6) | st.floats(0, 1e6)
readings = st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6)
times = st.floats(1.0, NOW) | st.just(5.0)
sources = st.sampled_from(["s-1", "s-2", "s-3"])


class Published(NamedTuple):
    """A sample and the source that publishes it."""

    source: str
    sample: dict[str, Any]


def counters(values: st.SearchStrategy[float]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda agent, status, value, swapped: {
            "name": "tasks_processed_total",
            "labels": {"status": status, "agent": agent} if swapped else {"agent": agent, "status": status},
            "value": value,
        },
        labelvalues,
        labelvalues,
        values,
        st.booleans(),
    )


def gauges(name: str, label: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda labelvalue, value, ts: {"name": name, "labels": {label: labelvalue}, "value": value, "ts": ts},
        labelvalues,
        readings,
        times,
    )


def observed(values: st.SearchStrategy[float]) -> st.SearchStrategy[dict[str, Any]]:
    one = st.fixed_dictionaries({"value": values})
    many = st.fixed_dictionaries({"values": st.lists(values, max_size=12)})
    return st.builds(
        lambda name, labelvalue, measured: (
            (
                {"name": "task_duration_seconds", "labels": {"agent": labelvalue}}
                if name
                else {"name": "sizes", "type": "summary"}
            )
            | measured
        ),
        st.booleans(),
        labelvalues,
        one | many,
    )


def accumulating(values: st.SearchStrategy[float]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda value: {"name": "open_files", "type": "gauge", "op": "add", "value": value}, values)


set_gauges = (
    gauges("queue_size", "queue")
    | gauges("active_agents", "type")
    | gauges("service_up", "service")
    | gauges("memory_usage_bytes", "process")
    | gauges("batch_job_last_success_timestamp_seconds", "job_name")
)


def published(samples: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[list[Published]]:
    return st.lists(st.builds(Published, sources, samples), max_size=30)


integers = published(counters(whole) | observed(signed) | accumulating(signed))
anything = published(counters(increments) | observed(readings) | accumulating(readings) | set_gauges)
cuts = st.lists(st.sampled_from(["envelope", "commit", "restart", "rollback"]), min_size=1, max_size=8)


def folded(samples: Sequence[Published], cut: Sequence[str] = ("envelope",), shards: int = 1) -> dict[Series, float]:
    """The scrape after these samples, one envelope each; after each one happens what `cut` says, in turn."""
    with fresh_directory() as directory:
        for shard in range(shards):
            mine = [publish for publish in samples if hash_of(publish.source) % shards == shard]
            registry, since = Registry(directory, shard), []
            for number, publish in enumerate(mine):
                registry.fold(publish.sample, source=publish.source)
                since.append(publish)
                match cut[number % len(cut)]:
                    case "commit":
                        registry.commit()
                        since = []
                    case "restart":
                        registry.commit()
                        registry.shard.close()
                        registry, since = Registry(directory, shard), []
                    case "rollback":  # the channel was lost: what isn't committed comes again
                        registry.shard.rollback()
                        for again in since:
                            registry.fold(again.sample, source=again.source)
            registry.commit()
            registry.shard.close()
        with Registry(directory) as registry:
            return without_own(parsed(registry.text()))


def hash_of(source: str) -> int:
    return int(source.rpartition("-")[2])


def model(samples: Iterable[Published]) -> dict[Series, Fraction]:
    """Sum the samples, computed exactly and without any of the product's code but its bounds' text."""
    totals: defaultdict[Series, Fraction] = defaultdict(Fraction)
    counts: dict[str, list[int]] = {}
    for _, sample in samples:
        name, labels = sample["name"], sample.get("labels", {})
        if name in {"tasks_processed_total", "open_files"}:
            totals[series(name, **labels)] += Fraction(sample["value"])
            continue
        values = sample["values"] if "values" in sample else [sample["value"]]
        totals[series(f"{name}_sum", **labels)] += sum(map(Fraction, values))
        totals[series(f"{name}_count", **labels)] += len(values)
        if name == "task_duration_seconds":
            buckets = counts.setdefault(labels["agent"], [0] * (len(BOUNDS) + 1))
            for value in values:
                buckets[bisect_left(BOUNDS, value)] += 1
    for agent, buckets in counts.items():
        for bound, count in zip((*BOUNDS, float("inf")), accumulate(buckets), strict=True):
            totals[series("task_duration_seconds_bucket", agent=agent, le=go_float(bound))] = Fraction(count)
    return totals


def approximately(samples: dict[Series, float]) -> Any:
    """Equal to within a billionth, of 1e6 where larger numbers cancel out."""
    return pytest.approx(samples, rel=1e-9, abs=1e6 * 1e-9)


@settings(max_examples=50, deadline=None)
@given(integers)
def test_integers_are_exact(samples: list[Published]) -> None:
    assert folded(samples) == model(samples)


@settings(max_examples=40, deadline=None)
@given(published(counters(increments) | observed(readings)))
def test_floats_are_right_to_a_billionth(samples: list[Published]) -> None:
    assert folded(samples) == approximately({key: float(value) for key, value in model(samples).items()})


@settings(max_examples=50, deadline=None)
@given(anything, cuts)
def test_the_result_is_the_same_however_envelopes_are_cut_into_batches(
    samples: list[Published], cut: list[str]
) -> None:
    assert folded(samples, cut) == approximately(folded(samples))


@settings(max_examples=40, deadline=None)
@given(anything.flatmap(lambda samples: st.tuples(st.just(samples), st.permutations(samples))))
def test_the_order_is_of_no_matter_where_samples_say_their_time(both: tuple[list[Published], list[Published]]) -> None:
    samples, shuffled = both
    assert folded(shuffled) == approximately(folded(samples))


@settings(max_examples=40, deadline=None)
@given(published(counters(increments) | observed(readings) | set_gauges), st.integers(2, 3))
def test_shards_together_say_what_one_would(samples: list[Published], shards: int) -> None:
    """Gauges whose latest readings tie over two shards apart: no shard sees the other's."""
    tying = {"queue_size", "batch_job_last_success_timestamp_seconds"}
    latest = {(p.sample["name"], p.sample["ts"]): p for p in samples if p.sample["name"] in tying}
    samples = [p for p in samples if p.sample["name"] not in tying] + [*latest.values()]
    assert folded(samples, shards=shards) == approximately(folded(samples))


@settings(max_examples=40, deadline=None)
@given(anything)
def test_tables_and_samples_are_the_same(samples: list[Published]) -> None:
    with fresh_directory() as directory, Registry(directory) as registry:
        for source, sample in samples:
            registry.fold(tables=[table(sample)], source=source)
        registry.commit()
        assert without_own(parsed(registry.text())) == approximately(folded(samples))


def table(sample: dict[str, Any]) -> dict[str, Any]:
    labels = sample.get("labels", {})
    stated = {key: sample[key] for key in ("name", "type", "op", "ts") if key in sample}
    value = sample["values"] if "values" in sample else sample["value"]
    return stated | {"labels": [*labels], "rows": [[*labels.values(), value]]}


LARGEST = 1.7976931348623157e308


@pytest.mark.parametrize("value", [LARGEST, -LARGEST])
@pytest.mark.parametrize(
    "sample",
    [
        {"name": "active_tasks_count"},
        {"name": "open_files", "type": "gauge", "op": "add"},
        {"name": "request_size_bytes"},
        {"name": "session_duration_seconds"},
    ],
    ids=lambda sample: sample["name"],
)
def test_sums_beyond_the_largest_float_stay_there(sample: dict[str, Any], value: float) -> None:
    with fresh_directory() as directory:
        for _ in range(2):
            with Registry(directory) as registry:
                for source in ("s-1", "s-2", "s-3"):
                    registry.fold(sample | {"value": value}, source=source)
                registry.commit()
                assert value in parsed(registry.text()).values()


def test_a_counter_beyond_the_largest_float_stays_there() -> None:
    votes = {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": LARGEST}
    with fresh_directory() as directory, Registry(directory) as registry:
        for _ in range(2):
            registry.fold(votes, votes)
            registry.commit()
        assert parsed(registry.text()) == {series("votes_cast_total", type="upvote"): LARGEST}
