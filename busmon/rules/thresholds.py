"""The alerts' numbers: the built-in ones, and a user's changes laid over them.

A user's file may hold any part of the tables and keys of `thresholds.toml` and nothing else, each in its own type.
Loading reads files and does nothing else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from busmon.errors import RulesError
from busmon.suggestion import suggestion
from busmon.text_files import read_toml

BUILT_IN = Path(__file__).with_name("thresholds.toml")
DURATIONS = ("for", "keep_firing_for")
"""The keys that every alert may have."""

_PATTERN_KEY = "jobs"

_PATTERN = re.compile(r"[\w:/.|*+?()-]+")
"""Part of a regular expression that stands between quotes as it is."""

_DURATION = re.compile(r"(\d+(ms|s|m|h|d|w|y))+")

Value = float | str


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Values by table and key: a table is an alert's name, or `links`."""

    tables: Mapping[str, Mapping[str, Value]]

    @classmethod
    def load(cls, changes: Path | None = None) -> Self:
        """Load the built-in values, overridden by a user's.

        Args:
            changes: a TOML file with the tables and keys to change.

        Raises:
            RulesError: a file can't be read, or a table, key or value isn't accepted.
        """
        tables = document(BUILT_IN)
        if changes is not None:
            for name, changed in document(changes).items():
                accepted = _is_accepted(changes, name, changed, tables)
                tables[name] |= accepted
        return cls(tables)

    def of(self, alert: str) -> Mapping[str, Value]:
        """Return an alert's own values; none where it has no table."""
        return self.tables.get(alert, {})


def document(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        RulesError: it can't be read.
    """
    return read_toml(path, RulesError, "a TOML file")


def _is_accepted(path: Path, name: str, changed: Any, tables: Mapping[str, Mapping[str, Value]]) -> Mapping[str, Value]:
    if name not in tables or not isinstance(changed, dict):
        hint = suggestion(name, tables, "such as [HighErrorRate]")
        raise RulesError(f"{path}: {name}: expected tables of thresholds.toml; {hint}")
    keys = dict.fromkeys(() if name == "links" else DURATIONS, "") | dict(tables[name])
    for key, value in changed.items():
        if key not in keys:
            hint = suggestion(key, keys)
            raise RulesError(f"{path}: {name}.{key}: expected one of {', '.join(keys)}{hint and f'; {hint}'}")
        if expected := _fault(key, value, keys[key]):
            raise RulesError(f"{path}: {name}.{key}: expected {expected}, not {value!r}")
    return changed


def _fault(key: str, value: Any, built_in: Value) -> str:
    """Describe the expected value; empty where the value is valid."""
    if key in DURATIONS:
        return "" if isinstance(value, str) and _DURATION.fullmatch(value) else 'a duration, such as "5m"'
    if key == _PATTERN_KEY:
        return "" if _is_pattern(value) else 'a regular expression of jobs, such as "api|web"'
    if isinstance(built_in, str):
        return "" if isinstance(value, str) and "://" in value else "an address"
    return "" if type(value) in (int, float) and 0 <= value < float("inf") else "a number from 0"


def _is_pattern(value: Any) -> bool:
    if not isinstance(value, str) or not _PATTERN.fullmatch(value):
        return False
    try:
        re.compile(value)
    except re.error:
        return False
    return True
