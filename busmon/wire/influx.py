"""InfluxDB line protocol, as Telegraf's AMQP output sends it: `measurement,tag=value field=1,other=2i timestamp`.

By InfluxData's reference of the line protocol; timestamps are in nanoseconds. Each numeric field is a point
`measurement.field`. Fields that are text are left out; a line that isn't one is counted; a body without any good line
is no envelope. Never raises anything but `EnvelopeError`. Pure.
"""

import re
from collections.abc import Iterator
from hashlib import blake2b

from busmon.errors import EnvelopeError, RejectedError
from busmon.wire.arrival import (
    MAX_METRIC_CHARACTERS,
    MAX_PARTS,
    MAX_POINTS,
    Arrival,
    name_of,
    too_many_parts,
    too_many_points,
)
from busmon.wire.body import text
from busmon.wire.envelope import Envelope, Part, Point
from busmon.wire.rejections import Rejections
from busmon.wire.statsd import family_name

_EXPECTED = "expected MEASUREMENT,TAG=… FIELD=… TIMESTAMP"
_NANOSECONDS = 1e9
_MAX_TAGS = 64
"""Of a line: each of its fields has all of them."""
_MAX_DIGITS = 20
"""Of a whole number: InfluxDB's have 64 bits."""
_PLAIN = r"(?:\\.|[^\\,= \t])+"
_HEAD = re.compile(rf"((?:\\.|[^\\, ])+)((?:,{_PLAIN}={_PLAIN})*) +")
_PAIR = re.compile(rf"({_PLAIN})=(?:\"(?:\\.|[^\"\\])*\"|({_PLAIN}))(,|$| )")
_ESCAPED = re.compile(r"\\([,= \\\"])")
_NUMBER = re.compile(r"([+-]?(?:[0-9]+(?:[.][0-9]*)?|[.][0-9]+)(?:[eE][+-]?[0-9]+)?)[iu]?")
_BOOLEANS = {"t": 1, "T": 1, "true": 1, "True": 1, "TRUE": 1, "f": 0, "F": 0, "false": 0, "False": 0, "FALSE": 0}
_TYPES = {"counter": "counter", "gauge": "gauge"}
"""Fields that Telegraf gives a metric of Prometheus."""


def decode(arrival: Arrival) -> Envelope:
    """The envelope in a body of lines.

    Raises:
        EnvelopeError: as of `text`, or `invalid_influx`, `too_many_samples`.
    """
    by_host: dict[str, list[Point]] = {}
    rejections, count = Rejections(), 0
    for line in text(arrival.body, arrival.content_encoding, arrival.max_bytes).split("\n"):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            points = list(_points(line.rstrip("\r")))
        except ValueError:
            rejections.add(RejectedError("invalid_influx", _EXPECTED))
            continue
        count += len(points)
        if count > MAX_POINTS:
            raise too_many_points()
        if points:
            by_host.setdefault(points[0].labels.get("host", ""), []).extend(points)
        if len(by_host) > MAX_PARTS:
            raise too_many_parts()
    if not by_host and rejections.counts:
        raise EnvelopeError("invalid_influx", f"no good line; {_EXPECTED}")
    return _envelope(by_host, rejections, arrival)


def _envelope(by_host: dict[str, list[Point]], rejections: Rejections, arrival: Arrival) -> Envelope:
    agent, default = arrival.agent, arrival.source or arrival.agent
    parts = [
        Part(arrival.source or name_of(host) or default, agent, {}, points) for host, points in by_host.items()
    ] or [Part(default, agent, {}, [])]
    parts[0] = parts[0]._replace(rejections=rejections)
    is_timed = not rejections.counts and all(point.at for points in by_host.values() for point in points)
    identity = blake2b(arrival.body, digest_size=16).hexdigest() if is_timed else None
    return Envelope(
        parts[0].source, agent, arrival.published_at, [], [], parts=parts, identity=identity, format="influx"
    )


def _points(line: str) -> Iterator[Point]:
    """The points of one line.

    Raises:
        ValueError: it is no line of the protocol.
    """
    head = _HEAD.match(line)
    if head is None:
        raise ValueError(line)
    measurement, tags = _unescaped(head[1]), _tags(head[2])
    if len(measurement) > MAX_METRIC_CHARACTERS or len(tags) > _MAX_TAGS:
        raise ValueError(measurement)
    fields, timestamp = _fields(line, head.end())
    at = _whole(timestamp) / _NANOSECONDS if (timestamp := timestamp.strip()) else None
    for field, value in fields:
        plain = field in {"value", *_TYPES}
        name = measurement if plain else f"{measurement}.{field}"
        type_ = _TYPES.get(field)
        yield Point(name, family_name(name.replace(".", "_")), type_, value, tags, at, type_ == "counter")


def _tags(said: str) -> dict[str, str]:
    pairs = re.findall(rf",({_PLAIN})=({_PLAIN})", said)
    return {_unescaped(key): _unescaped(value) for key, value in pairs}


def _fields(line: str, start: int) -> tuple[list[tuple[str, float]], str]:
    """The fields that are numbers or booleans, and what follows them."""
    found, more = [], ","
    while more == ",":
        pair = _PAIR.match(line, start)
        if pair is None:
            raise ValueError(line)
        key, value, more = pair.groups()
        if value is not None:
            found.append((_unescaped(key), _number(value)))
        start = pair.end()
    return found, line[start:]


def _number(value: str) -> float:
    if value in _BOOLEANS:
        return _BOOLEANS[value]
    number = _NUMBER.fullmatch(value)
    if number is None:
        raise ValueError(value)
    return _whole(number[1]) if value[-1] in "iu" else float(number[1])


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(digits)
    return int(digits)


def _unescaped(escaped: str) -> str:
    return _ESCAPED.sub(r"\1", escaped) if "\\" in escaped else escaped
