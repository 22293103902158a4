"""OpenTelemetry's names and units as Prometheus': by "Prometheus and OpenMetrics Compatibility" in its specification.

Pure; any thread.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

_UNITS: Mapping[str, str] = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "%": "percent",
    "1": "",
}
_PER: Mapping[str, str] = {
    "s": "second",
    "m": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "y": "year",
}
_TRAILING = re.compile(r"_(total|ratio)$")
_OTHERS = re.compile(r"[^a-zA-Z0-9:]+")


@lru_cache(maxsize=10_000)
def prometheus_name(name: str, unit: str, type_: str) -> str:
    """Return the metric's name of OpenTelemetry's exporters for Prometheus: words, unit, and `_total` or `_ratio`."""
    words = _TRAILING.sub("", _OTHERS.sub("_", name).strip("_"))
    for word in _unit_words(unit):
        if word not in words.split("_"):
            words = f"{words}_{word}"
    if type_ == "counter":
        words = f"{words}_total"
    elif unit == "1" and type_ == "gauge":
        words = f"{words}_ratio"
    return f"_{words}" if words[:1].isdigit() else words


def _unit_words(unit: str) -> Iterator[str]:
    """Split a unit into words: `By/s` is `bytes` and `per_second`; text in braces is a remark."""
    if "{" in unit:
        return
    of, slash, per = unit.partition("/")
    if of and (word := _UNITS.get(of, _OTHERS.sub("_", of).strip("_"))):
        yield word
    if slash and per:
        yield f"per_{_PER.get(per, _OTHERS.sub('_', per).strip('_'))}"
