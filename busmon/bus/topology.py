"""The topology as data: what a topology file says, checked and with its placeholders filled in.

Pure but for reading the file. Every mistake in a file is a `TopologyError` of one line that names the file and the key.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from busmon.errors import TopologyError

MAX_SHARDS = 256
CONSISTENT_HASH = "x-consistent-hash"
ROLES = ("publisher", "consumer", "operator")

_MAX_NAME_BYTES = 255
_MAX_BITS = 63

Arguments = Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: str
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue; its type is the argument `x-queue-type`."""

    name: str
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class Binding:
    """From an exchange to a queue or to another exchange."""

    source: str
    destination: str
    destination_type: str
    routing_key: str
    arguments: Arguments

    def __str__(self) -> str:
        return f"{self.source!r} → {self.destination_type} {self.destination!r} with key {self.routing_key!r}"


@dataclass(frozen=True, slots=True)
class User:
    """A user and what it may do in the virtual host: three regular expressions of names, as RabbitMQ has them.

    Attributes:
        role: `publisher`, `consumer` or `operator`; the setting `<role>_password` is the user's.
    """

    role: str
    name: str
    configure: str
    write: str
    read: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """All that is declared.

    Attributes:
        path: the file that says so.
        surplus: bindings that the file has for another number of shards; with this number they would count twice.
    """

    path: Path
    exchange: str
    shards: int
    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]
    surplus: tuple[Binding, ...]
    users: tuple[User, ...]

    def fold_queue(self, shard: int) -> str:
        """The queue of a shard."""
        return f"{self.exchange}.fold.{shard}"

    @property
    def quarantine(self) -> str:
        """The exchange, and the queue behind it, for bodies that are no envelope."""
        return f"{self.exchange}.quarantine"

    @property
    def dropped(self) -> str:
        """The queue through which passes what the quarantine dropped."""
        return f"{self.exchange}.quarantine.dropped"


def load(path: Path | None, exchange: str) -> Topology:
    """Read a topology file.

    Args:
        path: the file; None for the built-in one.
        exchange: what stands for `{exchange}` in it.

    Raises:
        TopologyError: the file can't be read, or says something that can't be declared.
    """
    path = path or built_in()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TopologyError(f"{path}: {error}; expected a topology file in TOML") from error
    root = _Table(path, "", document, {})
    root.only("shards", "exchanges", "queues", "bindings", "users")
    shards = root.whole("shards", 1, MAX_SHARDS)
    bindings = [(table.applies(shards), _binding(table)) for table in root.each("bindings", exchange, shards)]
    topology = Topology(
        path,
        exchange,
        shards,
        tuple(_exchange(table) for table in root.each("exchanges", exchange, shards) if table.applies(shards)),
        tuple(_queue(table) for table in root.each("queues", exchange, shards) if table.applies(shards)),
        tuple(binding for applies, binding in bindings if applies),
        tuple(binding for applies, binding in bindings if not applies),
        tuple(_user(table, role) for role, table in root.named("users", exchange)),
    )
    _check_names(topology)
    return topology


def built_in() -> Path:
    """Where the distribution's own topology stands: in the package once installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "topology" / "telemetry.toml"
    return installed if installed.exists() else package.parent / "topology" / "telemetry.toml"


class _Table:
    """One table of the file: takes values out, its placeholders filled in, and says where a wrong one stands."""

    def __init__(self, path: Path, where: str, values: Mapping[str, Any], placeholders: Mapping[str, str]) -> None:
        self._path = path
        self._where = where
        self._values = values
        self._placeholders = placeholders

    def wrong(self, key: str, expected: str, found: str = "") -> TopologyError:
        return TopologyError(f"{self._path}: {self._where}{key}: {found}expected {expected}")

    def only(self, *keys: str) -> None:
        if unknown := sorted(self._values.keys() - set(keys)):
            raise self.wrong(unknown[0], f"one of {', '.join(keys)}", "no such key; ")

    def each(self, key: str, exchange: str, shards: int) -> Iterator["_Table"]:
        """The tables of an array, those that name `{shard}` once for each."""
        tables = self._values.get(key, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise self.wrong(key, f"tables, each under [[{key}]]")
        for index, table in enumerate(tables):
            for shard in range(shards) if "{shard}" in str(table) else (0,):
                placeholders = {"{exchange}": exchange, "{shard}": str(shard)}
                yield _Table(self._path, f"{key}[{index}].", table, placeholders)

    def named(self, key: str, exchange: str) -> Iterator[tuple[str, "_Table"]]:
        """The tables of a table, with their names."""
        tables = self._values.get(key, {})
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            raise self.wrong(key, f"tables, each under [{key}.<name>]")
        for name, table in tables.items():
            yield name, _Table(self._path, f"{key}.{name}.", table, {"{exchange}": exchange})

    def applies(self, shards: int) -> bool:
        conditions = {"shards = 1": shards == 1, "shards > 1": shards > 1}
        if "only_if" not in self._values:
            return True
        if self._values["only_if"] not in conditions:
            raise self.wrong("only_if", " or ".join(map(repr, conditions)))
        return conditions[self._values["only_if"]]

    def whole(self, key: str, low: int, high: int) -> int:
        value = self._values.get(key)
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(key, f"a whole number from {low} to {high}")
        return value

    def has(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str) -> str:
        if not isinstance(self._values.get(key), str):
            raise self.wrong(key, "a text")
        return self._filled(key, self._values[key])

    def name(self, key: str) -> str:
        value = self.text(key)
        if not 0 < len(value.encode()) <= _MAX_NAME_BYTES or value.startswith("amq."):
            raise self.wrong(key, f"a name of 1 to {_MAX_NAME_BYTES} bytes that doesn't start with 'amq.'")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values = self._values.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self.wrong(key, "a list of texts")
        return tuple(values)

    def pattern(self, key: str) -> str:
        """A regular expression; what stands for a placeholder in it matches itself only."""
        literal = {name: re.escape(value) for name, value in self._placeholders.items()}
        value = _Table(self._path, self._where, self._values, literal).text(key)
        try:
            re.compile(value)
        except re.error as error:
            raise self.wrong(key, f"a regular expression ({error})") from error
        return value

    def arguments(self) -> Arguments:
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


def _exchange(table: _Table) -> Exchange:
    table.only("only_if", "name", "type", "arguments")
    return Exchange(table.name("name"), table.text("type"), table.arguments())


def _queue(table: _Table) -> Queue:
    table.only("only_if", "name", "arguments")
    return Queue(table.name("name"), table.arguments())


def _binding(table: _Table) -> Binding:
    table.only("only_if", "source", "queue", "exchange", "routing_key", "arguments")
    if table.has("queue") == table.has("exchange"):
        raise table.wrong("queue", "either this or 'exchange', as what the source is bound to")
    kind = "queue" if table.has("queue") else "exchange"
    return Binding(table.name("source"), table.name(kind), kind, table.text("routing_key"), table.arguments())


def _user(table: _Table, role: str) -> User:
    table.only("name", "configure", "write", "read", "tags")
    if role not in ROLES:
        raise table.wrong("role", f"{', '.join(ROLES[:-1])} or {ROLES[-1]}")
    return User(
        role,
        table.name("name"),
        table.pattern("configure"),
        table.pattern("write"),
        table.pattern("read"),
        table.texts("tags"),
    )


def _check_names(topology: Topology) -> None:
    """What the rest of busmon counts on has to be there, and a binding needs both its ends."""
    exchanges = {exchange.name for exchange in topology.exchanges}
    queues = {queue.name for queue in topology.queues}
    folds = {topology.fold_queue(shard) for shard in range(topology.shards)}
    for kind, needed, present in (
        ("exchange", {topology.exchange, topology.quarantine}, exchanges),
        ("queue", {*folds, topology.quarantine, topology.dropped}, queues),
        ("exchange", {binding.source for binding in topology.bindings}, exchanges),
        ("exchange", {b.destination for b in topology.bindings if b.destination_type == "exchange"}, exchanges),
        ("queue", {b.destination for b in topology.bindings if b.destination_type == "queue"}, queues),
    ):
        if missing := sorted(needed - present):
            raise TopologyError(f"{topology.path}: {kind}s: expected one with the name {missing[0]!r}")
