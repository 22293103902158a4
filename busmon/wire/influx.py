"""InfluxDB line protocol, as Telegraf's AMQP output sends it: `measurement,tag=value field=1,other=2i timestamp`.

By InfluxData's reference of the line protocol; timestamps are in nanoseconds. Each numeric field is a point
`measurement.field`. A field that is text is left out, and may hold line breaks (`influx_lines.py`). A field or line
that can't be counted is rejected by a reason of its own; a body without any good line is not an envelope. Never raises
anything but `EnvelopeError`. Pure.
"""

import re
from collections.abc import Iterator, Mapping
from hashlib import blake2b

from busmon.errors import EnvelopeError, RejectedError
from busmon.reasons import BodyReason, SampleReason
from busmon.wire.arrival import (
    MAX_METRIC_CHARACTERS,
    MAX_PARTS,
    MAX_POINTS,
    Arrival,
    name_of,
    too_many_parts,
    too_many_points,
)
from busmon.wire.body import text, visible
from busmon.wire.envelope import Envelope, Part, Point
from busmon.wire.influx_lines import KEY, TEXT, lines
from busmon.wire.rejections import Rejections, Stated
from busmon.wire.statsd import family_name

_NANOSECONDS = 1e9
_MAX_TAGS = 64
"""Of a line: each of its fields has all of them."""

_EXPECTED = "expected MEASUREMENT,TAG=… FIELD=… TIMESTAMP"
_UNCLOSED = "a quoted text is not closed, so nothing that follows it is a line"

# Possessive throughout: a line that is none is known in one pass, however long and odd it is.
_MEASUREMENT = re.compile(r"(?:[^\\, \n]++|\\[^\n]?)++")
_TAG = re.compile(rf",({KEY})=({KEY})")
_FIELD = re.compile(rf" *+({KEY})=(?:{TEXT}\"|(?!\")({KEY}))(,|\Z| )")
_UNCLOSED_FIELD = re.compile(rf" *+{KEY}={TEXT}\Z")
_ESCAPED = re.compile(r"\\([,= \\\"])")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:[.][0-9]*)?|[.][0-9]+)(?:[eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"([+-]?[0-9]{1,20})i|([+]?[0-9]{1,20})u")
_TIME = re.compile(r"-?[0-9]{1,20}")
"""InfluxDB's whole numbers have 64 bits, and so have its times."""
_NOT_FINITE = re.compile(r"[+-]?(nan|inf(inity)?)", re.IGNORECASE)
_BOOLEANS = {"t": 1, "T": 1, "true": 1, "True": 1, "TRUE": 1, "f": 0, "F": 0, "false": 0, "False": 0, "FALSE": 0}
_TYPES = {"counter": "counter", "gauge": "gauge"}
"""Fields that Telegraf gives a metric of Prometheus."""


class _Body:
    """The points of a body, by host."""

    def __init__(self) -> None:
        self.by_host: dict[str, list[Point]] = {}
        self.rejections = Rejections()
        self._count = 0

    def take(self, line: str) -> None:
        """Take one line in, but for those of its fields that can't be counted."""
        try:
            points = [*_points(line, self.rejections)]
        except RejectedError as error:
            self.rejections.add(error, Stated(_name(line)))
            return
        self._count += len(points)
        if self._count > MAX_POINTS:
            raise too_many_points()
        if points:
            self.by_host.setdefault(points[0].labels.get("host", ""), []).extend(points)
        if len(self.by_host) > MAX_PARTS:
            raise too_many_parts()


def decode(arrival: Arrival) -> Envelope:
    """Decode a body of lines.

    Raises:
        EnvelopeError: as of `text`, or `invalid_influx`, `too_many_samples`.
    """
    body = _Body()
    for line in lines(text(arrival.body, arrival.content_encoding, arrival.max_bytes)):
        body.take(line)
    if body.rejections.counts and not body.by_host:
        first = next(iter(body.rejections.counts))
        raise EnvelopeError(BodyReason.INVALID_INFLUX, f"no line can be counted; {body.rejections.show(first)}")
    return _envelope(body.by_host, body.rejections, arrival)


def _envelope(by_host: Mapping[str, list[Point]], rejections: Rejections, arrival: Arrival) -> Envelope:
    agent, default = arrival.agent, arrival.sender
    parts = [
        Part(arrival.source or name_of(host) or default, agent, {}, points) for host, points in by_host.items()
    ] or [Part(default, agent, {}, [])]
    parts[0] = parts[0]._replace(rejections=rejections)
    is_timed = not rejections.counts and all(point.at for points in by_host.values() for point in points)
    identity = blake2b(arrival.body, digest_size=16).hexdigest() if is_timed else None
    return Envelope(
        parts[0].source, agent, arrival.published_at, [], [], parts=parts, identity=identity, format="influx"
    )


def _points(line: str, rejections: Rejections) -> Iterator[Point]:
    """Yield the points of one line.

    Raises:
        RejectedError: none of it can be counted.
    """
    measurement, tags, start = _head(line)
    fields, timestamp = _fields(line, start)
    at = _time(timestamp) if timestamp else None
    for field, said in fields:
        plain = field in {"value", *_TYPES}
        name = measurement if plain else f"{measurement}.{field}"
        type_ = _TYPES.get(field)
        try:
            value = _number(said)
        except RejectedError as error:
            rejections.add(error, Stated(name, tags, said))
            continue
        yield Point(name, family_name(name.replace(".", "_")), type_, value, tags, at, type_ == "counter")


def _head(line: str) -> tuple[str, dict[str, str], int]:
    """Read a line's measurement and tags, and the position of its fields."""
    said = _MEASUREMENT.match(line)
    if said is None:
        raise RejectedError(SampleReason.INVALID_INFLUX, _EXPECTED)
    named = _unescape if line.isascii() else _visible
    tags, at = {}, said.end()
    while tag := _TAG.match(line, at):
        tags[named(tag[1])] = _unescape(tag[2])
        at = tag.end()
    if line[at : at + 1] != " ":
        raise RejectedError(SampleReason.INVALID_INFLUX, _EXPECTED)
    if len(tags) > _MAX_TAGS:
        raise RejectedError(SampleReason.INVALID_LABEL, f"a line has at most {_MAX_TAGS} tags")
    measurement = named(said[0])
    if not 0 < len(measurement) <= MAX_METRIC_CHARACTERS:
        raise RejectedError(SampleReason.INVALID_NAME, f"the measurement is 1 to {MAX_METRIC_CHARACTERS} characters")
    return measurement, tags, at


def _fields(line: str, at: int) -> tuple[list[tuple[str, str]], str]:
    """Read the fields that aren't text, and the time."""
    named = _unescape if line.isascii() else _visible
    found, more = [], ","
    while more == ",":
        field = _FIELD.match(line, at)
        if field is None:
            raise RejectedError(
                SampleReason.INVALID_INFLUX, _UNCLOSED if _UNCLOSED_FIELD.match(line, at) else _EXPECTED
            )
        key, value, more = field.groups()
        if value is not None:
            found.append((named(key), value))
        at = field.end()
    return found, line[at:].strip(" ")


def _number(said: str) -> float:
    if said in _BOOLEANS:
        return _BOOLEANS[said]
    if integer := _INTEGER.fullmatch(said):
        return int(integer[1] or integer[2])
    if _NUMBER.fullmatch(said):
        return float(said)
    if _NOT_FINITE.fullmatch(said):
        raise RejectedError(SampleReason.NON_FINITE, "the value is not finite")
    raise RejectedError(SampleReason.INVALID_VALUE, "a field is a number, a boolean or a quoted text")


def _time(said: str) -> float:
    if not _TIME.fullmatch(said):
        raise RejectedError(SampleReason.INVALID_TIMESTAMP, "the time is nanoseconds since the epoch")
    return int(said) / _NANOSECONDS


def _name(line: str) -> str:
    """Return the measurement of a line that can't be counted; empty if it has none."""
    measurement = _MEASUREMENT.match(line)
    return _unescape(measurement[0]) if measurement else ""


def _visible(escaped: str) -> str:
    return visible(_unescape(escaped))


def _unescape(escaped: str) -> str:
    return _ESCAPED.sub(r"\1", escaped) if "\\" in escaped else escaped
