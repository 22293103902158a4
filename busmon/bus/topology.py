"""The topology as data: what a topology file says, checked and with its placeholders filled in.

Pure but for reading the file. Every mistake in a file is a `TopologyError` of one line that names the file and the key.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from busmon.bus.topology_table import Arguments, Table
from busmon.errors import TopologyError

MAX_SHARDS = 256
CONSISTENT_HASH = "x-consistent-hash"
ROLES = ("publisher", "consumer", "operator")


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange; one that isn't durable is gone when the broker restarts, and its bindings with it."""

    name: str
    type: str
    durable: bool
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
class Ring:
    """What deals sources to shards: an exchange whose meaning is the order of its bindings.

    Attributes:
        exchange: not durable, as RabbitMQ brings back a durable one's bindings in any order.
        bindings: in the order in which they are to be made. Only the last leads into the ring, so that nothing enters
            one that isn't whole.
    """

    exchange: Exchange
    bindings: tuple[Binding, ...]

    @property
    def deals(self) -> tuple[Binding, ...]:
        """The bindings to the shards' queues."""
        return self.bindings[:-1]

    @property
    def entrance(self) -> Binding:
        """The binding that leads into the ring."""
        return self.bindings[-1]

    @property
    def lock(self) -> str:
        """The exclusive queue that whoever makes the ring holds meanwhile; who may declare the exchange may hold it."""
        return self.exchange.name


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
        ring: what deals sources to several shards; None for one shard.
        surplus: bindings that the file has for another number of shards; with this number they would count twice.
    """

    path: Path
    exchange: str
    shards: int
    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]
    ring: Ring | None
    surplus: tuple[Binding, ...]
    users: tuple[User, ...]

    @property
    def lasting_bindings(self) -> tuple[Binding, ...]:
        """All but the ring's."""
        return tuple(binding for binding in self.bindings if self.ring is None or binding not in self.ring.bindings)

    def fold_queue(self, shard: int) -> str:
        """The queue of a shard."""
        return f"{self.exchange}.fold.{shard}"

    @property
    def waiting(self) -> str:
        """The queue of what was published while the ring was missing; there is none with one shard."""
        return f"{self.exchange}.waiting"

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
    root = Table(path, "", document, {})
    root.only("shards", "exchanges", "queues", "bindings", "users")
    shards = root.whole("shards", 1, MAX_SHARDS)
    exchanges = [_exchange(table) for table in root.each("exchanges", exchange, shards) if table.applies(shards)]
    every_binding = [(table.applies(shards), _binding(table)) for table in root.each("bindings", exchange, shards)]
    bindings = [binding for applies, binding in every_binding if applies]
    topology = Topology(
        path,
        exchange,
        shards,
        tuple(exchanges),
        tuple(_queue(table) for table in root.each("queues", exchange, shards) if table.applies(shards)),
        tuple(bindings),
        _ring(path, exchanges, bindings),
        tuple(binding for applies, binding in every_binding if not applies),
        tuple(_user(table, role) for role, table in root.named("users", exchange)),
    )
    _check_names(topology)
    return topology


def built_in() -> Path:
    """Where the distribution's own topology stands: in the package once installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "topology" / "telemetry.toml"
    return installed if installed.exists() else package.parent / "topology" / "telemetry.toml"


def _exchange(table: Table) -> Exchange:
    table.only("only_if", "name", "type", "durable", "arguments")
    return Exchange(table.name("name"), table.text("type"), table.truth("durable", default=True), table.arguments())


def _queue(table: Table) -> Queue:
    table.only("only_if", "name", "arguments")
    return Queue(table.name("name"), table.arguments())


def _binding(table: Table) -> Binding:
    table.only("only_if", "source", "queue", "exchange", "routing_key", "arguments")
    if table.has("queue") == table.has("exchange"):
        raise table.wrong("queue", "either this or 'exchange', as what the source is bound to")
    kind = "queue" if table.has("queue") else "exchange"
    return Binding(table.name("source"), table.name(kind), kind, table.text("routing_key"), table.arguments())


def _ring(path: Path, exchanges: Iterable[Exchange], bindings: Iterable[Binding]) -> Ring | None:
    """The exchange that a restart takes away, with its bindings; anything else that did so would stay lost."""
    for exchange in exchanges:
        if exchange.durable == (exchange.type == CONSISTENT_HASH):
            expected = f"durable = {str(not exchange.durable).lower()} with the type {exchange.type!r}"
            raise TopologyError(f"{path}: exchange {exchange.name!r}: expected {expected} (docs/topology.md, 'Ring')")
    ring = next((exchange for exchange in exchanges if not exchange.durable), None)
    if ring is None:
        return None
    of_it = tuple(binding for binding in bindings if ring.name in {binding.source, binding.destination})
    if [binding.source == ring.name for binding in of_it] != [True] * (len(of_it) - 1) + [False]:
        raise TopologyError(f"{path}: bindings: expected those from {ring.name!r} first, then one to it")
    return Ring(ring, of_it)


def _user(table: Table, role: str) -> User:
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
    waiting = {topology.waiting} if topology.ring else set()
    for kind, needed, present in (
        ("exchange", {topology.exchange, topology.quarantine}, exchanges),
        ("queue", {*folds, *waiting, topology.quarantine, topology.dropped}, queues),
        ("exchange", {binding.source for binding in topology.bindings}, exchanges),
        ("exchange", {b.destination for b in topology.bindings if b.destination_type == "exchange"}, exchanges),
        ("queue", {b.destination for b in topology.bindings if b.destination_type == "queue"}, queues),
    ):
        if missing := sorted(needed - present):
            raise TopologyError(f"{topology.path}: {kind}s: expected one with the name {missing[0]!r}")
