"""One blocking connection with one channel, for a caller that sends the broker one request after another.

The channel is opened at the first call, and again after the broker closed the channel. Each call has a time limit.
pika's exceptions pass through, since only the caller knows the meaning of an answer. A session belongs to one thread.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Self, TypeVar

from pika import spec
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from busmon.bus.connect.connection import PIKA_ERRORS, one_line, virtual_host
from busmon.bus.connect.dialling import open_blocking
from busmon.bus.connect.not_found import is_missing, is_unavailable
from busmon.bus.frames.ending import deadline
from busmon.bus.frames.greeting import broker_version
from busmon.errors import BrokerUnsettledError

ANSWER_SECONDS = 30.0
"""How long an answer may take."""

Answer = TypeVar("Answer")


class Session:
    """A conversation with the broker.

    Args:
        amqp_url: the broker.
        name: the connection's name on the broker.

    Attributes:
        virtual_host: of the URL.

    Raises:
        BrokerUnreachableError: there is no broker.
        BrokerRefusedError: the broker refuses this user.
    """

    def __init__(self, amqp_url: str, name: str) -> None:
        self._connection = open_blocking(amqp_url, name)
        self.virtual_host = virtual_host(amqp_url)
        self._channel: BlockingChannel | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, operation: Callable[[BlockingChannel], Answer]) -> Answer:
        """Run an operation on the channel and wait for the answer.

        Raises:
            pika.exceptions.AMQPError: pika's own error; `ConnectionBlockedTimeout` if no answer came in time.
        """
        with deadline(self._connection, ANSWER_SECONDS):
            if self._channel is None or not self._channel.is_open:
                self._channel = self._connection.channel()
            return operation(self._channel)

    @property
    def broker_version(self) -> str:
        """Return the version that the broker reports; empty if it reports none."""
        return broker_version(self._connection)

    def has_exchange(self, name: str) -> bool | None:
        """Tell if the exchange exists; None if this user may not know (see `has_queue`)."""
        return self._exists(lambda channel: channel.exchange_declare(name, passive=True))

    def has_queue(self, name: str) -> bool | None:
        """Tell if the queue exists; None if this user may not know.

        RabbitMQ requires no permission before 4.2.6, the configure permission since then, and any one since 4.3.1.

        Raises:
            BrokerUnsettledError: the queue exists and doesn't answer.
        """
        return self._exists(lambda channel: channel.queue_declare(name, passive=True))

    def close(self) -> None:
        """Close the connection; unsettled deliveries go back to their queue."""
        if self._connection.is_open:
            with suppress(*PIKA_ERRORS), deadline(self._connection, ANSWER_SECONDS):
                self._connection.close()

    def _exists(self, declare_passively: Callable[[BlockingChannel], object]) -> bool | None:
        try:
            self.call(declare_passively)
        except ChannelClosedByBroker as error:
            if is_missing(error.reply_code, error.reply_text):
                return False
            if is_unavailable(error.reply_code, error.reply_text):
                raise BrokerUnsettledError(one_line(error.reply_text)) from error
            if error.reply_code == spec.ACCESS_REFUSED:
                return None
            raise
        return True
