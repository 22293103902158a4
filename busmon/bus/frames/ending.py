"""The end of a connection whose broker doesn't answer: at once, or when a time is over.

pika has no public way to do either. pika's `close` waits for the broker's answer. During the handshake `close` fails an
assertion of pika's own, which ends the loop. No state, no thread of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pika import BlockingConnection
from pika.connection import Connection
from pika.exceptions import AMQPConnectionError, ConnectionBlockedTimeout


def drop(connection: Connection) -> None:
    """End a connection as if its socket had failed."""
    connection._terminate_stream(AMQPConnectionError("dropped"))  # noqa: SLF001 - see the module


@contextmanager
def deadline(connection: BlockingConnection, seconds: float) -> Iterator[None]:
    """End the connection after so many seconds, so that a call that waits inside the block raises an error.

    pika has no time limit for a reply or a confirm, and heartbeats go on while a broker with an alarm gives neither.

    Raises:
        pika.exceptions.ConnectionBlockedTimeout: the time is over; `translating` makes it a `BrokerUnreachableError`.
    """
    stream = connection._impl  # noqa: SLF001 - the public timers fire only after the wait that they are to end
    expired = ConnectionBlockedTimeout(f"no answer within {seconds:g} s: RabbitMQ is stalled or has a resource alarm")
    timer = stream._adapter_call_later(seconds, lambda: stream._terminate_stream(expired))  # noqa: SLF001 - as above
    try:
        yield
    finally:
        if connection.is_open:
            stream._adapter_remove_timeout(timer)  # noqa: SLF001 - as above
