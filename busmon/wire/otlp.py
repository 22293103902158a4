"""OTLP metrics as the OpenTelemetry Collector's and SDKs' exporters marshal them → the envelope in them.

Protobuf (`otlp_protobuf.py`) and JSON (`otlp_json.py`) are read into the same data; what a metric means is decided
here. Never raises anything but `EnvelopeError`. Pure.
"""

from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from math import ldexp
from typing import Any

import orjson

from busmon.errors import EnvelopeError
from busmon.reasons import BodyReason
from busmon.wire import json_v1, otlp_json, otlp_protobuf
from busmon.wire.arrival import MAX_PARTS, MAX_POINTS, Arrival, name_of, too_many_parts, too_many_points
from busmon.wire.body import plain
from busmon.wire.envelope import Envelope, Observed, Part, Point
from busmon.wire.otlp_data import Data, Exponential, Metric, Resource
from busmon.wire.otlp_names import prometheus_name

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
    """Return the envelope in a body of `MetricsData` or `ExportMetricsServiceRequest`, which are the same on the wire.

    Raises:
        EnvelopeError: as of `plain`, or `invalid_otlp`, `too_many_samples`, `unavailable_format`.
    """
    body = plain(arrival.body, arrival.content_encoding, arrival.max_bytes)
    if json_v1.is_json(arrival.content_type or "") or _begins_as_json(body):
        return of_document(json_v1.parse(body, None, arrival.max_bytes), arrival)
    return _envelope(*otlp_protobuf.resources(body), arrival)


def of_document(document: Any, arrival: Arrival) -> Envelope:
    """Return the envelope in a body whose JSON is parsed.

    Raises:
        EnvelopeError: `invalid_otlp` or `too_many_samples`.
    """
    return _envelope(*otlp_json.resources(document), arrival)


def _begins_as_json(body: bytes) -> bool:
    """Return whether a body is an object in JSON, perhaps behind white space.

    A line break is also how metrics in protobuf begin, so a body that begins with one is JSON only as a whole.
    """
    if body[:1] == b"{":
        return True
    text = json_v1.trim(body)
    if not text.startswith(b"{"):
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _envelope(count: int, resources: Iterator[Resource], arrival: Arrival) -> Envelope:
    if not count:
        raise EnvelopeError(BodyReason.INVALID_OTLP, "it has no resource metrics")
    if count > MAX_PARTS:
        raise too_many_parts()
    parts, room = [], MAX_POINTS
    for resource in resources:
        parts.append(_part(resource, arrival, room))
        room -= len(parts[-1].points)
        if room < 0:
            raise too_many_points()
    times = [point.at or 0.0 for part in parts for point in part.points]
    first, latest = parts[0], max(times, default=0.0)
    identity = _digest(arrival.body) if all(times) else None
    return Envelope(first.source, first.agent, latest or None, [], [], parts=parts, identity=identity, format="otlp")


def _part(resource: Resource, arrival: Arrival, room: int) -> Part:
    attributes = resource.attributes
    agent = name_of(attributes.get("service.name")) or arrival.agent
    points = (point for metric in resource.metrics for point in _KINDS[metric.kind](metric))
    source, is_anonymous = _source(attributes, arrival)
    kept = list(islice(points, room + 1))
    return Part(source, agent, attributes, kept, is_anonymous=is_anonymous)


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


def _list_recorded(metric: Metric) -> Iterator[Data]:
    """Yield the points that have a value; one without says that its series has ended."""
    return (data for data in metric.data if not data.flags & _NO_RECORDED_VALUE)


def _gauge(metric: Metric) -> Iterator[Point]:
    for data in _list_recorded(metric):
        yield _point(metric, "gauge", data, is_total=False)


def _sum(metric: Metric) -> Iterator[Point]:
    """Make a counter of a sum that only grows; of another a gauge, set to its total or moved by its delta."""
    is_total = metric.temporality == _CUMULATIVE
    for data in _list_recorded(metric):
        if metric.is_monotonic:
            yield _point(metric, "counter", data, is_total=is_total)
        else:
            point = _point(metric, "gauge", data, is_total=False)
            yield point if is_total else point._replace(op="add")


def _histogram(metric: Metric) -> Iterator[Point]:
    for data in _list_recorded(metric):
        yield _point(metric, "histogram", data, is_total=metric.temporality == _CUMULATIVE)


def _summary(metric: Metric) -> Iterator[Point]:
    """Leave quantiles out, since they don't add up; count and sum are totals."""
    for data in _list_recorded(metric):
        yield _point(metric, "summary", data, is_total=True)


_KINDS: Mapping[str, Callable[[Metric], Iterator[Point]]] = {
    "gauge": _gauge,
    "sum": _sum,
    "histogram": _histogram,
    "exponential_histogram": _histogram,
    "summary": _summary,
}


def _point(metric: Metric, type_: str, data: Data, *, is_total: bool) -> Point:
    value = data.value
    return Point(
        metric.name,
        prometheus_name(metric.name, metric.unit, type_),
        type_,
        _by_upper_bounds(value) if isinstance(value, Exponential) else value,
        data.attributes,
        data.at / _NANOSECONDS or None,
        is_total,
        data.start / _NANOSECONDS or None,
    )


def _by_upper_bounds(scaled: Exponential) -> Observed:
    """Count each bucket by its upper bound: an observation counts as at most the base times its magnitude."""
    buckets: dict[float, float] = {}
    negative, positive = scaled.negative, scaled.positive
    for index in reversed(range(len(negative.counts))):
        _add(buckets, -_power(negative.offset + index, scaled.scale), negative.counts[index])
    _add(buckets, scaled.zero_threshold, scaled.zero_count)
    for index, count in enumerate(positive.counts):
        _add(buckets, _power(positive.offset + index + 1, scaled.scale), count)
    return Observed(scaled.count, scaled.sum, buckets, is_exact=False)


def _add(buckets: dict[float, float], bound: float, count: int) -> None:
    if count:
        buckets[bound] = buckets.get(bound, 0) + count


def _power(index: int, scale: int) -> float:
    """Compute the base, 2^(2^-scale), to the power of an index; the nearest float at the limits."""
    exponent = ldexp(index, -max(-_MAX_SCALE, min(scale, _MAX_SCALE)))
    return float(2.0 ** max(-_MAX_EXPONENT, min(exponent, _MAX_EXPONENT)))
