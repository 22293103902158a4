"""Prometheus' conventions for names, labels and units, which a catalogue should follow.

The rules are those of `promtool check metrics` and of https://prometheus.io/docs/practices/naming/. `conventions.toml`
has the exceptions with their reasons. Pure but for reading that file; any thread, any process.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from busmon.catalogue.catalogue import Catalogue
from busmon.catalogue.family import COUNTER, GAUGE, MAX_BOUNDED_SERIES, TYPES, Family
from busmon.catalogue.naming import BASE_UNITS
from busmon.errors import CatalogueError
from busmon.text_files import read_toml

EXCEPTIONS = Path(__file__).with_name("conventions.toml")

MAX_ENUMERATED_VALUES = 10

_SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_RESERVED_SUFFIXES = ("_bucket", "_count", "_sum", "_created")
_ABBREVIATED_UNITS = frozenset({"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"})
_PREFIX = re.compile(
    r"^(pico|nano|micro|milli|centi|deci|deca|hecto|kilo|kibi|mega|mebi|giga|gibi|tera|tebi|peta|pebi)"
)
_OTHER_UNITS = {
    **dict.fromkeys(("minutes", "hours", "days", "weeks"), "seconds"),
    **dict.fromkeys(("kelvins", "fahrenheit", "rankine"), "celsius"),
    **dict.fromkeys(("inches", "yards", "miles"), "meters"),
    **dict.fromkeys(("pounds", "ounces"), "grams"),
    "bits": "bytes",
    "calories": "joules",
    "percent": "ratio",
}
_UNBOUNDED_LABEL = re.compile(r"(.+_)?(id|uuid|email|ip|url|timestamp)")


@dataclass(frozen=True, slots=True)
class Finding:
    """A convention that a family breaks.

    Attributes:
        origin: the file that the family comes from.
        key: the key in that file.
        rule: the convention's name, as in `conventions.toml`.
    """

    origin: Path
    key: str
    rule: str
    problem: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.key}: {self.problem} [{self.rule}]"


def check(catalogue: Catalogue) -> list[Finding]:
    """Yield the conventions that the catalogue's families break, without the exceptions."""
    excepted = exceptions()
    return [
        Finding(catalogue.origins[family.name], f"{family.type}.{family.name}{key}", rule, problem)
        for family in catalogue.families.values()
        for rule, key, problem in _find_broken(family)
        if family.name not in excepted.get(rule, {})
    ]


def exceptions() -> Mapping[str, Mapping[str, str]]:
    """Return the names that may break a rule, with the reason: by rule, then by name."""
    return read_toml(EXCEPTIONS, CatalogueError, "exceptions in TOML")


def _find_broken(family: Family) -> Iterator[tuple[str, str, str]]:
    """Find broken rules: each the rule, the key in the family's table, and the problem."""
    for rule, problem in (*_name(family), *_unit(family)):
        yield rule, "", problem
    for rule, problem in _labels(family):
        yield rule, ".labels", problem
    for rule, problem in _values(family):
        yield rule, ".values", problem


def _name(family: Family) -> Iterator[tuple[str, str]]:
    if not _SNAKE_CASE.fullmatch(family.name):
        yield "snake-case", "words are in lower case, joined by one '_'"
    if family.type == COUNTER and not family.name.endswith("_total"):
        yield "total-suffix", f"a counter's name ends with _total; it is exposed as {family.name}_total anyway"
    if family.type != COUNTER and family.name.endswith("_total"):
        yield "total-suffix", f"_total is a counter's suffix, and this is a {family.type}"
    if family.metric_name.endswith(_RESERVED_SUFFIXES):
        yield "reserved-suffix", f"{', '.join(_RESERVED_SUFFIXES)} are suffixes of a histogram's or summary's parts"
    if types := sorted(set(TYPES) & set(_parts(family))):
        yield "type-in-name", f"the name needn't say {types[0]!r}: the type is stated already"
    if label := next((label for label in family.labelnames if f"_by_{label}" in family.name), None):
        yield "label-in-name", f"the name needn't say 'by_{label}': the label does"


def _unit(family: Family) -> Iterator[tuple[str, str]]:
    parts = _parts(family)
    for part in parts:
        base = _base_unit(part)
        if base and base != part:
            yield "base-unit", f"the unit is {base!r} instead of {part!r}"
        elif base and part != parts[-1]:
            yield "unit-last", f"the unit {part!r} stands at the end (before _total)"
        if part in _ABBREVIATED_UNITS:
            yield "abbreviated-unit", f"{part!r} reads as an abbreviated unit"


def _labels(family: Family) -> Iterator[tuple[str, str]]:
    for label in family.labelnames:
        if not _SNAKE_CASE.fullmatch(label):
            yield "snake-case", f"{label!r}: words are in lower case, joined by one '_'"
        if _UNBOUNDED_LABEL.fullmatch(label):
            yield "unbounded-label", f"{label!r}: every value is a series of its own, and this has no end of values"


def _values(family: Family) -> Iterator[tuple[str, str]]:
    for label, values in family.values.items():
        if len(values) > MAX_ENUMERATED_VALUES:
            yield "many-values", f"{label!r} has {len(values)} values; at most {MAX_ENUMERATED_VALUES} are advisable"
    series = prod(len(family.values.get(label, ())) for label in family.labelnames)
    if family.type != GAUGE and series > MAX_BOUNDED_SERIES:
        yield (
            "many-series",
            f"{series} combinations; more than {MAX_BOUNDED_SERIES} are not exposed at 0 from the start",
        )


def _parts(family: Family) -> list[str]:
    return family.metric_name.removesuffix("_total").lower().split("_")


def _base_unit(part: str) -> str | None:
    if part in BASE_UNITS:
        return part
    plain = _PREFIX.sub("", part)
    return _OTHER_UNITS.get(plain) or (plain if plain in BASE_UNITS else None)
