"""StatsD lines, and DogStatsD's: `name:value|type|@rate|#tag:value,…`.

By Etsy's metric types and Datadog's datagram format up to 1.3 (several values of one line, `T` for the time). A line
that is none is counted; a body without any good line is no envelope. Never raises anything but `EnvelopeError`. Pure.
"""

import re
from collections.abc import Mapping
from typing import Any

from busmon.errors import EnvelopeError, RejectedError
from busmon.wire.arrival import MAX_POINTS, Arrival, too_many_points
from busmon.wire.body import text
from busmon.wire.envelope import Envelope, Part, Point
from busmon.wire.rejections import Rejections

_EXPECTED = "expected NAME:VALUE|TYPE"
_NUMBER = re.compile(r"[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?")
_NO_NAME_CHARACTER = re.compile(r"[^a-zA-Z0-9_:]")
_MILLISECONDS = 1e3
_LEAST_RATE = 1e-4
_LARGEST_EXACT = 2.0**53
"""Whole numbers beyond it stay floats, whose sums overflow to infinity and not to an error."""
_NO_METRIC = ("_e{", "_sc|")
"""Datadog's events and service checks."""


def decode(arrival: Arrival) -> Envelope:
    """The envelope in a body of lines.

    Raises:
        EnvelopeError: as of `text`, or `invalid_statsd`, `too_many_samples`.
    """
    points: list[Point] = []
    elements: dict[tuple[str, tuple[tuple[str, str], ...]], set[str]] = {}
    rejections, values = Rejections(), 0
    for line in text(arrival.body, arrival.content_encoding, arrival.max_bytes).split("\n"):
        if not line.strip() or line.startswith(_NO_METRIC):
            continue
        try:
            name, said, type_, rest = _parted(line.rstrip("\r"))
            if type_ == "s":
                tags = _tags(name, rest)
                elements.setdefault((name.partition(",")[0], tuple(tags.items())), set()).update(said)
                continue
            point = _point(name, said, type_, rest)
        except ValueError:
            rejections.add(RejectedError("invalid_statsd", _EXPECTED))
            continue
        points.append(point)
        values += len(point.value) if isinstance(point.value, list) else 1
        if values > MAX_POINTS:
            raise too_many_points()
    points += [_gauge(name, dict(tags), len(seen)) for (name, tags), seen in elements.items()]
    if not points and rejections.counts:
        raise EnvelopeError("invalid_statsd", f"no good line; {_EXPECTED}")
    source = arrival.source or arrival.agent
    part = Part(source, arrival.agent, {}, points, rejections)
    return Envelope(source, arrival.agent, arrival.published_at, [], [], parts=[part], format="statsd")


def _parted(line: str) -> tuple[str, list[str], str, Mapping[str, str]]:
    """Name, values, type, and the rest by its first character."""
    head, type_, *others = line.split("|")
    type_at = head.find(":")
    if type_at < 1:
        raise ValueError(line)
    rest = {other[:1]: other[1:] for other in others}
    return head[:type_at], head[type_at + 1 :].split(":"), type_, rest


def _point(name: str, said: list[str], type_: str, rest: Mapping[str, str]) -> Point:
    numbers = [_number(part) for part in said]
    rate, tags, at = _rate(rest), _tags(name, rest), _time(rest)
    name = name.partition(",")[0]
    family = family_name(name)
    if type_ == "c":
        return Point(name, family, "counter", sum(numbers) / rate, tags, at)
    if type_ == "g":
        op = "add" if said[-1][:1] in {"+", "-"} else "set"
        return Point(name, family, "gauge", numbers[-1], tags, at, op=op)
    if type_ not in {"ms", "h", "d"}:
        raise ValueError(type_)
    if type_ == "ms":
        numbers = [number / _MILLISECONDS for number in numbers]
    return Point(name, family, "histogram", _repeated(numbers, rate), tags, at)


def _repeated(numbers: list[float], rate: float) -> list[float]:
    """Each observation as often as it stands for others that were not sent."""
    times = round(1 / rate)
    if times * len(numbers) > MAX_POINTS:
        raise too_many_points()
    return numbers * times


def _gauge(name: str, tags: Mapping[str, str], size: int) -> Point:
    return Point(name, family_name(name), "gauge", size, tags, op="set")


def _number(digits: str) -> float:
    if not _NUMBER.fullmatch(digits):
        raise ValueError(digits)
    number = float(digits)
    return int(number) if number.is_integer() and abs(number) <= _LARGEST_EXACT else number


def _rate(rest: Mapping[str, str]) -> float:
    rate = _number(rest.get("@", "1"))
    if not _LEAST_RATE <= rate <= 1:
        raise ValueError(rate)
    return rate


def _time(rest: Mapping[str, str]) -> float | None:
    return _number(rest["T"]) if "T" in rest else None


def _tags(name: str, rest: Mapping[str, str]) -> dict[str, str]:
    """DogStatsD's `#key:value,key` and Telegraf's `name,key=value`."""
    _, *own = name.split(",")
    pairs: list[Any] = [tag.partition("=") for tag in own]
    pairs += [tag.partition(":") for tag in rest.get("#", "").split(",") if tag]
    return {key: value or "true" for key, _, value in pairs}


def family_name(name: str) -> str:
    """The name with `_` for what can't be in a metric's."""
    family = _NO_NAME_CHARACTER.sub("_", name)
    return f"_{family}" if family[:1].isdigit() else family
