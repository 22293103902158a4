"""The topology as data: a topology file's content, checked and with its placeholders filled in.

Pure except for reading the file. Every mistake in a file is a `TopologyError` of one line with the file and the key.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from busmon.bus.connect.plugin import CONSISTENT_HASH
from busmon.bus.topology.table import CELERY, REPLICATED, Arguments, Conditions, Table
from busmon.bus.topology.version import Version
from busmon.errors import TopologyError
from busmon.text_files import read_toml

MAX_SHARDS = 256
ROLES = ("publisher", "consumer", "operator")
RELAYING_ROLES = frozenset({"consumer", "operator"})
RIGHTS = ("configure", "write", "read")

_TYPE = "x-queue-type"
_LENGTH, _SEGMENT, _AGE = "x-max-length-bytes", "x-stream-max-segment-size-bytes", "x-max-age"
_MIN_SEGMENTS = 3
"""The fewest whole segments of a log: two snapshots, and the records between them."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange; a restart of the broker deletes an exchange that isn't durable, with its bindings."""

    name: str
    type: str
    durable: bool
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue; its type is the argument `x-queue-type`.

    Attributes:
        newer: arguments that only brokers of this version and later know.
    """

    name: str
    arguments: Arguments
    newer: tuple[tuple[Version, Arguments], ...] = ()

    def arguments_on(self, broker: Version) -> Arguments:
        """Return the arguments that a broker of this version knows."""
        known = dict(self.arguments)
        for since, arguments in self.newer:
            if broker >= since:
                known.update(arguments)
        return known

    @property
    def optional(self) -> Arguments:
        """Return the arguments that only some brokers know."""
        return {key: value for _, arguments in self.newer for key, value in arguments.items()}


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding from an exchange to a queue or to another exchange."""

    source: str
    destination: str
    destination_type: str
    routing_key: str
    arguments: Arguments

    def __str__(self) -> str:
        return f"{self.source!r} → {self.destination_type} {self.destination!r} with key {self.routing_key!r}"


@dataclass(frozen=True, slots=True)
class Ring:
    """The exchange that deals sources to shards, by the order of its bindings.

    Attributes:
        exchange: not durable, since RabbitMQ restores a durable exchange's bindings in any order.
        bindings: in the order of their declaration. Only the last leads into the ring, so that no envelope enters an
            incomplete ring.
    """

    exchange: Exchange
    bindings: tuple[Binding, ...]

    @property
    def deals(self) -> tuple[Binding, ...]:
        """Return the bindings to the shards' queues."""
        return self.bindings[:-1]

    @property
    def entrance(self) -> Binding:
        """Return the binding that leads into the ring."""
        return self.bindings[-1]

    @property
    def lock(self) -> str:
        """Return the exclusive queue that is held during a rebuild; it needs the exchange's permissions."""
        return self.exchange.name


@dataclass(frozen=True, slots=True)
class User:
    """A user and its permissions in the virtual host: RabbitMQ's three regular expressions of names.

    Attributes:
        role: `publisher`, `consumer` or `operator`; the setting `<role>_password` is the user's.
    """

    role: str
    name: str
    configure: str
    write: str
    read: str
    tags: tuple[str, ...]


class Limits(NamedTuple):
    """The most that a queue holds; None without a limit."""

    bodies: int | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Topology:
    """All objects to declare.

    Attributes:
        path: the topology file.
        ring: deals sources to several shards; None for one shard.
        surplus: bindings that the file has for another number of shards; with this number they would count twice.
        optional: bindings that the file has for Celery's events, where these aren't asked for; they may be there.
        logs: the streams of the replicated shards, by shard; empty without replication.
        celery_exchanges: the exchanges from which the file takes Celery's events, whether they are taken or not.
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
    optional: tuple[Binding, ...] = ()
    logs: tuple[Queue, ...] = ()
    celery_exchanges: frozenset[str] = frozenset()

    @property
    def lasting_bindings(self) -> tuple[Binding, ...]:
        """Return all bindings except the ring's."""
        return tuple(binding for binding in self.bindings if self.ring is None or binding not in self.ring.bindings)

    @property
    def relays(self) -> frozenset[str]:
        """Return the names of the users that publish for others: the fleet's, and the operators'."""
        return frozenset(user.name for user in self.users if user.role in RELAYING_ROLES)

    def fold_queue(self, shard: int) -> str:
        """Return the name of a shard's queue."""
        return f"{self.exchange}.fold.{shard}"

    @property
    def log_exchange(self) -> str:
        """Return the exchange that alone leads into the logs; a shard's number is the routing key to its log."""
        return f"{self.exchange}.log"

    def log_stream(self, shard: int) -> str:
        """Return the name of a shard's log."""
        return f"{self.log_exchange}.{shard}"

    @property
    def log_kept_bytes(self) -> int:
        """Return the bytes of a log that RabbitMQ keeps in any case: the limit of its length less one segment."""
        return min((_count_kept_bytes(log.arguments) for log in self.logs), default=0)

    @property
    def waiting(self) -> str:
        """Return the queue of envelopes that were published while the ring was missing; one shard needs none."""
        return f"{self.exchange}.waiting"

    @property
    def quarantine(self) -> str:
        """Return the name of the exchange, and of its queue, for invalid bodies."""
        return f"{self.exchange}.quarantine"

    @property
    def quarantine_limits(self) -> Limits:
        """Return the limits of the quarantine's queue."""
        arguments = next(queue.arguments for queue in self.queues if queue.name == self.quarantine)
        bodies, size_bytes = (arguments.get(name) for name in ("x-max-length", "x-max-length-bytes"))
        return Limits(*(limit if type(limit) is int else None for limit in (bodies, size_bytes)))

    @property
    def dropped(self) -> str:
        """Return the queue of the bodies that the quarantine dropped."""
        return f"{self.exchange}.quarantine.dropped"


def load(path: Path | None, exchange: str, replication: str = "off", *, with_celery: bool = False) -> Topology:
    """Read a topology file.

    Args:
        path: the file; None for the built-in one.
        exchange: the value of `{exchange}` in the file.
        replication: `off` or `stream`, the setting; with `stream` the topology has the logs.
        with_celery: take Celery's events, whatever the file says.

    Raises:
        TopologyError: the file can't be read, or has an object that can't be declared.
    """
    path = path or find_built_in()
    document = read_toml(path, TopologyError, "a topology file in TOML")
    root = Table(path, "", document, {})
    root.only("shards", "exchanges", "queues", "bindings", "users", "celery")
    shards = root.whole("shards", 1, MAX_SHARDS)
    conditions = Conditions(shards, root.truth("celery", default=False) or with_celery, replication == "stream")
    exchanges = [_exchange(table) for table in root.each("exchanges", exchange, shards) if table.applies(conditions)]
    queues = [_queue(table) for table in root.each("queues", exchange, shards) if table.applies(conditions)]
    every_binding = [(table, _binding(table)) for table in root.each("bindings", exchange, shards)]
    bindings = [binding for table, binding in every_binding if table.applies(conditions)]
    others = [(table, binding) for table, binding in every_binding if not table.applies(conditions)]
    is_log = [queue.arguments.get(_TYPE) == "stream" for queue in queues]
    topology = Topology(
        path,
        exchange,
        shards,
        tuple(exchanges),
        tuple(queue for queue, logs in zip(queues, is_log, strict=True) if not logs),
        tuple(bindings),
        _ring(path, exchanges, bindings),
        tuple(binding for table, binding in others if not (table.is_if(CELERY) or table.is_if(REPLICATED))),
        tuple(_user(table, role, conditions) for role, table in root.take_named("users", exchange)),
        tuple(binding for table, binding in others if table.is_if(CELERY)),
        tuple(queue for queue, logs in zip(queues, is_log, strict=True) if logs),
        frozenset(binding.source for table, binding in every_binding if table.is_if(CELERY)),
    )
    _check_logs(topology, is_replicated=conditions.is_replicated)
    _check_names(topology)
    return topology


def find_built_in() -> Path:
    """Find the built-in topology file: in the installed package, or next to the package in a checkout."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "topology" / "telemetry.toml"
    return installed if installed.exists() else package.parent / "topology" / "telemetry.toml"


def _exchange(table: Table) -> Exchange:
    table.only("only_if", "name", "type", "durable", "arguments")
    return Exchange(table.name("name"), table.text("type"), table.truth("durable", default=True), table.arguments())


def _queue(table: Table) -> Queue:
    table.only("only_if", "name", "arguments", "arguments_since")
    return Queue(table.name("name"), table.arguments(), table.arguments_since())


def _binding(table: Table) -> Binding:
    table.only("only_if", "source", "queue", "exchange", "routing_key", "arguments")
    if table.has("queue") == table.has("exchange"):
        raise table.wrong("queue", "either this or 'exchange', as what the source is bound to")
    kind = "queue" if table.has("queue") else "exchange"
    return Binding(table.name("source"), table.name(kind), kind, table.text("routing_key"), table.arguments())


def _ring(path: Path, exchanges: Iterable[Exchange], bindings: Iterable[Binding]) -> Ring | None:
    """Return the ring; refuse other exchanges that a restart would delete, since nothing would declare them again."""
    for exchange in exchanges:
        if exchange.durable == (exchange.type == CONSISTENT_HASH):
            expected = f"durable = {str(not exchange.durable).lower()} with the type {exchange.type!r}"
            raise TopologyError(
                f"{path}: exchange {exchange.name!r}: expected {expected} (docs/topology.md, 'The ring')"
            )
    ring = next((exchange for exchange in exchanges if not exchange.durable), None)
    if ring is None:
        return None
    of_it = tuple(binding for binding in bindings if ring.name in {binding.source, binding.destination})
    if [binding.source == ring.name for binding in of_it] != [True] * (len(of_it) - 1) + [False]:
        raise TopologyError(f"{path}: bindings: expected those from {ring.name!r} first, then one to it")
    return Ring(ring, of_it)


def _user(table: Table, role: str, conditions: Conditions) -> User:
    table.only("name", *RIGHTS, "tags", "with_celery", "further")
    if role not in ROLES:
        raise table.wrong("role", f"{', '.join(ROLES[:-1])} or {ROLES[-1]}")
    more, every_further = table.inner("with_celery"), list(table.take_nested("further"))
    more.only(*RIGHTS)
    for further in every_further:
        further.only("only_if", *RIGHTS)
    applying = [further for further in every_further if further.applies(conditions)]
    configure, write, read = (
        "|".join(
            [
                (more if conditions.celery and more.has(right) else table).pattern(right),
                *(further.pattern(right) for further in applying if further.has(right)),
            ]
        )
        for right in RIGHTS
    )
    return User(role, table.name("name"), configure, write, read, table.texts("tags"))


def _check_logs(topology: Topology, *, is_replicated: bool) -> None:
    """Check that each shard has a log if the shards are replicated, and that a log keeps what a reader needs."""
    wanted = {topology.log_stream(shard) for shard in range(topology.shards)} if is_replicated else set()
    names = {log.name for log in topology.logs}
    if absent := sorted(wanted - names):
        raise TopologyError(
            f"{topology.path}: queues: expected one with the name {absent[0]!r} and the x-queue-type 'stream', "
            "for replication"
        )
    if strange := sorted(names - wanted):
        raise TopologyError(
            f"{topology.path}: queues: {strange[0]!r} has the x-queue-type 'stream', which only a log has, with "
            f"only_if = {REPLICATED!r}"
        )
    for log in topology.logs:
        _check_limits(topology, log)


def _check_limits(topology: Topology, log: Queue) -> None:
    what = f"{topology.path}: queue {log.name!r}"
    if _AGE in log.arguments:
        raise TopologyError(f"{what}: {_AGE}: expected none, for an idle log would lose its last snapshot")
    for key in (_LENGTH, _SEGMENT):
        if type(log.arguments.get(key)) is not int:
            raise TopologyError(f"{what}: {key}: expected a whole number of bytes")
    if _count_kept_bytes(log.arguments) < _MIN_SEGMENTS * int(log.arguments[_SEGMENT]):
        raise TopologyError(f"{what}: {_LENGTH}: expected at least {_MIN_SEGMENTS + 1} times {_SEGMENT}")


def _count_kept_bytes(arguments: Arguments) -> int:
    """Return the bytes that RabbitMQ keeps: retention drops whole segments."""
    return int(arguments[_LENGTH]) - int(arguments[_SEGMENT])


def _check_names(topology: Topology) -> None:
    """Check that the objects that busmon needs exist, and both ends of each binding."""
    exchanges = {exchange.name for exchange in topology.exchanges}
    queues = {queue.name for queue in (*topology.queues, *topology.logs)}
    folds = {topology.fold_queue(shard) for shard in range(topology.shards)}
    waiting = {topology.waiting} if topology.ring else set()
    for kind, needed, present in (
        ("exchange", {topology.exchange, topology.quarantine}, exchanges),
        ("queue", {*folds, *waiting, topology.quarantine, topology.dropped}, queues),
        ("exchange", {topology.log_exchange} if topology.logs else set(), exchanges),
        ("exchange", {binding.source for binding in topology.bindings}, exchanges),
        ("exchange", {b.destination for b in topology.bindings if b.destination_type == "exchange"}, exchanges),
        ("queue", {b.destination for b in topology.bindings if b.destination_type == "queue"}, queues),
    ):
        if missing := sorted(needed - present):
            raise TopologyError(f"{topology.path}: {kind}s: expected one with the name {missing[0]!r}")
