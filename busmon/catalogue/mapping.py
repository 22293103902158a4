"""Mapping rules: which family a name of another format is of, and what becomes of its labels.

A rule's `match` is a glob over the name as its producer writes it: `*` stands for one part between dots, as in
statsd_exporter's mappings. The first rule that matches counts. Pure; any thread, any process.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from busmon.bounded import BoundedCache
from busmon.catalogue.naming import EXPORTED_LABELS

_PART = r"([^.]+)"
_REFERENCE = re.compile(r"\$([1-9])|\{([^{}]+)\}")
_NO_NAME_CHARACTER = re.compile(r"[^a-zA-Z0-9_]")
_MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class MappingRule:
    """One rule.

    Attributes:
        match: a glob over names.
        name: of the family.
        labels: each label's value: a text in which `$1` … `$9` are the glob's parts, and `{x}` the attribute, tag or
            label `x` of the point or of its source.
    """

    match: str
    name: str
    labels: Mapping[str, str]

    def matches(self, name: str) -> bool:
        """Tell whether the rule matches this name."""
        return _pattern(self.match).fullmatch(name) is not None

    def apply(self, name: str, said: Mapping[str, str], labels: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """Return the family's name and its labels.

        Args:
            name: as the producer has it; the rule matches it.
            said: the values for references in `{}`.
            labels: the point's own, which stay unless the rule takes them up or sets them.
        """
        found = _pattern(self.match).fullmatch(name)
        parts = found.groups() if found else ()
        taken = {label_name(ref[1]) for text in self.labels.values() for ref in _REFERENCE.findall(text) if ref[1]}
        set_ = {label: _fill_in(text, parts, said) for label, text in self.labels.items()}
        kept = {label: value for label, value in labels.items() if label not in taken}
        return self.name, kept | {label: value for label, value in set_.items() if value}


class Mappings:
    """The rules of all catalogue files, in their order."""

    def __init__(self, rules: Sequence[MappingRule] = ()) -> None:
        self.rules = tuple(rules)
        self._found: BoundedCache[str, MappingRule | None] = BoundedCache(_MAX_REMEMBERED)

    def find(self, name: str) -> MappingRule | None:
        """Find the first rule for a name; None without one."""
        if not self.rules:
            return None
        if name not in self._found.entries:
            self._found.keep(name, next((rule for rule in self.rules if rule.matches(name)), None))
        return self._found.entries[name]


@lru_cache(maxsize=_MAX_REMEMBERED)
def label_name(name: str) -> str:
    """Convert an attribute's name to a label's: other characters become `_`, and `job` and `instance` are renamed."""
    label = _NO_NAME_CHARACTER.sub("_", name)
    if label[:1].isdigit():
        label = f"_{label}"
    return EXPORTED_LABELS.get(label, label)


@lru_cache(maxsize=1000)
def _pattern(match: str) -> re.Pattern[str]:
    return re.compile(_PART.join(map(re.escape, match.split("*"))))


def _fill_in(text: str, parts: Sequence[str], said: Mapping[str, str]) -> str:
    """Fill in a text's references; an unknown one is empty."""

    def resolve(reference: re.Match[str]) -> str:
        number, attribute = reference.groups()
        if number is None:
            return said.get(attribute, "")
        return parts[int(number) - 1] if int(number) <= len(parts) else ""

    return _REFERENCE.sub(resolve, text)
