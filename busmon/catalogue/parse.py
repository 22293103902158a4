"""One catalogue file → families.

A family is a table `[TYPE.NAME]`; `docs/catalogue.md` describes its keys. The first thing that isn't accepted ends the
reading, in one line that names file, key and what was expected. Reads the file and does nothing else; any process.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from busmon.catalogue import naming
from busmon.catalogue.family import (
    COUNTER,
    DEFAULT_BUCKETS,
    GAUGE,
    HISTOGRAM,
    MERGES,
    SUMMARY,
    TYPES,
    Family,
    default_ttl_seconds,
)
from busmon.catalogue.mapping import MappingRule
from busmon.errors import CatalogueError
from busmon.suggestion import suggestion
from busmon.text_files import read_toml

_RULES = "mappings"
_RULE_KEYS = ("match", "name", "labels")
_NAMED_RULE_KEYS = "match, name and labels"
_COMMON_KEYS = ("help", "labels", "values", "budgets", "aggregate_away", "ttl_seconds", "internal")
_KEYS = {
    COUNTER: _COMMON_KEYS,
    GAUGE: (*_COMMON_KEYS, "merge", "outlives_source"),
    HISTOGRAM: (*_COMMON_KEYS, "buckets"),
    SUMMARY: (*_COMMON_KEYS, "quantiles"),
}


def read(path: Path) -> dict[str, Family]:
    """Read the families of one file, by name.

    Raises:
        CatalogueError: the file can't be read, or something in it isn't accepted.
    """
    families: dict[str, Family] = {}
    for type_, tables in _document(path).items():
        if type_ == _RULES:
            continue
        if type_ not in TYPES or not isinstance(tables, dict):
            expected = f"tables [{'.NAME], ['.join(TYPES)}.NAME] or [[{_RULES}]]"
            raise CatalogueError(f"{path}: {type_}: expected {_suggest(type_, (*TYPES, _RULES), expected)}")
        for name, fields in tables.items():
            table = _Table(path, type_, name, fields)
            if name in families:
                raise table.wrong(f"one type for a name; it is a {families[name].type} in this file, too")
            families[name] = table.family()
    return families


def read_rules(path: Path) -> list[MappingRule]:
    """Read the mapping rules of one file, in its order.

    Raises:
        CatalogueError: the file can't be read, or something in a rule isn't accepted.
    """
    rules = _document(path).get(_RULES, [])
    if not isinstance(rules, list):
        raise CatalogueError(f"{path}: {_RULES}: expected tables [[{_RULES}]]")
    return [_rule(f"{path}: {_RULES}[{number}]", fields) for number, fields in enumerate(rules)]


def _rule(place: str, fields: Any) -> MappingRule:
    if not isinstance(fields, dict):
        raise CatalogueError(f"{place}: expected the keys {_NAMED_RULE_KEYS}")
    if unknown := sorted(fields.keys() - {*_RULE_KEYS}):
        expected = _suggest(unknown[0], _RULE_KEYS, f"the keys {_NAMED_RULE_KEYS}, not {unknown[0]!r}")
        raise CatalogueError(f"{place}: expected {expected}")
    match, name, labels = fields.get("match"), fields.get("name"), fields.get("labels", {})
    if not isinstance(match, str) or not match:
        raise CatalogueError(f"{place}.match: expected a glob such as 'app.*.requests'")
    if not isinstance(name, str) or (fault := naming.metric_name_fault(name)):
        raise CatalogueError(f"{place}.name: expected a family's name{f': {fault}' if isinstance(name, str) else ''}")
    if not isinstance(labels, dict) or not all(isinstance(text, str) for text in labels.values()):
        raise CatalogueError(f"{place}.labels: expected a text for each label")
    if fault := naming.label_names_fault([*labels]):
        raise CatalogueError(f"{place}.labels: expected other labels: {fault}")
    return MappingRule(match, name, labels)


def _document(path: Path) -> dict[str, Any]:
    return read_toml(path, CatalogueError, "a catalogue file in TOML")


@dataclass(frozen=True, slots=True)
class _Table:
    """One table `[type.name]` and where it stands."""

    path: Path
    type: str
    name: str
    fields: Any

    def wrong(self, expected: str, key: str = "") -> CatalogueError:
        place = f"{self.type}.{self.name}.{key}" if key else f"{self.type}.{self.name}"
        return CatalogueError(f"{self.path}: {place}: expected {expected}")

    def family(self) -> Family:
        self._check_form()
        return Family(
            name=self.name,
            type=self.type,
            help=self._help(),
            labelnames=(labels := self._labels()),
            buckets=self._bounds("buckets", DEFAULT_BUCKETS) if self.type == HISTOGRAM else (),
            quantiles=self._quantiles() if self.type == SUMMARY else (),
            merge=(merge := self._one_of("merge", MERGES)),
            outlives_source=(outlives_source := self._outlives_source(merge)),
            values=self._values(labels),
            internal=self._flag("internal"),
            ttl_seconds=self._ttl_seconds(default_ttl_seconds(self.type, outlives_source=outlives_source)),
            budgets=self._budgets(labels),
            aggregate_away=self._aggregate_away(labels, merge),
        )

    def _check_form(self) -> None:
        if fault := naming.metric_name_fault(self.name):
            raise self.wrong(f"a name: {fault}")
        if not isinstance(self.fields, dict):
            raise self.wrong(f"a table [{self.type}.{self.name}]")
        keys = _KEYS[self.type]
        for key in self.fields:
            if key not in keys:
                raise self.wrong(_suggest(key, keys, f"one of the keys of a {self.type}: {', '.join(keys)}"), key)

    def _help(self) -> str:
        text = self.fields.get("help")
        if not isinstance(text, str) or not text.strip() or "\n" in text:
            raise self.wrong("a sentence, on one line", "help")
        return text

    def _labels(self) -> tuple[str, ...]:
        names = self._texts("labels", self.fields.get("labels", []))
        if fault := naming.label_names_fault(names):
            raise self.wrong(f"other labels: {fault}", "labels")
        return names

    def _values(self, labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
        table = self.fields.get("values", {})
        if not isinstance(table, dict) or table.keys() - set(labels):
            raise self.wrong(f"a list of values for each of these labels or some: {', '.join(labels)}", "values")
        return {label: self._texts(f"values.{label}", values) for label, values in table.items()}

    def _budgets(self, labels: Sequence[str]) -> dict[str, int]:
        table = self.fields.get("budgets", {})
        if not isinstance(table, dict) or table.keys() - set(labels):
            raise self.wrong(f"a number for each of these labels or some: {', '.join(labels)}", "budgets")
        for label, budget in table.items():
            if type(budget) is not int or budget < 0:
                raise self.wrong("a whole number of values, 0 or more", f"budgets.{label}")
        return table

    def _aggregate_away(self, labels: Sequence[str], merge: str) -> tuple[str, ...]:
        names = self._texts("aggregate_away", self.fields.get("aggregate_away", []))
        if names and self.type == GAUGE and merge != "add":
            raise self.wrong(
                "no such key: values that are set don't add up; merge 'add' or another type", "aggregate_away"
            )
        if fault := naming.label_names_fault(names):
            raise self.wrong(f"other labels: {fault}", "aggregate_away")
        if both := sorted({*names} & {*labels}):
            raise self.wrong(f"other labels: {both[0]!r} is one that the family keeps", "aggregate_away")
        return names

    def _outlives_source(self, merge: str) -> bool:
        outlives_source = self._flag("outlives_source")
        if outlives_source and merge != "latest":
            raise self.wrong("no such key, or merge 'latest': what stays is the last that was said", "outlives_source")
        return outlives_source

    def _ttl_seconds(self, default: float | None) -> float | None:
        ttl = self.fields.get("ttl_seconds", default or 0)
        if not _is_finite(ttl) or ttl < 0:
            raise self.wrong("a number of seconds; 0 without limit", "ttl_seconds")
        return float(ttl) or None

    def _texts(self, key: str, texts: Any) -> tuple[str, ...]:
        if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
            raise self.wrong("a list of strings, none of them empty", key)
        if len(set(texts)) < len(texts):
            raise self.wrong("each value once", key)
        return tuple(texts)

    def _quantiles(self) -> tuple[float, ...]:
        quantiles = self._bounds("quantiles", ())
        if quantiles and not 0 <= quantiles[0] <= quantiles[-1] <= 1:
            raise self.wrong("numbers from 0 to 1", "quantiles")
        return quantiles

    def _bounds(self, key: str, default: tuple[float, ...]) -> tuple[float, ...]:
        if key not in self.fields:
            return default
        numbers = self.fields[key]
        if not isinstance(numbers, list) or not numbers or not all(map(_is_finite, numbers)):
            raise self.wrong("a list of finite numbers (a histogram's +Inf is always there)", key)
        bounds = tuple(map(float, numbers))
        if any(low >= high for low, high in pairwise(bounds)):
            raise self.wrong("numbers in ascending order, each once", key)
        return bounds

    def _one_of(self, key: str, words: Sequence[str]) -> str:
        word = self.fields.get(key, words[0])
        if word not in words:
            raise self.wrong(_suggest(str(word), words, " or ".join(map(repr, words))), key)
        return str(word)

    def _flag(self, key: str) -> bool:
        flag = self.fields.get(key, False)
        if not isinstance(flag, bool):
            raise self.wrong("true or false", key)
        return flag


def _suggest(name: str, known: Sequence[str], expected: str) -> str:
    """Add the name that was probably meant to the names that are expected."""
    return " ".join(filter(None, (f"{expected};", suggestion(name, known)))).removesuffix(";")


def _is_finite(number: Any) -> bool:
    try:
        return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
    except OverflowError:
        return False
