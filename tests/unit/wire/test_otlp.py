"""OTLP as OpenTelemetry's own SDK exports it: what is counted, under which name, and what a repetition is."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from math import inf, isclose
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

from busmon.catalogue.catalogue import Catalogue
from busmon.errors import EnvelopeError
from busmon.wire import otlp_protobuf
from busmon.wire.arrival import MAX_PARTS, Arrival
from busmon.wire.otlp import decode
from busmon.wire.otlp_names import prometheus_name

from .folded import Folded
from .producers import Sdk, everything, of_a_host

CATALOGUE = """
[histogram.search_duration_seconds]
help = "Time to answer a search"
labels = ["agent"]
buckets = [0.1, 0.5, 1, 5]

[[mappings]]
match = "search.*.duration"
name = "search_duration_seconds"

[[mappings]]
match = "http.server.requests"
name = "api_requests_total"
labels = { endpoint = "{http.route}", method = "{http.request.method}", status = "2xx" }
"""


@pytest.fixture
def folded(tmp_path: Path) -> Iterator[Folded]:
    path = tmp_path / "catalogue.toml"
    path.write_text(CATALOGUE)
    (tmp_path / "registry").mkdir()
    opened = Folded(tmp_path / "registry", "otlp", catalogue=Catalogue.load([path]))
    yield opened
    opened.close()


def later() -> float:
    return time.time() + 60


@pytest.mark.parametrize("form", ["protobuf", "json"])
def test_every_instrument_of_the_sdk_is_counted(form: str, folded: Folded) -> None:
    sdk = Sdk()
    everything(sdk)
    body = sdk.export() if form == "protobuf" else sdk.export_json()
    folded.take(body, now=later())
    assert folded.value("tasks_total", agent="checkout", status="ok", retries="3", tags='["a","b"]') == 2
    assert folded.value("in_flight", agent="checkout") == -2
    assert folded.value("wait_seconds_bucket", agent="checkout", le="5.0") == 0
    assert folded.value("wait_seconds_bucket", agent="checkout", le="10.0") == 1
    assert folded.value("wait_seconds_sum", agent="checkout") == 7
    assert folded.value("wait_exponential_seconds_bucket", agent="checkout", le="2.5") == 0
    assert folded.value("wait_exponential_seconds_bucket", agent="checkout", le="5.0") == 1
    assert folded.value("temperature_celsius", agent="checkout") == 21.5
    assert folded.rejected() == {}


@pytest.mark.parametrize("delta", [False, True], ids=["cumulative", "delta"])
def test_totals_are_exact_over_exports_and_instances(delta: bool, folded: Folded) -> None:  # noqa: FBT001 - pytest's
    sdks = [Sdk(delta=delta, instance=instance) for instance in ("i1", "i2")]
    tasks = [sdk.meter.create_counter("tasks") for sdk in sdks]
    waits = [sdk.meter.create_histogram("wait") for sdk in sdks]
    for number in range(1, 6):
        for sdk, task, wait in zip(sdks, tasks, waits, strict=True):
            task.add(number)
            wait.record(number)
            folded.take(sdk.export(), now=later())
    assert folded.value("tasks_total", agent="checkout") == 2 * 15
    assert folded.value("wait_count", agent="checkout") == 2 * 5
    assert folded.value("wait_bucket", agent="checkout", le="5.0") == 2 * 5
    assert folded.value("wait_sum", agent="checkout") == 2 * 15


def test_a_restarted_process_counts_on_and_an_export_that_comes_late_or_twice_counts_once(folded: Folded) -> None:
    exports = []
    for _ in range(2):
        sdk = Sdk()
        tasks = sdk.meter.create_counter("tasks")
        for amount in (5, 2):
            tasks.add(amount)
            exports.append(sdk.export())
    for number in (0, 0, 1, 0, 2, 1, 3, 3, 2):
        folded.take(exports[number], now=later())
    assert folded.value("tasks_total", agent="checkout") == 14
    assert folded.rejected() == {"stale_total": 5}


def test_exponential_buckets_count_at_most_their_base_too_high(folded: Folded) -> None:
    sdk, chance = Sdk(), random.Random(7)
    waits = sdk.meter.create_histogram("search.exponential.duration", unit="s")
    values = [chance.lognormvariate(-1, 1.5) for _ in range(2000)] + [0.0]
    for at, value in enumerate(values):
        waits.record(value)
        if at % 250 == 0:
            folded.take(sdk.export(), now=later())
    folded.take(sdk.export(), now=later())
    data = MetricsData.FromString(sdk.export())
    point = data.resource_metrics[0].scope_metrics[0].metrics[0].exponential_histogram.data_points[0]
    base = 2.0 ** (2.0**-point.scale)
    for bound in (0.1, 0.5, 1, 5, inf):
        le = "+Inf" if bound == inf else f"{bound:.1f}"
        counted = folded.value("search_duration_seconds_bucket", agent="checkout", le=le)
        assert sum(value * base <= bound for value in values) <= (counted or 0) <= sum(v <= bound for v in values)
    assert isclose(folded.value("search_duration_seconds_sum", agent="checkout") or 0, sum(values))


def test_a_mapping_rule_names_family_and_labels_and_the_rest_is_added_up(folded: Folded) -> None:
    sdk = Sdk()
    requests = sdk.meter.create_counter("http.server.requests")
    for port in (1, 2):
        requests.add(2, {"http.route": "/x", "http.request.method": "GET", "server.port": port})
    folded.take(sdk.export(), now=later())
    assert folded.value("api_requests_total", endpoint="/x", method="GET", status="2xx") == 4


def test_explicit_buckets_that_miss_a_bound_of_the_family_are_rejected(folded: Folded) -> None:
    sdk = Sdk()
    sdk.meter.create_histogram("search.explicit.duration").record(0.3)
    sdk.meter.create_counter("tasks").add(1)
    folded.take(sdk.export(), now=later())
    assert folded.rejected() == {"bucket_mismatch": 1}
    assert folded.value("tasks_total", agent="checkout") == 1


def test_each_resource_of_a_collectors_batch_is_a_source_of_its_own() -> None:
    sdks = [Sdk(instance="i1"), Sdk(instance="i2")]
    batch = MetricsData()
    for sdk in sdks:
        everything(sdk)
        batch.MergeFromString(sdk.export())
    envelope = decode(Arrival(batch.SerializeToString(), None, None, 1 << 20))
    assert [part.source for part in envelope.parts] == ["checkout/i1", "checkout/i2"]
    assert envelope.agent == "checkout"


def test_a_body_is_known_by_its_bytes_where_each_point_has_its_time() -> None:
    sdk = Sdk()
    everything(sdk)
    body = sdk.export()
    timed = decode(Arrival(body, None, None, 1 << 20))
    assert timed.identity == decode(Arrival(body, None, None, 1 << 20)).identity is not None
    data = MetricsData.FromString(body)
    data.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0].time_unix_nano = 0
    assert decode(Arrival(data.SerializeToString(), None, None, 1 << 20)).identity is None


def marshalled(metric: dict[str, Any]) -> bytes:
    """One metric of a service, as the Collector's marshaller writes it: the same message, by its own schema."""
    named = {"key": "service.name", "value": {"stringValue": "checkout"}}
    resource = {"resource": {"attributes": [named]}, "scopeMetrics": [{"metrics": [{"name": "m", **metric}]}]}
    return ParseDict({"resourceMetrics": [resource]}, MetricsData()).SerializeToString()


def test_a_delta_that_may_fall_is_added_to_a_gauge(folded: Folded) -> None:
    for amount in (5, -2):
        point = {"timeUnixNano": 1, "asInt": amount}
        folded.take(marshalled({"sum": {"aggregationTemporality": 1, "dataPoints": [point]}}))
    assert folded.value("m", agent="checkout") == 3


def test_a_summary_is_counted_and_summed_up(folded: Folded) -> None:
    for count in (2, 5):
        quantile = {"quantile": 0.5, "value": 3}
        point = {"startTimeUnixNano": 1, "timeUnixNano": 1 + count, "count": count, "sum": 7.5 * count}
        folded.take(marshalled({"summary": {"dataPoints": [{**point, "quantileValues": [quantile]}]}}))
    assert folded.value("m_count", agent="checkout") == 5
    assert folded.value("m_sum", agent="checkout") == 37.5


def test_exponential_buckets_below_and_at_zero_count_where_their_upper_bounds_lie(folded: Folded) -> None:
    point = {
        "timeUnixNano": 1,
        "count": 7,
        "sum": -3.0,
        "scale": 0,
        "zeroCount": 2,
        "zeroThreshold": 0.001,
        "negative": {"offset": 0, "bucketCounts": [1, 2]},  # (-2, -1] and (-4, -2]
        "positive": {"offset": 1, "bucketCounts": [0, 2]},  # (2, 4] and (4, 8]
    }
    folded.take(marshalled({"exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [point]}}))
    counted = {le: folded.value("m_bucket", agent="checkout", le=le) for le in ("0.005", "7.5", "10.0", "+Inf")}
    assert counted == {"0.005": 5, "7.5": 5, "10.0": 7, "+Inf": 7}


@pytest.mark.parametrize("scale", [-(2**31), -21, 0, 21, 2**31 - 1])
def test_no_scale_and_no_offset_breaks_a_body(scale: int, folded: Folded) -> None:
    for offset in (-(2**31), 2**31 - 1):
        side = {"offset": offset, "bucketCounts": [1]}
        point = {"timeUnixNano": 1, "count": 2, "scale": scale, "positive": side, "negative": side}
        folded.take(marshalled({"exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [point]}}))
    assert folded.value("m_count", agent="checkout") == 4


def test_a_point_without_a_recorded_value_and_a_metric_without_points_are_nothing(folded: Folded) -> None:
    folded.take(marshalled({"gauge": {"dataPoints": [{"timeUnixNano": 1, "asInt": 5, "flags": 1}]}}))
    folded.take(marshalled({}))
    assert folded.value("m", agent="checkout") is None
    assert folded.rejected() == {}


@pytest.mark.parametrize("body", [b"\xff\xff", b"{}", b'{"resourceMetrics": 7}', b'{"resourceMetrics": []}'])
def test_what_holds_no_metrics_is_refused(body: bytes) -> None:
    with pytest.raises(EnvelopeError) as refused:
        decode(Arrival(body, None, None, 1 << 20))
    assert refused.value.reason == "invalid_otlp"


def test_without_the_extra_a_body_is_refused_in_one_line_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sdk = Sdk()
    everything(sdk)
    body = sdk.export()
    otlp_protobuf._schema.cache_clear()
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.metrics.v1.metrics_pb2", None)
    with pytest.raises(EnvelopeError, match=r"unavailable_format: .*busmon-telemetry\[otlp\]"):
        decode(Arrival(body, None, None, 1 << 20))
    otlp_protobuf._schema.cache_clear()
    assert decode(Arrival(sdk.export_json(), None, None, 1 << 20)).agent == "checkout"


def test_no_other_body_loads_the_extra() -> None:
    program = (
        "import sys; from busmon.wire import formats; from busmon.wire.arrival import Arrival;"
        "formats.DECODERS['statsd'](Arrival(b'a:1|c', None, None, 99));"
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    assert "busmon.wire.otlp" in loaded
    assert "google.protobuf" not in loaded


@pytest.mark.parametrize(
    ("name", "unit", "type_", "expected"),
    [
        ("http.server.request.duration", "s", "histogram", "http_server_request_duration_seconds"),
        ("system.memory.usage", "By", "gauge", "system_memory_usage_bytes"),
        ("system.network.io", "By", "counter", "system_network_io_bytes_total"),
        ("process.uptime.seconds", "s", "gauge", "process_uptime_seconds"),
        ("tasks_total", "{task}", "counter", "tasks_total"),
        ("cache.hits", "1", "gauge", "cache_hits_ratio"),
        ("disk.speed", "MBy/s", "gauge", "disk_speed_megabytes_per_second"),
        ("(lambda).executions(#)", "", "counter", "lambda_executions_total"),
        ("2xx", "", "counter", "_2xx_total"),
    ],
)
def test_names_are_those_of_opentelemetrys_exporters_for_prometheus(
    name: str, unit: str, type_: str, expected: str
) -> None:
    assert prometheus_name(name, unit, type_) == expected


def test_a_name_or_unit_as_long_as_a_body_is_copied_for_no_point(folded: Folded) -> None:
    for stated in ({"name": "n" * (1 << 19)}, {"name": "n", "unit": "u" * (1 << 19)}):
        metric = {**stated, "gauge": {"dataPoints": [{"asInt": "1"}] * 50}}
        document = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
        body = ParseDict(document, MetricsData()).SerializeToString()
        envelope = decode(Arrival(body, None, None, 1 << 20))
        assert all(len(point.name) + len(point.family) < 1000 for part in envelope.parts for point in part.points)
        folded.take(body)
    assert folded.rejected() == {"invalid_name": 100}


def test_a_body_has_so_many_resources_at_most() -> None:
    body = ParseDict({"resourceMetrics": [{}] * (MAX_PARTS + 1)}, MetricsData()).SerializeToString()
    with pytest.raises(EnvelopeError, match="sources"):
        decode(Arrival(body, None, None, 1 << 20))


# -- senders that the resource doesn't name ----------------------------------------------------------------------------


def named(body: bytes, **arrival: Any) -> tuple[str, bool]:
    """The source of a body, and whether another may have its name."""
    part = decode(Arrival(body, None, None, 1 << 20, **arrival)).parts[0]
    return part.source, part.is_anonymous


def test_a_sender_is_known_by_the_first_of_what_there_is() -> None:
    bare = of_a_host(1, 2, 3, 4)
    assert named(bare) == ("unknown", True)
    assert named(bare, routing_key="otlp.web-1") == ("otlp.web-1", True)
    assert named(bare, routing_key="otlp_metrics", user_id="web", app_id="host") == ("host/web/otlp_metrics", True)
    assert named(bare, routing_key="otlp_metrics", headers={"source": "web-1"}) == ("web-1", False)
    hosted = of_a_host(1, 2, 3, 4, ("host.name", "web-1"), ("process.pid", "7"))
    assert named(hosted, routing_key="otlp_metrics", headers={"source": "gateway"}) == ("web-1/7", False)
    process = of_a_host(1, 2, 3, 4, ("process.pid", "7"))
    assert named(process, routing_key="otlp.web-1") == ("otlp.web-1/7", True)
    service = ("service.name", "shop"), ("service.namespace", "eu")
    assert named(of_a_host(1, 2, 3, 4, *service), headers={"source": "web-1"}) == ("eu/shop/web-1", False)
    assert named(of_a_host(1, 2, 3, 4, *service), routing_key="k") == ("eu/shop/k", True)
    instance = of_a_host(1, 2, 3, 4, *service, ("service.instance.id", "i1"), ("host.name", "h"), ("process.pid", "7"))
    assert named(instance, routing_key="k", headers={"source": "web-1"}) == ("eu/shop/i1", False)


def test_other_attributes_of_a_resource_tell_places_apart() -> None:
    pods = [of_a_host(1, 2, 3, 4, ("service.name", "shop"), ("k8s.pod.name", f"shop-{number}")) for number in (1, 2)]
    (first, _), (second, is_anonymous) = (named(pod, headers={"source": "gateway"}) for pod in pods)
    assert first != second
    assert first.startswith("shop/gateway/")
    assert not is_anonymous
    versions = of_a_host(1, 2, 3, 4, ("service.version", "2"), ("telemetry.sdk.name", "x"))
    assert named(versions) == ("unknown", True)


def test_two_collectors_that_nothing_tells_apart_count_side_by_side(folded: Folded) -> None:
    boots = (1_000_000_000, 1_200_000_000)
    for number in range(1, 5):
        for boot in boots:
            at = 1_763_794_700 + 10 * number + (boot > boots[0])
            folded.take(of_a_host(boot, at, 100 * number, number), now=later(), routing_key="otlp_metrics")
            folded.take(of_a_host(boot, at, 100 * number, number), now=later(), routing_key="otlp_metrics")
    assert folded.value("system_cpu_time_seconds_total") == 2 * 400
    assert folded.rejected() == {"stale_total": 8}
    assert folded.confused() == {"otlp_metrics"}


def test_collectors_of_their_own_routing_keys_are_not_confused(folded: Folded) -> None:
    for number in range(1, 4):
        for key, boot in (("otlp.a", 1_000_000_000), ("otlp.b", 1_200_000_000)):
            folded.take(of_a_host(boot, 1_763_794_700 + number, number, number), now=later(), routing_key=key)
    assert folded.value("system_cpu_time_seconds_total") == 2 * 3
    assert folded.rejected() == {}
    assert folded.confused() == set()


def test_a_collector_whose_host_was_booted_is_not_confused_with_itself(folded: Folded) -> None:
    bodies = [of_a_host(1_000_000_000, 1_763_794_701 + number, 100 + number, 1) for number in range(2)]
    bodies += [of_a_host(1_763_794_710, 1_763_794_711 + number, 5 + number, 1) for number in range(2)]
    for body in [*bodies, bodies[1], *bodies]:
        folded.take(body, now=later(), routing_key="otlp_metrics")
    assert folded.value("system_cpu_time_seconds_total") == 101 + 6
    assert folded.confused() == set()
