"""One connection with several publishes in flight at once, used until its first failure.

Each publish is mandatory. RabbitMQ returns a publish that reached no queue, and then confirms it. So a publish is
stored if its confirm arrived without a return and without a nack. Belongs to one thread, which drives pika's loop:
everything happens inside these calls.
"""

from collections.abc import Callable
from math import inf
from time import monotonic

import pika
from pika import spec
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByClient
from pika.frame import Method
from pika.spec import Basic

from busmon.bus.connect.connection import PIKA_ERRORS, translate, translate_with_hint
from busmon.bus.connect.dialling import Addresses
from busmon.bus.frames.ending import drop
from busmon.bus.frames.workflow import Dialling, Result
from busmon.errors import BrokerUnreachableError, BusError, PublishRefusedError

_HINTS = {
    spec.ACCESS_REFUSED: "publishing takes the right to write to it",
    spec.NOT_FOUND: "run `busmon topology declare`, which makes it",
}
_CLOSE_SECONDS = 1.0
_REFUSALS_OF_A_CHANNEL = 2
"""A channel that has nacked so often is replaced: RabbitMQ 3.10 goes on to nack on a channel that was opened while the
leader of a queue was lost, until that node is back."""
_WAKE_SECONDS = 0.2
"""The interval at which a wait checks whether another thread brought its deadline forward."""


class Confirms:
    """A connection with one channel in confirm mode.

    Args:
        addresses: of the broker.
        timeout_seconds: how long the broker may send nothing while an answer is due.
        meanwhile: called several times a second during a wait.

    Attributes:
        ends_at: the time at which every wait ends, by the monotonic clock; any thread may set it.
    """

    def __init__(self, addresses: Addresses, timeout_seconds: float, meanwhile: Callable[[], None]) -> None:
        self.ends_at = inf
        self._addresses = addresses
        self._timeout_seconds = timeout_seconds
        self._meanwhile = meanwhile
        self._loop = IOLoop()
        self._loop.activate_poller()
        self._channel: Channel | None = None
        self._published = 0
        self._unanswered: dict[int, tuple[str, Callable[[], None]]] = {}
        self._returned: set[str] = set()
        self._refusal: PublishRefusedError | None = None
        self._refusals = 0
        self._failure: BusError | None = None
        self._heard_at = monotonic()
        self._connection: Connection | None = None
        self._dialling: Dialling | None = addresses.dial(self._loop, self._on_dialled)

    def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: pika.BasicProperties, stored: Callable[[], None]
    ) -> None:
        """Publish a body without waiting; `stored` is called when the confirm arrives.

        Raises:
            BusError: the connection failed, now or earlier.
        """
        self._wait(lambda: self._channel is not None)
        assert self._channel is not None  # noqa: S101 - what was waited for
        self._published += 1
        self._unanswered[self._published] = (_key(exchange, routing_key, properties), stored)
        self._heard_at = monotonic() if len(self._unanswered) == 1 else self._heard_at
        try:
            self._channel.basic_publish(exchange, routing_key, body, properties, mandatory=True)
        except PIKA_ERRORS as error:
            self._fail(translate(error))
        self.turn(0)

    def settle(self, most: int = 0) -> None:
        """Wait until at most `most` publishes are unanswered.

        Raises:
            PublishRefusedError: a publish was returned or nacked; raised when all are answered, so none is in flight.
            BusError: the connection failed, or the broker sent nothing for too long.
        """
        self._wait(lambda: len(self._unanswered) <= (0 if self._refusal else most))
        if self._refusal is not None:
            refusal, self._refusal = self._refusal, None
            if self._refusals >= _REFUSALS_OF_A_CHANNEL:
                self._replace_channel()
            raise refusal

    def turn(self, seconds: float) -> None:
        """Run the loop's reads and writes, for at most so many seconds.

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
        if self._failure is None and self._connection is not None and self._connection.is_open:
            self._connection.close()
            self._poll_until_closed()
        if self._dialling is not None:
            self._dialling.abort()
        elif self._connection is not None and not self._connection.is_closed:
            drop(self._connection)
        self._poll_until_closed()
        self._loop.deactivate_poller()
        self._loop.close()

    @property
    def _is_closed(self) -> bool:
        return self._dialling is None and (self._connection is None or self._connection.is_closed)

    def _on_dialled(self, result: Result) -> None:
        self._dialling = None
        self._heard_at = monotonic()
        if not isinstance(result, Connection):
            self._fail(self._addresses.explain_failure())
            return
        self._connection = result
        result.add_on_close_callback(lambda _, error: self._fail(translate(error)))
        self._open_channel(result)

    def _replace_channel(self) -> None:
        """Open another channel; nothing is in flight on the present one."""
        channel, self._channel = self._channel, None
        self._published = self._refusals = 0
        if channel is not None and channel.is_open:
            channel.close()
            self._open_channel(channel.connection)

    def _open_channel(self, connection: Connection) -> None:
        self._heard_at = monotonic()
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
                self._refusals += 1
                exchange = key.split("\0", 1)[0]
                self._refusal = PublishRefusedError(f"nacked: a queue of exchange {exchange!r} is full or has failed")
            elif key not in self._returned:
                stored()
        if not self._unanswered:
            self._returned.clear()

    def _on_channel_closed(self, _channel: Channel, reason: Exception) -> None:
        if not isinstance(reason, ChannelClosedByClient):
            self._fail(translate_with_hint(reason, _HINTS))

    def _wait(self, is_done: Callable[[], bool]) -> None:
        while self._failure is None and not is_done():
            now = monotonic()
            if self._dialling is not None:  # which ends by itself
                self._heard_at = now
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
            self._fail(translate(error))
        self._loop.remove_timeout(timer)

    def _poll_until_closed(self) -> None:
        over = monotonic() + _CLOSE_SECONDS
        while not self._is_closed and monotonic() < over:
            self._poll(_WAKE_SECONDS)

    def _fail(self, error: BusError) -> None:
        self._failure = self._failure or error
        self._unanswered.clear()
        self._addresses.note_lost()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _key(exchange: str, routing_key: str, properties: pika.BasicProperties) -> str:
    """Return the key of a publish: the fields that a return repeats. Publishes with one key share a return."""
    return f"{exchange}\0{routing_key}\0{properties.message_id}"
