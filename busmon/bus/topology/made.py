"""The objects that a declaration makes, and their deletion if the declaration fails in the end.

An object is noted before the request, since after INTERNAL_ERROR or a lost connection nobody knows if the request took
effect. A refusal takes the note back: if the object is there, another declarer made it. An object that isn't as this
declaration makes it isn't deleted, whoever made it. One thread, on the sessions of the declaration.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from busmon.bus.connect.connection import translating
from busmon.bus.connect.session import Session
from busmon.bus.topology.explaining import until_settled
from busmon.bus.topology.table import Arguments
from busmon.bus.topology.topology import Exchange, Queue
from busmon.bus.topology.version import parse
from busmon.errors import BrokerRefusedError, BusError, TopologyError

Made = list[Exchange | Queue]


@contextmanager
def whole(amqp_url: str) -> Iterator[Made]:
    """Delete the newly declared objects if the declaration fails in the end; yield the list to note them in.

    A queue that has messages or consumers by then stays.
    """
    made: Made = []
    try:
        yield made
    except (BusError, TopologyError):
        if made:
            with suppress(BusError):
                until_settled(partial(_take_back, amqp_url, made))
        raise


@contextmanager
def noting(made: Made, missing: Exchange | Queue) -> Iterator[None]:
    """Note a missing object for the request in the block, and take the note back if the broker refuses the request."""
    if missing not in made:
        made.append(missing)
    try:
        yield
    except (BrokerRefusedError, TopologyError):
        made.remove(missing)
        raise


def declare_exchange(exchange: Exchange, channel: BlockingChannel) -> None:
    """Declare an exchange; the broker closes the channel if it has another one of this name."""
    channel.exchange_declare(exchange.name, exchange.type, durable=exchange.durable, arguments=dict(exchange.arguments))


def declare_queue(queue: Queue, arguments: Arguments, channel: BlockingChannel) -> None:
    """Declare a queue with these arguments; the broker closes the channel if it has another one of this name."""
    channel.queue_declare(queue.name, durable=True, arguments=dict(arguments))


def _take_back(amqp_url: str, made: Made) -> None:
    with Session(amqp_url, "busmon topology") as session, translating():
        for each in reversed(made):
            with suppress(ChannelClosedByBroker):
                _delete(session, each)


def _delete(session: Session, made: Exchange | Queue) -> None:
    """Delete an object that exists and is as this declaration makes it, which a second declaration tells."""
    if isinstance(made, Exchange):
        if session.has_exchange(made.name):
            session.call(partial(declare_exchange, made))
            session.call(lambda channel: channel.exchange_delete(made.name))
    elif _is_idle(session, made):
        session.call(partial(declare_queue, made, made.arguments_on(parse(session.broker_version))))
        session.call(lambda channel: channel.queue_delete(made.name))


def _is_idle(session: Session, queue: Queue) -> bool:
    """Return whether a queue is empty and not consumed from; RabbitMQ can't delete a quorum queue on that condition."""
    found = session.call(lambda channel: channel.queue_declare(queue.name, passive=True)).method
    return not found.message_count and not found.consumer_count
