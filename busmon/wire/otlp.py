"""OTLP metrics, protobuf and JSON, as the OpenTelemetry Collector's and SDKs' exporters marshal them.

Needs the extra `otlp`, which is imported with the first such body. Never raises anything but `EnvelopeError`. Pure.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from math import inf, ldexp
from typing import TYPE_CHECKING, Any

import orjson

from busmon.errors import EnvelopeError
from busmon.wire import json_v1
from busmon.wire.arrival import (
    MAX_METRIC_CHARACTERS,
    MAX_PARTS,
    MAX_POINTS,
    Arrival,
    name_of,
    too_many_parts,
    too_many_points,
)
from busmon.wire.body import plain
from busmon.wire.envelope import Envelope, Observed, Part, Point
from busmon.wire.otlp_names import prometheus_name

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.metrics.v1.metrics_pb2 import (
        ExponentialHistogramDataPoint,
        HistogramDataPoint,
        Metric,
        MetricsData,
        NumberDataPoint,
        ResourceMetrics,
        SummaryDataPoint,
    )

    DataPoint = NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint | SummaryDataPoint

PROTOBUF_TYPES = frozenset({"application/x-protobuf", "application/protobuf"})
JSON_MEMBERS = frozenset({"resourceMetrics", "resource_metrics"})

_PLACES = ("k8s.pod.uid", "container.id", "host.name")
"""Attributes that name the place of a service without an instance."""

_NANOSECONDS = 1e9
_CUMULATIVE = 2
_NO_RECORDED_VALUE = 1
_MAX_EXPONENT = 1023
_MAX_SCALE = 20
"""Of the specification: a finer one has no use in doubles."""


def decode(arrival: Arrival) -> Envelope:
    """The envelope in a body of `MetricsData` or `ExportMetricsServiceRequest`, which are the same on the wire.

    Raises:
        EnvelopeError: as of `plain`, or `invalid_otlp`, `too_many_samples`, `unavailable_format`.
    """
    body = plain(arrival.body, arrival.content_encoding, arrival.max_bytes)
    is_json = json_v1.is_json(arrival.content_type or "") or _begins_as_json(body)
    return _envelope(_from_json(json_v1.parse(body, None, arrival.max_bytes)) if is_json else _parsed(body), arrival)


def of_document(document: Any, arrival: Arrival) -> Envelope:
    """The envelope in a body whose JSON is parsed.

    Raises:
        EnvelopeError: `invalid_otlp`, `too_many_samples` or `unavailable_format`.
    """
    return _envelope(_from_json(document), arrival)


def _begins_as_json(body: bytes) -> bool:
    """Return whether a body is an object in JSON, perhaps behind white space.

    A line break is also how metrics in protobuf begin, so a body that begins with one is JSON only as a whole.
    """
    if body[:1] == b"{":
        return True
    text = json_v1.trimmed(body)
    if not text.startswith(b"{"):
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _parsed(body: bytes) -> "MetricsData":
    data, decode_error = _schema()
    try:
        return data.FromString(body)
    except decode_error as error:
        raise EnvelopeError("invalid_otlp", f"no metrics in protobuf: {_line(error)}") from error


def _from_json(document: Any) -> "MetricsData":
    data, _ = _schema()
    from google.protobuf import json_format  # noqa: PLC0415 - of the extra

    try:
        return json_format.ParseDict(document, data(), ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise EnvelopeError("invalid_otlp", f"no metrics in OTLP's JSON: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@lru_cache(maxsize=1)
def _schema() -> tuple[type["MetricsData"], type[Exception]]:
    try:
        from google.protobuf.message import DecodeError  # noqa: PLC0415 - of the extra
        from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData  # noqa: PLC0415
    except ImportError as error:
        raise EnvelopeError("unavailable_format", "OTLP takes: pip install 'busmon-telemetry[otlp]'") from error
    return MetricsData, DecodeError


def _envelope(data: "MetricsData", arrival: Arrival) -> Envelope:
    if not data.resource_metrics:
        raise EnvelopeError("invalid_otlp", "it has no resource metrics")
    if len(data.resource_metrics) > MAX_PARTS:
        raise too_many_parts()
    parts, room = [], MAX_POINTS
    for resource in data.resource_metrics:
        parts.append(_part(resource, arrival, room))
        room -= len(parts[-1].points)
        if room < 0:
            raise too_many_points()
    points = [point for part in parts for point in part.points]
    first, latest = parts[0], max((point.at or 0.0 for point in points), default=0.0)
    identity = _digest(arrival.body) if all(point.at for point in points) else None
    return Envelope(first.source, first.agent, latest or None, [], [], parts=parts, identity=identity, format="otlp")


def _part(metrics: "ResourceMetrics", arrival: Arrival, room: int) -> Part:
    resource = _attributes(metrics.resource.attributes)
    agent = name_of(resource.get("service.name")) or arrival.agent
    points = (point for scope in metrics.scope_metrics for metric in scope.metrics for point in _points(metric))
    source, is_anonymous = _source(resource, arrival)
    kept = list(islice(points, room + 1))
    return Part(source, agent, resource, kept, is_anonymous=is_anonymous)


def _source(resource: Mapping[str, str], arrival: Arrival) -> tuple[str, bool]:
    """Return a name for one run of a process, and whether a process elsewhere may have the same name.

    The name is the service's with its instance, or else with the place where it runs, or else with the header `source`
    and other attributes. Where there is none of these, AMQP's properties are all that tells senders apart.
    """
    service, instance = resource.get("service.name"), resource.get("service.instance.id")
    place = [instance] if instance else [*map(resource.get, _PLACES)]
    if not any(place):
        place = [arrival.source, _others(resource)]
    is_anonymous = not any(place)
    if is_anonymous:
        place = [arrival.sender]
    else:
        service = service or name_of(arrival.app_id)
    process = None if instance else resource.get("process.pid")
    stated = "/".join(filter(None, (resource.get("service.namespace"), service, *place, process)))
    return name_of(stated) or _digest(stated.encode()), is_anonymous


def _others(resource: Mapping[str, str]) -> str | None:
    """Return a digest of the attributes that may tell one place from another; None where there is none."""
    told = sorted(item for item in resource.items() if not item[0].startswith(("service.", "telemetry.", "process.")))
    return _digest(repr(told).encode()) if told else None


def _digest(stated: bytes) -> str:
    return blake2b(stated, digest_size=16).hexdigest()


# -- one metric --------------------------------------------------------------------------------------------------------


def _points(metric: "Metric") -> Iterator[Point]:
    for text in ("name", "unit"):
        # Cut to what is too long still: every point gets a copy, and is rejected by it.
        setattr(metric, text, getattr(metric, text)[: MAX_METRIC_CHARACTERS + 1])
    kind = metric.WhichOneof("data")
    return _KINDS[kind](metric) if kind else iter(())


def _gauge(metric: "Metric") -> Iterator[Point]:
    for number in filter(_is_recorded, metric.gauge.data_points):
        yield _point(metric, "gauge", number, _number(number), is_total=False)


def _sum(metric: "Metric") -> Iterator[Point]:
    """A sum that only grows is a counter. Another is a gauge: set to its total, or moved by its delta."""
    is_total = metric.sum.aggregation_temporality == _CUMULATIVE
    for number in filter(_is_recorded, metric.sum.data_points):
        if metric.sum.is_monotonic:
            yield _point(metric, "counter", number, _number(number), is_total=is_total)
        else:
            point = _point(metric, "gauge", number, _number(number), is_total=False)
            yield point if is_total else point._replace(op="add")


def _histogram(metric: "Metric") -> Iterator[Point]:
    is_total = metric.histogram.aggregation_temporality == _CUMULATIVE
    for counted in filter(_is_recorded, metric.histogram.data_points):
        yield _point(metric, "histogram", counted, _explicit(counted), is_total=is_total)


def _exponential_histogram(metric: "Metric") -> Iterator[Point]:
    is_total = metric.exponential_histogram.aggregation_temporality == _CUMULATIVE
    for scaled in filter(_is_recorded, metric.exponential_histogram.data_points):
        yield _point(metric, "histogram", scaled, _exponential(scaled), is_total=is_total)


def _summary(metric: "Metric") -> Iterator[Point]:
    """Quantiles don't add up, so they are left out; count and sum are totals."""
    for summed in filter(_is_recorded, metric.summary.data_points):
        yield _point(metric, "summary", summed, Observed(summed.count, summed.sum, {}), is_total=True)


_KINDS: Mapping[str, Callable[["Metric"], Iterator[Point]]] = {
    "gauge": _gauge,
    "sum": _sum,
    "histogram": _histogram,
    "exponential_histogram": _exponential_histogram,
    "summary": _summary,
}


def _point(metric: "Metric", type_: str, data: "DataPoint", value: float | Observed, *, is_total: bool) -> Point:
    return Point(
        metric.name,
        prometheus_name(metric.name, metric.unit, type_),
        type_,
        value,
        _attributes(data.attributes),
        data.time_unix_nano / _NANOSECONDS or None,
        is_total,
        data.start_time_unix_nano / _NANOSECONDS or None,
    )


def _is_recorded(data: "DataPoint") -> bool:
    """Whether it has a value; a point without one says that its series has ended."""
    return not data.flags & _NO_RECORDED_VALUE


def _number(number: "NumberDataPoint") -> float:
    return number.as_int if number.WhichOneof("value") == "as_int" else number.as_double


def _explicit(counted: "HistogramDataPoint") -> Observed:
    """Counts by finite bound; the bucket above the last one is what is left of the count."""
    counts = zip(counted.explicit_bounds, counted.bucket_counts, strict=False)
    buckets = {bound: count for bound, count in counts if bound != inf}
    return Observed(counted.count, counted.sum, buckets)


def _exponential(scaled: "ExponentialHistogramDataPoint") -> Observed:
    """Each bucket by its upper bound: an observation counts as at most the base times its magnitude."""
    buckets: dict[float, float] = {}
    negative, positive = scaled.negative, scaled.positive
    for index in reversed(range(len(negative.bucket_counts))):
        _add(buckets, -_power(negative.offset + index, scaled.scale), negative.bucket_counts[index])
    _add(buckets, scaled.zero_threshold, scaled.zero_count)
    for index, count in enumerate(positive.bucket_counts):
        _add(buckets, _power(positive.offset + index + 1, scaled.scale), count)
    return Observed(scaled.count, scaled.sum, buckets, is_exact=False)


def _add(buckets: dict[float, float], bound: float, count: int) -> None:
    if count:
        buckets[bound] = buckets.get(bound, 0) + count


def _power(index: int, scale: int) -> float:
    """The base, 2^(2^-scale), to the power of an index; the nearest float where there is none."""
    exponent = ldexp(index, -max(-_MAX_SCALE, min(scale, _MAX_SCALE)))
    return float(2.0 ** max(-_MAX_EXPONENT, min(exponent, _MAX_EXPONENT)))


def _attributes(attributes: "Iterable[KeyValue]") -> dict[str, str]:
    return {attribute.key: _text(attribute.value) for attribute in attributes}


def _text(value: "AnyValue") -> str:
    """An attribute's value as a label's: text as it is, nothing as nothing, all else as JSON."""
    plain_value = _plain_value(value)
    if plain_value is None:
        return ""
    return plain_value if isinstance(plain_value, str) else orjson.dumps(plain_value).decode()


def _plain_value(value: "AnyValue") -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain_value(part) for part in value.array_value.values]
    if kind == "kvlist_value":
        return {part.key: _plain_value(part.value) for part in value.kvlist_value.values}
    return value.bytes_value.hex() if kind == "bytes_value" else getattr(value, kind) if kind else None
