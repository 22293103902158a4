"""The logs of a replicated fleet on the broker: their first records, and the refusal of a log that can't be used.

A log begins with a record that holds a random id, so that a reader recognizes a log that was deleted and made again.
Only `busmon topology declare` writes it, once. One thread, on the session of the declaration.
"""

import secrets
import shlex
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, NackError, UnroutableError

from busmon.bus.connect.connection import one_line
from busmon.bus.connect.session import Session
from busmon.bus.topology.explaining import explain
from busmon.bus.topology.topology import Topology
from busmon.errors import LogFormatError, TopologyError
from busmon.replication.records import Probe, decode, make_birth, make_probe

Answer = TypeVar("Answer")

_ID_BYTES = 16
_POLL_SECONDS = 0.2
_PERSISTENT = pika.BasicProperties(delivery_mode=2)


def begin(session: Session, topology: Topology, shard: int) -> str:
    """Write a new log's first record; return the outcome, a line.

    Raises:
        TopologyError: the broker didn't store the record.
    """
    _ask(session, topology, shard, partial(_append, make_birth(secrets.token_hex(_ID_BYTES))))
    return f"log {topology.log_stream(shard)!r}: begun"


def require_start(session: Session, topology: Topology, shard: int) -> None:
    """Refuse a log without a first record: somebody else declared it, or `declare` was killed.

    A probe is appended, so that the log isn't empty, and no silence has to be interpreted.

    Raises:
        TopologyError: the log begins with a probe, or with an entry that isn't busmon's.
    """
    name = topology.log_stream(shard)
    _ask(session, topology, shard, partial(_append, make_probe(secrets.token_hex(_ID_BYTES))))
    first = _ask(session, topology, shard, _read_first)
    try:
        is_begun = not isinstance(decode(first), Probe)
    except LogFormatError as error:
        raise TopologyError(f"log {name!r}: {error}") from error
    if not is_begun:
        command = f"rabbitmqctl delete_queue -p {shlex.quote(session.virtual_host)} {shlex.quote(name)}"
        raise TopologyError(
            f"log {name!r} exists without its first record, so no host can read it: run `{command}`, then `busmon "
            "topology declare`, which makes it again"
        )


def require(session: Session, topology: Topology) -> None:
    """Require the logs that the setting asks for; no log may exist without the setting.

    Raises:
        TopologyError: a log is missing, or exists while replication is off; the line names the next command.
    """
    for log in topology.logs:
        if session.has_queue(log.name) is False:
            raise TopologyError(
                f"log {log.name!r} is missing: run `busmon topology declare` as an operator, with "
                "BUSMON_REPLICATION=stream"
            )
    first = topology.log_stream(0)
    if not topology.logs and session.has_queue(first):
        raise TopologyError(
            f"log {first!r} exists, but replication is off: set BUSMON_REPLICATION=stream, or delete the logs "
            "(docs/replication.md, 'Moving')"
        )


def _ask(
    session: Session, topology: Topology, shard: int, operation: Callable[[BlockingChannel, Topology, int], Answer]
) -> Answer:
    """Run an operation on a channel of its own: confirms and consumers stay with the channel."""

    def on_own_channel(channel: BlockingChannel) -> Answer:
        own = channel.connection.channel()
        answer = operation(own, topology, shard)
        own.close()
        return answer

    what = f"log {topology.log_stream(shard)!r}"
    try:
        return session.call(on_own_channel)
    except UnroutableError as error:
        raise TopologyError(
            f"{what}: exchange {topology.log_exchange!r} doesn't lead to it with key {str(shard)!r}"
        ) from error
    except NackError as error:
        raise TopologyError(f"{what}: RabbitMQ didn't store a record") from error
    except ChannelClosedByBroker as error:
        raise explain(topology, what, error.reply_code, one_line(error.reply_text)) from error


def _append(body: bytes, channel: BlockingChannel, topology: Topology, shard: int) -> None:
    channel.confirm_delivery()
    channel.basic_publish(topology.log_exchange, str(shard), body, _PERSISTENT, mandatory=True)


def _read_first(channel: BlockingChannel, topology: Topology, shard: int) -> bytes:
    """Read the oldest record of a log that isn't empty."""
    found: list[bytes] = []
    # Without an ack nothing follows. So the end of the channel has nothing to reject, which a stream doesn't accept.
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(
        topology.log_stream(shard), lambda *delivery: found.append(delivery[-1]), arguments={"x-stream-offset": "first"}
    )
    while not found:
        channel.connection.process_data_events(_POLL_SECONDS)
    return found[0]
