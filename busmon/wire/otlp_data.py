"""OTLP metrics that busmon reads, the same from protobuf and from JSON. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from busmon.wire.arrival import MAX_METRIC_CHARACTERS
from busmon.wire.envelope import Observed

MAX_STATED_CHARACTERS = MAX_METRIC_CHARACTERS + 1
"""Of a metric's name or unit: each point has a copy of what is cut to be too long still, and is rejected by it."""


class Side(NamedTuple):
    """The buckets of an exponential histogram on one side of zero."""

    offset: int = 0
    counts: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Exponential:
    """An exponential histogram's value."""

    count: int
    sum: float
    scale: int
    zero_count: int
    zero_threshold: float
    positive: Side
    negative: Side


class Data(NamedTuple):
    """A data point.

    Attributes:
        attributes: as label values.
        at: when it was measured, in nanoseconds since the epoch; 0 where it doesn't say.
        start: when a total was 0; 0 where it doesn't say.
        flags: bits, of which 1 says that there is no value.
        value: a number, or what was counted.
    """

    attributes: Mapping[str, str]
    at: int
    start: int
    flags: int
    value: float | Observed | Exponential


class Metric(NamedTuple):
    """A metric and its data points.

    Attributes:
        kind: the name of its data in the schema, such as `exponential_histogram`.
        temporality: OTLP's number; 0 where there is none.
    """

    name: str
    unit: str
    kind: str
    temporality: int
    is_monotonic: bool
    data: Iterable[Data]


class Resource(NamedTuple):
    """The metrics of one resource."""

    attributes: Mapping[str, str]
    metrics: Iterable[Metric]


def label_value(value: Any) -> str:
    """Return an attribute's value as a label's: text as it is, nothing as nothing, all else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def make_observed(count: int, total: float, bounds: Sequence[float], counts: Sequence[int]) -> Observed:
    """Return counts by finite bound; the bucket above the last one is what is left of the count."""
    pairs = zip(bounds, counts, strict=False)
    return Observed(count, total, {bound: amount for bound, amount in pairs if bound != float("inf")})
