"""Bodies as other producers make them: by OpenTelemetry's own SDK, and lines as the formats' makers show them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.json_format import MessageToJson, ParseDict
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
    ObservableCounter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

DELTA: Mapping[type, AggregationTemporality] = dict.fromkeys(
    (Counter, Histogram, ObservableCounter), AggregationTemporality.DELTA
)


class Sdk:
    """OpenTelemetry's SDK in one process of a service; its exports are what its OTLP exporter would send."""

    def __init__(
        self, *, delta: bool = False, instance: str = "i1", views: Sequence[View] = (), **resource: str
    ) -> None:
        self._reader = InMemoryMetricReader(preferred_temporality={**DELTA} if delta else None)
        attributes = {"service.name": "checkout", "service.instance.id": instance, **resource}
        exponential = View(instrument_name="*exponential*", aggregation=ExponentialBucketHistogramAggregation())
        self.provider = MeterProvider([self._reader], resource=Resource.create(attributes), views=[exponential, *views])
        self.meter = self.provider.get_meter("tests")

    def export(self) -> bytes:
        """The next export, in protobuf."""
        return self._encoded().SerializeToString()  # type: ignore[no-any-return]

    def export_json(self) -> bytes:
        """The next export, in OTLP's JSON."""
        return MessageToJson(self._encoded(), use_integers_for_enums=True).encode()

    def _encoded(self) -> Any:
        read = self._reader.get_metrics_data()
        assert read is not None
        return encode_metrics(read)


def everything(sdk: Sdk) -> None:
    """One of each instrument."""
    sdk.meter.create_counter("tasks", unit="{task}").add(2, {"status": "ok", "retries": 3, "tags": ["a", "b"]})
    sdk.meter.create_up_down_counter("in.flight").add(-2)
    sdk.meter.create_histogram("wait", unit="s").record(7.0)
    sdk.meter.create_histogram("wait.exponential", unit="s").record(3.3)
    sdk.meter.create_gauge("temperature", unit="Cel").set(21.5)


def otlp() -> bytes:
    sdk = Sdk()
    everything(sdk)
    return sdk.export()


def otlp_json() -> bytes:
    sdk = Sdk()
    everything(sdk)
    return sdk.export_json()


def of_a_host(boot: int, at: int, seconds: int, load: int, *attributes: tuple[str, str]) -> bytes:
    """A body as the Collector's receiver hostmetrics makes it, whose counters begin at the host's boot."""
    named = [{"key": key, "value": {"stringValue": value}} for key, value in attributes]
    nanoseconds = 1_000_000_000
    times = {"startTimeUnixNano": boot * nanoseconds, "timeUnixNano": at * nanoseconds}
    cpu = {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [{**times, "asInt": seconds}]}
    gauge = {"dataPoints": [{"timeUnixNano": at * nanoseconds, "asInt": load}]}
    metrics = [{"name": "system.cpu.time", "unit": "s", "sum": cpu}, {"name": "system.load", "gauge": gauge}]
    document = {"resourceMetrics": [{"resource": {"attributes": named}, "scopeMetrics": [{"metrics": metrics}]}]}
    return ParseDict(document, MetricsData()).SerializeToString()


CLOUD_EVENT = (
    b'{"specversion": "1.0", "id": "A-1", "source": "/sensors/7", "type": "telemetry", "time": "2025-11-22T09:00:00Z",'
    b' "data": {"v": 1, "samples": [{"name": "nodes_seen_total", "type": "counter", "value": 1}]}}'
)
STATSD = b"""hits:1|c
hits:3|c|@0.1|#endpoint:/v1,method:GET
load:3.2|g
load:-2|g
page.render:320|ms|@0.5
size:1:2:3|d|#env:prod|T1656581400|c:ci-abc
users:ann|s
users:bob|s
_e{5,4}:title|text
"""
INFLUX = rb"""cpu,host=web\ 1,cpu=cpu0 usage_idle=98.5,usage_user=1i,ok=true,note="a, \"b\" c" 1700000000000000000
net,host=db\,1 bytes_recv=12u 1700000000000000001
http_requests,url=/x,host=a counter=7 1700000000000000002
"""
EXPOSITION = b"""# HELP jobs_done_total Jobs.
# TYPE jobs_done_total counter
jobs_done_total{queue="a\\"b\\\\c"} 3.0
# TYPE jobs_done_created gauge
jobs_done_created{queue="a\\"b\\\\c"} 1.7e+09
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.1"} 1
wait_seconds_bucket{le="1.0"} 3
wait_seconds_bucket{le="+Inf"} 4
wait_seconds_sum 5.5
wait_seconds_count 4
# TYPE size_bytes summary
size_bytes{quantile="0.5"} 3
size_bytes_sum 30
size_bytes_count 10
# TYPE temperature gauge
temperature 21.5 1700000000000
"""

CELERY = (
    b'[{"hostname": "gen7@web", "utcoffset": 0, "pid": 7, "clock": 3, "uuid": "u-1", "root_id": "u-1", '
    b'"parent_id": null, "name": "shop.pay", "args": "()", "kwargs": "{}", "retries": 0, "eta": null, "expires": null, '
    b'"queue": "orders", "exchange": "", "routing_key": "orders", "timestamp": 1763794800.5, "type": "task-sent"}, '
    b'{"hostname": "celery@w", "utcoffset": 0, "pid": 9, "clock": 12, "uuid": "u-1", "name": "shop.pay", '
    b'"eta": "2025-11-22T07:00:30+00:00", "timestamp": 1763794801.5, "type": "task-received"}, '
    b'{"hostname": "celery@w", "pid": 9, "clock": 13, "uuid": "u-1", "runtime": 0.25, "result": "1", '
    b'"timestamp": 1763794802.5, "type": "task-succeeded"}, '
    b'{"hostname": "celery@w", "pid": 9, "clock": 14, "uuid": "u-2", "exception": "KeyError(1)", "traceback": "T", '
    b'"timestamp": 1763794803.5, "type": "task-failed"}, '
    b'{"hostname": "celery@w", "pid": 9, "clock": 15, "freq": 2.0, "active": 1, "processed": 3, '
    b'"loadavg": [0.1, 0.2, 0.3], "timestamp": 1763794804.5, "type": "worker-heartbeat"}]'
)
"""A list of events, as Celery's dispatcher flushes its buffer; it never mixes tasks and workers."""

SEEDS: Mapping[str, Callable[[], bytes]] = {
    "otlp": otlp,
    "otlp json": otlp_json,
    "cloudevents": lambda: CLOUD_EVENT,
    **dict.fromkeys(["statsd", "dogstatsd", "etsy_statsd"], lambda: STATSD),
    "influx": lambda: INFLUX,
    "celery": lambda: CELERY,
    "prometheus": lambda: EXPOSITION,
}
