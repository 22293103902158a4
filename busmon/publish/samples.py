"""Samples that a person or a script wrote: checked before they are published, as the fleet will check them.

The checks are the fold's, so that a mistake is found where it was made. Where the fleet has catalogue files that this
machine lacks, the fleet is right. Pure; one thread.
"""

import re
import sys
from collections.abc import Mapping
from math import inf, isfinite
from typing import Any

from busmon.catalogue import Catalogue, Family
from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM, SUMMARY, TYPES
from busmon.errors import UserError
from busmon.publish.contract import family_of, op_of
from busmon.publish.instruments import MAX_LABEL_VALUE_CHARACTERS
from busmon.suggestion import closest
from busmon.wire.members import label_text, labels_of, measured, word
from busmon.wire.times import seconds

_BOUND = re.compile(r"[+]?Inf|-?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?")
_LARGEST = sys.float_info.max
_MAX_REMEMBERED = 10_000
_TAKES = {
    COUNTER: "a finite number of at least 0 as 'value'",
    GAUGE: "a finite number as 'value'",
    HISTOGRAM: "a finite number as 'value', a list of such as 'values', or 'buckets' with all of its bounds and 'sum'",
    SUMMARY: "a finite number as 'value', or a list of such as 'values'",
}


class SampleError(UserError):
    """A sample that the fleet would refuse; the message says why."""


class SampleChecks:
    """Checks samples, as objects of the wire format, against a catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._families: dict[tuple[Any, ...], Family] = {}

    def check(self, sample: Any) -> Family:
        """The family that a sample goes to.

        Raises:
            SampleError: the fleet would refuse it.
        """
        if not isinstance(sample, dict):
            raise SampleError("a sample is an object with 'name', 'labels' and 'value'")
        try:
            labels = labels_of(sample.get("labels"))
        except ValueError as error:
            raise SampleError("'labels' is an object of label names and values") from error
        family = self._family(sample, labels)
        for value in labels.values():
            text = label_text(value)
            if text is None or len(text) > MAX_LABEL_VALUE_CHARACTERS:
                limit = f"a string of at most {MAX_LABEL_VALUE_CHARACTERS} characters, a number or a boolean"
                raise SampleError(f"{family.name}: a label's value is {limit}, not {str(value)[:80]!r}")
        if not _is_taken(family, sample, is_known=family.name in self._catalogue.families):
            raise SampleError(f"{family.name}: a {family.type} takes {_TAKES[family.type]}")
        try:
            seconds(sample.get("ts"))
        except ValueError as error:
            raise SampleError(f"{family.name}: 'ts' is seconds since the epoch, or a time by RFC 3339") from error
        return family

    def _family(self, sample: Mapping[str, Any], labels: Mapping[str, Any]) -> Family:
        outlives_source = sample.get("outlives_source")
        if outlives_source is not None and type(outlives_source) is not bool:
            raise SampleError("'outlives_source' is true or false")
        stated = sample.get("name"), word(sample.get("type")), word(sample.get("op")), outlives_source is True
        try:
            return self._families[*stated, *labels]
        except (KeyError, TypeError):
            family = self._found(*stated[:3], [*labels], outlives_source=stated[3])
        if len(self._families) >= _MAX_REMEMBERED:
            self._families.clear()
        self._families[*stated, *labels] = family
        return family

    def _found(self, name: Any, type_: Any, op: Any, labelnames: list[str], *, outlives_source: bool) -> Family:
        if not isinstance(name, str):
            raise SampleError("'name' is a metric's name")
        is_known = name in self._catalogue.families
        if type_ is None and not is_known:
            raise SampleError(f"{name[:80]!r} is in no catalogue: {self._meant(name)}")
        if type_ is not None and type_ not in TYPES:
            raise SampleError(f"{name[:80]!r}: 'type' is one of {', '.join(TYPES)}")
        try:
            known_type = type_ or self._catalogue.families[name].type
            family = family_of(self._catalogue, name, known_type, labelnames, outlives_source=outlives_source)
        except ValueError as error:
            raise SampleError(str(error)) from error
        _check_op(family, op, is_known=is_known)
        if outlives_source and op == "add":
            raise SampleError(f"{family.name}: a gauge that is added to has no source that it could outlive")
        return family

    def _meant(self, name: str) -> str:
        publishable = [family.name for family in self._catalogue.families.values() if not family.internal]
        asked = f"{', '.join(TYPES[:-1])} or {TYPES[-1]}"
        near = closest(name, publishable)
        return f"did you mean {near!r}? Else give its type: {asked}" if near else f"give its type: {asked}"


def _check_op(family: Family, op: Any, *, is_known: bool) -> None:
    if op is None and op_of(family) is None:
        return
    if family.type != GAUGE:
        raise SampleError(f"{family.name}: only a gauge has an 'op'")
    if op not in ("set", "add") or (is_known and op != (op_of(family) or "set")):
        raise SampleError(f"{family.name}: its 'op' is {op_of(family) or 'set'!r}")


def _is_taken(family: Family, sample: Mapping[str, Any], *, is_known: bool) -> bool:
    given = measured(sample)
    if len(given) != 1:
        return False
    ((name, value),) = given.items()
    if name == "value":
        return _is_number(value) and (family.type != COUNTER or value >= 0)
    if name == "values":
        return family.type in {HISTOGRAM, SUMMARY} and _are_numbers(value)
    bounds = family.buckets if is_known else ()
    return family.type == HISTOGRAM and _is_number(sample.get("sum")) and _are_buckets(value, bounds)


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(map(_is_number, values)) and isfinite(sum(values))


def _are_buckets(buckets: Any, agreed: tuple[float, ...]) -> bool:
    if not isinstance(buckets, dict) or not all(type(count) is int and count >= 0 for count in buckets.values()):
        return False
    bounds = {float(bound) for bound in buckets if _BOUND.fullmatch(bound)}
    is_well_formed = len(bounds) == len(buckets) and -inf not in bounds and not bounds <= {inf}
    return is_well_formed and bounds >= {*agreed}


def _is_number(value: Any) -> bool:
    """Whether it is a finite number; a boolean isn't one, though Python has it so."""
    return type(value) in {int, float} and -_LARGEST <= value <= _LARGEST
