"""A look at the deliveries that pass an exchange, and takes none from anybody: a queue of its own.

The queue drops its oldest when the reader is slow, so it never refuses a publish. One thread.
"""

import secrets
from collections.abc import Generator

from busmon.bus.connection import ACCESS_REFUSED, translating
from busmon.bus.delivery import Delivery
from busmon.bus.session import Session

MAX_LENGTH = 1000
"""Deliveries that wait for a slow reader."""


_HINTS = {ACCESS_REFUSED: "looking at what passes takes an operator's permissions"}


def tap(amqp_url: str, exchange: str, *, pause_seconds: float = 0.5) -> Generator[Delivery | None, None, None]:
    """Every delivery that passes, from now on; None each time that none comes for so long.

    Raises:
        BrokerRefusedError: there is no such exchange, or the user may not bind to it or declare queues.
        BrokerUnreachableError: there is no broker, or it went away.
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
