"""One blocking connection with one channel, for whoever asks the broker one thing after another.

The channel is opened at the first call and again after the broker closed it; each call ends in time. pika's exceptions
pass through: the caller knows what it asked, so it says what the answer means. A session belongs to one thread.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Self, TypeVar

from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from busmon.bus.connection import NOT_FOUND, PIKA_ERRORS, deadline, open_blocking

Answer = TypeVar("Answer")


class Session:
    """A conversation with the broker.

    Args:
        amqp_url: the broker.
        name: what the connection is called there.
        timeout_seconds: how long an answer may take.
        prepare: called with each new channel.

    Raises:
        BrokerUnreachableError: there is no broker.
        BrokerRefusedError: it doesn't let this user in.
    """

    def __init__(
        self,
        amqp_url: str,
        name: str,
        timeout_seconds: float = 30.0,
        prepare: Callable[[BlockingChannel], object] = lambda _: None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._prepare = prepare
        self._connection = open_blocking(amqp_url, name)
        self._channel: BlockingChannel | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether the connection was open when last heard of."""
        return bool(self._connection.is_open)

    def call(self, operation: Callable[[BlockingChannel], Answer]) -> Answer:
        """Do something on the channel and wait for its answer.

        Raises:
            pika.exceptions.AMQPError: what pika raises for it; `ConnectionBlockedTimeout` if no answer came in time.
        """
        with deadline(self._connection, self._timeout_seconds):
            if self._channel is None or not self._channel.is_open:
                self._channel = self._connection.channel()
                self._prepare(self._channel)
            return operation(self._channel)

    def has_exchange(self, name: str) -> bool:
        """Whether the exchange exists; needs no permission."""
        return self._exists(lambda channel: channel.exchange_declare(name, passive=True))

    def has_queue(self, name: str) -> bool:
        """Whether the queue exists; needs no permission."""
        return self._exists(lambda channel: channel.queue_declare(name, passive=True))

    def idle(self, seconds: float) -> None:
        """Answer heartbeats for at most so long; for 0 only what is due."""
        self._connection.process_data_events(time_limit=seconds)

    def close(self) -> None:
        """Close the connection; unsettled deliveries go back to their queue."""
        if self._connection.is_open:
            with suppress(*PIKA_ERRORS), deadline(self._connection, self._timeout_seconds):
                self._connection.close()

    def _exists(self, declare_passively: Callable[[BlockingChannel], object]) -> bool:
        try:
            self.call(declare_passively)
        except ChannelClosedByBroker as error:
            if error.reply_code == NOT_FOUND:
                return False
            raise
        return True
