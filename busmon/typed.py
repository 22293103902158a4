"""The check that JSON is what its dataclass declares: a value of another type fails here, not much later.

Beyond the types it holds to what any JSON parser can take, I-JSON (RFC 7493): text that is Unicode, whole numbers that
a double holds exactly, and no NaN or infinity. Pure.
"""

import math
import re
from dataclasses import fields
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")

LARGEST = 2**53 - 1
_SURROGATE = re.compile("[\ud800-\udfff]")


def check_types(record: Record) -> Record:
    """Return the record, if each of its fields has a value of the type that it is declared with.

    Raises:
        TypeError: one hasn't.
    """
    for each in fields(record):
        if not _is(getattr(record, each.name), each.type):
            raise TypeError(f"{each.name}: expected {each.type}")
    return record


def _is(value: Any, declared: Any) -> bool:
    origin, parts = get_origin(declared) or declared, get_args(declared)
    if origin is UnionType:
        return any(_is(value, part) for part in parts)
    if origin is dict:
        return type(value) is dict and all(_is(key, parts[0]) and _is(each, parts[1]) for key, each in value.items())
    if origin is list:
        return type(value) is list and all(_is(each, parts[0]) for each in value)
    if origin is float and type(value) is float:
        return math.isfinite(value)
    if origin in (int, float):
        return type(value) is int and abs(value) <= LARGEST
    return type(value) is origin and not (origin is str and _SURROGATE.search(value))
