"""A pushed snapshot in Prometheus' text exposition (0.0.4) or OpenMetrics: what a Pushgateway is sent.

Counters, histograms and summaries in it are totals; a `_created` line says since when. A summary's quantiles are left
out, since quantiles don't add up. A line that is none is counted; a body without any good line is no envelope. Never
raises anything but `EnvelopeError`. Pure.
"""

import re
from dataclasses import dataclass, field
from math import isfinite

from busmon.errors import EnvelopeError, RejectedError
from busmon.wire.arrival import MAX_POINTS, Arrival, name_of, too_many_points
from busmon.wire.body import text
from busmon.wire.envelope import Envelope, Observed, Part, Point
from busmon.wire.json_v1 import UNKNOWN_AGENT
from busmon.wire.rejections import Rejections

OPENMETRICS_TYPE = "application/openmetrics-text"

_EXPECTED = 'expected NAME{LABEL="…"} VALUE'

# Possessive throughout: what is no sample is known in one pass, however long and odd the line is.
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*+)[ \t]*+(?>\{(.*)\}[ \t]*+)?+([^\s_]++)(?:[ \t]++([^\s_]++))?+[ \t]*+")
_LABEL = re.compile(r"[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*\"((?:\\.|[^\"\\])*)\"[ \t]*(?:,|$)")
_TYPE = re.compile(r"#[ \t]+TYPE[ \t]+(\S+)[ \t]+(\S+)[ \t]*")
_EXEMPLAR = re.compile(r"[ \t]#[ \t]*\{.*$")
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}
_SUFFIXES = ("_total", "_bucket", "_sum", "_count", "_created")
_MILLISECONDS = 1e3
_TYPES = frozenset({"counter", "gauge", "histogram", "summary"})

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Series:
    """What the lines of one series say together."""

    value: float | None = None
    count: float | None = None
    sum: float = 0.0
    cumulative: dict[float, float] = field(default_factory=dict)
    created: float | None = None
    at: float | None = None


class _Snapshot:
    """The series of a body, by family."""

    def __init__(self, milliseconds: float) -> None:
        self.types: dict[str, str] = {}
        self.series: dict[tuple[str, Labels], _Series] = {}
        self._milliseconds = milliseconds

    def read(self, line: str) -> None:
        """Take one line in.

        Raises:
            ValueError: it is no sample.
        """
        if line.startswith("#"):
            if stated := _TYPE.fullmatch(line):
                self.types[stated[1]] = stated[2]
            return
        sample = _SAMPLE.fullmatch(_EXEMPLAR.sub("", line))
        if sample is None:
            raise ValueError(line)
        name, labels, value, time = sample.groups()
        self._take(name, _labels(labels or ""), float(value), time)

    def _take(self, name: str, labels: dict[str, str], value: float, time: str | None) -> None:
        family, part = self._family(name)
        bound = labels.pop("le", None) if part == "_bucket" else None
        if self.types.get(family) == "summary" and labels.pop("quantile", None) is not None:
            return
        series = self.series.setdefault((family, tuple(labels.items())), _Series())
        if time is not None:
            series.at = float(time) / self._milliseconds
        if part == "_bucket":
            series.cumulative[float(bound or "nan")] = value
        elif part == "_sum":
            series.sum = value
        elif part == "_count":
            series.count = value
        elif part == "_created":
            series.created = value
        else:
            series.value = value

    def _family(self, name: str) -> tuple[str, str]:
        """The family of a sample and its suffix; a sample without a `TYPE` is a family of its own."""
        if name in self.types and self.types[name] in {"gauge", "counter"} and not name.endswith("_created"):
            return name, ""
        for suffix in _SUFFIXES:
            family = name.removesuffix(suffix)
            if family != name:
                for stated in (family, f"{family}_total"):
                    if stated in self.types:
                        return stated, suffix
        return name, ""


def decode(arrival: Arrival) -> Envelope:
    """The envelope in a snapshot.

    Raises:
        EnvelopeError: as of `text`, or `invalid_exposition`, `too_many_samples`.
    """
    is_openmetrics = (arrival.content_type or "").startswith(OPENMETRICS_TYPE)
    snapshot, rejections = _Snapshot(1.0 if is_openmetrics else _MILLISECONDS), Rejections()
    for line in text(arrival.body, arrival.content_encoding, arrival.max_bytes).split("\n"):
        if not line.strip():
            continue
        try:
            snapshot.read(line)
        except ValueError:
            rejections.add(RejectedError("invalid_exposition", _EXPECTED))
        if len(snapshot.series) > MAX_POINTS:
            raise too_many_points()
    if not snapshot.series and rejections.counts:
        raise EnvelopeError("invalid_exposition", f"no good line; {_EXPECTED}")
    points = [
        _point(family, snapshot.types.get(family), dict(labels), series, arrival.published_at)
        for (family, labels), series in snapshot.series.items()
        if series.count is not None or series.value is not None
    ]
    context = {label: name for label in ("job", "instance") if (name := name_of(arrival.headers.get(label)))}
    agent = name_of(arrival.app_id) or context.get("job") or UNKNOWN_AGENT
    source = arrival.source or name_of("/".join(context.values())) or agent
    part = Part(source, agent, context, points, rejections)
    return Envelope(source, agent, arrival.published_at, [], [], parts=[part], format="prometheus")


def _point(family: str, type_: str | None, labels: dict[str, str], series: _Series, now: float | None) -> Point:
    type_ = type_ if type_ in _TYPES else None
    at = series.at or now
    if series.count is not None:
        observed = Observed(series.count, series.sum, _apart(series.cumulative))
        return Point(family, family, type_, observed, labels, at, is_total=True, start=series.created)
    name = f"{family}_total" if type_ == "counter" and not family.endswith("_total") else family
    value = series.value if series.value is not None else 0.0
    return Point(name, name, type_, value, labels, at, type_ == "counter", series.created)


def _apart(cumulative: dict[float, float]) -> dict[float, float]:
    """Counts of each finite bucket alone."""
    below, apart = 0.0, {}
    for bound in sorted(bound for bound in cumulative if isfinite(bound)):
        apart[bound] = cumulative[bound] - below
        below = cumulative[bound]
    return apart


def _labels(said: str) -> dict[str, str]:
    labels, at = {}, 0
    while at < len(said):
        label = _LABEL.match(said, at)
        if label is None:
            raise ValueError(said)
        labels[label[1]] = re.sub(r"\\[\\\"n]", lambda escape: _ESCAPES[escape[0]], label[2])
        at = label.end()
    return labels
