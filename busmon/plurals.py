"""Numbers with their nouns, and ages, for lines that a person reads. Pure."""

from math import isfinite

_MILLISECONDS, _MINUTE, _HOUR, _DAY = 1000, 60, 3600, 86400
_FINE = 9.95
"""Seconds below which an age has a decimal: from here on it rounds to two digits before the point."""


def format_count(number: int, noun: str) -> str:
    """Format a number with its noun: `1 body`, `2 bodies`, `1,234 samples`."""
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {plural}"


def age(seconds: float) -> str:
    """Format an age, in the two largest units: `7.1 s`, `42 s`, `2m 36s`, `3h 5m`, `11d 2h`, `inf s`."""
    if not isfinite(seconds):
        return f"{seconds} s"
    if seconds < _FINE:
        return f"{seconds:.1f} s"
    whole = round(seconds)  # before it is divided: rounded afterwards, 5 min 59.7 s would be `5m 60s`
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m {whole % _MINUTE}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h {whole % _HOUR // _MINUTE}m"
    return f"{whole // _DAY}d {whole % _DAY // _HOUR}h"


def duration(seconds: float) -> str:
    """Format a measured time, in three digits: `0.42 ms`, `12.3 ms`, `2.5 s`, and otherwise as `age` does."""
    if not isfinite(seconds):
        return age(seconds)
    milliseconds = float(f"{seconds * 1000:.3g}")
    if abs(milliseconds) < _MILLISECONDS:
        return f"{milliseconds:.3g} ms"
    return f"{seconds:.3g} s" if round(seconds) < _MINUTE else age(seconds)


def ago(seconds: float) -> str:
    """Format the time since something: whole seconds for two minutes, `0 s ago` if the clock went back, then `age`."""
    if not isfinite(seconds):
        return f"{max(seconds, 0)} s ago"
    whole = max(0, round(seconds))
    return f"{whole} s ago" if whole < 2 * _MINUTE else f"{age(whole)} ago"
