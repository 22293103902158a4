"""Declaring the topology: exchanges, queues and bindings over AMQP, users and permissions over the management API.

Declaring twice does no more than declaring once. What exists with other arguments is neither changed nor deleted: it is
an error of one line that names the object, the argument and both values. One thread, one short-lived connection.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from busmon.bus import users
from busmon.bus.connection import PIKA_ERRORS, one_line, translating, user, virtual_host
from busmon.bus.management import Management
from busmon.bus.session import Session
from busmon.bus.topology import CONSISTENT_HASH, Binding, Exchange, Queue, Topology
from busmon.errors import BrokerRefusedError, BusError, TopologyError

_ACCESS_REFUSED = 403
_RESOURCE_LOCKED = 405

# RabbitMQ 3.10: "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received '6' but current is '5'"; where
# one of them is absent, "received none but current is the value '5' of type 'signedint'".
_DIFFERENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' .*: received (?:the value )?(?P<wanted>none|'.*?')(?: of type '\w+')? "
    r"but current is (?:the value )?(?P<found>none|'.*?')(?: of type '\w+')?$"
)


def declare(
    topology: Topology, amqp_url: str, management_url: str | None, passwords: Mapping[str, str | None]
) -> list[str]:
    """Declare everything that isn't there.

    Args:
        topology: what to declare.
        amqp_url: the broker, with a user that may configure, write and read the topology's objects.
        management_url: its management API, with an administrator; None leaves users and permissions as they are.
        passwords: by role, for users that don't exist yet.

    Returns:
        What was done and what couldn't be, a line each.

    Raises:
        TopologyError: something is there with other arguments, the ring's included as far as the management API tells
            them, or the broker can't give what the file asks for.
        BrokerRefusedError: this user may not declare.
        BrokerUnreachableError: there is no broker, or it was lost.
    """
    with _whole(amqp_url) as made, Session(amqp_url, "busmon topology declare") as session, translating():
        _refuse_fewer_shards(session, topology)
        unseen = _refuse_another_deal(session, topology, amqp_url, management_url)
        lines = [*_declare_all(session, topology, made), *unseen]
    if management_url is None:
        return [*lines, "users and permissions: not set, for there is no management_url (BUSMON_MANAGEMENT_URL)"]
    try:
        lines.extend(users.grant(topology.users, management_url, virtual_host(amqp_url), passwords))
    except BusError as error:
        lines.append(f"users and permissions: not set: {error}")
    return lines


def ensure(topology: Topology, amqp_url: str, management_url: str | None = None) -> list[str]:
    """Declare what is missing, if this user may; where nothing is missing, no permission is needed.

    Args:
        topology: what is to be there.
        amqp_url: the broker.
        management_url: its management API, which alone tells a ring's arguments; None takes them to be the file's.

    Returns:
        What was declared, a line each.

    Raises:
        TopologyError: something is missing and this user may not declare it, or the broker has another number of
            shards or another ring; the line names the next command.
        BrokerUnreachableError: there is no broker, or it was lost.
    """
    with _whole(amqp_url) as made, Session(amqp_url, "busmon topology") as session, translating():
        _refuse_fewer_shards(session, topology)
        _refuse_another_deal(session, topology, amqp_url, management_url)
        missing = _missing(session, topology)
        if not missing:
            # A binding can't be asked for, only made again; whoever may not bind has to trust that it is there.
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
    return [
        *(f"exchange {name!r}" for name in _durable(topology.exchanges) if not session.has_exchange(name)),
        *(f"queue {queue.name!r}" for queue in topology.queues if not session.has_queue(queue.name)),
    ]


def _refuse_fewer_shards(session: Session, topology: Topology) -> None:
    """A shard's queue that nobody consumes any more would go on filling, or keep a backlog unseen."""
    beyond = topology.fold_queue(topology.shards)
    if session.has_queue(beyond):
        raise TopologyError(
            f"queue {beyond!r} exists, but {topology.path} has shards = {topology.shards}: set the broker's "
            "number there, or drain and delete the queue first (docs/topology.md, 'Changing the number of shards')"
        )


def _refuse_more_shards(topology: Topology, missing: list[str]) -> None:
    """New shards take sources from the old ones, so it is for an operator to say when."""
    folds = [f"queue {topology.fold_queue(shard)!r}" for shard in range(topology.shards)]
    absent = [fold for fold in folds if fold in missing]
    if absent and len(absent) < len(folds):
        raise TopologyError(
            f"{absent[0]} is missing beside other shards: run `busmon topology declare` as an operator, "
            "once the others are drained (docs/topology.md, 'Changing the number of shards')"
        )


def _refuse_another_deal(session: Session, topology: Topology, amqp_url: str, management_url: str | None) -> list[str]:
    """A ring with other arguments would take sources from the shards that know what they have counted.

    Over AMQP a ring's arguments are neither told nor compared.

    Returns:
        A line where there is a ring that couldn't be looked at.
    """
    ring = topology.ring
    if ring is None or not session.has_exchange(ring.exchange.name):
        return []
    what = f"ring {ring.exchange.name!r}"
    if management_url is None:
        return [f"{what}: not compared with what it was, for there is no management_url (BUSMON_MANAGEMENT_URL)"]
    try:
        found = Management(management_url).get("exchanges", virtual_host(amqp_url), ring.exchange.name)
    except BusError as error:
        return [f"{what}: not compared with what it was: {error}"]
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
    """Take back what was declared if the rest can't be; gives the list to put it in.

    A queue that holds messages by then, or is consumed from, stays.
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
    """Tell if a queue is empty and not consumed from; RabbitMQ can't delete a quorum queue on that condition."""
    found = session.call(lambda channel: channel.queue_declare(queue.name, passive=True)).method
    return not found.message_count and not found.consumer_count


def _declare_all(session: Session, topology: Topology, made: list[Exchange | Queue]) -> list[str]:
    """Declare what isn't there, and note it in `made`; first the ring, which takes a plugin."""
    locked = _lock(session, topology)
    exchanges = [exchange for exchange in topology.exchanges if exchange.durable or locked]
    lines = {}
    for exchange in sorted(exchanges, key=lambda exchange: exchange.type != CONSISTENT_HASH):
        lines[exchange.name] = _declare_exchange(session, topology, exchange, made)
    return [
        *(lines[exchange.name] for exchange in exchanges),
        *(_declare_queue(session, topology, queue, made) for queue in topology.queues),
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

    def operation(channel: BlockingChannel) -> None:
        channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))

    _do(session, topology, what, operation)
    if not there:
        made.append(queue)
    return f"{what}: {'was there' if there else 'declared'}"


def _make_ring(session: Session, topology: Topology, *, locked: bool) -> list[str]:
    """Make the ring from scratch, as a worker does (see `ringing`), unless a worker is at it."""
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
    """Take the lock of the ring, if there is one and nobody has it; the connection's end frees it, too."""
    ring = topology.ring
    if ring is None:
        return False
    try:
        session.call(lambda channel: channel.queue_declare(ring.lock, exclusive=True))
    except ChannelClosedByBroker as error:
        if error.reply_code == _RESOURCE_LOCKED:
            return False
        raise _explained(topology, f"queue {ring.lock!r}", error.reply_code, one_line(error.reply_text)) from error
    return True


def _bind_all(session: Session, topology: Topology) -> list[str]:
    """Bind all but the ring, after unbinding what belongs to another number of shards and would bring all twice."""
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


def _do(session: Session, topology: Topology, what: str, operation: Callable[[BlockingChannel], None]) -> None:
    try:
        session.call(operation)
    except (ChannelClosedByBroker, ConnectionClosedByBroker) as error:
        raise _explained(topology, what, error.reply_code, one_line(error.reply_text)) from error


def _explained(topology: Topology, what: str, code: int, text: str) -> BusError | TopologyError:
    if code == _ACCESS_REFUSED:
        return BrokerRefusedError(f"{what}: {text}; declaring takes an operator's permissions")
    if f"unknown exchange type '{CONSISTENT_HASH}'" in text:  # code 503, from RabbitMQ 4 on 406
        return TopologyError(
            f"{topology.shards} shards need a plugin that RabbitMQ has off: run `rabbitmq-plugins enable "
            "rabbitmq_consistent_hash_exchange` on its host, or set shards = 1 in the topology file "
            f"({topology.path}, or a copy that BUSMON_TOPOLOGY names)"
        )
    if different := _DIFFERENT.search(text):
        found, wanted = (different[side].strip("'") for side in ("found", "wanted"))
        return TopologyError(
            f"{what}: {different['argument']} is {found} on the broker, but {wanted} in {topology.path}; RabbitMQ "
            "can't change it: drain, delete and declare again (docs/topology.md, 'Changing an argument')"
        )
    return TopologyError(f"{what}: {text}")
