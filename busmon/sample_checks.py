"""The checks of a sample's value, labels and times: by the fold before it changes anything, and before a publish.

A rejected sample leaves no trace. Pure.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import inf, isfinite
from typing import Any

from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM, SUMMARY, Family
from busmon.errors import RejectedError
from busmon.reasons import SampleReason
from busmon.wire.envelope import Observed
from busmon.wire.floats import LARGEST, is_number
from busmon.wire.members import label_text, pick_measured
from busmon.wire.times import is_time, seconds

NUMBERS = frozenset({int, float})
MAX_LABEL_VALUE_CHARACTERS = 1024
MAX_ADOPTED_VALUE_CHARACTERS = 256
"""The limit for a metric that no catalogue names: each line of each series has its values."""
MAX_TRACE_ID_CHARACTERS = 120
"""OpenMetrics allows an exemplar's labels 128 characters in all, and the name `trace_id` is 8 of them."""

LARGEST_COUNT = 2**63 - 1
"""The journal's JSON has no greater integer."""

_BOUND = re.compile(r"[+]?Inf|-?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?")

# Constants: a detail is not written again for each of the samples that a loop may have rejected.
_TAKES = {COUNTER: "one number", GAUGE: "one number", HISTOGRAM: "numbers or buckets", SUMMARY: "numbers"}
_NO_VALUE = {type_: f"a {type_} takes {takes}" for type_, takes in _TAKES.items()}
_KINDS = {str: "a string", bool: "a boolean", list: "a list", dict: "an object"}
_NO_NUMBER = {kind: f"'value' is a number, got {name}" for kind, name in _KINDS.items()}
_NO_LABEL_VALUE = f"a label's value is a text of at most {MAX_LABEL_VALUE_CHARACTERS} characters, a number or a boolean"
_NO_TIME = "'ts' is seconds since the epoch, or a time by RFC 3339 with its offset"
_NO_ADOPTED = (
    f"a label's value has at most {MAX_ADOPTED_VALUE_CHARACTERS} characters in a metric that no catalogue names"
)
MISMATCH = RejectedError(SampleReason.LABEL_MISMATCH, "the number of label values is not that of the labels")
_NO_TRACE_ID = f"'trace_id' is a text of at most {MAX_TRACE_ID_CHARACTERS} characters"
_NOT_FINITE = "the value, or the sum of the values, is not finite"
_BOUNDS_MISSING = "a bound of the metric is missing among the buckets"


def check_value(family: Family, value: Any) -> Any:
    """Check a value, and return its change of a series: a number, a list of observations, or an object of buckets.

    Raises:
        RejectedError: `invalid_value`, `non_finite`, `negative_increment` or `bucket_mismatch`.
    """
    type_ = family.type
    if type(value) is list and type_ not in {COUNTER, GAUGE}:
        return _check_values(value)
    if type(value) is dict and type_ == HISTOGRAM:
        return _check_buckets(family, value)
    if type(value) is Observed and type_ not in {COUNTER, GAUGE}:
        return _check_observed(family, value)
    if type(value) not in NUMBERS:
        raise RejectedError(SampleReason.INVALID_VALUE, _NO_VALUE[type_])
    if not is_number(value):
        raise RejectedError(SampleReason.NON_FINITE, _NOT_FINITE)
    if type_ == COUNTER and value < 0:
        raise RejectedError(SampleReason.NEGATIVE_INCREMENT, "a counter's increment is 0 or more")
    return value if type_ in {COUNTER, GAUGE} else [value]


def check_total(value: Any) -> float | Observed:
    """Return a cumulative value: a number that isn't negative, or observations.

    Raises:
        RejectedError: `invalid_value`, `non_finite` or `negative_increment`.
    """
    counts = (value.count, *value.buckets.values()) if type(value) is Observed else (value,)
    numbers = (*counts, value.sum) if type(value) is Observed else counts
    if not {*map(type, numbers)} <= NUMBERS:
        raise RejectedError(SampleReason.INVALID_VALUE, "the total is no number")
    if not all(map(is_number, numbers)):
        raise RejectedError(SampleReason.NON_FINITE, _NOT_FINITE)
    if min(counts) < 0:
        raise RejectedError(SampleReason.NEGATIVE_INCREMENT, "a total is 0 or more")
    if type(value) is Observed and not _adds_up(value):
        raise RejectedError(
            SampleReason.INVALID_VALUE, "the bounds don't ascend, or the buckets hold more than the count"
        )
    return value  # type: ignore[no-any-return]  # checked above


def _adds_up(observed: Observed) -> bool:
    """Return whether the bounds ascend, and no more is in the buckets than was observed, which 63 bits hold."""
    return _ascend([*observed.buckets]) and sum(observed.buckets.values()) <= observed.count <= LARGEST_COUNT


def _ascend(bounds: Sequence[float]) -> bool:
    return all(map(is_number, bounds)) and all(low < high for low, high in pairwise(bounds))


def event_time(ts: Any, now: float) -> float:
    """Return when something was measured, in seconds since the epoch; now, where it lies in the future.

    Raises:
        RejectedError: `invalid_timestamp`: the time is no positive number.
    """
    if not is_time(ts):
        raise RejectedError(SampleReason.INVALID_TIMESTAMP, "the time is seconds since the epoch, more than 0")
    return min(float(ts), now)


def read_time(ts: Any, at: float, now: float) -> float:
    """Return when something was measured, in seconds since the epoch: `at` where `ts` is absent, at most now.

    Raises:
        RejectedError: `invalid_timestamp`: `ts` is neither a positive number nor a time by RFC 3339.
    """
    try:
        stated = seconds(ts)
    except ValueError:
        raise RejectedError(SampleReason.INVALID_TIMESTAMP, _NO_TIME) from None
    return at if stated is None else min(stated, now)


def read_labels(read: Callable[[Any], Any], labels: Any) -> Any:
    """Return labels that aren't of their usual type.

    Raises:
        RejectedError: `invalid_label`: nothing that they are means none.
    """
    try:
        return read(labels)
    except ValueError as error:
        raise RejectedError(SampleReason.INVALID_LABEL, str(error)) from None


def label_texts(
    labelnames: Sequence[str], labelvalues: Sequence[Any], most: int = MAX_LABEL_VALUE_CHARACTERS
) -> tuple[str, ...]:
    """Return the label values of a series as text, of at most so many characters each.

    Raises:
        RejectedError: `label_mismatch`: their number is wrong, or `invalid_label`: one has no text, or is too long.
    """
    if len(labelvalues) != len(labelnames):
        raise RejectedError(*MISMATCH.args)
    texts = [text for text in map(label_text, labelvalues) if text is not None]
    if len(texts) < len(labelvalues):
        raise RejectedError(SampleReason.INVALID_LABEL, _NO_LABEL_VALUE)
    if any(len(text) > most for text in texts):
        raise RejectedError(
            SampleReason.INVALID_LABEL, _NO_LABEL_VALUE if most > MAX_ADOPTED_VALUE_CHARACTERS else _NO_ADOPTED
        )
    return tuple(texts)


def check_trace_id(trace_id: Any) -> None:
    """Check that a sample can belong to this trace.

    Raises:
        RejectedError: `invalid_trace_id`: it is no text, or too long for an exemplar.
    """
    if type(trace_id) is not str or len(trace_id) > MAX_TRACE_ID_CHARACTERS:
        raise RejectedError(SampleReason.INVALID_TRACE_ID, _NO_TRACE_ID)


def bounds(value: Any) -> set[float] | None:
    """List the upper bounds that a value states, +Inf among them if it is there; None where it states no buckets.

    Raises:
        RejectedError: `invalid_value`: one is no number.
    """
    if type(value) is Observed:
        return {*value.buckets} if value.is_exact else None
    buckets = value.get("buckets") if type(value) is dict else None
    if type(buckets) is not dict or not buckets:
        return None
    found = {float(bound) for bound in buckets if _BOUND.fullmatch(bound)}
    if len(found) != len(buckets) or -inf in found:
        raise RejectedError(SampleReason.INVALID_VALUE, "a bucket's bound is a number or +Inf, and each stands once")
    return found


def read_buckets(type_: str, value: Any) -> list[float] | None:
    """Return the buckets that a metric of no catalogue has by its first value; None where the value states none.

    Raises:
        RejectedError: `invalid_value`: a bound is no number.
    """
    stated = bounds(value) if type_ == HISTOGRAM else None
    return None if stated is None else sorted(stated - {inf})


def value_of(sample: Mapping[str, Any]) -> Any:
    """Return a sample's value in the form of a row's last cell: a number, a list, or an object of buckets and sum.

    Raises:
        RejectedError: `invalid_value`: it has none, or more than one.
    """
    stated = pick_measured(sample)
    if len(stated) != 1:
        raise RejectedError(SampleReason.INVALID_VALUE, "expected one of 'value', 'values' and 'buckets'")
    ((name, value),) = stated.items()
    if name == "buckets":
        return {"buckets": value, "sum": sample.get("sum")}
    if name == "value" and type(value) not in NUMBERS:
        raise RejectedError(SampleReason.INVALID_VALUE, _NO_NUMBER.get(type(value), "'value' is a number"))
    if name == "values" and type(value) is not list:
        raise RejectedError(SampleReason.INVALID_VALUE, "'values' is a list of numbers")
    return value


def _check_values(values: list[Any]) -> list[float]:
    if not {*map(type, values)} <= NUMBERS:
        raise RejectedError(SampleReason.INVALID_VALUE, "'values' is a list of numbers")
    if not isfinite(sum(values)):  # an infinity or a NaN among them makes the sum one
        raise RejectedError(SampleReason.NON_FINITE, _NOT_FINITE)
    return values


def _check_observed(family: Family, observed: Observed) -> Observed:
    check_total(observed)
    if family.type == HISTOGRAM and observed.is_exact and not observed.buckets.keys() >= {*family.buckets}:
        raise RejectedError(SampleReason.BUCKET_MISMATCH, _BOUNDS_MISSING)
    return observed


def _check_buckets(family: Family, value: dict[str, Any]) -> dict[str, Any]:
    buckets, total = value.get("buckets"), value.get("sum")
    if type(buckets) is not dict or not buckets or type(total) not in NUMBERS:
        raise RejectedError(SampleReason.INVALID_VALUE, "'buckets' is an object of counts by bound, and 'sum' a number")
    if not all(type(count) in NUMBERS and 0 <= count <= LARGEST and count % 1 == 0 for count in buckets.values()):
        raise RejectedError(SampleReason.INVALID_VALUE, "a bucket's count is a whole number, 0 or more")
    if not is_number(total):
        raise RejectedError(SampleReason.NON_FINITE, _NOT_FINITE)
    if not {*family.buckets} <= (bounds(value) or set()):
        raise RejectedError(SampleReason.BUCKET_MISMATCH, _BOUNDS_MISSING)
    return value
