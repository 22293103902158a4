"""OTLP metrics in protobuf, read by OpenTelemetry's own schema.

Needs the extra `otlp`, which is imported with the first such body. Never raises anything but `EnvelopeError`. Pure.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from busmon import extras
from busmon.errors import EnvelopeError
from busmon.reasons import BodyReason
from busmon.wire.envelope import Observed
from busmon.wire.otlp_data import (
    MAX_STATED_CHARACTERS,
    Data,
    Exponential,
    Metric,
    Resource,
    Side,
    label_value,
    make_observed,
)

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.metrics.v1 import metrics_pb2 as schema


def resources(body: bytes) -> "tuple[int, Iterator[Resource]]":
    """Return how many resources there are in `MetricsData` or `ExportMetricsServiceRequest`, and read them.

    Raises:
        EnvelopeError: `invalid_otlp` or `unavailable_format`.
    """
    data, decode_error = _schema()
    try:
        parsed = data.FromString(body)
    except decode_error as error:
        shown = " ".join(str(error).split())[:200]
        raise EnvelopeError(BodyReason.INVALID_OTLP, f"no metrics in protobuf: {shown}") from error
    return len(parsed.resource_metrics), map(_resource, parsed.resource_metrics)


@lru_cache(maxsize=1)
def _schema() -> "tuple[type[schema.MetricsData], type[Exception]]":
    try:
        from google.protobuf.message import DecodeError  # noqa: PLC0415 - of the extra
        from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData  # noqa: PLC0415
    except ImportError as error:
        detail = f"OTLP in protobuf takes: {extras.command('otlp')}"
        raise EnvelopeError(BodyReason.UNAVAILABLE_FORMAT, detail) from error
    return MetricsData, DecodeError


def _resource(stated: "schema.ResourceMetrics") -> Resource:
    metrics = (metric for scope in stated.scope_metrics for metric in scope.metrics)
    return Resource(_attributes(stated.resource.attributes), filter(None, map(_metric, metrics)))


def _metric(metric: "schema.Metric") -> Metric | None:
    kind = metric.WhichOneof("data")
    if kind is None:
        return None
    stated, value = getattr(metric, kind), _VALUES[kind]
    temporality = 0 if kind in {"gauge", "summary"} else stated.aggregation_temporality
    is_monotonic = kind == "sum" and stated.is_monotonic
    data = (
        Data(_attributes(each.attributes), each.time_unix_nano, each.start_time_unix_nano, each.flags, value(each))
        for each in stated.data_points
    )
    name, unit = metric.name[:MAX_STATED_CHARACTERS], metric.unit[:MAX_STATED_CHARACTERS]
    return Metric(name, unit, kind, temporality, is_monotonic, data)


def _number(number: "schema.NumberDataPoint") -> float:
    return number.as_int if number.WhichOneof("value") == "as_int" else number.as_double


def _explicit(counted: "schema.HistogramDataPoint") -> Observed:
    return make_observed(counted.count, counted.sum, counted.explicit_bounds, counted.bucket_counts)


def _exponential(scaled: "schema.ExponentialHistogramDataPoint") -> Exponential:
    positive, negative = (Side(side.offset, side.bucket_counts) for side in (scaled.positive, scaled.negative))
    threshold = scaled.zero_threshold
    return Exponential(scaled.count, scaled.sum, scaled.scale, scaled.zero_count, threshold, positive, negative)


def _summary(summed: "schema.SummaryDataPoint") -> Observed:
    return Observed(summed.count, summed.sum, {})


_VALUES: Mapping[str, Callable[[Any], float | Observed | Exponential]] = {
    "gauge": _number,
    "sum": _number,
    "histogram": _explicit,
    "exponential_histogram": _exponential,
    "summary": _summary,
}


def _attributes(attributes: "Iterable[KeyValue]") -> dict[str, str]:
    return {attribute.key: label_value(_plain(attribute.value)) for attribute in attributes}


def _plain(value: "AnyValue") -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(part) for part in value.array_value.values]
    if kind == "kvlist_value":
        return {part.key: _plain(part.value) for part in value.kvlist_value.values}
    return value.bytes_value.hex() if kind == "bytes_value" else getattr(value, kind) if kind else None
