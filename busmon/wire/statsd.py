"""StatsD lines in the dialects of Etsy, Datadog, Telegraf, SignalFx and Librato: `name:value|type|@rate|#tag:value,…`.

By Etsy's metric types and Datadog's datagram format up to 1.3. A line's sections show its dialect; otherwise the name
of the format in the settings states it (`Dialect`). A line that can't be counted is rejected by a reason of its own; a
body without any good line is not an envelope. Never raises anything but `EnvelopeError`. Pure.
"""

import re
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from busmon.errors import EnvelopeError, RejectedError
from busmon.reasons import BodyReason, SampleReason
from busmon.wire.arrival import MAX_POINTS, Arrival, too_many_points
from busmon.wire.body import BLANK, lines, text, visible
from busmon.wire.envelope import MOVE, SET, SIGNED, Envelope, Part, Point
from busmon.wire.rejections import Rejections, Stated

_NUMBER = re.compile(r"[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf(inity)?)", re.IGNORECASE)
_NO_NAME_CHARACTER = re.compile(r"[^a-zA-Z0-9_:]")
_BIT = r":[^:|]*\|[^:|]*(?:\|@[^:|]*)?"
_BITS = re.compile(rf"([^:|]+)((?:{_BIT}){{2,}}+)")
_TAGGED = frozenset(",#[")
_TAGS = re.compile(r"\[([^\]]*+)\]|[,#](.*+)")
_MILLISECONDS = 1e3
_LEAST_RATE = 1e-4
_LARGEST_EXACT = 2.0**53
"""Whole numbers beyond it stay floats, whose sums overflow to infinity and not to an error."""

_OTHERS = {
    "_e{": RejectedError(SampleReason.STATSD_EVENT, "an event of DogStatsD is not a metric"),
    "_sc|": RejectedError(SampleReason.STATSD_SERVICE_CHECK, "a service check of DogStatsD is not a metric"),
}
_OTHER_REASONS = frozenset(other.reason for other in _OTHERS.values())
_DATADOG_SECTIONS = frozenset("#Tce")
"""First characters of tags, time, container and external data. (`card:` begins as `c:` does.)"""
_PACKED_TYPES = frozenset({"ms", "h", "d"})
"""Types whose values Datadog's clients pack; they add up the values of the others themselves."""
_TYPES = frozenset({"c", "g", "s"}) | _PACKED_TYPES


class Dialect(Enum):
    """The dialect of the lines that don't say it themselves.

    Attributes:
        ANY: numbers of the types `ms`, `h` and `d` may be packed. `+` moves a gauge. `-` moves a gauge that
            accumulates, and sets any other.
        DATADOG: numbers may be packed. The sign of a gauge is that of its reading.
        ETSY: numbers aren't packed. A gauge with a sign is moved.
    """

    ANY = "statsd"
    DATADOG = "dogstatsd"
    ETSY = "etsy_statsd"


_ANY, _DATADOG, _ETSY = Dialect
"""Bare: looking a member up takes a tenth of the time that a line does."""


class _Line(NamedTuple):
    """A line in its parts; `rest` has the sections after the type by their first characters."""

    name: str
    tags: dict[str, str]
    values: list[str]
    type: str
    rest: Mapping[str, str]
    is_datadog: bool


class _Body:
    """The points of a body."""

    def __init__(self, dialect: Dialect) -> None:
        self.points: list[Point] = []
        self.rejections = Rejections()
        self._dialect = dialect
        self._sets: dict[tuple[str, tuple[tuple[str, str], ...]], set[str]] = {}
        self._values = 0

    def take(self, line: str) -> None:
        """Take one line in; if it can't be counted as it stands, take each of the bits that Etsy lets it have."""
        parted = None
        try:
            parted = _split(line, self._dialect)
            self._count(parted)
        except RejectedError as error:
            if bits := _BITS.fullmatch(line):
                for bit in bits[2][1:].split(":"):
                    self.take(f"{bits[1]}:{bit}")
            else:
                stated = Stated(parted.name, parted.tags, ":".join(parted.values)) if parted else Stated()
                self.rejections.add(error, stated)

    def finish(self) -> None:
        """Count the sets. A gauge that `+` moves shows that the body is Etsy's, so `-` moves gauges of it, too."""
        sets = [(name, dict(tags), len(elements)) for (name, tags), elements in self._sets.items()]
        self.points += [Point(name, family_name(name), "gauge", size, tags, op=SET) for name, tags, size in sets]
        if any(point.op == MOVE for point in self.points):
            self.points = [point._replace(op=MOVE) if point.op == SIGNED else point for point in self.points]

    def _count(self, line: _Line) -> None:
        if line.type == "s":
            self._sets.setdefault((line.name, tuple(line.tags.items())), set()).update(line.values)
            return
        point = _point(line, self._dialect)
        self.points.append(point)
        self._values += len(point.value) if isinstance(point.value, list) else 1
        if self._values > MAX_POINTS:
            raise too_many_points()


def decode(arrival: Arrival, dialect: Dialect = Dialect.ANY) -> Envelope:
    """Decode a body of lines.

    Raises:
        EnvelopeError: as of `text`, or `invalid_statsd`, `too_many_samples`.
    """
    body = _Body(dialect)
    for line in lines(text(arrival.body, arrival.content_encoding, arrival.max_bytes)):
        if line[0] == "_" and (other := next((_OTHERS[start] for start in _OTHERS if line.startswith(start)), None)):
            body.rejections.add(other)
        else:
            body.take(line)
    body.finish()
    faults = [reason for reason in body.rejections.counts if reason not in _OTHER_REASONS]
    if faults and not body.points:
        raise EnvelopeError(BodyReason.INVALID_STATSD, f"no line can be counted; {body.rejections.show(faults[0])}")
    source = arrival.sender
    part = Part(source, arrival.agent, {}, body.points, body.rejections)
    return Envelope(source, arrival.agent, arrival.published_at, [], [], parts=[part], format="statsd")


def family_name(name: str) -> str:
    """Return the name with `_` for what can't be in a metric's."""
    family = _NO_NAME_CHARACTER.sub("_", name)
    return f"_{family}" if family[:1].isdigit() else family


# -- a line in its parts -----------------------------------------------------------------------------------------------


def _split(line: str, dialect: Dialect) -> _Line:
    head, *sections = line.split("|")
    name, colon, value = head.rpartition(":")
    if not colon or not sections:
        raise RejectedError(SampleReason.INVALID_STATSD, "expected NAME:VALUE|TYPE")
    type_ = sections[0].strip(BLANK)
    rest = {section[:1]: section[1:] for section in sections[1:]}
    is_datadog = dialect is _DATADOG or (
        dialect is _ANY and (type_ == "d" or (bool(rest) and not _DATADOG_SECTIONS.isdisjoint(rest)))
    )
    values = [value]
    if ":" in name:
        name, values = _several(name, value, type_, is_datadog=is_datadog, dialect=dialect)
    name, tags = _split_name(name)
    if "#" in rest:
        tags |= _pairs(rest["#"], ":")
    return _Line(name, tags, values, type_, rest, is_datadog)


def _several(name: str, value: str, type_: str, *, is_datadog: bool, dialect: Dialect) -> tuple[str, list[str]]:
    """Tell a name with colons, of which the last one ends it, from Datadog's packed values, which the first one begins.

    Datadog's names have neither colons nor other dialects' tags.
    """
    first, *packed = f"{name}:{value}".split(":")
    if not _TAGGED.isdisjoint(first):
        return name, [value]
    if is_datadog:
        return first, packed if type_ != "s" else [":".join(packed)]
    if dialect is _ANY:
        if type_ == "s":
            raise RejectedError(
                SampleReason.INVALID_NAME, "a name or an element with a colon: state the dialect in the settings"
            )
        if type_ in _PACKED_TYPES and all(map(_is_numeric, packed)):
            return first, packed
    return name, [value]


def _split_name(name: str) -> tuple[str, dict[str, str]]:
    """Part a name from its tags: `name,k=v` (Telegraf), `name#k=v` (Librato) or `name[k=v]` (SignalFx)."""
    tags = {}
    if ("," in name or "#" in name or "[" in name) and (parts := _TAGS.search(name)):
        rest = name[parts.end() :] if parts[2] is None else ""
        name, tags = name[: parts.start()] + rest, _pairs(parts[1] or parts[2] or "", "=")
    name = visible(name)
    if not name:
        raise RejectedError(SampleReason.INVALID_NAME, "the name is empty")
    return name, tags


def _pairs(tags: str, separator: str) -> dict[str, str]:
    clean = str.strip if tags.isascii() else visible
    pairs = [tag.partition(separator) for tag in tags.split(",") if tag]
    return {clean(key): value or "true" for key, _, value in pairs}


# -- a line's point ----------------------------------------------------------------------------------------------------


def _point(line: _Line, dialect: Dialect) -> Point:
    if line.type not in _TYPES:
        raise RejectedError(SampleReason.INVALID_TYPE, "the type is c, g, ms, h, d or s")
    numbers = [*map(_number, line.values)]
    rate, at = _rate(line.rest), _time(line.rest)
    name, tags, family = line.name, line.tags, family_name(line.name)
    if line.type == "c":
        return Point(name, family, "counter", sum(numbers) / rate, tags, at)
    if line.type == "g":
        op = SET if line.is_datadog else _op(line.values[-1].lstrip(BLANK)[:1], dialect)
        return Point(name, family, "gauge", numbers[-1], tags, at, op=op)
    if line.type == "ms":
        numbers = [number / _MILLISECONDS for number in numbers]
    return Point(name, family, "histogram", _repeat(numbers, rate), tags, at)


def _op(sign: str, dialect: Dialect) -> str:
    if sign == "+" or (sign == "-" and dialect is _ETSY):
        return MOVE
    return SIGNED if sign == "-" else SET


def _repeat(numbers: list[float], rate: float) -> list[float]:
    """Repeat each observation for those that the client's sampling left out."""
    times = round(1 / rate)
    if times * len(numbers) > MAX_POINTS:
        raise too_many_points()
    return numbers * times


def _number(said: str) -> float:
    digits = said.strip(BLANK)
    if not _NUMBER.fullmatch(digits):
        if _NOT_FINITE.fullmatch(digits):
            raise RejectedError(SampleReason.NON_FINITE, "the value is not finite")
        raise RejectedError(SampleReason.INVALID_VALUE, "the value is a decimal number")
    number = float(digits)
    return int(number) if number.is_integer() and abs(number) <= _LARGEST_EXACT else number


def _is_numeric(said: str) -> bool:
    """Return whether a text is meant as a number, although it may not be one that counts."""
    digits = said.strip(BLANK)
    return not digits or bool(_NUMBER.fullmatch(digits) or _NOT_FINITE.fullmatch(digits))


def _rate(rest: Mapping[str, str]) -> float:
    if "@" not in rest:
        return 1
    said = rest["@"].strip(BLANK)
    rate = float(said) if _NUMBER.fullmatch(said) else 0.0
    if not _LEAST_RATE <= rate <= 1:
        raise RejectedError(SampleReason.INVALID_RATE, f"the rate is a number from {_LEAST_RATE:g} to 1")
    return rate


def _time(rest: Mapping[str, str]) -> float | None:
    if "T" not in rest:
        return None
    time = rest["T"].strip(BLANK)
    if not _NUMBER.fullmatch(time):
        raise RejectedError(SampleReason.INVALID_TIMESTAMP, "the time is seconds since the epoch, more than 0")
    return float(time)
