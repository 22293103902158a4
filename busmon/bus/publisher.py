"""Publishing one body at a time: on return it is stored on a quorum queue, or an error says that it isn't known to be.

One connection, opened at the first publish and again after a loss. Not thread-safe: a publisher belongs to one thread.
A body whose confirm never came may have been stored; whoever publishes it again must keep its `message_id`.
"""

import pika
from pika.exceptions import NackError, UnroutableError

from busmon.bus.connection import PIKA_ERRORS, translated, translating
from busmon.bus.session import Session
from busmon.errors import PublishRefusedError


class ConfirmedPublisher:
    """Mandatory publishes, each confirmed before `publish` returns.

    Args:
        amqp_url: the broker.
        name: what the connection is called on the broker.
        timeout_seconds: how long a confirm may take; a broker with a memory or disk alarm gives none.
    """

    def __init__(self, amqp_url: str, name: str, timeout_seconds: float = 30.0) -> None:
        self._amqp_url = amqp_url
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._session: Session | None = None

    def publish(self, exchange: str, routing_key: str, body: bytes, properties: pika.BasicProperties) -> None:
        """Publish a body and wait until a queue has it.

        Raises:
            PublishRefusedError: the broker returned it (no queue is bound) or nacked it (a queue is full).
            BrokerRefusedError: the exchange doesn't exist, or this user may not write to it.
            BrokerUnreachableError: no connection, or none that confirmed in time.
        """
        session = self._opened()
        try:
            session.call(lambda channel: channel.basic_publish(exchange, routing_key, body, properties, mandatory=True))
        except UnroutableError as error:
            message = f"returned: exchange {exchange!r} has no queue for routing key {routing_key!r}"
            raise PublishRefusedError(message) from error
        except NackError as error:
            raise PublishRefusedError(f"nacked: a queue of exchange {exchange!r} is full or has failed") from error
        except PIKA_ERRORS as error:
            raise translated(error) from error

    def idle(self, seconds: float) -> None:
        """Answer heartbeats for at most so long, for 0 only what is due; returns at once if no connection is open.

        Raises:
            BrokerUnreachableError: the connection was lost; the next publish opens another.
        """
        if self._session is not None and self._session.is_open:
            with translating():
                self._session.idle(seconds)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _opened(self) -> Session:
        if self._session is None or not self._session.is_open:
            self._session = Session(
                self._amqp_url,
                self._name,
                self._timeout_seconds,
                prepare=lambda channel: channel.confirm_delivery(),
            )
        return self._session
