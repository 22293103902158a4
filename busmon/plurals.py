"""Numbers with their nouns, and ages, for lines that a person reads. Pure."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_FINE = 10
"""Seconds below which an age has a decimal."""


def format_count(number: int, noun: str) -> str:
    """Format a number with its noun: `1 body`, `2 bodies`, `1,234 samples`."""
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {plural}"


def age(seconds: float) -> str:
    """Format an age, in the two largest units: `7.1 s`, `42 s`, `2m 36s`, `3h 5m`, `11d 2h`."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s" if seconds < _FINE else f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f}m {seconds % _MINUTE:.0f}s"
    if seconds < _DAY:
        return f"{seconds // _HOUR:.0f}h {seconds % _HOUR // _MINUTE:.0f}m"
    return f"{seconds // _DAY:.0f}d {seconds % _DAY // _HOUR:.0f}h"


def ago(seconds: float) -> str:
    """Format the time since something: whole seconds for two minutes, `0 s ago` if the clock went back, then `age`."""
    return f"{max(0.0, seconds):.0f} s ago" if seconds < 2 * _MINUTE else f"{age(seconds)} ago"
