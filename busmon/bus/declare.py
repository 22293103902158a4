"""Declaring the topology: exchanges, queues and bindings over AMQP, users and permissions over the management API.

Declaring twice does no more than declaring once. What exists with other arguments is neither changed nor deleted: it is
an error of one line that names the object, the argument and both values. One thread, one short-lived connection.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from busmon.bus import users
from busmon.bus.connection import one_line, translating, user, virtual_host
from busmon.bus.session import Session
from busmon.bus.topology import CONSISTENT_HASH, Binding, Exchange, Queue, Topology
from busmon.errors import BrokerRefusedError, BusError, TopologyError

_ACCESS_REFUSED = 403

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
        TopologyError: something is there with other arguments, or the broker can't give what the file asks for.
        BrokerRefusedError: this user may not declare.
        BrokerUnreachableError: there is no broker, or it was lost.
    """
    with Session(amqp_url, "busmon topology declare") as session, translating():
        _refuse_fewer_shards(session, topology)
        lines = _declare_all(session, topology)
    if management_url is None:
        return [*lines, "users and permissions: not set, for there is no management_url (BUSMON_MANAGEMENT_URL)"]
    try:
        lines.extend(users.grant(topology.users, management_url, virtual_host(amqp_url), passwords))
    except BusError as error:
        lines.append(f"users and permissions: not set: {error}")
    return lines


def ensure(topology: Topology, amqp_url: str) -> list[str]:
    """Declare what is missing, if this user may; where nothing is missing, no permission is needed.

    Returns:
        What was declared, a line each.

    Raises:
        TopologyError: something is missing and this user may not declare it, or the broker has another number of
            shards; the line names the next command.
        BrokerUnreachableError: there is no broker, or it was lost.
    """
    with Session(amqp_url, "busmon topology") as session, translating():
        _refuse_fewer_shards(session, topology)
        missing = _missing(session, topology)
        if not missing:
            # A binding can't be asked for, only made again; whoever may not bind has to trust that it is there.
            with suppress(BrokerRefusedError):
                _make_ring_and_bind(session, topology)
            return []
        _refuse_more_shards(topology, missing)
        try:
            return _declare_all(session, topology)
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


def _durable(exchanges: Iterable[Exchange]) -> list[str]:
    return [exchange.name for exchange in exchanges if exchange.durable]


def _declare_all(session: Session, topology: Topology) -> list[str]:
    _break_ring_with_a_gap(session, topology)
    return [
        *(_declare_exchange(session, topology, exchange) for exchange in topology.exchanges),
        *(_declare_queue(session, topology, queue) for queue in topology.queues),
        *_bind_all(session, topology),
    ]


def _break_ring_with_a_gap(session: Session, topology: Topology) -> None:
    """Delete a ring that lacks a shard's queue: bound at its end, that queue would take other sources than it had."""
    folds = map(topology.fold_queue, range(topology.shards))
    if topology.ring and not all(map(session.has_queue, folds)):
        name = topology.ring.exchange.name
        _do(session, topology, f"exchange {name!r}", lambda channel: channel.exchange_delete(name))


def _make_ring_and_bind(session: Session, topology: Topology) -> None:
    if topology.ring:
        _declare_exchange(session, topology, topology.ring.exchange)
    _bind_all(session, topology)


def _declare_exchange(session: Session, topology: Topology, exchange: Exchange) -> str:
    there = session.has_exchange(exchange.name)
    what = f"exchange {exchange.name!r}"

    def operation(channel: BlockingChannel) -> None:
        arguments = dict(exchange.arguments)
        channel.exchange_declare(exchange.name, exchange.type, durable=exchange.durable, arguments=arguments)

    _do(session, topology, what, operation)
    return f"{what}: {'was there' if there else 'declared'}"


def _declare_queue(session: Session, topology: Topology, queue: Queue) -> str:
    there = session.has_queue(queue.name)
    what = f"queue {queue.name!r}"

    def operation(channel: BlockingChannel) -> None:
        channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))

    _do(session, topology, what, operation)
    return f"{what}: {'was there' if there else 'declared'}"


def _bind_all(session: Session, topology: Topology) -> list[str]:
    """Bind, after unbinding what belongs to another number of shards and would bring every envelope twice."""
    for binding in topology.surplus:
        _do(session, topology, f"binding {binding}", partial(_unbind, binding))
    for binding in topology.bindings:
        _do(session, topology, f"binding {binding}", partial(_bind, binding))
    return [f"binding {binding}: is there" for binding in topology.bindings]


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
