"""OTLP metrics in JSON, read from what orjson makes of it, without protobuf.

By the rules of OTLP/JSON and of protobuf's JSON mapping: names in lowerCamelCase or as the schema has them, numbers as
numbers or texts, enums by number or name, bytes in base64, null for a member that is absent, and members that aren't
known passed over. Members that busmon has no use for, exemplars among them, aren't looked at. Never raises anything
but `EnvelopeError`. Pure.
"""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

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

_MAX_DEPTH = 100
"""Messages in messages, as protobuf's decoders take them."""

_RESOURCE_DEPTH, _POINT_DEPTH = 5, 8
"""The message in which the value of an attribute stands, counted from the outermost."""

_UINT32, _UINT64 = (0, 2**32 - 1), (0, 2**64 - 1)
_SINT32, _SINT64 = (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1)
_TEMPORALITIES = {
    "AGGREGATION_TEMPORALITY_UNSPECIFIED": 0,
    "AGGREGATION_TEMPORALITY_DELTA": 1,
    "AGGREGATION_TEMPORALITY_CUMULATIVE": 2,
}


def resources(document: Any) -> tuple[int, Iterator[Resource]]:
    """Return how many resources there are in a parsed body, and read them.

    Raises:
        EnvelopeError: `invalid_otlp`, also while they are read.
    """
    stated = _several(document, "resourceMetrics", "resource_metrics")
    return len(stated), map(_resource, stated)


def _resource(stated: Any) -> Resource:
    stated = _check(stated)
    scopes = _several(stated, "scopeMetrics", "scope_metrics")
    metrics = (metric for scope in scopes for metric in _several(scope, "metrics"))
    attributes = _attributes(_object(stated, "resource"), _RESOURCE_DEPTH)
    return Resource(attributes, filter(None, map(_metric, metrics)))


def _metric(metric: Any) -> Metric | None:
    metric = _check(metric)
    found = [(_KINDS[name], stated) for name, stated in metric.items() if name in _KINDS and stated is not None]
    if len(found) > 1:
        raise _fault("a metric has data of one kind")
    if not found:
        return None
    [((kind, value), stated)] = found
    stated = _check(stated)
    name, unit = (_text(metric, name)[:MAX_STATED_CHARACTERS] for name in ("name", "unit"))
    temporality, is_monotonic = 0, False
    if kind not in {"gauge", "summary"}:
        temporality = _temporality(_member(stated, "aggregationTemporality", "aggregation_temporality"))
    if kind == "sum":
        is_monotonic = _flag(_member(stated, "isMonotonic", "is_monotonic"))
    data = (_data(each, value) for each in _several(stated, "dataPoints", "data_points"))
    return Metric(name, unit, kind, temporality, is_monotonic, data)


def _data(stated: Any, value: Callable[[Any], float | Observed | Exponential]) -> Data:
    stated = _check(stated)
    return Data(
        _attributes(stated, _POINT_DEPTH),
        _integer(_member(stated, "timeUnixNano", "time_unix_nano"), _UINT64),
        _integer(_member(stated, "startTimeUnixNano", "start_time_unix_nano"), _UINT64),
        _integer(stated.get("flags"), _UINT32),
        value(stated),
    )


def _number(stated: Any) -> float:
    as_int, as_double = _member(stated, "asInt", "as_int"), _member(stated, "asDouble", "as_double")
    if as_int is None:
        return _float(as_double)
    if as_double is not None:
        raise _fault("a point has one value")
    return _integer(as_int, _SINT64)


def _explicit(stated: Any) -> Observed:
    bounds = [*map(_float, _several(stated, "explicitBounds", "explicit_bounds"))]
    return make_observed(_integer(stated.get("count"), _UINT64), _float(stated.get("sum")), bounds, _counts(stated))


def _exponential(stated: Any) -> Exponential:
    return Exponential(
        _integer(stated.get("count"), _UINT64),
        _float(stated.get("sum")),
        _integer(stated.get("scale"), _SINT32),
        _integer(_member(stated, "zeroCount", "zero_count"), _UINT64),
        _float(_member(stated, "zeroThreshold", "zero_threshold")),
        _side(_object(stated, "positive")),
        _side(_object(stated, "negative")),
    )


def _side(stated: Mapping[str, Any]) -> Side:
    return Side(_integer(stated.get("offset"), _SINT32), _counts(stated))


def _summary(stated: Any) -> Observed:
    return Observed(_integer(stated.get("count"), _UINT64), _float(stated.get("sum")), {})


_KINDS: Mapping[str, tuple[str, Callable[[Any], float | Observed | Exponential]]] = {
    "gauge": ("gauge", _number),
    "sum": ("sum", _number),
    "histogram": ("histogram", _explicit),
    "exponentialHistogram": ("exponential_histogram", _exponential),
    "exponential_histogram": ("exponential_histogram", _exponential),
    "summary": ("summary", _summary),
}


# -- attributes ------------------------------------------------------------------------------------------------------


def _attributes(stated: Any, depth: int) -> dict[str, str]:
    pairs = _several(stated, "attributes")
    return {_text(pair, "key"): label_value(_value(pair.get("value"), depth)) for pair in map(_check, pairs)}


def _value(stated: Any, depth: int) -> Any:
    """Return a value of any type; None where there is none."""
    if stated is None:
        return None
    if depth > _MAX_DEPTH:
        raise _fault("a value is nested too deep")
    found = [(name, value) for name, value in _check(stated).items() if name in _READ and value is not None]
    if len(found) > 1:
        raise _fault("a value is of one type")
    return _READ[found[0][0]](found[0][1], depth) if found else None


def _array(stated: Any, depth: int) -> list[Any]:
    return [_value(_present(each), depth + 2) for each in _several(stated, "values")]


def _pairs(stated: Any, depth: int) -> dict[str, Any]:
    pairs = map(_check, _several(stated, "values"))
    return {_text(pair, "key"): _value(pair.get("value"), depth + 3) for pair in pairs}


def _string(value: Any, _: int) -> str:
    if type(value) is not str:
        raise _fault("a text is expected")
    return value


def _bytes(value: Any, _: int) -> str:
    if type(value) is not str:
        raise _fault("bytes are a text in base64")
    try:
        return base64.urlsafe_b64decode(f"{value}{'=' * (4 - len(value) % 4)}").hex()
    except ValueError as error:
        raise _fault(f"bytes are a text in base64: {error}") from error


_READ: Mapping[str, Callable[[Any, int], Any]] = {
    **dict.fromkeys(("stringValue", "string_value"), _string),
    **dict.fromkeys(("boolValue", "bool_value"), lambda value, _: _flag(value)),
    **dict.fromkeys(("intValue", "int_value"), lambda value, _: _integer(value, _SINT64)),
    **dict.fromkeys(("doubleValue", "double_value"), lambda value, _: _float(value)),
    **dict.fromkeys(("arrayValue", "array_value"), _array),
    **dict.fromkeys(("kvlistValue", "kvlist_value"), _pairs),
    **dict.fromkeys(("bytesValue", "bytes_value"), _bytes),
    **dict.fromkeys(("stringValueStrindex", "string_value_strindex"), lambda value, _: _integer(value, _SINT32)),
}


# -- members ---------------------------------------------------------------------------------------------------------


def _fault(detail: str) -> EnvelopeError:
    return EnvelopeError(BodyReason.INVALID_OTLP, f"no metrics in OTLP's JSON: {detail[:200]}")


def _check(stated: Any) -> Mapping[str, Any]:
    """Return a message; PHP writes an empty array for one without members."""
    if type(stated) is dict:
        return stated
    if stated == []:
        return {}
    raise _fault("a message is an object")


def _member(stated: Any, name: str, other: str) -> Any:
    value = stated.get(name)
    return stated.get(other) if value is None else value


def _object(stated: Any, name: str) -> Mapping[str, Any]:
    value = stated.get(name)
    return {} if value is None else _check(value)


def _several(stated: Any, name: str, other: str = "") -> Sequence[Any]:
    """Return the elements of a member that is a list."""
    stated = _check(stated)
    values = stated.get(name)
    if values is None and other:
        values = stated.get(other)
    if values is None:
        return ()
    if type(values) is not list:
        raise _fault(f"{name!r} is a list")
    return values


def _present(value: Any) -> Any:
    if value is None:
        raise _fault("null is no element of a list")
    return value


def _counts(stated: Mapping[str, Any]) -> list[int]:
    return [_integer(_present(each), _UINT64) for each in _several(stated, "bucketCounts", "bucket_counts")]


def _text(stated: Mapping[str, Any], name: str) -> str:
    value = stated.get(name)
    return "" if value is None else _string(value, 0)


def _flag(value: Any) -> bool:
    if value is not None and type(value) is not bool:
        raise _fault("true or false is expected")
    return value is True


def _temporality(value: Any) -> int:
    """Return OTLP's number; a name that isn't known is passed over."""
    if type(value) is not str:
        return _integer(value, _SINT32)
    try:
        return _TEMPORALITIES[value] if value in _TEMPORALITIES else _integer(int(value), _SINT32)
    except ValueError:
        return 0


def _integer(value: Any, bounds: tuple[int, int]) -> int:
    """Return a whole number; 0 where it is absent."""
    if value is None:
        return 0
    number = value if type(value) is int else _whole(value)
    if not bounds[0] <= number <= bounds[1]:
        raise _fault("a whole number is out of its range")
    return number


def _whole(value: Any) -> int:
    try:
        if type(value) is str and " " not in value:
            return int(value)
    except ValueError:
        value = _float(value)
    if type(value) is float and value.is_integer():
        return int(value)
    raise _fault("a whole number is expected")


def _float(value: Any) -> float:
    """Return a number; 0 where it is absent, and those that JSON doesn't have as texts: NaN, Infinity."""
    if type(value) is float:
        if not isfinite(value):
            raise _fault("a number is too large")
        return value
    if value is None:
        return 0.0
    if type(value) not in {int, str} or value == "nan":
        raise _fault("a number is expected")
    try:
        return float(value)
    except (ValueError, OverflowError) as error:
        raise _fault(f"a number is expected: {error}") from error
