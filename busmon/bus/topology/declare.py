"""The declaration of the topology: objects over AMQP, users and permissions over the management API.

A second declaration changes nothing. An object with other arguments is neither changed nor deleted: the error is one
line that names the object, the argument and both values. One thread, one short-lived connection.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

from pika import spec
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from busmon.bus.connect.connection import PIKA_ERRORS, one_line, translating, user, virtual_host
from busmon.bus.connect.session import Session
from busmon.bus.topology import logs, users
from busmon.bus.topology.management import Management
from busmon.bus.topology.table import Arguments
from busmon.bus.topology.topology import CONSISTENT_HASH, Binding, Exchange, Queue, Topology
from busmon.bus.topology.version import parse
from busmon.errors import BrokerRefusedError, BusError, TopologyError

# RabbitMQ 3.10: "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received '6' but current is '5'"; where
# one of them is absent, "received none but current is the value '5' of type 'signedint'".
_DIFFERENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' .*: received (?:the value )?(?P<wanted>none|'.*?')(?: of type '\w+')? "
    r"but current is (?:the value )?(?P<found>none|'.*?')(?: of type '\w+')?$"
)


class DifferentArgumentError(TopologyError):
    """The error for an object that exists with another argument.

    Args:
        line: the error's text.
        argument: the differing argument.
        is_absent: the existing object doesn't have the argument.
    """

    def __init__(self, line: str, *, argument: str, is_absent: bool) -> None:
        super().__init__(line)
        self.argument = argument
        self.is_absent = is_absent


def declare(
    topology: Topology, amqp_url: str, management_url: str | None, passwords: Mapping[str, str | None]
) -> list[str]:
    """Declare all missing objects.

    Args:
        topology: what to declare.
        amqp_url: the broker, with a user that may configure, write and read the topology's objects.
        management_url: its management API, with an administrator; None leaves users and permissions as they are.
        passwords: by role, for users that don't exist yet.

    Returns:
        The outcome for each object, a line each.

    Raises:
        TopologyError: an object exists with other arguments, or the broker lacks a feature that the file needs. The
            ring's arguments are compared only if the management API reports them.
        BrokerRefusedError: this user may not declare.
        BrokerUnreachableError: there is no broker, or the connection was lost.
    """
    with _whole(amqp_url) as made, Session(amqp_url, "busmon topology declare") as session, translating():
        _refuse_fewer_shards(session, topology)
        unseen = _refuse_another_deal(session, topology, amqp_url, management_url)
        lines = [*_declare_all(session, topology, made), *_begin_logs(session, topology, made), *unseen]
    if management_url is None:
        return [*lines, "users and permissions: not set, since management_url isn't set (BUSMON_MANAGEMENT_URL)"]
    try:
        lines.extend(users.grant(topology.users, management_url, virtual_host(amqp_url), passwords))
    except BusError as error:
        lines.append(f"users and permissions: not set: {error}")
    return lines


def ensure(topology: Topology, amqp_url: str, management_url: str | None = None) -> list[str]:
    """Declare missing objects, if this user may; if no object is missing, no permission is needed.

    Args:
        topology: the wanted topology.
        amqp_url: the broker.
        management_url: its management API, which alone reports a ring's arguments; None assumes the file's arguments.

    Returns:
        The declared objects, a line each.

    Raises:
        TopologyError: an object is missing and this user may not declare it, or the broker has another number of
            shards or another ring; the line names the next command.
        BrokerUnreachableError: there is no broker, or the connection was lost.
    """
    with _whole(amqp_url) as made, Session(amqp_url, "busmon topology") as session, translating():
        _refuse_fewer_shards(session, topology)
        _refuse_another_deal(session, topology, amqp_url, management_url)
        logs.require(session, topology)
        missing = _missing(session, topology)
        if not missing:
            # AMQP can't query a binding, only declare it again. A user that may not bind has to assume that it exists.
            with suppress(BrokerRefusedError):
                _make_ring(session, topology, locked=_lock(session, topology))
                _bind_all(session, topology)
            return []
        _refuse_more_shards(topology, missing)
        try:
            return _declare_all(session, topology, made)
        except BrokerRefusedError as error:
            raise TopologyError(
                f"{missing[0]} is missing, and {user(amqp_url)} may not declare it: "
                "run `busmon topology declare` as an operator"
            ) from error


def _missing(session: Session, topology: Topology) -> list[str]:
    """List the objects that the broker reports as missing; objects that this user may not query are left out."""
    return [
        *(f"exchange {name!r}" for name in _durable(topology.exchanges) if session.has_exchange(name) is False),
        *(f"queue {queue.name!r}" for queue in topology.queues if session.has_queue(queue.name) is False),
    ]


def _refuse_fewer_shards(session: Session, topology: Topology) -> None:
    """Refuse fewer shards than the broker has queues: a queue without a consumer would fill, or hide a backlog."""
    beyond = topology.fold_queue(topology.shards)
    if session.has_queue(beyond):
        raise TopologyError(
            f"queue {beyond!r} exists, but {topology.path} has shards = {topology.shards}: set the broker's "
            "number there, or drain and delete the queue first (docs/topology.md, 'Changing the number of shards')"
        )


def _refuse_more_shards(topology: Topology, missing: list[str]) -> None:
    """Refuse more shards than the broker has queues: new shards take sources, so an operator decides when."""
    folds = [f"queue {topology.fold_queue(shard)!r}" for shard in range(topology.shards)]
    absent = [fold for fold in folds if fold in missing]
    if absent and len(absent) < len(folds):
        raise TopologyError(
            f"{absent[0]} is missing, but other shards exist: run `busmon topology declare` as an operator, "
            "once the others are drained (docs/topology.md, 'Changing the number of shards')"
        )


def _refuse_another_deal(session: Session, topology: Topology, amqp_url: str, management_url: str | None) -> list[str]:
    """Refuse a ring with other arguments, which would move sources away from the shards that have their ids.

    AMQP neither reports nor compares a ring's arguments.

    Returns:
        A line if a ring exists and couldn't be compared.
    """
    ring = topology.ring
    if ring is None or not session.has_exchange(ring.exchange.name):
        return []
    what = f"ring {ring.exchange.name!r}"
    if management_url is None:
        return [f"{what}: not compared with the former ring, since management_url isn't set (BUSMON_MANAGEMENT_URL)"]
    try:
        found = Management(management_url).get("exchanges", virtual_host(amqp_url), ring.exchange.name)
    except BusError as error:
        return [f"{what}: not compared with the former ring: {error}"]
    wanted = ring.exchange.arguments
    there = found["arguments"] if found else wanted
    if different := sorted(key for key in {*wanted, *there} if wanted.get(key) != there.get(key)):
        on_broker, in_file = (arguments.get(different[0], "not set") for arguments in (there, wanted))
        raise TopologyError(
            f"{what}: {different[0]} is {on_broker} on the broker, but {in_file} in {topology.path}, which would move "
            "sources to shards that don't know what was counted: drain, stop the fleet, delete this exchange and "
            "declare again (docs/topology.md, 'Changing the number of shards')"
        )
    return []


def _durable(exchanges: Iterable[Exchange]) -> list[str]:
    return [exchange.name for exchange in exchanges if exchange.durable]


@contextmanager
def _whole(amqp_url: str) -> Iterator[list[Exchange | Queue]]:
    """Delete the newly declared objects if a later declaration fails; yield the list to note them in.

    A queue that has messages or consumers by then stays.
    """
    made: list[Exchange | Queue] = []
    try:
        yield made
    except (BusError, TopologyError):
        if made:
            with suppress(BusError), Session(amqp_url, "busmon topology") as session:
                for each in reversed(made):
                    _take_back(session, each)
        raise


def _take_back(session: Session, made: Exchange | Queue) -> None:
    with suppress(*PIKA_ERRORS):
        if isinstance(made, Exchange):
            session.call(lambda channel: channel.exchange_delete(made.name))
        elif _is_idle(session, made):
            session.call(lambda channel: channel.queue_delete(made.name))


def _is_idle(session: Session, queue: Queue) -> bool:
    """Return whether a queue is empty and not consumed from; RabbitMQ can't delete a quorum queue on that condition."""
    found = session.call(lambda channel: channel.queue_declare(queue.name, passive=True)).method
    return not found.message_count and not found.consumer_count


def _declare_all(session: Session, topology: Topology, made: list[Exchange | Queue]) -> list[str]:
    """Declare missing objects, and note them in `made`; first the ring, which needs a plugin."""
    locked = _lock(session, topology)
    exchanges = [exchange for exchange in topology.exchanges if exchange.durable or locked]
    lines = {}
    for exchange in sorted(exchanges, key=lambda exchange: exchange.type != CONSISTENT_HASH):
        lines[exchange.name] = _declare_exchange(session, topology, exchange, made)
    return [
        *(lines[exchange.name] for exchange in exchanges),
        *(_declare_queue(session, topology, queue, made) for queue in (*topology.queues, *topology.logs)),
        *_make_ring(session, topology, locked=locked),
        *_bind_all(session, topology),
    ]


def _declare_exchange(
    session: Session, topology: Topology, exchange: Exchange, made: list[Exchange | Queue] | None = None
) -> str:
    there = session.has_exchange(exchange.name)
    what = f"exchange {exchange.name!r}"

    def operation(channel: BlockingChannel) -> None:
        arguments = dict(exchange.arguments)
        channel.exchange_declare(exchange.name, exchange.type, durable=exchange.durable, arguments=arguments)

    _do(session, topology, what, operation)
    if made is not None and not there:
        made.append(exchange)
    return f"{what}: {'was there' if there else 'declared'}"


def _declare_queue(session: Session, topology: Topology, queue: Queue, made: list[Exchange | Queue]) -> str:
    there = session.has_queue(queue.name)
    what = f"queue {queue.name!r}"

    def operation(arguments: Arguments, channel: BlockingChannel) -> None:
        channel.queue_declare(queue.name, durable=True, arguments=dict(arguments))

    wanted = queue.arguments_on(parse(session.broker_version))
    try:
        _do(session, topology, what, partial(operation, wanted))
    except DifferentArgumentError as error:
        # A queue that an older broker or an older busmon made keeps its guarantees without the newer argument.
        if error.argument not in queue.optional or not error.is_absent:
            raise
        _do(session, topology, what, partial(operation, queue.arguments))
        return f"{what}: was there, without {error.argument} (docs/topology.md, 'Changing an argument')"
    if not there:
        made.append(queue)
    return f"{what}: {'was there' if there else 'declared'}"


def _begin_logs(session: Session, topology: Topology, made: list[Exchange | Queue]) -> list[str]:
    """Write the first record of each new log; refuse a log that was there without one."""
    lines = []
    for shard, log in enumerate(topology.logs):
        if log in made:
            lines.append(logs.begin(session, topology, shard))
        else:
            logs.require_start(session, topology, shard)
    return lines


def _make_ring(session: Session, topology: Topology, *, locked: bool) -> list[str]:
    """Rebuild the ring, as a worker does (see `ringing`), unless a worker is rebuilding it."""
    ring = topology.ring
    if ring is None:
        return []
    what = f"ring {ring.exchange.name!r}"
    if not locked:
        return [f"{what}: left to the worker that is making it"]
    _declare_exchange(session, topology, ring.exchange)
    _do(session, topology, what, lambda channel: channel.exchange_delete(ring.exchange.name))
    _declare_exchange(session, topology, ring.exchange)
    for binding in ring.bindings:
        _do(session, topology, f"binding {binding}", partial(_bind, binding))
    session.call(lambda channel: channel.queue_delete(ring.lock))
    return [f"{what}: made"]


def _lock(session: Session, topology: Topology) -> bool:
    """Take the lock of the ring, if there is a ring and the lock is free; the connection's end also frees the lock."""
    ring = topology.ring
    if ring is None:
        return False
    try:
        session.call(lambda channel: channel.queue_declare(ring.lock, exclusive=True))
    except ChannelClosedByBroker as error:
        if error.reply_code == spec.RESOURCE_LOCKED:
            return False
        raise _explain(topology, f"queue {ring.lock!r}", error.reply_code, one_line(error.reply_text)) from error
    return True


def _bind_all(session: Session, topology: Topology) -> list[str]:
    """Declare all bindings except the ring's; first delete those of another number of shards, which duplicate."""
    for binding in topology.surplus:
        _do(session, topology, f"binding {binding}", partial(_unbind, binding))
    lasting = topology.lasting_bindings
    for binding in lasting:
        _do(session, topology, f"binding {binding}", partial(_bind, binding))
    return [f"binding {binding}: is there" for binding in lasting]


def _bind(binding: Binding, channel: BlockingChannel) -> None:
    bind = channel.queue_bind if binding.destination_type == "queue" else channel.exchange_bind
    bind(binding.destination, binding.source, binding.routing_key, arguments=dict(binding.arguments))


def _unbind(binding: Binding, channel: BlockingChannel) -> None:
    unbind = channel.queue_unbind if binding.destination_type == "queue" else channel.exchange_unbind
    unbind(binding.destination, binding.source, binding.routing_key, arguments=dict(binding.arguments))


def _do(session: Session, topology: Topology, what: str, operation: Callable[[BlockingChannel], object]) -> None:
    try:
        session.call(operation)
    except (ChannelClosedByBroker, ConnectionClosedByBroker) as error:
        raise _explain(topology, what, error.reply_code, one_line(error.reply_text)) from error


def _explain(topology: Topology, what: str, code: int, text: str) -> BusError | TopologyError:
    if code == spec.ACCESS_REFUSED:
        return BrokerRefusedError(f"{what}: {text}; declaring takes an operator's permissions")
    if f"unknown exchange type '{CONSISTENT_HASH}'" in text:  # code 503, from RabbitMQ 4 on 406
        return TopologyError(
            f"{topology.shards} shards need a plugin that RabbitMQ has off: run `rabbitmq-plugins enable "
            "rabbitmq_consistent_hash_exchange` on its host, or set shards = 1 in the topology file "
            f"({topology.path}, or a copy that BUSMON_TOPOLOGY names)"
        )
    if different := _DIFFERENT.search(text):
        found, wanted = (different[side].strip("'") for side in ("found", "wanted"))
        return DifferentArgumentError(
            f"{what}: {different['argument']} is {found} on the broker, but {wanted} in {topology.path}; RabbitMQ "
            "can't change it: drain, delete and declare again (docs/topology.md, 'Changing an argument')",
            argument=different["argument"],
            is_absent=different["found"] == "none",
        )
    return TopologyError(f"{what}: {text}")
