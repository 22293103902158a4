"""The declaration of the topology: objects over AMQP, users and permissions over the management API.

A second declaration changes nothing. An object with other arguments is neither changed nor deleted: the error is one
line that names the object, the argument and both values. One thread, one short-lived connection.
"""

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from functools import partial

from pika import spec
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from busmon.bus.connect.connection import one_line, translating, user, virtual_host
from busmon.bus.connect.plugin import CONSISTENT_HASH
from busmon.bus.connect.session import Session
from busmon.bus.topology import logs, users
from busmon.bus.topology.explaining import DifferentArgumentError, explain, request, until_settled
from busmon.bus.topology.made import Made, declare_exchange, declare_queue, noting, whole
from busmon.bus.topology.refusals import refuse_another_deal, refuse_fewer_shards, refuse_more_shards
from busmon.bus.topology.topology import Binding, Exchange, Queue, Topology
from busmon.bus.topology.version import parse
from busmon.errors import BrokerRefusedError, BusError, TopologyError


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
        BrokerUnreachableError: there is no broker, the connection was lost, or the broker still answered with
            INTERNAL_ERROR after a minute.
    """
    with whole(amqp_url) as made:
        lines = until_settled(partial(_declare_once, topology, amqp_url, management_url, made))
        if topology.logs:
            with Session(amqp_url, "busmon topology declare") as session, translating():
                lines.extend(_begin_logs(session, topology, made))
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
    with whole(amqp_url) as made:
        return until_settled(partial(_ensure_once, topology, amqp_url, management_url, made))


def _declare_once(topology: Topology, amqp_url: str, management_url: str | None, made: Made) -> list[str]:
    with Session(amqp_url, "busmon topology declare") as session, translating():
        refuse_fewer_shards(session, topology)
        unseen = refuse_another_deal(session, topology, amqp_url, management_url)
        return [*_declare_all(session, topology, made), *unseen]


def _ensure_once(topology: Topology, amqp_url: str, management_url: str | None, made: Made) -> list[str]:
    with Session(amqp_url, "busmon topology") as session, translating():
        refuse_fewer_shards(session, topology)
        refuse_another_deal(session, topology, amqp_url, management_url)
        logs.require(session, topology)
        missing = _missing(session, topology, made)
        if not missing:
            # AMQP can't query a binding, only declare it again. A user that may not bind has to assume that it exists.
            with suppress(BrokerRefusedError):
                _make_ring(session, topology, locked=_lock(session, topology))
                _bind_all(session, topology)
            return []
        refuse_more_shards(topology, missing)
        try:
            return _declare_all(session, topology, made)
        except BrokerRefusedError as error:
            raise TopologyError(
                f"{missing[0]} is missing, and {user(amqp_url)} may not declare it: "
                "run `busmon topology declare` as an operator"
            ) from error


def _missing(session: Session, topology: Topology, made: Made) -> list[str]:
    """List the objects that were missing, by the broker's word; objects that this user may not query are left out."""
    exchanges = [each for each in topology.exchanges if each.durable]
    return [
        *(f"exchange {each.name!r}" for each in exchanges if each in made or session.has_exchange(each.name) is False),
        *(f"queue {each.name!r}" for each in topology.queues if each in made or session.has_queue(each.name) is False),
    ]


def _declare_all(session: Session, topology: Topology, made: Made) -> list[str]:
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


def _declare_exchange(session: Session, topology: Topology, exchange: Exchange, made: Made) -> str:
    there = exchange not in made and session.has_exchange(exchange.name)
    what = f"exchange {exchange.name!r}"
    with noting(made, exchange) if there is False else nullcontext():
        request(session, topology, what, partial(declare_exchange, exchange))
    return f"{what}: {'was there' if there else 'declared'}"


def _declare_queue(session: Session, topology: Topology, queue: Queue, made: Made) -> str:
    there = queue not in made and session.has_queue(queue.name)
    what = f"queue {queue.name!r}"
    wanted = queue.arguments_on(parse(session.broker_version))
    try:
        with noting(made, queue) if there is False else nullcontext():
            request(session, topology, what, partial(declare_queue, queue, wanted))
    except DifferentArgumentError as error:
        # A queue that an older broker or an older busmon made keeps its guarantees without the newer argument.
        if error.argument not in queue.optional or not error.is_absent:
            raise
        request(session, topology, what, partial(declare_queue, queue, queue.arguments))
        return f"{what}: was there, without {error.argument} (docs/topology.md, 'Changing an argument')"
    return f"{what}: {'was there' if there else 'declared'}"


def _begin_logs(session: Session, topology: Topology, made: Made) -> list[str]:
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
    declare_ring = partial(declare_exchange, ring.exchange)
    request(session, topology, f"exchange {ring.exchange.name!r}", declare_ring)
    request(session, topology, what, lambda channel: channel.exchange_delete(ring.exchange.name))
    request(session, topology, f"exchange {ring.exchange.name!r}", declare_ring)
    for binding in ring.bindings:
        request(session, topology, f"binding {binding}", partial(_bind, binding))
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
        raise explain(topology, f"queue {ring.lock!r}", error.reply_code, one_line(error.reply_text)) from error
    return True


def _bind_all(session: Session, topology: Topology) -> list[str]:
    """Declare all bindings except the ring's; first delete those of another number of shards, which duplicate."""
    for binding in topology.surplus:
        request(session, topology, f"binding {binding}", partial(_unbind, binding))
    lasting = topology.lasting_bindings
    for binding in lasting:
        request(session, topology, f"binding {binding}", partial(_bind, binding))
    return [f"binding {binding}: bound" for binding in lasting]


def _bind(binding: Binding, channel: BlockingChannel) -> None:
    bind = channel.queue_bind if binding.destination_type == "queue" else channel.exchange_bind
    bind(binding.destination, binding.source, binding.routing_key, arguments=dict(binding.arguments))


def _unbind(binding: Binding, channel: BlockingChannel) -> None:
    unbind = channel.queue_unbind if binding.destination_type == "queue" else channel.exchange_unbind
    unbind(binding.destination, binding.source, binding.routing_key, arguments=dict(binding.arguments))
