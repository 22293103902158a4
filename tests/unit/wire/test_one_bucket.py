"""A histogram that states no bounds is a family of its own with the one bucket +Inf, in every format that has one."""

from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

import orjson
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, MetricsData
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View

from busmon.wire import json_v1, otlp
from busmon.wire.arrival import Arrival
from tests.unit.registry.registries import NOW, Registry, parsed, series

from .producers import Sdk


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path) as opened:
        yield opened


def take_json(registry: Registry, **members: Any) -> None:
    body = orjson.dumps({"v": 1, "source": "s", "samples": [{"name": "waits", "type": "histogram", **members}]})
    registry.shard.fold.envelope(json_v1.decode(body, None, None, 1 << 20), NOW)
    registry.commit()


def take_otlp(registry: Registry, counted: HistogramDataPoint, *, second: int = 1) -> None:
    data = MetricsData()
    metric = data.resource_metrics.add().scope_metrics.add().metrics.add(name="waits")
    metric.histogram.aggregation_temporality = 2  # type: ignore[assignment]
    point = metric.histogram.data_points.add()
    point.CopyFrom(counted)
    point.start_time_unix_nano, point.time_unix_nano = int(NOW * 1e9), int((NOW + second) * 1e9)
    registry.shard.fold.envelope(otlp.decode(Arrival(data.SerializeToString(), None, None, 1 << 20)), NOW + 60)
    registry.commit()


def scraped(registry: Registry) -> dict[str, float]:
    """The samples of the family `waits`."""
    found = parsed(registry.text(""))
    names = {"+Inf": "waits_bucket", "sum": "waits_sum", "count": "waits_count"}
    lines = [line for line in registry.text("").splitlines() if line.startswith("waits_bucket")]
    assert [line.partition("}")[0] for line in lines] == ['waits_bucket{le="+Inf"'] * len(lines)
    return {
        part: found[series(name, **({"le": "+Inf"} if part == "+Inf" else {}))]
        for part, name in names.items()
        if series(name, **({"le": "+Inf"} if part == "+Inf" else {})) in found
    }


def test_of_busmons_own_json(registry: Registry) -> None:
    take_json(registry, buckets={"+Inf": 3}, sum=4.5)
    take_json(registry, buckets={"0.1": 1, "+Inf": 1}, sum=0.5)
    assert scraped(registry) == {"+Inf": 5, "sum": 5, "count": 5}
    assert registry.rejected() == {}


def test_single_values_keep_the_default_bounds(registry: Registry) -> None:
    take_json(registry, value=3)
    assert parsed(registry.text(""))[series("waits_bucket", le="5.0")] == 1


@pytest.mark.parametrize(
    "counted",
    [
        HistogramDataPoint(count=3, sum=4.5, bucket_counts=[3]),
        HistogramDataPoint(count=3, sum=4.5),
        HistogramDataPoint(count=3, sum=4.5, explicit_bounds=[inf], bucket_counts=[3, 0]),
        HistogramDataPoint(count=3, sum=4.5, explicit_bounds=[inf], bucket_counts=[3]),
    ],
    ids=["none", "no counts", "an infinite one", "only an infinite one"],
)
def test_of_otlp(counted: HistogramDataPoint, registry: Registry) -> None:
    take_otlp(registry, counted)
    more = HistogramDataPoint(count=counted.count + 2, sum=6)
    take_otlp(registry, more, second=2)
    assert scraped(registry) == {"+Inf": 5, "sum": 6, "count": 5}
    assert registry.rejected() == {}


def test_an_infinite_bound_of_otlp_is_the_last_bucket(registry: Registry) -> None:
    take_otlp(registry, HistogramDataPoint(count=6, sum=9, explicit_bounds=[1, inf], bucket_counts=[2, 3, 1]))
    found = parsed(registry.text(""))
    assert found[series("waits_bucket", le="1.0")] == 2
    assert found[series("waits_bucket", le="+Inf")] == 6


def test_of_opentelemetrys_own_sdk(registry: Registry) -> None:
    sdk = Sdk(views=[View(instrument_name="waits", aggregation=ExplicitBucketHistogramAggregation([]))])
    waits = sdk.meter.create_histogram("waits")
    for count in (1, 2):
        waits.record(7.0)
        registry.shard.fold.envelope(otlp.decode(Arrival(sdk.export(), None, None, 1 << 20)), 1e10)
        registry.commit()
        assert parsed(registry.text(""))[series("waits_bucket", agent="checkout", le="+Inf")] == count
    assert registry.rejected() == {}


def test_it_is_whole_after_a_restart_and_keeps_other_bounds_out(tmp_path: Path) -> None:
    for restart in range(2):
        with Registry(tmp_path) as registry:
            take_json(registry, buckets={"+Inf": 1}, sum=2)
            assert scraped(registry) == {"+Inf": restart + 1, "sum": 2 * (restart + 1), "count": restart + 1}


def test_a_family_with_bounds_takes_no_histogram_without(registry: Registry) -> None:
    take_json(registry, value=3)
    take_json(registry, buckets={"+Inf": 1}, sum=2)
    take_otlp(registry, HistogramDataPoint(count=3, sum=4.5))
    assert registry.rejected() == {"bucket_mismatch": 2}
