"""One table of a topology file: its values, checked, with the placeholders filled in. Pure.

Every mistake is a `TopologyError` of one line that names the file and the key.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from busmon.bus.topology.version import Version, parse
from busmon.errors import TopologyError
from busmon.suggestion import suggestion

Arguments = Mapping[str, str | int | bool]

_MAX_NAME_BYTES = 255
_MAX_BITS = 63

CELERY = "celery"
REPLICATED = "replication = stream"


class Conditions(NamedTuple):
    """The conditions under which a table of the file counts.

    Attributes:
        shards: the number of shards.
        celery: Celery's events are taken.
        is_replicated: the shards have logs.
    """

    shards: int
    celery: bool
    is_replicated: bool


class Table:
    """A table whose values are checked as they are taken; every method may raise a `TopologyError`."""

    def __init__(self, path: Path, where: str, values: Mapping[str, Any], placeholders: Mapping[str, str]) -> None:
        self._path = path
        self._where = where
        self._values = values
        self._placeholders = placeholders

    def wrong(self, key: str, expected: str, found: str = "") -> TopologyError:
        """Make the error for a key, with its place, the value found and the value expected."""
        return TopologyError(f"{self._path}: {self._where}{key}: {found}expected {expected}")

    def only(self, *keys: str) -> None:
        """Refuse every other key."""
        if unknown := sorted(self._values.keys() - set(keys)):
            hint = suggestion(unknown[0], keys)
            raise self.wrong(unknown[0], f"one of {', '.join(keys)}{hint and f'; {hint}'}", "no such key; ")

    def each(self, key: str, exchange: str, shards: int) -> Iterator[Self]:
        """Yield the tables of an array; a table that names `{shard}` comes once for each shard."""
        tables = self._values.get(key, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise self.wrong(key, f"tables, each under [[{key}]]")
        for index, table in enumerate(tables):
            for shard in range(shards) if "{shard}" in str(table) else (0,):
                placeholders = {"{exchange}": exchange, "{shard}": str(shard)}
                yield type(self)(self._path, f"{key}[{index}].", table, placeholders)

    def take_named(self, key: str, exchange: str) -> Iterator[tuple[str, Self]]:
        """Yield the tables of a table, with their names."""
        tables = self._values.get(key, {})
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            raise self.wrong(key, f"tables, each under [{key}.<name>]")
        for name, table in tables.items():
            yield name, type(self)(self._path, f"{key}.{name}.", table, {"{exchange}": exchange})

    def applies(self, conditions: Conditions) -> bool:
        """Return whether the table's condition is met; a table without a condition always applies."""
        met = {
            "shards = 1": conditions.shards == 1,
            "shards > 1": conditions.shards > 1,
            CELERY: conditions.celery,
            REPLICATED: conditions.is_replicated,
        }
        if "only_if" not in self._values:
            return True
        if self._values["only_if"] not in met:
            raise self.wrong("only_if", " or ".join(map(repr, met)))
        return met[self._values["only_if"]]

    def inner(self, key: str) -> Self:
        """Return a table in this one; an empty one if the key is missing."""
        values = self._values.get(key, {})
        if not isinstance(values, dict):
            raise self.wrong(key, "a table")
        return type(self)(self._path, f"{self._where}{key}.", values, self._placeholders)

    def is_if(self, condition: str) -> bool:
        """Return whether the table has this condition."""
        return self._values.get("only_if") == condition

    def whole(self, key: str, low: int, high: int) -> int:
        """Return a whole number within these bounds."""
        value = self._values.get(key)
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(key, f"a whole number from {low} to {high}")
        return value

    def truth(self, key: str, *, default: bool) -> bool:
        """Return a boolean."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def has(self, key: str) -> bool:
        """Return whether the table has the key."""
        return key in self._values

    def text(self, key: str) -> str:
        """Return a text with its placeholders filled in."""
        if not isinstance(self._values.get(key), str):
            raise self.wrong(key, "a text")
        return self._fill(key, self._values[key])

    def name(self, key: str) -> str:
        """Return a name that RabbitMQ accepts for an exchange, a queue or a user."""
        value = self.text(key)
        if not 0 < len(value.encode()) <= _MAX_NAME_BYTES or value.startswith("amq."):
            raise self.wrong(key, f"a name of 1 to {_MAX_NAME_BYTES} bytes that doesn't start with 'amq.'")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, empty if the key is missing."""
        values = self._values.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self.wrong(key, "a list of texts")
        return tuple(values)

    def take_nested(self, key: str) -> Iterator[Self]:
        """Yield the tables of an array inside this table."""
        tables = self._values.get(key, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise self.wrong(key, f"tables, each under [[{self._where}{key}]]")
        for index, table in enumerate(tables):
            yield type(self)(self._path, f"{self._where}{key}[{index}].", table, self._placeholders)

    def pattern(self, key: str) -> str:
        """Return a regular expression; a placeholder's value matches only itself."""
        literal = {name: re.escape(value) for name, value in self._placeholders.items()}
        value = type(self)(self._path, self._where, self._values, literal).text(key)
        try:
            re.compile(value)
        except re.error as error:
            raise self.wrong(key, f"a regular expression ({error})") from error
        return value

    def arguments(self) -> Arguments:
        """Return the arguments, all of types that RabbitMQ accepts; empty if the key is missing."""
        return self._arguments("arguments", self._values.get("arguments", {}))

    def arguments_since(self) -> tuple[tuple[Version, Arguments], ...]:
        """Return the arguments that only later brokers know, by the first version that does, the earliest first."""
        given = self._values.get("arguments_since", {})
        if not isinstance(given, dict) or not all(map(parse, given)):
            raise self.wrong(
                "arguments_since", """tables of RabbitMQ's versions, such as [queues.arguments_since."4.3"]"""
            )
        return tuple(
            sorted(
                (parse(text), self._arguments(f"arguments_since.{text}", arguments))
                for text, arguments in given.items()
            )
        )

    def _arguments(self, where: str, arguments: Any) -> Arguments:
        if not isinstance(arguments, dict):
            raise self.wrong(where, "a table")
        for key, value in arguments.items():
            if not isinstance(value, str | int) or (isinstance(value, int) and value.bit_length() > _MAX_BITS):
                raise self.wrong(f"{where}.{key}", "a text, a whole number of 64 bits, true or false")
        return {
            key: self._fill(f"{where}.{key}", value) if isinstance(value, str) else value
            for key, value in arguments.items()
        }

    def _fill(self, key: str, text: str) -> str:
        for placeholder, value in self._placeholders.items():
            text = text.replace(placeholder, value)
        if unknown := re.search(r"\{[a-z_]+\}", text):
            raise self.wrong(key, " or ".join(self._placeholders), f"no placeholder {unknown[0]}; ")
        return text
