"""Floats as Prometheus' text formats write them, and which JSON numbers a sample may hold. Pure."""

import sys
from math import inf, isnan

LARGEST = sys.float_info.max

_PLAIN_DIGITS = 6


def is_number(value: object) -> bool:
    """Tell whether a JSON value is a finite number; a boolean isn't one, though Python has it so."""
    return (type(value) is float or type(value) is int) and -LARGEST <= value <= LARGEST


def go_float(value: float) -> str:
    """Return the shortest text that reads back as this float, as Go and prometheus_client write it.

    `+Inf`, `-Inf` and `NaN`; from 1e+06 on with an exponent, so that a bound's `le` is the same from any client.
    """
    if value in {inf, -inf}:
        return "+Inf" if value > 0 else "-Inf"
    if isnan(value):
        return "NaN"
    text = repr(float(value))
    whole, point, fraction = text.partition(".")
    if value > 0 and point and len(whole) > _PLAIN_DIGITS:
        mantissa = f"{whole[0]}.{whole[1:]}{fraction}".rstrip("0").rstrip(".")
        return f"{mantissa}e+{len(whole) - 1:02d}"
    return text
