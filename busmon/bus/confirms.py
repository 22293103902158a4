"""One connection on which several publishes wait for their confirms at once, until it fails for the first time.

Each publish is mandatory, and RabbitMQ confirms one that reached no queue, too: it is returned first. So a publish is
stored when its confirm came, nothing was returned for it and it wasn't nacked. Belongs to one thread, which drives
pika's loop itself: nothing happens but inside these calls.
"""

from collections.abc import Callable
from math import inf
from time import monotonic

import pika
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.exceptions import AMQPConnectionError, ChannelClosedByClient
from pika.frame import Method
from pika.spec import Basic

from busmon.bus.connection import ACCESS_REFUSED, NOT_FOUND, PIKA_ERRORS, advised, parameters, translated, unopened
from busmon.bus.reading import ReadingConnection
from busmon.errors import BrokerUnreachableError, BusError, PublishRefusedError

_HINTS = {
    ACCESS_REFUSED: "publishing takes the right to write to it",
    NOT_FOUND: "run `busmon topology declare`, which makes it",
}
_CLOSE_SECONDS = 1.0
_WAKE_SECONDS = 0.2
"""How often a wait looks whether its deadline was brought forward by another thread."""


class Confirms:
    """A connection with one channel in confirm mode.

    Args:
        amqp_url: the broker.
        name: what the connection is called there.
        timeout_seconds: how long the broker may say nothing while an answer is due.
        meanwhile: called several times a second while something is waited for.

    Attributes:
        ends_at: when every wait ends, whatever the broker does, by the monotonic clock; any thread may set it.
    """

    def __init__(self, amqp_url: str, name: str, timeout_seconds: float, meanwhile: Callable[[], None]) -> None:
        self.ends_at = inf
        self._parameters = parameters(amqp_url, name)
        self._timeout_seconds = timeout_seconds
        self._meanwhile = meanwhile
        self._loop = IOLoop()
        self._loop.activate_poller()
        self._channel: Channel | None = None
        self._published = 0
        self._unanswered: dict[int, tuple[str, Callable[[], None]]] = {}
        self._returned: set[str] = set()
        self._refusal: PublishRefusedError | None = None
        self._failure: BusError | None = None
        self._heard_at = monotonic()
        self._connection = ReadingConnection(
            self._parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=lambda _, error: self._fail(unopened(self._parameters, error)),
            on_close_callback=lambda _, error: self._fail(translated(error)),
            custom_ioloop=self._loop,
        )

    def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: pika.BasicProperties, stored: Callable[[], None]
    ) -> None:
        """Publish a body, and return; `stored` is called when its confirm has come.

        Raises:
            BusError: the connection failed, now or before.
        """
        self._wait(lambda: self._channel is not None)
        assert self._channel is not None  # noqa: S101 - what was waited for
        self._published += 1
        self._unanswered[self._published] = (_key(exchange, routing_key, properties), stored)
        self._heard_at = monotonic() if len(self._unanswered) == 1 else self._heard_at
        try:
            self._channel.basic_publish(exchange, routing_key, body, properties, mandatory=True)
        except PIKA_ERRORS as error:
            self._fail(translated(error))
        self.turn(0)

    def settle(self, most: int = 0) -> None:
        """Wait until at most so many publishes are unanswered.

        Raises:
            PublishRefusedError: one was returned or nacked; raised when all are answered, so none is under way.
            BusError: the connection failed, or the broker said nothing for too long.
        """
        self._wait(lambda: len(self._unanswered) <= (0 if self._refusal else most))
        if self._refusal is not None:
            refusal, self._refusal = self._refusal, None
            raise refusal

    def turn(self, seconds: float) -> None:
        """Read and write what can be, for at most so long.

        Raises:
            BusError: the connection failed.
        """
        over = monotonic() + seconds
        while self._failure is None:
            left = max(0.0, over - monotonic())
            self._poll(min(left, _WAKE_SECONDS))
            if not left:
                break
        self._raise_failure()

    def close(self) -> None:
        """Close the connection, by force if it failed or the broker doesn't answer."""
        if self._failure is None and self._connection.is_open:
            self._connection.close()
            self._poll_until_closed()
        if not self._connection.is_closed:
            # There is no other public way to end a connection whose broker doesn't answer.
            self._connection._terminate_stream(AMQPConnectionError("dropped"))  # noqa: SLF001
            self._poll_until_closed()
        self._loop.deactivate_poller()
        self._loop.close()

    def _on_open(self, connection: pika.connection.Connection) -> None:
        connection.channel(on_open_callback=self._prepare).add_on_close_callback(self._on_channel_closed)

    def _prepare(self, channel: Channel) -> None:
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_answer, callback=lambda _: self._ready(channel))

    def _ready(self, channel: Channel) -> None:
        self._channel = channel

    def _on_return(
        self, _channel: Channel, method: Basic.Return, properties: pika.BasicProperties, _body: bytes
    ) -> None:
        self._heard_at = monotonic()
        self._returned.add(_key(method.exchange, method.routing_key, properties))
        where = f"exchange {method.exchange!r} has no queue for routing key {method.routing_key!r}"
        self._refusal = PublishRefusedError(f"returned: {where}")

    def _on_answer(self, frame: Method[Basic.Ack | Basic.Nack]) -> None:
        self._heard_at = monotonic()
        tag = frame.method.delivery_tag
        tags = [earlier for earlier in self._unanswered if earlier <= tag] if frame.method.multiple else [tag]
        for key, stored in [self._unanswered.pop(tag) for tag in tags]:
            if isinstance(frame.method, Basic.Nack):
                exchange = key.split("\0", 1)[0]
                self._refusal = PublishRefusedError(f"nacked: a queue of exchange {exchange!r} is full or has failed")
            elif key not in self._returned:
                stored()
        if not self._unanswered:
            self._returned.clear()

    def _on_channel_closed(self, _channel: Channel, reason: Exception) -> None:
        if not isinstance(reason, ChannelClosedByClient):
            self._fail(advised(reason, _HINTS))

    def _wait(self, is_done: Callable[[], bool]) -> None:
        while self._failure is None and not is_done():
            now = monotonic()
            if now - self._heard_at >= self._timeout_seconds or now >= self.ends_at:
                silence = f"no answer within {round(min(self._timeout_seconds, now - self._heard_at), 1):g} s"
                self._fail(BrokerUnreachableError(f"{silence}: RabbitMQ is stalled or has a resource alarm"))
                break
            self._poll(_WAKE_SECONDS)
            self._meanwhile()
        self._raise_failure()

    def _poll(self, seconds: float) -> None:
        timer = self._loop.call_later(seconds, lambda: None)
        try:
            self._loop.poll()
            self._loop.process_timeouts()
        except PIKA_ERRORS as error:
            self._fail(translated(error))
        self._loop.remove_timeout(timer)

    def _poll_until_closed(self) -> None:
        over = monotonic() + _CLOSE_SECONDS
        while not self._connection.is_closed and monotonic() < over:
            self._poll(_WAKE_SECONDS)

    def _fail(self, error: BusError) -> None:
        self._failure = self._failure or error
        self._unanswered.clear()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _key(exchange: str, routing_key: str, properties: pika.BasicProperties) -> str:
    """What a return names of a publish; publishes that agree in it are returned alike."""
    return f"{exchange}\0{routing_key}\0{properties.message_id}"
