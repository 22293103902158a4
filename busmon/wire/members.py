"""Members of samples and tables as encoders write them: absent ones, labels, measured values.

Encoders of typed languages write a zero value for a member that nobody set: `""`, 0, an empty list. Such a member
counts as absent, like null. The fold and the checks before a publish read members here, so that both agree. Pure.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Any

_WHOLE = 2.0**63
"""From here on a whole number is written with an exponent, as its digits are no longer exact."""

_NUMBERS = frozenset({int, float})
_EMPTY: tuple[list[Any], dict[str, Any]] = [], {}


def word(value: Any) -> Any:
    """Return a member that is a word; None where the member is null or empty."""
    return None if value == "" else value


def labels_of(labels: Any) -> Mapping[str, Any]:
    """Return a sample's labels; PHP writes an empty array for none.

    Raises:
        ValueError: the member is no object.
    """
    if type(labels) is dict:
        return labels
    if labels is None or labels == []:
        return {}
    raise ValueError("labels are an object of names and values")


def label_names(labels: Any) -> list[Any]:
    """Return a table's label names.

    Raises:
        ValueError: the member is no list.
    """
    if type(labels) is list:
        return labels
    if labels is None or labels == {}:
        return []
    raise ValueError("a table's labels are a list of names")


def label_text(value: Any) -> str | None:
    """Return a label value's text: a number's as short as can be, `true` or `false`; None of any other value.

    The numbers 200, 200.0 and 2e2 are one number in JSON, so their text is one: `200`.
    """
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        return str(value)
    if type(value) is float and isfinite(value):
        return str(int(value)) if value.is_integer() and -_WHOLE <= value < _WHOLE else repr(value)
    return None


def pick_measured(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a sample's `value`, `values` and `buckets` that aren't absent; a good sample has one.

    Next to another one an empty list or object is absent, and so is a `value` of 0.
    """
    stated = {name: sample[name] for name in ("value", "values", "buckets") if sample.get(name) is not None}
    if len(stated) <= 1:
        return stated
    filled = {name: member for name, member in stated.items() if not _is_empty(name, member)}
    if len(filled) > 1 and type(value := filled.get("value")) in _NUMBERS and value == 0:
        del filled["value"]
    return filled or {"values": []}


def _is_empty(name: str, member: Any) -> bool:
    """Return whether a member is the zero value of observations or of buckets."""
    return (name == "values" and member == []) or (name == "buckets" and member in _EMPTY)
