"""One table of a topology file: its values, checked, with the placeholders filled in. Pure.

Every mistake is a `TopologyError` of one line that names the file and the key.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from busmon.errors import TopologyError
from busmon.suggestion import suggestion

Arguments = Mapping[str, str | int | bool]

_MAX_NAME_BYTES = 255
_MAX_BITS = 63


class Table:
    """What takes the values out, and says where a wrong one stands; every method may raise a `TopologyError`."""

    def __init__(self, path: Path, where: str, values: Mapping[str, Any], placeholders: Mapping[str, str]) -> None:
        self._path = path
        self._where = where
        self._values = values
        self._placeholders = placeholders

    def wrong(self, key: str, expected: str, found: str = "") -> TopologyError:
        """The error for a key: where it stands, what was found and what was expected."""
        return TopologyError(f"{self._path}: {self._where}{key}: {found}expected {expected}")

    def only(self, *keys: str) -> None:
        """Refuse every other key."""
        if unknown := sorted(self._values.keys() - set(keys)):
            hint = suggestion(unknown[0], keys)
            raise self.wrong(unknown[0], f"one of {', '.join(keys)}{hint and f'; {hint}'}", "no such key; ")

    def each(self, key: str, exchange: str, shards: int) -> Iterator[Self]:
        """The tables of an array, those that name `{shard}` once for each."""
        tables = self._values.get(key, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise self.wrong(key, f"tables, each under [[{key}]]")
        for index, table in enumerate(tables):
            for shard in range(shards) if "{shard}" in str(table) else (0,):
                placeholders = {"{exchange}": exchange, "{shard}": str(shard)}
                yield type(self)(self._path, f"{key}[{index}].", table, placeholders)

    def named(self, key: str, exchange: str) -> Iterator[tuple[str, Self]]:
        """The tables of a table, with their names."""
        tables = self._values.get(key, {})
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            raise self.wrong(key, f"tables, each under [{key}.<name>]")
        for name, table in tables.items():
            yield name, type(self)(self._path, f"{key}.{name}.", table, {"{exchange}": exchange})

    def applies(self, shards: int) -> bool:
        """Whether the table is for this number of shards."""
        conditions = {"shards = 1": shards == 1, "shards > 1": shards > 1}
        if "only_if" not in self._values:
            return True
        if self._values["only_if"] not in conditions:
            raise self.wrong("only_if", " or ".join(map(repr, conditions)))
        return conditions[self._values["only_if"]]

    def whole(self, key: str, low: int, high: int) -> int:
        """A whole number within these bounds."""
        value = self._values.get(key)
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(key, f"a whole number from {low} to {high}")
        return value

    def truth(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self._values

    def text(self, key: str) -> str:
        """A text."""
        if not isinstance(self._values.get(key), str):
            raise self.wrong(key, "a text")
        return self._filled(key, self._values[key])

    def name(self, key: str) -> str:
        """What RabbitMQ takes for a name of an exchange, a queue or a user."""
        value = self.text(key)
        if not 0 < len(value.encode()) <= _MAX_NAME_BYTES or value.startswith("amq."):
            raise self.wrong(key, f"a name of 1 to {_MAX_NAME_BYTES} bytes that doesn't start with 'amq.'")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, empty where there is none."""
        values = self._values.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self.wrong(key, "a list of texts")
        return tuple(values)

    def pattern(self, key: str) -> str:
        """A regular expression; what stands for a placeholder in it matches itself only."""
        literal = {name: re.escape(value) for name, value in self._placeholders.items()}
        value = type(self)(self._path, self._where, self._values, literal).text(key)
        try:
            re.compile(value)
        except re.error as error:
            raise self.wrong(key, f"a regular expression ({error})") from error
        return value

    def arguments(self) -> Arguments:
        """What RabbitMQ takes for arguments, none where there are none."""
        arguments = self._values.get("arguments", {})
        if not isinstance(arguments, dict):
            raise self.wrong("arguments", "a table")
        for key, value in arguments.items():
            if not isinstance(value, str | int) or (isinstance(value, int) and value.bit_length() > _MAX_BITS):
                raise self.wrong(f"arguments.{key}", "a text, a whole number of 64 bits, true or false")
        return {
            key: self._filled(f"arguments.{key}", value) if isinstance(value, str) else value
            for key, value in arguments.items()
        }

    def _filled(self, key: str, text: str) -> str:
        for placeholder, value in self._placeholders.items():
            text = text.replace(placeholder, value)
        if unknown := re.search(r"\{[a-z_]+\}", text):
            raise self.wrong(key, " or ".join(self._placeholders), f"no placeholder {unknown[0]}; ")
        return text
