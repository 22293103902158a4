"""The series that the lines of an exposition state together, by the types that its comments state.

Only a histogram or summary has `_sum` and `_count`, only a histogram `_bucket`, only a counter `_total`: a sample of
another name is a family of its own, and never a part of one whose name it begins with. A line or series that can't be
counted is rejected alone. Pure; one object a body.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from busmon.errors import RejectedError
from busmon.reasons import SampleReason
from busmon.wire.arrival import MAX_POINTS, too_many_points
from busmon.wire.envelope import SET, Observed, Point
from busmon.wire.exposition_lines import Sample, name_in, read_sample, read_type
from busmon.wire.exposition_names import Unescape
from busmon.wire.rejections import Rejections, Stated
from busmon.wire.statsd import family_name

COUNTER, GAUGE, HISTOGRAM, SUMMARY = "counter", "gauge", "histogram", "summary"
_TYPES: Mapping[str, str | None] = {
    **{type_: type_ for type_ in (COUNTER, GAUGE, HISTOGRAM, SUMMARY)},
    **dict.fromkeys(("gaugehistogram", "info", "stateset"), GAUGE),
    **dict.fromkeys(("unknown", "untyped"), None),
}
"""The types of both formats, as the fleet's."""

_SUFFIXES: Mapping[str, frozenset[str]] = {
    COUNTER: frozenset({"total", "created"}),
    HISTOGRAM: frozenset({"bucket", "sum", "count", "created"}),
    SUMMARY: frozenset({"sum", "count", "created"}),
    "gaugehistogram": frozenset({"bucket", "gsum", "gcount"}),
    "info": frozenset({"info"}),
}
"""The suffixes that a type gives to the names of its samples."""

_VALUE, _CREATED, _BUCKET, _COUNT, _SUM, _QUANTILE = "value", "created", "bucket", "count", "sum", "quantile"


class _Role(NamedTuple):
    """The family and part that the samples of one name belong to.

    Attributes:
        family: the name of their family; a counter's ends with `_total`.
        part: what they state of a series.
        type: None where nothing states it.
    """

    family: str
    part: str
    type: str | None


@dataclass(slots=True)
class _Series:
    """The statement that the lines of one series make together.

    Attributes:
        parts: value, count and sum by their part, and a histogram's cumulative counts by their upper bound.
        at: when they were measured, in seconds since the epoch; None where no line states it.
        created: since when a total counts.
    """

    role: _Role
    labels: Mapping[str, str]
    parts: dict[str | float, float] = field(default_factory=dict)
    at: float | None = None
    created: float | None = None


class Snapshot:
    """The series of a body.

    Args:
        ticks_per_second: the unit of its timestamps.
        unescape: reads the names of metrics and labels; None for as they are.

    Attributes:
        rejections: the lines and series that aren't counted.
    """

    def __init__(self, ticks_per_second: float, unescape: Unescape | None = None) -> None:
        self.rejections = Rejections()
        self._ticks_per_second = ticks_per_second
        self._unescape = unescape
        self._types: dict[str, str] = {}
        self._roles: dict[str, _Role | None] = {}
        self._series: dict[tuple[str, frozenset[tuple[str, str]]], _Series] = {}

    @property
    def is_empty(self) -> bool:
        """Return whether no line of the body stated a series."""
        return not self._series

    def read(self, lines: Iterable[str]) -> None:
        """Take a body's lines in. A TYPE is that of its family, wherever it stands.

        Raises:
            EnvelopeError: `too_many_samples`.
        """
        samples = []
        for line in lines:
            if line[0] == "#":
                self._read_comment(line)
            else:
                samples.append(line)
        for line in samples:
            self._read_sample(line)
            if len(self._series) > MAX_POINTS:
                raise too_many_points()

    def points(self, now: float | None) -> Iterator[Point]:
        """Yield a point for each series that has a value; `now` is when the body was published."""
        for series in self._series.values():
            try:
                point = _point(series, series.at or now)
            except RejectedError as error:
                self.rejections.add(error, Stated(series.role.family, series.labels))
            else:
                if point is not None:
                    yield point

    def _read_comment(self, line: str) -> None:
        name = ""
        try:
            if stated := read_type(line):
                name, type_ = stated
                name = self._unescape(name) if self._unescape else name
                self._take_type(name, type_)
        except RejectedError as error:
            self.rejections.add(error, Stated(name))

    def _take_type(self, name: str, type_: str) -> None:
        """Let a comment state the type of its family."""
        if type_ not in _TYPES:
            raise RejectedError(SampleReason.INVALID_TYPE, "the TYPE is none of Prometheus' or OpenMetrics'")
        if self._types.setdefault(name, type_) != type_:
            raise RejectedError(SampleReason.TYPE_MISMATCH, "the family has another TYPE already; the first counts")

    def _read_sample(self, line: str) -> None:
        stated = None
        try:
            sample = read_sample(line)
            if self._unescape:
                sample = _rename(sample, self._unescape)
            stated = Stated(sample.name, sample.labels, sample.value)
            self._take(sample)
        except RejectedError as error:
            self.rejections.add(error, stated or Stated(name_in(line)))

    def _take(self, sample: Sample) -> None:
        """Let a sample state its part of its series."""
        role = self._role(sample.name)
        if role is None:
            raise RejectedError(SampleReason.TYPE_MISMATCH, "by its TYPE the family has no sample of this name")
        part: str | float = role.part
        labels = sample.labels
        if part == _BUCKET:
            part, labels = _parse_bound(labels.get("le", "")), _without(labels, "le")
        elif part == _QUANTILE:
            if "quantile" not in labels:
                raise RejectedError(
                    SampleReason.TYPE_MISMATCH, "a summary's sample of its bare name has the label quantile"
                )
            labels = _without(labels, "quantile")
        key = role.family, frozenset(labels.items())
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(role, labels)
        self._state(series, part, sample)

    def _state(self, series: _Series, part: str | float, sample: Sample) -> None:
        """State a part of a series; lines with a later timestamp state the series again."""
        if part == _CREATED:
            series.created = sample.value
            return
        if sample.time is not None:
            at = sample.time / self._ticks_per_second
            if series.at is not None and at < series.at:
                return
            if series.at is not None and at > series.at:
                series.parts.clear()
            series.at = at
        if part == _QUANTILE:
            return
        known = series.parts.setdefault(part, sample.value)
        if known != sample.value and known is not sample.value:  # a NaN is not equal to itself
            raise RejectedError(
                SampleReason.DUPLICATE_SAMPLE, "the series has another value at this time; the first counts"
            )

    def _role(self, name: str) -> _Role | None:
        """Tell what a sample of this name is; None if its family has no such sample."""
        try:
            return self._roles[name]
        except KeyError:
            role = self._roles[name] = self._resolve(name)
            return role

    def _resolve(self, name: str) -> _Role | None:
        stated = self._types.get(name)
        base, _, suffix = name.rpartition("_")
        # client_python states a gauge for each `_created` in the text format, which knows of none.
        if stated is None or (suffix == _CREATED and _TYPES[stated] in {GAUGE, None}):
            owner = self._types.get(base, "")
            if suffix in _SUFFIXES.get(owner, ()):
                return _part_of(base, owner, suffix)
            if suffix == _CREATED and self._types.get(f"{base}_total") == COUNTER:
                return _part_of(f"{base}_total", COUNTER, suffix)
        if stated == HISTOGRAM:
            return None
        if stated == SUMMARY:
            return _Role(name, _QUANTILE, SUMMARY)
        return _part_of(name, stated, _VALUE)


def _part_of(name: str, stated: str | None, suffix: str) -> _Role:
    """Give the role of a family's sample with this suffix; `value` is the sample of its bare name."""
    type_ = None if stated is None else _TYPES[stated]
    if type_ == COUNTER:
        family = name if name.endswith("_total") else f"{name}_total"
        return _Role(family, _CREATED if suffix == _CREATED else _VALUE, COUNTER)
    if type_ in {HISTOGRAM, SUMMARY}:
        return _Role(name, suffix, type_)
    return _Role(name if suffix == _VALUE else f"{name}_{suffix}", _VALUE, type_)


def _rename(sample: Sample, unescape: Unescape) -> Sample:
    labels = {unescape(label): value for label, value in sample.labels.items()}
    return sample._replace(name=unescape(sample.name), labels=labels)


def _without(labels: Mapping[str, str], left_out: str) -> dict[str, str]:
    return {label: value for label, value in labels.items() if label != left_out}


def _parse_bound(stated: str) -> float:
    """Read a bucket's upper bound.

    Raises:
        RejectedError: `invalid_label`.
    """
    try:
        bound = float(stated) if stated.isascii() and "_" not in stated else -inf
    except ValueError:
        bound = -inf
    if not bound > -inf:
        raise RejectedError(SampleReason.INVALID_LABEL, "the label le of a bucket is a number or +Inf")
    return bound


def _point(series: _Series, at: float | None) -> Point | None:
    """Make a series' point; None where it states no more than since when it counts.

    Raises:
        RejectedError: `missing_count`.
    """
    (family, _, type_), parts = series.role, series.parts
    if type_ in {HISTOGRAM, SUMMARY}:
        observed = _observe(parts)
        return Point(family, family_name(family), type_, observed, series.labels, at, True, series.created)  # noqa: FBT003
    if _VALUE not in parts:
        return None
    is_total = type_ == COUNTER
    # A value of no stated type is a reading or a total, and never an observation.
    op = SET if type_ is None else None
    return Point(family, family_name(family), type_, parts[_VALUE], series.labels, at, is_total, series.created, op)


def _observe(parts: Mapping[str | float, float]) -> Observed:
    """Make the observations of a histogram or summary; a `_count` and a bucket +Inf are the same number."""
    counts = [parts[part] for part in (_COUNT, inf) if part in parts]
    if not counts:
        raise RejectedError(
            SampleReason.MISSING_COUNT, 'a histogram or summary has a _count, or a bucket with le="+Inf"'
        )
    below, buckets = 0.0, {}
    for bound in sorted(part for part in parts if type(part) is float and part < inf):
        buckets[bound] = parts[bound] - below
        below = parts[bound]
    return Observed(max(counts), parts.get(_SUM, 0.0), buckets)
