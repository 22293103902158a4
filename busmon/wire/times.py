"""Times as publishers state them, in seconds since the epoch: numbers, or text by RFC 3339. Pure."""

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

_RFC_3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-5][0-9]):([0-5][0-9]|60)(?:[.,]([0-9]+))?"
    r"(?:([Zz])|([+-])([01][0-9]|2[0-3]):?([0-5][0-9]))?"
)
_ZERO = re.compile(r"0001-01-01[Tt ]00:00:00([.,]0+)?([Zz]|[+-]00:?00)?")
"""The zero value of Go's `time.Time` and of .NET's `DateTime`."""

_LAST_SECOND = 59


def is_time(value: object) -> bool:
    """Return whether a JSON value is a point in time: a positive, finite number that isn't a boolean."""
    return (type(value) is float or type(value) is int) and 0 < value < math.inf


def seconds(ts: Any) -> float | None:
    """Return a time in seconds since the epoch; None where the member is null or a zero value.

    Raises:
        ValueError: the member is neither a positive number nor a time by RFC 3339.
    """
    if is_time(ts):
        return float(ts)
    if ts is None or ts == "" or (type(ts) in {int, float} and ts == 0):
        return None
    if type(ts) is not str:
        raise ValueError("a time is seconds since the epoch, or text by RFC 3339")
    if _ZERO.fullmatch(ts):
        return None
    since_epoch = rfc3339(ts)
    if since_epoch < 0:
        raise ValueError("a time before the epoch")
    return since_epoch or None


def rfc3339(text: str, *, needs_offset: bool = True) -> float:
    """Return the seconds since the epoch of a time by RFC 3339; `t`, `z` and a leap second are accepted.

    Args:
        text: the time.
        needs_offset: refuse a time without `Z` or an offset, instead of taking it for UTC.

    Raises:
        ValueError: the text is no such time.
    """
    found = _RFC_3339.fullmatch(text)
    if found is None:
        raise ValueError(f"no time by RFC 3339: {text[:80]!r}")
    *fields, fraction, utc, sign, hours, minutes = found.groups()
    if needs_offset and not (utc or sign):
        raise ValueError(f"a time without an offset: {text[:80]!r}")
    year, month, day, hour, minute, second = map(int, fields)
    whole = datetime(year, month, day, hour, minute, min(second, _LAST_SECOND), tzinfo=UTC).timestamp()
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)).total_seconds()
    return whole + (second > _LAST_SECOND) + float(f"0.{fraction or 0}") - (-offset if sign == "-" else offset)
