"""Samples that a person or a script wrote: checked before they are published, as the fleet will check them.

Values, label values and times are checked by the fold's own checks (`busmon/sample_checks.py`), so that a mistake is
found where it was made. Where the fleet has catalogue files that this machine lacks, the fleet is right. Pure; one
thread.
"""

from collections.abc import Mapping
from typing import Any

from busmon.bounded import BoundedCache
from busmon.catalogue import Catalogue, Family
from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM, SUMMARY, TYPES
from busmon.errors import AdoptionError, RejectedError, UserError
from busmon.publish.contract import family_of, op_of
from busmon.sample_checks import (
    MAX_ADOPTED_VALUE_CHARACTERS,
    MAX_LABEL_VALUE_CHARACTERS,
    check_trace_id,
    check_value,
    label_texts,
    read_buckets,
    read_time,
    value_of,
)
from busmon.suggestion import closest
from busmon.wire.members import labels_of, word

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
        self._families: BoundedCache[tuple[Any, ...], Family] = BoundedCache(_MAX_REMEMBERED)

    def check(self, sample: Any) -> Family:
        """Return the family that a sample goes to.

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
        is_known = family.name in self._catalogue.families
        most = MAX_LABEL_VALUE_CHARACTERS if is_known else MAX_ADOPTED_VALUE_CHARACTERS
        try:
            label_texts([*labels], [*labels.values()], most)
            read_time(sample.get("ts"), 0.0, 0.0)
            if (trace_id := word(sample.get("trace_id"))) is not None:
                check_trace_id(trace_id)
        except RejectedError as error:
            raise SampleError(f"{family.name}: {error.detail}") from error
        try:
            value = value_of(sample)
            check_value(family if is_known else self._with_buckets(family, value), value)
        except RejectedError as error:
            takes = f"a {family.type} takes {_TAKES[family.type]}"
            raise SampleError(f"{family.name}: {takes}: {error.detail}") from error
        return family

    def _with_buckets(self, family: Family, value: Any) -> Family:
        """Give a metric of no catalogue the bounds that its first sample states, as the fleet does."""
        buckets = read_buckets(family.type, value)
        if buckets is None:
            return family
        try:
            return self._catalogue.adopt(family.name, family.type, family.labelnames, buckets=buckets)
        except AdoptionError as error:
            raise SampleError(error.detail) from error

    def _family(self, sample: Mapping[str, Any], labels: Mapping[str, Any]) -> Family:
        outlives_source = sample.get("outlives_source")
        if outlives_source is not None and type(outlives_source) is not bool:
            raise SampleError("'outlives_source' is true or false")
        stated = sample.get("name"), word(sample.get("type")), word(sample.get("op")), outlives_source is True
        try:
            return self._families.entries[*stated, *labels]
        except (KeyError, TypeError):
            family = self._find(*stated[:3], [*labels], outlives_source=stated[3])
        self._families.keep((*stated, *labels), family)
        return family

    def _find(self, name: Any, type_: Any, op: Any, labelnames: list[str], *, outlives_source: bool) -> Family:
        if not isinstance(name, str):
            raise SampleError("'name' is a metric's name")
        is_known = name in self._catalogue.families
        if type_ is None and not is_known:
            raise SampleError(f"{name[:80]!r} is in no catalogue: {self._suggest(name)}")
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

    def _suggest(self, name: str) -> str:
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
