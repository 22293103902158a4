"""A copy of the deliveries that pass an exchange, through a queue of its own.

The queue drops its oldest message if the reader is slow, so the queue never refuses a publish. One thread.
"""

import secrets
from collections.abc import Generator

from pika import spec

from busmon.bus.connect.connection import translating
from busmon.bus.connect.session import Session
from busmon.bus.frames.delivery import Delivery

MAX_LENGTH = 1000
"""Deliveries that wait for a slow reader."""


_HINTS = {
    spec.ACCESS_REFUSED: "a tap takes an operator's permissions",
    spec.NOT_FOUND: "run `busmon topology declare`, which makes it, or name another with --exchange",
}


def tap(amqp_url: str, exchange: str, *, pause_seconds: float = 0.5) -> Generator[Delivery | None, None, None]:
    """Yield every delivery from now on, and None after each pause without a delivery.

    Raises:
        BrokerRefusedError: there is no such exchange, or the user may not bind to it or declare queues.
        BrokerUnreachableError: there is no broker, or the connection was lost.
    """
    queue = f"{exchange}.tail.{secrets.token_hex(4)}"
    with Session(amqp_url, "busmon tail") as session, translating(_HINTS):
        channel = session.call(lambda channel: channel)
        channel.queue_declare(
            queue, exclusive=True, auto_delete=True, arguments={"x-max-length": MAX_LENGTH, "x-overflow": "drop-head"}
        )
        channel.queue_bind(queue, exchange, "#")
        for method, properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=pause_seconds):
            yield None if method is None else Delivery.from_pika(method, properties, body)
