"""OTLP in JSON is what protobuf's own mapping makes of it, however its members are written."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

from busmon.errors import EnvelopeError
from busmon.wire.arrival import Arrival
from busmon.wire.otlp import decode

Draw = Callable[[st.SearchStrategy[Any]], Any]

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**60), 2**60),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "1.5", "1e3", "-7", 0, -0.0]),
)
PROTO_NAMES = {
    "resourceMetrics": "resource_metrics",
    "scopeMetrics": "scope_metrics",
    "dataPoints": "data_points",
    "timeUnixNano": "time_unix_nano",
    "startTimeUnixNano": "start_time_unix_nano",
    "asInt": "as_int",
    "asDouble": "as_double",
    "aggregationTemporality": "aggregation_temporality",
    "isMonotonic": "is_monotonic",
    "bucketCounts": "bucket_counts",
    "explicitBounds": "explicit_bounds",
    "zeroCount": "zero_count",
    "zeroThreshold": "zero_threshold",
    "exponentialHistogram": "exponential_histogram",
    "stringValue": "string_value",
    "boolValue": "bool_value",
    "intValue": "int_value",
    "doubleValue": "double_value",
    "arrayValue": "array_value",
    "kvlistValue": "kvlist_value",
    "bytesValue": "bytes_value",
    "quantileValues": "quantile_values",
}


def whole(low: int, high: int) -> st.SearchStrategy[Any]:
    """Draw whole numbers as numbers, as texts, and as floats where that is exact."""
    numbers = st.one_of(st.integers(low, high), st.sampled_from([low, 0, high]))
    return st.one_of(
        numbers,
        numbers.map(str),
        st.integers(max(low, -(2**31)), min(high, 2**31 - 1)).map(float),
        st.sampled_from(["1e3", "7.0"]),
    )


UINT64, SINT64, SINT32, UINT32 = (
    whole(0, 2**64 - 1),
    whole(-(2**63), 2**63 - 1),
    whole(-(2**31), 2**31 - 1),
    whole(0, 2**32 - 1),
)
BYTES = st.sampled_from(["", "aGk=", "aGk", "-_8=", "+/8=", "YQ=="])
TEMPORALITIES = st.sampled_from(
    [0, 1, 2, 7, "2", "AGGREGATION_TEMPORALITY_DELTA", "AGGREGATION_TEMPORALITY_CUMULATIVE", "UNHEARD_OF", 2.0]
)


def message(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw a message with some of these members, some of them null, by either name, and one that nobody knows."""

    @st.composite
    def drawn(draw: Draw) -> dict[str, Any]:
        stated: dict[str, Any] = {}
        for name, value in members.items():
            how = draw(st.sampled_from(["absent", "null", "proto", "json", "json", "json"]))
            if how != "absent":
                key = PROTO_NAMES.get(name, name) if how == "proto" else name
                stated[key] = None if how == "null" else draw(value)
        if draw(st.booleans()):
            stated["nobodyKnowsIt"] = {"a": [1, None]}
        return stated

    return drawn()


def one_of(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw a message with one of these members, or with none."""
    return st.one_of(st.just({}), *(message(**{name: value}) for name, value in members.items()))


def values(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pair = message(key=TEXTS, value=inner)
    return one_of(
        stringValue=TEXTS,
        boolValue=st.booleans(),
        intValue=SINT64,
        doubleValue=FLOATS,
        bytesValue=BYTES,
        arrayValue=message(values=st.lists(inner, max_size=3)),
        kvlistValue=message(values=st.lists(pair, max_size=3)),
    )


VALUES = st.recursive(one_of(stringValue=TEXTS, intValue=SINT64), values, max_leaves=4)
ATTRIBUTES = st.lists(message(key=st.one_of(TEXTS, st.just("service.name")), value=VALUES), max_size=3)
TIMED: dict[str, st.SearchStrategy[Any]] = {
    "attributes": ATTRIBUTES,
    "timeUnixNano": UINT64,
    "startTimeUnixNano": UINT64,
    "flags": UINT32,
}
EXEMPLARS = st.just([{"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "asInt": "3"}])


@st.composite
def numbers(draw: Draw) -> dict[str, Any]:
    value = draw(one_of(asInt=SINT64, asDouble=FLOATS))
    return {**draw(message(**TIMED, exemplars=EXEMPLARS)), **value}


COUNTS = st.lists(UINT64, max_size=4)
COUNTED = {**TIMED, "count": UINT64, "sum": FLOATS}
HISTOGRAMS = message(**COUNTED, bucketCounts=COUNTS, explicitBounds=st.lists(FLOATS, max_size=4), min=FLOATS)
SIDE = message(offset=SINT32, bucketCounts=COUNTS)
SCALED = message(**COUNTED, scale=SINT32, zeroCount=UINT64, zeroThreshold=FLOATS, positive=SIDE, negative=SIDE)
SUMMED = message(**COUNTED, quantileValues=st.just([{"quantile": 0.5, "value": 1}]))


def points(of: st.SearchStrategy[Any], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return message(dataPoints=st.lists(of, max_size=3), **more)


@st.composite
def metrics(draw: Draw) -> dict[str, Any]:
    data = one_of(
        gauge=points(numbers()),
        sum=points(numbers(), aggregationTemporality=TEMPORALITIES, isMonotonic=st.booleans()),
        histogram=points(HISTOGRAMS, aggregationTemporality=TEMPORALITIES),
        exponentialHistogram=points(SCALED, aggregationTemporality=TEMPORALITIES),
        summary=points(SUMMED),
    )
    return {**draw(message(name=TEXTS, unit=st.sampled_from(["s", "By/s", "{x}"]), description=TEXTS)), **draw(data)}


SCOPES = message(scope=message(name=TEXTS), metrics=st.lists(metrics(), max_size=3), schemaUrl=TEXTS)
RESOURCES = message(resource=message(attributes=ATTRIBUTES), scopeMetrics=st.lists(SCOPES, max_size=2))


def arrival(body: bytes) -> Arrival:
    return Arrival(body, None, None, 1 << 20, "app", {"source": "s"}, None, "key", "user")


def told(body: bytes) -> str:
    """Show an envelope, but for the digest of its body; a NaN is no NaN's equal."""
    return repr(decode(arrival(body))._replace(identity=None))


@settings(deadline=None, max_examples=100)
@given(st.lists(RESOURCES, min_size=1, max_size=3), st.sampled_from(["resourceMetrics", "resource_metrics"]))
def test_json_is_read_as_protobufs_own_mapping_reads_it(stated: list[Any], name: str) -> None:
    document = {name: stated}
    parsed = ParseDict(document, MetricsData(), ignore_unknown_fields=True)
    assert told(orjson.dumps(document)) == told(parsed.SerializeToString())


def gauge(**point: Any) -> dict[str, Any]:
    return {"scopeMetrics": [{"metrics": [{"name": "m", "gauge": {"dataPoints": [point]}}]}]}


def attributed(value: Any) -> dict[str, Any]:
    return {"resource": {"attributes": [{"key": "k", "value": value}]}}


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"intValue": 1}
    for _ in range(levels):
        value = {"arrayValue": {"values": [value]}}
    return value


@pytest.mark.parametrize(
    "resource",
    [
        7,
        "text",
        gauge(asInt="x"),
        gauge(asInt=1.5),
        gauge(asInt="1 000"),
        gauge(asInt=2**63),
        gauge(asInt=True),
        gauge(timeUnixNano=-1),
        gauge(timeUnixNano="18446744073709551616"),
        gauge(flags=2**32),
        gauge(asDouble="nan"),
        gauge(asDouble="much"),
        gauge(asDouble=[]),
        gauge(asInt=1, asDouble=2),
        gauge(attributes={}),
        gauge(attributes=[None]),
        gauge(attributes=[{"key": 7}]),
        {"scopeMetrics": [{"metrics": [{"name": 7, "gauge": {"dataPoints": []}}]}]},
        {"scopeMetrics": [{"metrics": [{"gauge": {}, "sum": {}}]}]},
        {"scopeMetrics": [{"metrics": [{"sum": {"isMonotonic": "true"}}]}]},
        {"scopeMetrics": [{"metrics": [{"sum": {"aggregationTemporality": 2**31}}]}]},
        {"scopeMetrics": {}},
        attributed({"stringValue": 7}),
        attributed({"stringValue": "a", "intValue": 1}),
        attributed({"bytesValue": "a"}),
        attributed({"bytesValue": 7}),
        attributed({"boolValue": 1}),
        attributed({"arrayValue": {"values": [None]}}),
        attributed(nested(48)),
        attributed(nested(80)),
    ],
    ids=lambda resource: repr(resource)[:60],
)
def test_what_protobufs_mapping_refuses_is_refused_in_one_line(resource: Any) -> None:
    document = {"resourceMetrics": [resource]}
    if resource != "text":  # json_format takes a text for an object of unknown members
        with pytest.raises(Exception, match=r"."):
            ParseDict(document, MetricsData(), ignore_unknown_fields=True).SerializeToString()
    with pytest.raises(EnvelopeError) as refused:
        decode(arrival(orjson.dumps(document)))
    assert refused.value.reason == "invalid_otlp"
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_a_value_may_be_nested_as_deep_as_protobuf_takes_it() -> None:
    document = {"resourceMetrics": [attributed(nested(47))]}
    parsed = ParseDict(document, MetricsData())
    assert told(orjson.dumps(document)) == told(parsed.SerializeToString())


def test_an_empty_array_is_a_message_without_members() -> None:
    """PHP writes one for an object without members."""
    metric = {"name": "m", "gauge": {"dataPoints": [[]]}}
    document = {"resourceMetrics": [{"resource": [], "scopeMetrics": [{"scope": [], "metrics": [metric, []]}]}, []]}
    parsed = ParseDict(document, MetricsData())
    assert told(orjson.dumps(document)) == told(parsed.SerializeToString())
    envelope = decode(arrival(orjson.dumps(document)))
    assert [[point.value for point in part.points] for part in envelope.parts] == [[0.0], []]
